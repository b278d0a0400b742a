// Convolutions of bytes on AVX-512 with VNNI. A tile, two segments of pixels by 32 channels, stays in registers while
// all runs of the window are added; windows are read where they lie, nothing is gathered.
#include <string.h>

#include "qint_convolve.h"

#pragma STDC FP_CONTRACT OFF

ptrdiff_t qint_packed_channel(ptrdiff_t channel) {
  // Channels 8i to 8i + 7 become 32-bit lane i of the first vector, then of the second one: packing two
  // vectors to bytes, which works in lanes of 128 bits, brings them back into order.
  return channel / 8 * 4 + channel % 4 + (channel % 8 / 4) * 16;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE WIDE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)")

/// Keeps the compiler from computing an address anew from others, for which there are too few registers.
INLINE const char *kept(const char *address) {
  __asm__("" : "+r"(address));
  return address;
}

/// Addresses of the pixels of a segment, `step` bytes apart: from three of them all seven are one addition away.
typedef struct pixels {
  const char *first, *fourth, *sixth;
} pixels;

INLINE pixels pixels_at(const void *first, ptrdiff_t step) {
  const char *place = first;
  return (pixels){place, kept(place + 3 * step), kept(place + 5 * step)};
}

INLINE const char *pixel(pixels at, ptrdiff_t step, int number) {
  switch (number) {
    case 0: return at.first;
    case 1: return at.first + step;
    case 2: return at.first + 2 * step;
    case 3: return at.fourth;
    case 4: return at.fourth + step;
    case 5: return at.sixth;
    default: return at.sixth + step;
  }
}

INLINE pixels advanced(pixels at, ptrdiff_t bytes) {
  return (pixels){at.first + bytes, at.fourth + bytes, at.sixth + bytes};
}

/// Weights of the next block of channels, fetched while this one is computed. Weights of a whole network do not stay
/// in the caches near the processor; each layer meets them anew.
typedef struct upcoming {
  const char *next, *end;
} upcoming;

/// The weights behind those of a block, `bytes` a block; nothing for the last block.
INLINE upcoming upcoming_after(const void *weights, ptrdiff_t bytes, ptrdiff_t blocks_left) {
  const char *next = (const char *)weights + bytes;
  return blocks_left > 1 ? (upcoming){next, next + bytes} : (upcoming){weights, weights};
}

/// Fetches four lines, or the same one again where there is nothing left.
INLINE void fetch(upcoming *weights) {
  const ptrdiff_t line = weights->next < weights->end ? 64 : 0;
  UNROLLED for (int i = 0; i < 4; i++) { __builtin_prefetch(weights->next + i * line, 0, 2); }
  weights->next += 4 * line;
}

int qint_has_convolve(void) {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")
         && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

INLINE __m512i four_bytes(const char *place) {
  int32_t quad;
  memcpy(&quad, place, sizeof quad);
  return _mm512_set1_epi32(quad);
}

/// The sums of a segment: a pixel has two vectors of 16 channels.
typedef __m512i sums[qint_longest_segment][2];

INLINE void add_quad(const int length, sums total, pixels at, ptrdiff_t step, ptrdiff_t offset, __m512i low,
                     __m512i high) {
  UNROLLED for (int i = 0; i < length; i++) {
    const __m512i quad = four_bytes(pixel(at, step, i) + offset);
    total[i][0] = _mm512_dpbusd_epi32(total[i][0], quad, low);
    total[i][1] = _mm512_dpbusd_epi32(total[i][1], quad, high);
  }
}

/// What becomes of sums; all of it the same for the tiles of a block.
typedef struct finish {
  __m512 scales[2], zero_point;
  __m512i low, high;
  __mmask32 channels;
} finish;

INLINE __m512i whole(__m512i total, __m512 scale, __m512 zero_point) {
  return _mm512_cvtps_epi32(_mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(total), scale), zero_point));
}

/// The numbers of two pixels as bytes: 32 of the first one, 32 of the second.
INLINE __m512i packed(__m512i a_low, __m512i a_high, __m512i b_low, __m512i b_high) {
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  const __m512i both = _mm512_packus_epi16(_mm512_packs_epi32(a_low, a_high), _mm512_packs_epi32(b_low, b_high));
  return _mm512_permutexvar_epi64(order, both);
}

INLINE void store(const finish *how, __m512i bytes, const int second, uint8_t *to) {
  const __m256i half = second ? _mm512_extracti64x4_epi64(bytes, 1) : _mm512_castsi512_si256(bytes);
  if (how->channels == ~(__mmask32)0) {  // masks are slow
    _mm256_storeu_si256((__m256i *)to, half);
  } else {
    _mm256_mask_storeu_epi8(to, how->channels, half);
  }
}

/// Adds a window to the sums of `length` pixels from `a` and, where `both`, of as many from `b`.
INLINE void add_window(const int length, const int both, const qint_window *c, const uint8_t *a, const uint8_t *b,
                       const int8_t *weights, upcoming *upcoming, sums first, sums second) {
  const ptrdiff_t step = c->step;
  for (ptrdiff_t run = 0; run < c->run_count; run++) {
    pixels from_a = pixels_at(a + c->runs[run], step), from_b = pixels_at(b + c->runs[run], step);
#define QUAD(number)                                                                                     \
  do {                                                                                                   \
    const __m512i low = _mm512_load_si512(weights + 128 * (number));                                     \
    const __m512i high = _mm512_load_si512(weights + 128 * (number) + 64);                               \
    add_quad(length, first, from_a, step, 4 * (number), low, high);                                      \
    if (both) {                                                                                          \
      add_quad(length, second, from_b, step, 4 * (number), low, high);                                   \
    }                                                                                                    \
  } while (0)
#define ADVANCE(quads)                           \
  from_a = advanced(from_a, 4 * (quads));        \
  from_b = advanced(from_b, 4 * (quads));        \
  weights += 128 * (quads)
    ptrdiff_t left = c->run_length / 4;
    for (; left >= 4; left -= 4) {
      QUAD(0);
      QUAD(1);
      QUAD(2);
      QUAD(3);
      ADVANCE(4);
      fetch(upcoming);
    }
    for (; left > 0; left--) {
      QUAD(0);
      ADVANCE(1);
    }
  }
}

/// One tile: `length` pixels from `a` and, where `both`, as many from `b`. They go to `to_a` and `to_b`.
INLINE void tile(const int length, const int both, const qint_window *c, const finish *how, const uint8_t *a,
                 const uint8_t *b, const int8_t *weights, upcoming *upcoming, const int32_t *bias, uint8_t *to_a,
                 uint8_t *to_b) {
  sums first, second;
  const __m512i low_bias = _mm512_loadu_si512(bias), high_bias = _mm512_loadu_si512(bias + 16);
  UNROLLED for (int i = 0; i < length; i++) {
    first[i][0] = second[i][0] = low_bias;
    first[i][1] = second[i][1] = high_bias;
  }
  add_window(length, both, c, a, b, weights, upcoming, first, second);
  UNROLLED for (int i = 0; i < length; i++) {
    const __m512i zero = _mm512_setzero_si512();
    const ptrdiff_t shift = i * c->channels;
    __m512i bytes = packed(
        whole(first[i][0], how->scales[0], how->zero_point), whole(first[i][1], how->scales[1], how->zero_point),
        both ? whole(second[i][0], how->scales[0], how->zero_point) : zero,
        both ? whole(second[i][1], how->scales[1], how->zero_point) : zero);
    bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, how->low), how->high);
    store(how, bytes, 0, to_a + shift);
    if (both) {
      store(how, bytes, 1, to_b + shift);
    }
  }
}

/// The segments from `start` to `end` for one block of channels.
INLINE void tiles(const int length, const qint_window *c, const qint_convolve_constants *constants, ptrdiff_t start, ptrdiff_t end, ptrdiff_t channel,
                  const uint8_t *in, uint8_t *out) {
  const int8_t *weights = constants->weights + channel * c->run_count * c->run_length;
  const ptrdiff_t left = c->channels - channel;
  const finish how = {
      .scales = {_mm512_loadu_ps(constants->scales + channel), _mm512_loadu_ps(constants->scales + channel + 16)},
      .zero_point = _mm512_set1_ps(constants->zero_point),
      .low = _mm512_set1_epi8((char)constants->low),
      .high = _mm512_set1_epi8((char)constants->high),
      .channels = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1,
  };
  const ptrdiff_t blocks = (left + qint_channel_block - 1) / qint_channel_block;
  upcoming upcoming =
      upcoming_after(weights, c->run_count * c->run_length * qint_channel_block, start == 0 ? blocks : 0);
  ptrdiff_t i = start;
  for (; i + 1 < end; i += 2) {
    const qint_segment a = c->segments[i], b = c->segments[i + 1];
    tile(length, 1, c, &how, in + a.in, in + b.in, weights, &upcoming, constants->bias + channel,
         out + a.out * c->channels + channel, out + b.out * c->channels + channel);
  }
  if (i < end) {
    const qint_segment a = c->segments[i];
    uint8_t *to = out + a.out * c->channels + channel;
    tile(length, 0, c, &how, in + a.in, in + a.in, weights, &upcoming, constants->bias + channel, to, to);
  }
}

#define TILES(length)                                                                                              \
  WIDE static void tiles_of_##length(const qint_window *c, const qint_convolve_constants *constants, ptrdiff_t start, ptrdiff_t end, ptrdiff_t channel, \
                                     const uint8_t *in, uint8_t *out) {                                            \
    tiles(length, c, constants, start, end, channel, in, out);                                                                \
  }
TILES(4)
TILES(5)
TILES(6)
TILES(7)

void qint_convolve(const qint_window *c, const qint_convolve_constants *constants, const uint8_t *in, uint8_t *out) {
  for (ptrdiff_t start = 0; start < c->segment_count; start += c->block) {
    const ptrdiff_t end = c->block < c->segment_count - start ? start + c->block : c->segment_count;
    for (ptrdiff_t channel = 0; channel < c->channels; channel += qint_channel_block) {
      switch (c->segment_length) {
        case 4: tiles_of_4(c, constants, start, end, channel, in, out); break;
        case 5: tiles_of_5(c, constants, start, end, channel, in, out); break;
        case 6: tiles_of_6(c, constants, start, end, channel, in, out); break;
        default: tiles_of_7(c, constants, start, end, channel, in, out); break;
      }
    }
  }
}

typedef struct wide_finish {
  __m512d bias[4];
  __m512i short_bias[2];
  __m512 scales[2], zero_point, low, high;
  __mmask32 channels;
} wide_finish;

/// 256 * high + low + bias of 16 channels as floats: whole doubles are exact, so that it is rounded once.
INLINE __m512 wide_total(__m512i high, __m512i low, const __m512d *bias) {
  const __m512d shift = _mm512_set1_pd(256.0);
  const __m512d first = _mm512_add_pd(
      _mm512_add_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(high)), shift),
                    _mm512_cvtepi32_pd(_mm512_castsi512_si256(low))),
      bias[0]);
  const __m512d second = _mm512_add_pd(
      _mm512_add_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(high, 1)), shift),
                    _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(low, 1))),
      bias[1]);
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(first)), _mm512_cvtpd_ps(second), 1);
}

/// The same where totals fit 32 bits, on the way to which sums may wrap.
INLINE __m512 short_total(__m512i high, __m512i low, __m512i bias) {
  return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low), bias));
}

INLINE __m512i wide_code(__m512 total, __m512 scale, const wide_finish *how) {
  const __m512 y = _mm512_add_ps(_mm512_mul_ps(total, scale), how->zero_point);
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y, how->low), how->high));
}

/// One tile: a segment of the upper bytes, and the same of the lower ones.
INLINE void wide_tile(const int length, const int is_short, const qint_window *c, const wide_finish *how, const uint8_t *high,
                      const uint8_t *low, const int8_t *weights, upcoming *upcoming, uint16_t *to) {
  sums first, second;
  UNROLLED for (int i = 0; i < length; i++) {
    first[i][0] = first[i][1] = second[i][0] = second[i][1] = _mm512_setzero_si512();
  }
  add_window(length, 1, c, high, low, weights, upcoming, first, second);
  UNROLLED for (int i = 0; i < length; i++) {
    const __m512 x = is_short ? short_total(first[i][0], second[i][0], how->short_bias[0])
                              : wide_total(first[i][0], second[i][0], how->bias);
    const __m512 y = is_short ? short_total(first[i][1], second[i][1], how->short_bias[1])
                              : wide_total(first[i][1], second[i][1], how->bias + 2);
    const __m512i a = wide_code(x, how->scales[0], how), b = wide_code(y, how->scales[1], how);
    _mm512_mask_storeu_epi16(to + i * c->channels, how->channels, _mm512_packus_epi32(a, b));
  }
}

INLINE void wide_tiles(const int length, const int is_short, const qint_window *c,
                       const qint_wide_constants *constants, ptrdiff_t start, ptrdiff_t end, ptrdiff_t channel, const uint8_t *high, const uint8_t *low, uint16_t *out) {
  const int8_t *weights = constants->weights + channel * c->run_count * c->run_length;
  const ptrdiff_t left = c->channels - channel;
  wide_finish how = {
      .scales = {_mm512_loadu_ps(constants->scales + channel), _mm512_loadu_ps(constants->scales + channel + 16)},
      .zero_point = _mm512_set1_ps(constants->zero_point),
      .low = _mm512_set1_ps(constants->low),
      .high = _mm512_set1_ps(constants->high),
      .channels = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1,
  };
  for (int i = 0; i < 4; i++) {
    how.bias[i] = _mm512_loadu_pd(constants->bias + channel + 8 * i);
  }
  for (int i = 0; i < 2; i++) {
    how.short_bias[i] =
        is_short ? _mm512_loadu_si512(constants->short_bias + channel + 16 * i) : _mm512_setzero_si512();
  }
  const ptrdiff_t blocks = (left + qint_channel_block - 1) / qint_channel_block;
  upcoming upcoming =
      upcoming_after(weights, c->run_count * c->run_length * qint_channel_block, start == 0 ? blocks : 0);
  for (ptrdiff_t i = start; i < end; i++) {
    const qint_segment at = c->segments[i];
    wide_tile(length, is_short, c, &how, high + at.in, low + at.in, weights, &upcoming, out + at.out * c->channels + channel);
  }
}

#define WIDE_TILES(length)                                                                                        \
  WIDE static void wide_tiles_of_##length(const qint_window *c, const qint_wide_constants *constants,             \
                                          ptrdiff_t start, ptrdiff_t end, ptrdiff_t channel, const uint8_t *high, \
                                          const uint8_t *low, uint16_t *out) {                                    \
    if (constants->short_bias != NULL) {                                                                          \
      wide_tiles(length, 1, c, constants, start, end, channel, high, low, out);                                   \
    } else {                                                                                                      \
      wide_tiles(length, 0, c, constants, start, end, channel, high, low, out);                                   \
    }                                                                                                             \
  }
WIDE_TILES(4)
WIDE_TILES(5)
WIDE_TILES(6)
WIDE_TILES(7)

void qint_convolve_wide(const qint_window *c, const qint_wide_constants *constants, const uint8_t *high,
                        const uint8_t *low, uint16_t *out) {
  for (ptrdiff_t start = 0; start < c->segment_count; start += c->block) {
    const ptrdiff_t end = c->block < c->segment_count - start ? start + c->block : c->segment_count;
    for (ptrdiff_t channel = 0; channel < c->channels; channel += qint_channel_block) {
      switch (c->segment_length) {
        case 4: wide_tiles_of_4(c, constants, start, end, channel, high, low, out); break;
        case 5: wide_tiles_of_5(c, constants, start, end, channel, high, low, out); break;
        case 6: wide_tiles_of_6(c, constants, start, end, channel, high, low, out); break;
        default: wide_tiles_of_7(c, constants, start, end, channel, high, low, out); break;
      }
    }
  }
}

#else

int qint_has_convolve(void) { return 0; }

void qint_convolve(const qint_window *c, const qint_convolve_constants *constants, const uint8_t *in, uint8_t *out) {
  (void)c;
  (void)constants;
  (void)in;
  (void)out;
}

void qint_convolve_wide(const qint_window *c, const qint_wide_constants *constants, const uint8_t *high,
                        const uint8_t *low, uint16_t *out) {
  (void)c;
  (void)constants;
  (void)high;
  (void)low;
  (void)out;
}

#endif
