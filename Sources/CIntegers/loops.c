#include "CIntegers.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma STDC FP_CONTRACT OFF

// Compiled for three generations of processors; the loader picks one. All give the same bits.
#if defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/// A number clamped to whole bounds inside of 0..255 and rounded half to even: adding 1.5 * 2^23
/// leaves the rounded number in the low bits of the sum. NaN gives `low`.
INLINE uint8_t rounded(float value, float low, float high) {
  value = value > low ? value : low;
  value = value < high ? value : high;
  const float sum = value + 12582912.0f;
  uint32_t bits;
  memcpy(&bits, &sum, sizeof bits);
  return (uint8_t)bits;
}

INLINE float hard_swish(float x) {
  float gate = x / 6.0f + 0.5f;
  gate = gate > 0.0f ? gate : 0.0f;
  gate = gate < 1.0f ? gate : 1.0f;
  return x * gate;
}

INLINE void requantize_rows(const int32_t *restrict sums, const qint_requantization *how,
                            ptrdiff_t rows, ptrdiff_t columns, uint8_t *restrict out, int split,
                            int sloped, int swish) {
  const uint32_t factor = (uint32_t)how->factor;
  const float zero_point = how->zero_point, low = how->low, high = how->high, step = how->step;
  const float *restrict scales = how->scales, *restrict slopes = how->slopes;
  const ptrdiff_t stride = columns + (how->share != 0);
  ptrdiff_t bias_row = 0;
  for (ptrdiff_t row = 0; row < rows; row++) {
    const int32_t *restrict bias = how->bias + bias_row * columns;
    const int32_t *restrict from = sums + row * stride;
    const int32_t *restrict rest = split ? how->low_sums + row * stride : NULL;
    uint8_t *restrict to = out + row * columns;
    // Unsigned: the total fits, what is on the way to it may not.
    const uint32_t share = how->share == 0 ? 0 : (uint32_t)how->share * (uint32_t)from[columns];
    for (ptrdiff_t i = 0; i < columns; i++) {
      uint32_t total = (uint32_t)from[i];
      if (split) {
        total = total * factor + (uint32_t)rest[i];
      }
      total += (uint32_t)bias[i] + share;
      float y = (float)(int32_t)total * scales[i];
      if (sloped) {
        y = y < 0.0f ? slopes[i] * y : y;
      }
      if (swish) {
        y = hard_swish(y) / step;
      }
      to[i] = rounded(y + zero_point, low, high);
    }
    bias_row = bias_row + 1 == how->bias_rows ? 0 : bias_row + 1;
  }
}

CLONES void qint_requantize(const int32_t *sums, const qint_requantization *how, ptrdiff_t rows,
                            ptrdiff_t columns, uint8_t *out) {
  const int sloped = how->slopes != NULL, swish = how->step != 0.0f;
  if (how->low_sums != NULL) {
    if (sloped) {
      requantize_rows(sums, how, rows, columns, out, 1, 1, 0);
    } else if (swish) {
      requantize_rows(sums, how, rows, columns, out, 1, 0, 1);
    } else {
      requantize_rows(sums, how, rows, columns, out, 1, 0, 0);
    }
  } else if (sloped) {
    requantize_rows(sums, how, rows, columns, out, 0, 1, 0);
  } else if (swish) {
    requantize_rows(sums, how, rows, columns, out, 0, 0, 1);
  } else {
    requantize_rows(sums, how, rows, columns, out, 0, 0, 0);
  }
}

CLONES void qint_limit_rows(uint8_t *restrict bytes, const uint8_t *restrict bounds, ptrdiff_t rows,
                            ptrdiff_t columns) {
  for (ptrdiff_t row = 0; row < rows; row++) {
    uint8_t *restrict line = bytes + row * columns;
    for (ptrdiff_t i = 0; i < columns; i++) {
      line[i] = line[i] < bounds[i] ? line[i] : bounds[i];
    }
  }
}

INLINE float combined(qint_binary kind, int32_t p, int32_t q, float a_scale, float b_scale) {
  const float left = (float)p * a_scale, right = (float)q * b_scale;
  switch (kind) {
    case qint_binary_sum: return left + right;
    case qint_binary_maximum: return left > right ? left : right;
    case qint_binary_minimum: return left < right ? left : right;
    case qint_binary_product: return (float)(p * q) * a_scale;
    case qint_binary_quotient: return (float)p / (float)q * a_scale;
  }
  return 0.0f;
}

INLINE void combine(qint_binary kind, qint_operand a, qint_operand b, ptrdiff_t a_step,
                    ptrdiff_t b_step, ptrdiff_t count, float zero_point, float low, float high,
                    uint8_t *restrict out) {
  const uint8_t *restrict x = a.codes, *restrict y = b.codes;
  for (ptrdiff_t i = 0; i < count; i++) {
    const int32_t p = (int32_t)x[i * a_step] - a.zero, q = (int32_t)y[i * b_step] - b.zero;
    out[i] = rounded(combined(kind, p, q, a.scale, b.scale) + zero_point, low, high);
  }
}

INLINE void combine_any(qint_binary kind, qint_operand a, qint_operand b, ptrdiff_t count,
                        float zero_point, float low, float high, uint8_t *out) {
  if (a.step == 1 && b.step == 1) {
    combine(kind, a, b, 1, 1, count, zero_point, low, high, out);
  } else if (a.step == 1 && b.step == 0) {
    combine(kind, a, b, 1, 0, count, zero_point, low, high, out);
  } else {
    combine(kind, a, b, a.step, b.step, count, zero_point, low, high, out);
  }
}

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

WIDE INLINE __m512 distances(const uint8_t *codes, __m512i zero) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero));
}

/// Sums of whole blocks of 64 codes; returns how many codes it took. Packing with saturation is what compilers do
/// not find.
WIDE static ptrdiff_t add_wide(qint_operand a, qint_operand b, ptrdiff_t count, float zero_point, float low,
                               float high, uint8_t *out) {
  const __m512i a_zero = _mm512_set1_epi32(a.zero), b_zero = _mm512_set1_epi32(b.zero);
  const __m512 a_scale = _mm512_set1_ps(a.scale), b_scale = _mm512_set1_ps(b.scale);
  const __m512 shift = _mm512_set1_ps(zero_point), bottom = _mm512_set1_ps(low), top = _mm512_set1_ps(high);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  ptrdiff_t i = 0;
  for (; i + 64 <= count; i += 64) {
    __m512i parts[4];
    for (int k = 0; k < 4; k++) {
      const __m512 x = _mm512_mul_ps(distances(a.codes + i + 16 * k, a_zero), a_scale);
      const __m512 y = _mm512_mul_ps(distances(b.codes + i + 16 * k, b_zero), b_scale);
      const __m512 sum = _mm512_add_ps(_mm512_add_ps(x, y), shift);
      parts[k] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(sum, bottom), top));
    }
    const __m512i words = _mm512_packs_epi32(parts[0], parts[1]), others = _mm512_packs_epi32(parts[2], parts[3]);
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words, others)));
  }
  return i;
}

static int has_wide(void) {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
         && __builtin_cpu_supports("avx512vl");
}

static ptrdiff_t add_fast(qint_operand a, qint_operand b, ptrdiff_t count, float zero_point, float low,
                          float high, uint8_t *out) {
  const int is_dense = a.step == 1 && b.step == 1;
  return is_dense && has_wide() ? add_wide(a, b, count, zero_point, low, high, out) : 0;
}
#else
static ptrdiff_t add_fast(qint_operand a, qint_operand b, ptrdiff_t count, float zero_point, float low,
                          float high, uint8_t *out) {
  (void)a, (void)b, (void)count, (void)zero_point, (void)low, (void)high, (void)out;
  return 0;
}
#endif

/// What is left of an operand behind `count` codes.
static qint_operand behind(qint_operand operand, ptrdiff_t count) {
  operand.codes += count * operand.step;
  return operand;
}

CLONES static void combine_all(qint_binary kind, qint_operand a, qint_operand b, ptrdiff_t count,
                         float zero_point, float low, float high, uint8_t *out) {
  switch (kind) {
    case qint_binary_sum:
      combine_any(qint_binary_sum, a, b, count, zero_point, low, high, out);
      break;
    case qint_binary_maximum:
      combine_any(qint_binary_maximum, a, b, count, zero_point, low, high, out);
      break;
    case qint_binary_minimum:
      combine_any(qint_binary_minimum, a, b, count, zero_point, low, high, out);
      break;
    case qint_binary_product:
      combine_any(qint_binary_product, a, b, count, zero_point, low, high, out);
      break;
    case qint_binary_quotient:
      combine_any(qint_binary_quotient, a, b, count, zero_point, low, high, out);
      break;
  }
}

void qint_combine(qint_binary kind, qint_operand a, qint_operand b, ptrdiff_t count,
                  float zero_point, float low, float high, uint8_t *out) {
  const ptrdiff_t done =
      kind == qint_binary_sum ? add_fast(a, b, count, zero_point, low, high, out) : 0;
  combine_all(kind, behind(a, done), behind(b, done), count - done, zero_point, low, high,
              out + done);
}

CLONES void qint_moments(const uint8_t *restrict codes, ptrdiff_t count, int32_t zero,
                         int64_t *restrict sum, int64_t *restrict squares) {
  int64_t total = 0, square = 0;
  for (ptrdiff_t start = 0; start < count; start += 4096) {  // 32 bits hold so many
    const ptrdiff_t end = start + 4096 < count ? start + 4096 : count;
    int32_t part = 0, part_square = 0;
    for (ptrdiff_t i = start; i < end; i++) {
      const int32_t distance = (int32_t)codes[i] - zero;
      part += distance;
      part_square += distance * distance;
    }
    total += part;
    square += part_square;
  }
  *sum = total;
  *squares = square;
}

CLONES void qint_normalize(const uint8_t *restrict codes, ptrdiff_t count, int32_t zero,
                           float factor, float shift, const float *restrict gamma,
                           const float *restrict beta, float zero_point, float low, float high,
                           uint8_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const float x = (float)((int32_t)codes[i] - zero) * factor - shift;
    const float y = x * gamma[i] + beta[i];
    out[i] = rounded(y + zero_point, low, high);
  }
}

CLONES void qint_finish_sums(const int32_t *restrict sums, ptrdiff_t count, int32_t shift,
                             float factor, float zero_point, float low, float high,
                             uint8_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    out[i] = rounded((float)(sums[i] - shift) * factor + zero_point, low, high);
  }
}

void qint_softmax(const uint8_t *in, ptrdiff_t size, ptrdiff_t step, const int32_t *table,
                  double scale, float zero_point, float low, float high, uint8_t *out) {
  uint8_t top = 0;
  int64_t sum = 0;
  for (ptrdiff_t i = 0; i < size; i++) {
    top = in[i * step] > top ? in[i * step] : top;
  }
  for (ptrdiff_t i = 0; i < size; i++) {
    sum += table[top - in[i * step]];
  }
  const float factor = (float)(1.0 / ((double)sum * scale));
  if (size <= 256) {
    for (ptrdiff_t i = 0; i < size; i++) {
      out[i * step] = rounded((float)table[top - in[i * step]] * factor + zero_point, low, high);
    }
    return;
  }
  uint8_t codes[256];
  for (int distance = 0; distance <= top; distance++) {
    codes[distance] = rounded((float)table[distance] * factor + zero_point, low, high);
  }
  for (ptrdiff_t i = 0; i < size; i++) {
    out[i * step] = codes[top - in[i * step]];
  }
}

void qint_look_up(const uint8_t *table, const uint8_t *in, ptrdiff_t count, uint8_t *out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    out[i] = table[in[i]];
  }
}

void qint_gather(const int32_t *restrict starts, ptrdiff_t count, ptrdiff_t run, uint8_t fill,
                 const uint8_t *restrict in, uint8_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    if (starts[i] < 0) {
      memset(out + i * run, fill, (size_t)run);
    } else if (run == 1) {
      out[i] = in[starts[i]];
    } else {
      memcpy(out + i * run, in + starts[i], (size_t)run);
    }
  }
}

/// Rows and columns in tiles that fit the first cache.
INLINE void transpose(const uint8_t *restrict in, ptrdiff_t rows, ptrdiff_t columns,
                      uint8_t *restrict out) {
  enum { tile = 32 };
  for (ptrdiff_t column = 0; column < columns; column += tile) {
    const ptrdiff_t end = column + tile < columns ? column + tile : columns;
    for (ptrdiff_t row = 0; row < rows; row += tile) {
      const ptrdiff_t last = row + tile < rows ? row + tile : rows;
      for (ptrdiff_t c = column; c < end; c++) {
        for (ptrdiff_t r = row; r < last; r++) {
          out[c * rows + r] = in[r * columns + c];
        }
      }
    }
  }
}

CLONES void qint_transpose(const uint8_t *in, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns,
                           uint8_t *out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const uint8_t *restrict from = in + i * rows * columns;
    uint8_t *restrict to = out + i * rows * columns;
    if (rows == 3) {  // colour planes
      for (ptrdiff_t c = 0; c < columns; c++) {
        to[3 * c] = from[c];
        to[3 * c + 1] = from[columns + c];
        to[3 * c + 2] = from[2 * columns + c];
      }
    } else {
      transpose(from, rows, columns, to);
    }
  }
}

CLONES void qint_maximum(uint8_t *restrict out, const uint8_t *restrict row, ptrdiff_t step,
                         ptrdiff_t pixels, ptrdiff_t channels) {
  if (step == channels) {
    channels *= pixels;
    pixels = 1;
  }
  for (ptrdiff_t x = 0; x < pixels; x++) {
    for (ptrdiff_t i = 0; i < channels; i++) {
      out[i] = out[i] > row[i] ? out[i] : row[i];
    }
    out += channels;
    row += step;
  }
}

CLONES void qint_accumulate(int32_t *restrict sums, const uint8_t *restrict row, ptrdiff_t count) {
  for (ptrdiff_t i = 0; i < count; i++) {
    sums[i] += row[i];
  }
}

CLONES void qint_weigh(const uint8_t *restrict codes, ptrdiff_t count, int32_t zero, float weight,
                       int adds, float *restrict line) {
  if (adds) {
    for (ptrdiff_t i = 0; i < count; i++) {
      line[i] = line[i] + weight * (float)((int32_t)codes[i] - zero);
    }
  } else {
    for (ptrdiff_t i = 0; i < count; i++) {
      line[i] = weight * (float)((int32_t)codes[i] - zero);
    }
  }
}

CLONES void qint_round(const float *restrict x, ptrdiff_t count, float factor, float zero_point,
                       float low, float high, uint8_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    out[i] = rounded(x[i] * factor + zero_point, low, high);
  }
}

CLONES void qint_quantize(const float *restrict x, ptrdiff_t count, float scale, float lowest,
                          float highest, int32_t zero_point, uint8_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    float ratio = x[i] / scale;
    ratio = ratio > lowest ? ratio : lowest;
    ratio = ratio < highest ? ratio : highest;
    const float sum = ratio + 12582912.0f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    out[i] = (uint8_t)(bits + (uint32_t)zero_point);
  }
}

CLONES void qint_dequantize(const uint8_t *restrict codes, ptrdiff_t count, float scale,
                            int32_t zero_point, float *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    out[i] = (float)((int32_t)codes[i] - zero_point) * scale;
  }
}
