// Choosing between two operands.
#include "CKernels.h"
#include "versions.h"

#define CHOOSE(first, second)                   \
  for (ptrdiff_t i = 0; i < count; i++) {       \
    y[i] = truth[i] != 0 ? (first) : (second);  \
  }

/// One row; an operand is an array, or one element.
VERSIONS static void select_row(const uint8_t *restrict truth, const uint32_t *restrict a, int a_is_one,
                                const uint32_t *restrict b, int b_is_one, uint32_t *restrict y, ptrdiff_t count) {
  const uint32_t x = a[0], z = b[0];
  if (a_is_one && b_is_one) {
    CHOOSE(x, z)
  } else if (a_is_one) {
    CHOOSE(x, b[i])
  } else if (b_is_one) {
    CHOOSE(a[i], z)
  } else {
    CHOOSE(a[i], b[i])
  }
}

/// The place of an operand's first element for a row.
INLINE ptrdiff_t place(qk_layout layout, ptrdiff_t row, ptrdiff_t columns) {
  switch (layout) {
    case qk_layout_full: return row * columns;
    case qk_layout_column: return row;
    default: return 0;
  }
}

INLINE int is_one(qk_layout layout) { return layout == qk_layout_scalar || layout == qk_layout_column; }

void qk_select(const uint8_t *truth, qk_layout truth_layout, const uint32_t *a, qk_layout a_layout,
               const uint32_t *b, qk_layout b_layout, uint32_t *y, ptrdiff_t rows, ptrdiff_t columns) {
  for (ptrdiff_t row = 0; row < rows; row++) {
    const uint8_t *t = truth + place(truth_layout, row, columns);
    const uint32_t *x = a + place(a_layout, row, columns), *z = b + place(b_layout, row, columns);
    uint32_t *target = y + row * columns;
    if (!is_one(truth_layout)) {
      select_row(t, x, is_one(a_layout), z, is_one(b_layout), target, columns);
    } else {
      const uint32_t *chosen = *t != 0 ? x : z;
      const ptrdiff_t step = is_one(*t != 0 ? a_layout : b_layout) ? 0 : 1;
      for (ptrdiff_t i = 0; i < columns; i++) {
        target[i] = chosen[i * step];
      }
    }
  }
}
