/// Loops over floats in plain C, compiled once for every width of vectors that a processor may have; the
/// version that fits is chosen when the program starts. Functions do not fail, allocate or keep pointers.
///
/// Unless a comment says otherwise products and sums are rounded separately, so that results have the same
/// bits on every processor and for every way of cutting the work.
#ifndef QTOOLS_CKERNELS_H
#define QTOOLS_CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define QK_NULLABLE _Nullable
#define QK_CLOSED_ENUM __attribute__((enum_extensibility(closed)))
#else
#define QK_NULLABLE
#define QK_CLOSED_ENUM
#endif

// MARK: Chains of element-wise functions

/// What a link does with the number x that the links before it gave, and with its operand o.
typedef enum QK_CLOSED_ENUM qk_function {
  qk_function_add = 0,               ///< x + o
  qk_function_subtract = 1,          ///< x - o
  qk_function_subtract_from = 2,     ///< o - x
  qk_function_multiply = 3,          ///< x * o
  qk_function_divide = 4,            ///< x / o
  qk_function_divide_into = 5,       ///< o / x
  qk_function_maximum = 6,           ///< the larger one; NaN where one is
  qk_function_minimum = 7,           ///< the smaller one; NaN where one is
  qk_function_prelu = 8,             ///< x < 0 ? o * x : x
  qk_function_relu = 9,              ///< x > 0 ? x : 0, hence 0 for NaN
  qk_function_leaky = 10,            ///< x > 0 ? x : a * x
  qk_function_clip = 11,             ///< min(max(x, a), b), a for NaN
  qk_function_negate = 12,
  qk_function_absolute = 13,
  qk_function_square_root = 14,
  qk_function_reciprocal_root = 15,  ///< 1 / sqrt(x)
  qk_function_reciprocal = 16,
  qk_function_square = 17,
  qk_function_grid = 18,             ///< to the nearest number of a grid, see qk_simulate
  qk_function_maximum_of = 19,       ///< as maximum of o and x: the sign of a zero is that of the first
  qk_function_minimum_of = 20,       ///< as minimum of o and x
  qk_function_hard_sigmoid = 21      ///< min(max(a * x + b, 0), 1)
} qk_function;

/// How the operand of a link lies over rows of `columns` numbers.
typedef enum QK_CLOSED_ENUM qk_layout {
  qk_layout_none = 0,    ///< no operand
  qk_layout_scalar = 1,  ///< one number
  qk_layout_row = 2,     ///< `columns` numbers, the same for every row
  qk_layout_column = 3,  ///< a number for each row
  qk_layout_full = 4     ///< one for each number
} qk_layout;

/// One function of a chain. `operand` may be what the chain writes only where both are the same element
/// (layout full).
typedef struct qk_link {
  qk_function function;
  qk_layout layout;
  float a, b, c;  ///< parameters; a grid's scale, lowest and highest number of steps
  const float *QK_NULLABLE operand;
} qk_link;

/// Numbers that a chain works on at a time.
enum { qk_block = 1024 };

/// y = the links applied one after the other to every number of x, [rows, columns]; y may be x.
/// `tiles` is memory for qk_block numbers a link. The bits are those of one call a link.
void qk_chain(const float *x, float *y, ptrdiff_t rows, ptrdiff_t columns, const qk_link *links,
              ptrdiff_t link_count, float *tiles);

/// Moves numbers to the nearest one of a grid in place: round(x / scale), halves to even, limited to
/// lowest...highest (whole, below 2^22 in size), times scale. NaN gives the lowest.
void qk_simulate(float *values, ptrdiff_t count, float scale, float lowest, float highest);

// MARK: Moving

/// Copies elements of four bytes into another order: y is dense with the given sizes, outermost axis
/// first, and one step along an axis of y is `steps[axis]` elements in x. rank >= 1, all sizes > 0.
void qk_permute(const uint32_t *x, uint32_t *y, ptrdiff_t rank, const ptrdiff_t *sizes, const ptrdiff_t *steps);

/// Copies `rows` rows of `width` elements; the strides are elements from one row to the next.
void qk_copy_rows(const uint32_t *x, ptrdiff_t x_stride, uint32_t *y, ptrdiff_t y_stride, ptrdiff_t rows,
                  ptrdiff_t width);

/// y = truth != 0 ? a : b over [rows, columns], elements of four bytes; y overlaps no operand.
void qk_select(const uint8_t *truth, qk_layout truth_layout, const uint32_t *a, qk_layout a_layout,
               const uint32_t *b, qk_layout b_layout, uint32_t *y, ptrdiff_t rows, ptrdiff_t columns);

// MARK: Softmax and recurrent layers

/// Softmax along rows of `size` numbers, for short ones; y may be x. `scratch` is memory for
/// 64 * (size + 2) numbers.
void qk_softmax_rows(const float *x, float *y, ptrdiff_t rows, ptrdiff_t size, float *scratch);

/// 1 / (1 + e^-x) in place, within 2e-7 of the exact values.
void qk_sigmoid(float *values, ptrdiff_t count);

/// tanh in place, within 2e-7 of the exact values.
void qk_tanh(float *values, ptrdiff_t count);

/// y[columns] = x[depth] * weights, rows `stride` apart. Sums in the order of depth, with fused products
/// where the processor has them: bits differ between instruction sets.
void qk_vector_matrix(const float *x, ptrdiff_t depth, const float *weights, ptrdiff_t stride, float *y,
                      ptrdiff_t columns);

// MARK: Convolution of few channels

/// Whether vectors are so wide that qk_planes_convolution is worth calling.
int qk_has_wide_vectors(void);

/// A convolution over two axes whose input has so few channels that a processor's vectors hold pixels rather
/// than channels.
typedef struct qk_planes {
  ptrdiff_t channels, height, width;              ///< of the input
  ptrdiff_t out_channels, out_height, out_width;
  ptrdiff_t kernel[2], stride[2], pad[2];         ///< rows, columns; padding before the first one
  ptrdiff_t channel_step, row_step, column_step;  ///< of the input, in elements
} qk_planes;

/// What such a convolution multiplies and adds.
typedef struct qk_planes_constants {
  const float *weights;  ///< [(out_channels + 7) / 8, channels, kernel rows, kernel columns, 8], zero beyond
  const float *bias;     ///< rounded up to eights as well
  const qk_link *QK_NULLABLE links;  ///< applied to the result; operands a channel or for all
  ptrdiff_t link_count;
} qk_planes_constants;

/// Most products of one output of these functions.
enum { qk_planes_taps = 512 };

/// Numbers of scratch memory that qk_planes_convolution needs.
ptrdiff_t qk_planes_scratch(const qk_planes *planes, ptrdiff_t link_count);

/// y[out_height, out_width, out_channels] of one image. Sums in the order of the weights, products fused where
/// the processor can: bits differ between instruction sets, but not between orders of the input's axes.
void qk_planes_convolution(const qk_planes *planes, const qk_planes_constants *constants, const float *x,
                           float *y, float *scratch);

/// Numbers of scratch memory that qk_pixels_convolution needs.
ptrdiff_t qk_pixels_scratch(const qk_planes *planes, ptrdiff_t link_count);

/// The same for a depthwise convolution of 1, 2, 4 or 8 channels with stride 1, an image of [height, width,
/// channels]:
/// `weights` are [kernel rows, kernel columns, 16] and `bias` [16], repeated until they are so long.
void qk_pixels_convolution(const qk_planes *planes, const qk_planes_constants *constants, const float *x,
                           float *y, float *scratch);

// MARK: Normalization

/// y = x / (bias + alpha * sum of squares)^beta in rows of `channels` numbers, the sum over `radius` neighbours
/// on either side; beta is 0.5, 0.75 or 1. `scratch` is memory for 2 * (channels + radius) numbers.
void qk_response_norm(const float *x, float *y, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t radius, float alpha,
                      float beta, float bias, float *scratch);

/// Normalizes an image [pixels, channels] by mean and biased variance of each of `groups` equal parts of the
/// channels, then y = normal * gamma + beta a channel. Sums in double; `scratch` is memory for 2 * channels.
void qk_image_norm(const float *x, float *y, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t groups, double epsilon,
                   const float *gamma, const float *beta, double *scratch);

// MARK: Resizing

/// out[place, channel] = sum over taps of weights[place, tap] * line[indices[place, tap], channel], summed in
/// the order of taps; with one tap weights are taken as 1.
void qk_resample(const float *line, float *out, ptrdiff_t places, ptrdiff_t taps, const int32_t *indices,
                 const float *weights, ptrdiff_t channels);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#ifdef __cplusplus
}
#endif

#endif
