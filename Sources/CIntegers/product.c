#include <string.h>

#include "CIntegers.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static ptrdiff_t padded(ptrdiff_t columns) {
  return (columns + qint_column_block - 1) / qint_column_block * qint_column_block;
}

void qint_pack_rows(const uint8_t *restrict codes, ptrdiff_t rows, ptrdiff_t depth, int32_t zero,
                    int16_t *restrict out) {
  const ptrdiff_t width = (depth + 1) / 2 * 2;
  for (ptrdiff_t row = 0; row < rows; row++) {
    for (ptrdiff_t k = 0; k < depth; k++) {
      out[row * width + k] = (int16_t)((int32_t)codes[row * depth + k] - zero);
    }
    if (width > depth) {
      out[row * width + depth] = 0;
    }
  }
}

void qint_pack_columns(const uint8_t *restrict codes, ptrdiff_t depth, ptrdiff_t columns,
                       int turned, int32_t zero, int16_t *restrict out) {
  const ptrdiff_t pairs = (depth + 1) / 2, width = padded(columns);
  memset(out, 0, (size_t)(pairs * width * 2) * sizeof *out);
  if (turned) {
    for (ptrdiff_t column = 0; column < columns; column++) {
      for (ptrdiff_t k = 0; k < depth; k++) {
        out[(k / 2 * width + column) * 2 + k % 2] =
            (int16_t)((int32_t)codes[column * depth + k] - zero);
      }
    }
    return;
  }
  for (ptrdiff_t k = 0; k < depth; k++) {
    int16_t *restrict line = out + k / 2 * width * 2 + k % 2;
    for (ptrdiff_t column = 0; column < columns; column++) {
      line[2 * column] = (int16_t)((int32_t)codes[k * columns + column] - zero);
    }
  }
}

// A tile of four rows and a block of columns stays in registers while all pairs are added: products of 16
// bits and their pairs are exact in 32.
#define PRODUCT(NAME, TARGET, VECTOR, LANES, ZERO, LOAD, STORE, BROADCAST, MULTIPLY, ADD, COLUMNS)     \
  TARGET static void NAME(const int16_t *a, const int16_t *b, ptrdiff_t rows, ptrdiff_t pairs,         \
                          ptrdiff_t width, int32_t *out) {                                             \
    enum { vectors = (COLUMNS) / (LANES) };                                                            \
    for (ptrdiff_t column = 0; column < width; column += (COLUMNS)) {                                  \
      for (ptrdiff_t row = 0; row < rows; row += 4) {                                                  \
        VECTOR sums[4][vectors];                                                                       \
        const int16_t *lines[4];                                                                       \
        for (int r = 0; r < 4; r++) {                                                                  \
          lines[r] = a + (row + r < rows ? row + r : rows - 1) * pairs * 2;                            \
          for (int v = 0; v < vectors; v++) {                                                          \
            sums[r][v] = ZERO();                                                                       \
          }                                                                                            \
        }                                                                                              \
        for (ptrdiff_t k = 0; k < pairs; k++) {                                                        \
          const int16_t *line = b + (k * width + column) * 2;                                          \
          VECTOR values[vectors];                                                                      \
          for (int v = 0; v < vectors; v++) {                                                          \
            values[v] = LOAD((const void *)(line + v * (LANES) * 2));                                  \
          }                                                                                            \
          for (int r = 0; r < 4; r++) {                                                                \
            int32_t pair;                                                                              \
            memcpy(&pair, lines[r] + 2 * k, sizeof pair);                                              \
            const VECTOR both = BROADCAST(pair);                                                       \
            for (int v = 0; v < vectors; v++) {                                                        \
              sums[r][v] = ADD(sums[r][v], MULTIPLY(both, values[v]));                                 \
            }                                                                                          \
          }                                                                                            \
        }                                                                                              \
        for (int r = 0; r < 4 && row + r < rows; r++) {                                                \
          for (int v = 0; v < vectors; v++) {                                                          \
            STORE((void *)(out + (row + r) * width + column + v * (LANES)), sums[r][v]);               \
          }                                                                                            \
        }                                                                                              \
      }                                                                                                \
    }                                                                                                  \
  }

#if defined(__x86_64__)
PRODUCT(product_512, __attribute__((target("avx512f,avx512bw"))), __m512i, 16, _mm512_setzero_si512,
        _mm512_loadu_si512, _mm512_storeu_si512, _mm512_set1_epi32, _mm512_madd_epi16,
        _mm512_add_epi32, 64)
#define LOAD_256(place) _mm256_loadu_si256((const __m256i *)(place))
#define STORE_256(place, value) _mm256_storeu_si256((__m256i *)(place), (value))
PRODUCT(product_256, __attribute__((target("avx2"))), __m256i, 8, _mm256_setzero_si256, LOAD_256,
        STORE_256, _mm256_set1_epi32, _mm256_madd_epi16, _mm256_add_epi32, 16)
#define LOAD_128(place) _mm_loadu_si128((const __m128i *)(place))
#define STORE_128(place, value) _mm_storeu_si128((__m128i *)(place), (value))
PRODUCT(product_128, , __m128i, 4, _mm_setzero_si128, LOAD_128, STORE_128, _mm_set1_epi32,
        _mm_madd_epi16, _mm_add_epi32, 8)
#endif

void qint_product(const int16_t *a, const int16_t *b, ptrdiff_t rows, ptrdiff_t pairs,
                  ptrdiff_t columns, int32_t *out) {
  const ptrdiff_t width = padded(columns);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw")) {
    product_512(a, b, rows, pairs, width, out);
  } else if (__builtin_cpu_supports("avx2")) {
    product_256(a, b, rows, pairs, width, out);
  } else {
    product_128(a, b, rows, pairs, width, out);
  }
#else
  for (ptrdiff_t row = 0; row < rows; row++) {
    for (ptrdiff_t column = 0; column < width; column++) {
      int32_t sum = 0;
      for (ptrdiff_t k = 0; k < pairs; k++) {
        const int16_t *pair = b + (k * width + column) * 2, *line = a + (row * pairs + k) * 2;
        sum += line[0] * pair[0] + line[1] * pair[1];
      }
      out[row * width + column] = sum;
    }
  }
#endif
}
