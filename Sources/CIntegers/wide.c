#include "CIntegers.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

// Loops over 16-bit codes. Compiled for three generations of processors; the loader picks one.
#if defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/// A number clamped to whole bounds inside of 0..65535 and rounded half to even (see loops.c). NaN gives `low`.
INLINE uint32_t rounded(float value, float low, float high) {
  value = value > low ? value : low;
  value = value < high ? value : high;
  const float sum = value + 12582912.0f;
  uint32_t bits;
  memcpy(&bits, &sum, sizeof bits);
  return bits & 0x3FFFFF;
}

CLONES void qint_split(const uint16_t *restrict codes, ptrdiff_t count, uint8_t *restrict high, uint8_t *restrict low) {
  for (ptrdiff_t i = 0; i < count; i++) {
    high[i] = (uint8_t)(codes[i] >> 8);
    low[i] = (uint8_t)codes[i];
  }
}

INLINE float hard_swish(float x) {
  float gate = x / 6.0f + 0.5f;
  gate = gate > 0.0f ? gate : 0.0f;
  gate = gate < 1.0f ? gate : 1.0f;
  return x * gate;
}

enum { wide_line = 512 };

/// `count` totals from `start` on as floats, rounded once: whole doubles below 2^53 are exact.
INLINE void totals(const qint_wide_sums *how, ptrdiff_t start, ptrdiff_t count, const double *restrict bias, int split,
                   int planes, float *restrict out) {
  const int32_t *restrict low = how->low + start, *restrict low_rest = split ? how->low_rest + start : NULL;
  const int32_t *restrict high = planes ? how->high + start : NULL;
  const int32_t *restrict high_rest = planes && split ? how->high_rest + start : NULL;
  const double factor = (double)how->factor;
  for (ptrdiff_t i = 0; i < count; i++) {
    double sum = (double)low[i];
    if (split) {
      sum = sum * factor + (double)low_rest[i];
    }
    if (planes) {
      double upper = (double)high[i];
      if (split) {
        upper = upper * factor + (double)high_rest[i];
      }
      sum += upper * 256.0;
    }
    out[i] = (float)(sum + bias[i]);
  }
}

/// The same where totals fit 32 bits, on the way to which sums may wrap.
INLINE void short_totals(const qint_wide_sums *how, ptrdiff_t start, ptrdiff_t count, const int32_t *restrict bias,
                         int split, int planes, float *restrict out) {
  const int32_t *restrict low = how->low + start, *restrict low_rest = split ? how->low_rest + start : NULL;
  const int32_t *restrict high = planes ? how->high + start : NULL;
  const int32_t *restrict high_rest = planes && split ? how->high_rest + start : NULL;
  const uint32_t factor = (uint32_t)how->factor;
  for (ptrdiff_t i = 0; i < count; i++) {
    uint32_t sum = (uint32_t)low[i];
    if (split) {
      sum = sum * factor + (uint32_t)low_rest[i];
    }
    if (planes) {
      uint32_t upper = (uint32_t)high[i];
      if (split) {
        upper = upper * factor + (uint32_t)high_rest[i];
      }
      sum += upper * 256;
    }
    out[i] = (float)(int32_t)(sum + (uint32_t)bias[i]);
  }
}

/// Numbers `start` to `start + count` (wide_line at most) of all rows, whose constants begin at `bias` (or
/// `short_bias`), `scales` and `slopes`.
INLINE void requantize_line(const qint_wide_sums *how, ptrdiff_t start, ptrdiff_t count, const double *restrict bias,
                            const int32_t *restrict short_bias, const float *restrict scales, const float *restrict slopes, uint16_t *words,
                            uint8_t *bytes) {
  const float zero_point = how->zero_point, low = how->low_code, high = how->high_code, step = how->step;
  float line[wide_line];
  if (short_bias != NULL && how->low_rest == NULL && how->high != NULL) {
    short_totals(how, start, count, short_bias, 0, 1, line);
  } else if (short_bias != NULL && how->high != NULL) {
    short_totals(how, start, count, short_bias, 1, 1, line);
  } else if (how->high == NULL) {
    if (how->low_rest == NULL) {
      totals(how, start, count, bias, 0, 0, line);
    } else {
      totals(how, start, count, bias, 1, 0, line);
    }
  } else if (how->low_rest == NULL) {
    totals(how, start, count, bias, 0, 1, line);
  } else {
    totals(how, start, count, bias, 1, 1, line);
  }
  for (ptrdiff_t i = 0; i < count; i++) {
    line[i] *= scales[i];
  }
  if (slopes != NULL) {
    for (ptrdiff_t i = 0; i < count; i++) {
      line[i] = line[i] < 0.0f ? slopes[i] * line[i] : line[i];
    }
  }
  if (step != 0.0f) {
    for (ptrdiff_t i = 0; i < count; i++) {
      line[i] = hard_swish(line[i]) / step;
    }
  }
  if (words != NULL) {
    uint16_t *restrict to = words + start;
    for (ptrdiff_t i = 0; i < count; i++) {
      to[i] = (uint16_t)rounded(line[i] + zero_point, low, high);
    }
  } else if (bytes != NULL) {
    uint8_t *restrict to = bytes + start;
    for (ptrdiff_t i = 0; i < count; i++) {
      to[i] = (uint8_t)rounded(line[i] + zero_point, low, high);
    }
  }
}

CLONES void qint_requantize_wide(const qint_wide_sums *how, ptrdiff_t rows, ptrdiff_t columns, uint16_t *words,
                                 uint8_t *bytes) {
  if (columns <= wide_line / 2) {
    // Short rows are taken together, with constants for each of them.
    double bias[wide_line];
    int32_t short_bias[wide_line];
    float scales[wide_line], slopes[wide_line];
    const ptrdiff_t together = wide_line / columns * columns, all = rows * columns;
    for (ptrdiff_t i = 0; i < together; i++) {
      bias[i] = how->bias[i % columns];
      short_bias[i] = how->short_bias == NULL ? 0 : how->short_bias[i % columns];
      scales[i] = how->scales[i % columns];
      slopes[i] = how->slopes == NULL ? 0.0f : how->slopes[i % columns];
    }
    for (ptrdiff_t start = 0; start < all; start += together) {
      requantize_line(how, start, all - start < together ? all - start : together, bias,
                      how->short_bias == NULL ? NULL : short_bias, scales, how->slopes == NULL ? NULL : slopes, words,
                      bytes);
    }
    return;
  }
  for (ptrdiff_t row = 0; row < rows; row++) {
    for (ptrdiff_t first = 0; first < columns; first += wide_line) {
      requantize_line(how, row * columns + first, columns - first < wide_line ? columns - first : wide_line,
                      how->bias + first, how->short_bias == NULL ? NULL : how->short_bias + first, how->scales + first,
                      how->slopes == NULL ? NULL : how->slopes + first, words, bytes);
    }
  }
}

/// Blocks whose rows and columns both stay in the first cache.
INLINE void transpose(const uint16_t *restrict in, ptrdiff_t rows, ptrdiff_t columns, uint16_t *restrict out) {
  enum { block = 32 };
  for (ptrdiff_t first = 0; first < columns; first += block) {
    const ptrdiff_t end = columns - first < block ? columns : first + block;
    for (ptrdiff_t start = 0; start < rows; start += block) {
      const ptrdiff_t last = rows - start < block ? rows : start + block;
      for (ptrdiff_t c = first; c < end; c++) {
        for (ptrdiff_t r = start; r < last; r++) {
          out[c * rows + r] = in[r * columns + c];
        }
      }
    }
  }
}

CLONES void qint_transpose_words(const uint16_t *in, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns,
                                 uint16_t *out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const uint16_t *restrict from = in + i * rows * columns;
    uint16_t *restrict to = out + i * rows * columns;
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

CLONES void qint_limit_words(uint16_t *restrict words, const uint16_t *restrict bounds, ptrdiff_t rows,
                             ptrdiff_t columns) {
  for (ptrdiff_t row = 0; row < rows; row++) {
    uint16_t *restrict line = words + row * columns;
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
    // Exact as a double: 34 bits.
    case qint_binary_product: return (float)((double)p * (double)q) * a_scale;
    case qint_binary_quotient: return (float)p / (float)q * a_scale;
  }
  return 0.0f;
}

INLINE void combine(qint_binary kind, qint_word_operand a, qint_word_operand b, ptrdiff_t a_step, ptrdiff_t b_step,
                    ptrdiff_t count, float zero_point, float low, float high, uint16_t *restrict out) {
  const uint16_t *restrict x = a.codes, *restrict y = b.codes;
  for (ptrdiff_t i = 0; i < count; i++) {
    const int32_t p = (int32_t)x[i * a_step] - a.zero, q = (int32_t)y[i * b_step] - b.zero;
    out[i] = (uint16_t)rounded(combined(kind, p, q, a.scale, b.scale) + zero_point, low, high);
  }
}

INLINE void combine_any(qint_binary kind, qint_word_operand a, qint_word_operand b, ptrdiff_t count, float zero_point,
                        float low, float high, uint16_t *out) {
  if (a.step == 1 && b.step == 1) {
    combine(kind, a, b, 1, 1, count, zero_point, low, high, out);
  } else {
    combine(kind, a, b, a.step, b.step, count, zero_point, low, high, out);
  }
}

CLONES void qint_combine_words(qint_binary kind, qint_word_operand a, qint_word_operand b, ptrdiff_t count,
                               float zero_point, float low, float high, uint16_t *out) {
  switch (kind) {
    case qint_binary_sum: combine_any(qint_binary_sum, a, b, count, zero_point, low, high, out); break;
    case qint_binary_maximum: combine_any(qint_binary_maximum, a, b, count, zero_point, low, high, out); break;
    case qint_binary_minimum: combine_any(qint_binary_minimum, a, b, count, zero_point, low, high, out); break;
    case qint_binary_product: combine_any(qint_binary_product, a, b, count, zero_point, low, high, out); break;
    case qint_binary_quotient: combine_any(qint_binary_quotient, a, b, count, zero_point, low, high, out); break;
  }
}

CLONES void qint_quantize_words(const float *restrict x, ptrdiff_t count, float scale, float lowest, float highest,
                                int32_t zero_point, uint16_t *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    float ratio = x[i] / scale;
    ratio = ratio > lowest ? ratio : lowest;
    ratio = ratio < highest ? ratio : highest;
    const float sum = ratio + 12582912.0f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    out[i] = (uint16_t)(bits + (uint32_t)zero_point);
  }
}

CLONES void qint_dequantize_words(const uint16_t *restrict codes, ptrdiff_t count, float scale, int32_t zero_point,
                                  float *restrict out) {
  for (ptrdiff_t i = 0; i < count; i++) {
    out[i] = (float)((int32_t)codes[i] - zero_point) * scale;
  }
}
