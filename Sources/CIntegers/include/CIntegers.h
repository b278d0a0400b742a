/// Loops over bytes for integer execution: each computes what its comment says, number by number, with
/// the same bits on every processor. Float operations are single IEEE operations in the order written
/// (no fused multiply-add); rounding is half to even.
///
/// Nothing here checks sizes, allocates or fails. Operands do not overlap unless a comment allows it.
#ifndef QTOOLS_CINTEGERS_H
#define QTOOLS_CINTEGERS_H

#include <stddef.h>
#include <stdint.h>

#include "qint_convolve.h"

#if defined(__clang__)
#pragma clang assume_nonnull begin
#endif

/// How 32-bit sums of rows of `columns` numbers become bytes.
///
///     total = factor * sums + low_sums + bias + share * (the sum behind the row)     in 32 bits
///     y = float(total) * scale
///     y = y < 0 ? slope * y : y                      where there are slopes
///     y = hard_swish(y) / step                       where step is not 0
///     byte = round(clamp(y + zero_point, low, high))
typedef struct qint_requantization {
  int32_t factor;
  const int32_t *QINT_NULLABLE low_sums;  ///< as many as sums
  int32_t share;  ///< where not 0, a row of sums has one number more than `columns`
  const int32_t *bias;                    ///< [bias_rows, columns], repeated for further rows
  ptrdiff_t bias_rows;
  const float *scales;                ///< [columns]
  const float *QINT_NULLABLE slopes;  ///< [columns]
  float step;
  float zero_point;
  float low;   ///< whole
  float high;  ///< whole
} qint_requantization;

/// Requantizes `rows` rows of sums.
void qint_requantize(const int32_t *sums, const qint_requantization *how, ptrdiff_t rows,
                     ptrdiff_t columns, uint8_t *out);

/// bytes = min(bytes, bounds of the column), in place.
void qint_limit_rows(uint8_t *bytes, const uint8_t *bounds, ptrdiff_t rows, ptrdiff_t columns);

/// An operand of a binary loop: code i is `codes[i * step]`, step 0 or 1; `zero` is its zero point,
/// `scale` what its distance from there is multiplied by.
typedef struct qint_operand {
  const uint8_t *codes;
  ptrdiff_t step;
  int32_t zero;
  float scale;
} qint_operand;

/// What a binary loop computes from p = a - a.zero and q = b - b.zero.
typedef enum qint_binary {
  qint_binary_sum = 0,       ///< float(p) * a.scale + float(q) * b.scale
  qint_binary_maximum = 1,   ///< the larger one of float(p) * a.scale and float(q) * b.scale
  qint_binary_minimum = 2,   ///< the smaller one
  qint_binary_product = 3,   ///< float(p * q) * a.scale
  qint_binary_quotient = 4   ///< float(p) / float(q) * a.scale
} qint_binary;

/// out = round(clamp(what `kind` says + zero_point, low, high)); NaN gives `low`.
void qint_combine(qint_binary kind, qint_operand a, qint_operand b, ptrdiff_t count,
                  float zero_point, float low, float high, uint8_t *out);

/// Sums of the distances from `zero` and of their squares.
void qint_moments(const uint8_t *codes, ptrdiff_t count, int32_t zero, int64_t *sum,
                  int64_t *squares);

/// round(clamp((float(code - zero) * factor - shift) * gamma + beta + zero_point, low, high)); gamma and
/// beta have `count` numbers.
void qint_normalize(const uint8_t *codes, ptrdiff_t count, int32_t zero, float factor, float shift,
                    const float *gamma, const float *beta, float zero_point, float low, float high,
                    uint8_t *out);

/// round(clamp(float(sum - shift) * factor + zero_point, low, high)).
void qint_finish_sums(const int32_t *sums, ptrdiff_t count, int32_t shift, float factor,
                      float zero_point, float low, float high, uint8_t *out);

/// A line of `size` codes, `step` apart: e = table[largest code - code] and
/// round(clamp(float(e) * float(1 / (sum of e * scale)) + zero_point, low, high)).
void qint_softmax(const uint8_t *in, ptrdiff_t size, ptrdiff_t step, const int32_t *table,
                  double scale, float zero_point, float low, float high, uint8_t *out);

/// Columns of a packed operand come in blocks of so many; depths in pairs.
enum { qint_column_block = 64 };

/// Distances of [rows, depth] codes from `zero`, in pairs along the depth: [rows, pairs, 2], a missing
/// last one 0.
void qint_pack_rows(const uint8_t *codes, ptrdiff_t rows, ptrdiff_t depth, int32_t zero,
                    int16_t *out);

/// Distances of [depth, columns] codes (or [columns, depth], `turned`) as [pairs, padded columns, 2],
/// columns padded by zeros to whole blocks.
void qint_pack_columns(const uint8_t *codes, ptrdiff_t depth, ptrdiff_t columns, int turned,
                       int32_t zero, int16_t *out);

/// The exact product of packed operands: [rows, padded columns]. Sums have to fit 32 bits.
void qint_product(const int16_t *a, const int16_t *b, ptrdiff_t rows, ptrdiff_t pairs,
                  ptrdiff_t columns, int32_t *out);

/// out[i] = table[in[i]]; `out` may be `in`.
void qint_look_up(const uint8_t *table, const uint8_t *in, ptrdiff_t count, uint8_t *out);

/// out[i * run ...] = in[starts[i] ...], `run` bytes each; where starts[i] is negative, `fill`.
void qint_gather(const int32_t *starts, ptrdiff_t count, ptrdiff_t run, uint8_t fill,
                 const uint8_t *in, uint8_t *out);

/// Transposes `count` matrices of [rows, columns] bytes.
void qint_transpose(const uint8_t *in, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns,
                    uint8_t *out);

/// out = max(out, row) for neighbouring pixels of `out`, in place; those of `row` are `step` bytes apart.
void qint_maximum(uint8_t *out, const uint8_t *row, ptrdiff_t step, ptrdiff_t pixels, ptrdiff_t channels);

/// sums += row.
void qint_accumulate(int32_t *sums, const uint8_t *row, ptrdiff_t count);

/// line = weight * float(code - zero), or line + that where `adds` is not 0.
void qint_weigh(const uint8_t *codes, ptrdiff_t count, int32_t zero, float weight, int adds, float *line);

/// round(clamp(x * factor + zero_point, low, high)).
void qint_round(const float *x, ptrdiff_t count, float factor, float zero_point, float low, float high, uint8_t *out);

/// round(clamp(x / scale, lowest, highest)) + zero_point; NaN gives `lowest`. |lowest| and |highest|
/// are whole and below 2^22.
void qint_quantize(const float *x, ptrdiff_t count, float scale, float lowest, float highest,
                   int32_t zero_point, uint8_t *out);

/// float(code - zero_point) * scale.
void qint_dequantize(const uint8_t *codes, ptrdiff_t count, float scale, int32_t zero_point,
                     float *out);

// MARK: 16-bit codes

/// The bytes of `count` codes, apart.
void qint_split(const uint16_t *codes, ptrdiff_t count, uint8_t *high, uint8_t *low);

/// How exact 32-bit sums over the bytes of 16-bit codes become codes.
///
///     total = 256 * (factor * high + high_rest) + factor * low + low_rest + bias      exact, below 2^53
///     y = float(total) * scale, and on as in qint_requantization
typedef struct qint_wide_sums {
  const int32_t *QINT_NULLABLE high;       ///< nil: codes are bytes
  const int32_t *QINT_NULLABLE high_rest;  ///< where low_rest is
  const int32_t *low;
  const int32_t *QINT_NULLABLE low_rest;   ///< where it is nil the factor is not used
  int32_t factor;
  const double *bias;                       ///< [columns], whole
  const int32_t *QINT_NULLABLE short_bias;  ///< the same in 32 bits, cut off, where every total fits these
  const float *scales;                      ///< [columns]
  const float *QINT_NULLABLE slopes;        ///< [columns]
  float step;
  float zero_point;
  float low_code;   ///< whole
  float high_code;  ///< whole
} qint_wide_sums;

/// Requantizes `rows` rows of sums to `words` or, where that is nil, to `bytes`.
void qint_requantize_wide(const qint_wide_sums *how, ptrdiff_t rows, ptrdiff_t columns, uint16_t *QINT_NULLABLE words,
                          uint8_t *QINT_NULLABLE bytes);

/// As qint_transpose.
void qint_transpose_words(const uint16_t *in, ptrdiff_t count, ptrdiff_t rows, ptrdiff_t columns, uint16_t *out);

/// As qint_limit_rows.
void qint_limit_words(uint16_t *words, const uint16_t *bounds, ptrdiff_t rows, ptrdiff_t columns);

/// As qint_operand.
typedef struct qint_word_operand {
  const uint16_t *codes;
  ptrdiff_t step;
  int32_t zero;
  float scale;
} qint_word_operand;

/// As qint_combine; p * q is exact.
void qint_combine_words(qint_binary kind, qint_word_operand a, qint_word_operand b, ptrdiff_t count, float zero_point,
                        float low, float high, uint16_t *out);

/// As qint_quantize.
void qint_quantize_words(const float *x, ptrdiff_t count, float scale, float lowest, float highest, int32_t zero_point,
                         uint16_t *out);

/// As qint_dequantize.
void qint_dequantize_words(const uint16_t *codes, ptrdiff_t count, float scale, int32_t zero_point, float *out);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
