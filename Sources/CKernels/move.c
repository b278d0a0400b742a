// Elements of four bytes in another order.
#include <stdbool.h>
#include <string.h>

#include "CKernels.h"
#include "versions.h"

typedef uint32_t lanes4 __attribute__((ext_vector_type(4), aligned(4)));
typedef uint32_t lanes8 __attribute__((ext_vector_type(8), aligned(4)));

/// A row of few elements: without a call.
INLINE void copy_row(const uint32_t *x, uint32_t *y, ptrdiff_t width) {
  if (width < 4) {
    for (ptrdiff_t i = 0; i < width; i++) {
      y[i] = x[i];
    }
  } else if (width < 8) {  // the two halves may overlap
    const lanes4 first = *(const lanes4 *)x, last = *(const lanes4 *)(x + width - 4);
    *(lanes4 *)y = first;
    *(lanes4 *)(y + width - 4) = last;
  } else if (width <= 64) {
    ptrdiff_t i = 0;
    for (; i + 8 <= width; i += 8) {
      *(lanes8 *)(y + i) = *(const lanes8 *)(x + i);
    }
    if (i < width) {
      *(lanes8 *)(y + width - 8) = *(const lanes8 *)(x + width - 8);
    }
  } else {
    memcpy(y, x, (size_t)width * sizeof *x);
  }
}

VERSIONS void qk_copy_rows(const uint32_t *x, ptrdiff_t x_stride, uint32_t *y, ptrdiff_t y_stride, ptrdiff_t rows,
                           ptrdiff_t width) {
#define ROWS(n)                                         \
  case n:                                               \
    for (ptrdiff_t row = 0; row < rows; row++) {        \
      for (ptrdiff_t i = 0; i < (n); i++) {             \
        y[row * y_stride + i] = x[row * x_stride + i];  \
      }                                                 \
    }                                                   \
    return
  switch (width) {
    ROWS(1);
    ROWS(2);
    ROWS(3);
    ROWS(4);
    default: break;
  }
#undef ROWS
  for (ptrdiff_t row = 0; row < rows; row++) {
    copy_row(x + row * x_stride, y + row * y_stride, width);
  }
}

/// Eight rows of eight as columns.
INLINE void transpose8(const uint32_t *x, ptrdiff_t x_stride, uint32_t *y, ptrdiff_t y_stride) {
  lanes8 r[8], s[8];
  for (int i = 0; i < 8; i++) {
    r[i] = *(const lanes8 *)(x + i * x_stride);
  }
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = __builtin_shufflevector(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = __builtin_shufflevector(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    *(lanes8 *)(y + i * y_stride) = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *(lanes8 *)(y + (i + 4) * y_stride) = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/// y[row * y_stride + column] = x[column * x_stride + row].
VERSIONS static void transpose(const uint32_t *restrict x, ptrdiff_t x_stride, uint32_t *restrict y,
                               ptrdiff_t y_stride, ptrdiff_t rows, ptrdiff_t columns) {
  // A few planes become one, or one becomes a few.
#define PLANES(n)                                             \
  if (columns == (n) && y_stride == (n)) {                    \
    for (ptrdiff_t row = 0; row < rows; row++) {              \
      for (ptrdiff_t column = 0; column < (n); column++) {    \
        y[row * (n) + column] = x[column * x_stride + row];   \
      }                                                       \
    }                                                         \
    return;                                                   \
  }                                                           \
  if (rows == (n) && x_stride == (n)) {                       \
    for (ptrdiff_t column = 0; column < columns; column++) {  \
      for (ptrdiff_t row = 0; row < (n); row++) {             \
        y[row * y_stride + column] = x[column * (n) + row];   \
      }                                                       \
    }                                                         \
    return;                                                   \
  }
  PLANES(2)
  PLANES(3)
  PLANES(4)
#undef PLANES
  const ptrdiff_t whole_rows = rows & ~(ptrdiff_t)7, whole_columns = columns & ~(ptrdiff_t)7;
  for (ptrdiff_t column = 0; column < whole_columns; column += 8) {
    for (ptrdiff_t row = 0; row < whole_rows; row += 8) {
      transpose8(x + column * x_stride + row, x_stride, y + row * y_stride + column, y_stride);
    }
  }
  for (ptrdiff_t row = 0; row < rows; row++) {
    for (ptrdiff_t column = row < whole_rows ? whole_columns : 0; column < columns; column++) {
      y[row * y_stride + column] = x[column * x_stride + row];
    }
  }
}

enum { max_rank = 16 };

void qk_permute(const uint32_t *x, uint32_t *y, ptrdiff_t rank, const ptrdiff_t *sizes, const ptrdiff_t *steps) {
  // The axes of the innermost loops: the last one, and with it the one along which x is dense, or the one
  // before.
  const ptrdiff_t last = rank - 1;
  ptrdiff_t other = -1;
  bool turns = false;
  if (steps[last] != 1) {
    for (ptrdiff_t axis = 0; axis < last; axis++) {
      if (steps[axis] == 1 && sizes[axis] > 1) {
        other = axis;
        turns = true;
      }
    }
  }
  if (other < 0) {
    other = last - 1;
  }
  ptrdiff_t y_steps[max_rank], outer[max_rank], index[max_rank] = {0};
  ptrdiff_t step = 1, outer_count = 0;
  for (ptrdiff_t axis = last; axis >= 0; axis--) {
    y_steps[axis] = step;
    step *= sizes[axis];
  }
  for (ptrdiff_t axis = 0; axis < last; axis++) {
    if (axis != other) {
      outer[outer_count++] = axis;
    }
  }
  const ptrdiff_t rows = other < 0 ? 1 : sizes[other];
  const ptrdiff_t x_row = other < 0 ? 0 : steps[other], y_row = other < 0 ? 0 : y_steps[other];
  for (;;) {
    if (turns) {
      transpose(x, steps[last], y, y_row, rows, sizes[last]);
    } else if (steps[last] == 1) {
      qk_copy_rows(x, x_row, y, y_row, rows, sizes[last]);
    } else {
      for (ptrdiff_t row = 0; row < rows; row++) {
        for (ptrdiff_t column = 0; column < sizes[last]; column++) {
          y[row * y_row + column] = x[row * x_row + column * steps[last]];
        }
      }
    }
    ptrdiff_t slot = outer_count - 1;
    for (; slot >= 0; slot--) {
      const ptrdiff_t axis = outer[slot];
      index[slot]++;
      x += steps[axis];
      y += y_steps[axis];
      if (index[slot] < sizes[axis]) {
        break;
      }
      x -= steps[axis] * sizes[axis];
      y -= y_steps[axis] * sizes[axis];
      index[slot] = 0;
    }
    if (slot < 0) {
      return;
    }
  }
}
