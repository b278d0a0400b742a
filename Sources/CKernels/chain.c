// Chains of element-wise functions, a block of numbers at a time.
#include <stdbool.h>
#include <string.h>

#include "CKernels.h"
#include "versions.h"

#pragma STDC FP_CONTRACT OFF

/// Adding 1.5 * 2^23 rounds half to even for magnitudes below 2^22; + 0 makes -0 a 0.
INLINE float on_grid(float x, float scale, float lowest, float highest) {
  const float magic = 0x1.8p23F;
  float ratio = x / scale;
  ratio = ratio > lowest ? ratio : lowest;
  ratio = ratio < highest ? ratio : highest;
  return ((ratio + magic) - magic + 0.0F) * scale;
}

INLINE float larger(float x, float o) { return x != x ? x : (o > x || o != o) ? o : x; }
INLINE float smaller(float x, float o) { return x != x ? x : (o < x || o != o) ? o : x; }

INLINE float clipped(float x, float a, float b) {
  const float t = x > a ? x : a;
  return t < b ? t : b;
}

/// Source and target are the same element or apart; the compiler would otherwise not use vectors in place.
#define EACH_ELEMENT _Pragma("clang loop vectorize(assume_safety)") for (ptrdiff_t i = 0; i < count; i++)

#define EACH(expression)                                         \
  EACH_ELEMENT {                                                 \
    const float v = x[i];                                        \
    y[i] = (expression);                                         \
  }                                                              \
  break

/// A function with the operand o: `operand` is an array, or one number.
#define EACH_WITH(expression)                                    \
  if (operand != NULL) {                                         \
    EACH_ELEMENT {                                               \
      const float v = x[i], o = operand[i];                      \
      y[i] = (expression);                                       \
    }                                                            \
  } else {                                                       \
    const float o = number;                                      \
    EACH_ELEMENT {                                               \
      const float v = x[i];                                      \
      y[i] = (expression);                                       \
    }                                                            \
  }                                                              \
  break

/// One link over `count` numbers; x and y are the same or apart.
VERSIONS static void apply(const qk_link *link, const float *x, float *y, ptrdiff_t count,
                           const float *operand, float number) {
  const float a = link->a, b = link->b, c = link->c;
  switch (link->function) {
    case qk_function_add: EACH_WITH(v + o);
    case qk_function_subtract: EACH_WITH(v - o);
    case qk_function_subtract_from: EACH_WITH(o - v);
    case qk_function_multiply: EACH_WITH(v * o);
    case qk_function_divide: EACH_WITH(v / o);
    case qk_function_divide_into: EACH_WITH(o / v);
    case qk_function_maximum: EACH_WITH(larger(v, o));
    case qk_function_minimum: EACH_WITH(smaller(v, o));
    case qk_function_maximum_of: EACH_WITH(larger(o, v));
    case qk_function_minimum_of: EACH_WITH(smaller(o, v));
    case qk_function_prelu: EACH_WITH(v < 0 ? o * v : v);
    case qk_function_relu: EACH(v > 0 ? v : 0);
    case qk_function_leaky: EACH(v > 0 ? v : a * v);
    case qk_function_clip: EACH(clipped(v, a, b));
    case qk_function_hard_sigmoid: EACH(clipped(a * v + b, 0, 1));
    case qk_function_negate: EACH(-v);
    case qk_function_absolute: EACH(__builtin_fabsf(v));
    case qk_function_square_root: EACH(__builtin_elementwise_sqrt(v));
    case qk_function_reciprocal_root: EACH(1 / __builtin_elementwise_sqrt(v));
    case qk_function_reciprocal: EACH(1 / v);
    case qk_function_square: EACH(v * v);
    case qk_function_grid: EACH(on_grid(v, a, b, c));
  }
}

VERSIONS void qk_simulate(float *values, ptrdiff_t count, float scale, float lowest, float highest) {
  for (ptrdiff_t i = 0; i < count; i++) {
    values[i] = on_grid(values[i], scale, lowest, highest);
  }
}

/// All links over numbers that follow each other, from number `start` of row `row` on. `period` rows of an
/// operand that is the same for every row lie in its tile; `start` is 0 where there is more than one.
static void run_block(const float *x, float *y, ptrdiff_t row, ptrdiff_t start, ptrdiff_t columns,
                      ptrdiff_t count, const qk_link *links, ptrdiff_t link_count, const float *tiles,
                      ptrdiff_t period) {
  const ptrdiff_t place = row * columns + start;
  for (ptrdiff_t index = 0; index < link_count; index++) {
    const qk_link *link = &links[index];
    const float *operand = NULL;
    float number = 0;
    switch (link->layout) {
      case qk_layout_none: break;
      case qk_layout_scalar: number = link->operand[0]; break;
      case qk_layout_column: number = link->operand[row]; break;
      case qk_layout_row: operand = period > 1 ? tiles + index * qk_block : link->operand + start; break;
      case qk_layout_full: operand = link->operand + place; break;
    }
    apply(link, index == 0 ? x + place : y + place, y + place, count, operand, number);
  }
}

void qk_chain(const float *x, float *y, ptrdiff_t rows, ptrdiff_t columns, const qk_link *links,
              ptrdiff_t link_count, float *tiles) {
  bool by_rows = false, by_row = false;
  for (ptrdiff_t index = 0; index < link_count; index++) {
    by_rows = by_rows || links[index].layout == qk_layout_row || links[index].layout == qk_layout_column;
    by_row = by_row || links[index].layout == qk_layout_column;
  }
  if (!by_rows) {
    columns *= rows;
    rows = 1;
  }
  // Short rows are taken several at a time; what is the same for each is repeated beforehand.
  ptrdiff_t period = by_row || columns > qk_block / 2 ? 1 : qk_block / columns;
  period = period < rows ? period : rows;
  if (period > 1) {
    for (ptrdiff_t index = 0; index < link_count; index++) {
      for (ptrdiff_t row = 0; links[index].layout == qk_layout_row && row < period; row++) {
        memcpy(tiles + index * qk_block + row * columns, links[index].operand, (size_t)columns * sizeof(float));
      }
    }
    for (ptrdiff_t row = 0; row < rows; row += period) {
      const ptrdiff_t taken = period < rows - row ? period : rows - row;
      run_block(x, y, row, 0, columns, taken * columns, links, link_count, tiles, period);
    }
    return;
  }
  for (ptrdiff_t row = 0; row < rows; row++) {
    for (ptrdiff_t start = 0; start < columns; start += qk_block) {
      const ptrdiff_t count = qk_block < columns - start ? qk_block : columns - start;
      run_block(x, y, row, start, columns, count, links, link_count, tiles, 1);
    }
  }
}
