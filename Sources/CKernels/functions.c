// Exponential functions, products for recurrent layers, resampling.
#include "CKernels.h"
#include "versions.h"

/// e^x by 2^n * e^r with r in [-ln 2 / 2, ln 2 / 2] and a polynomial of degree 6 for e^r (Cephes, expf). What
/// is no number stays so.
INLINE float exponential(float given) {
#pragma STDC FP_CONTRACT OFF
  const float low = given < -87 ? -87 : given;
  const float x = low > 88 ? 88 : low;
  // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
  const float shifted = x * 1.442695F + 12582912;
  const float n = shifted - 12582912;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 0.5F;
  union {
    float number;
    uint32_t bits;
  } power = {.number = shifted};
  power.bits = (power.bits - 0x4B400000U + 127U) << 23;
  return (p * r * r + r + 1) * power.number;
}

VERSIONS void qk_sigmoid(float *values, ptrdiff_t count) {
#pragma STDC FP_CONTRACT OFF
  for (ptrdiff_t i = 0; i < count; i++) {
    values[i] = 1 / (1 + exponential(-values[i]));
  }
}

VERSIONS void qk_tanh(float *values, ptrdiff_t count) {
#pragma STDC FP_CONTRACT OFF
  for (ptrdiff_t i = 0; i < count; i++) {
    values[i] = 2 * (1 / (1 + exponential(-2 * values[i]))) - 1;
  }
}

enum { group = 64 };

VERSIONS void qk_softmax_rows(const float *x, float *y, ptrdiff_t rows, ptrdiff_t size, float *scratch) {
#pragma STDC FP_CONTRACT OFF
  float *restrict most = scratch, *restrict sum = scratch + group, *restrict turned = scratch + 2 * group;
  for (ptrdiff_t first = 0; first < rows; first += group) {
    const ptrdiff_t count = group < rows - first ? group : rows - first;
    const float *from = x + first * size;
    float *to = y + first * size;
    for (ptrdiff_t row = 0; row < count; row++) {
      for (ptrdiff_t i = 0; i < size; i++) {
        turned[i * group + row] = from[row * size + i];
      }
    }
    for (ptrdiff_t row = count; row < group; row++) {  // so that loops have one length
      for (ptrdiff_t i = 0; i < size; i++) {
        turned[i * group + row] = 0;
      }
    }
    for (int row = 0; row < group; row++) {
      most[row] = turned[row];
      sum[row] = 0;
    }
    for (ptrdiff_t i = 1; i < size; i++) {
      const float *line = turned + i * group;
      for (int row = 0; row < group; row++) {
        most[row] = line[row] > most[row] ? line[row] : most[row];
      }
    }
    for (ptrdiff_t i = 0; i < size; i++) {
      float *line = turned + i * group;
      for (int row = 0; row < group; row++) {
        line[row] = exponential(line[row] - most[row]);
        sum[row] += line[row];
      }
    }
    for (ptrdiff_t i = 0; i < size; i++) {
      float *line = turned + i * group;
      for (int row = 0; row < group; row++) {
        line[row] /= sum[row];
      }
    }
    for (ptrdiff_t row = 0; row < count; row++) {
      for (ptrdiff_t i = 0; i < size; i++) {
        to[row * size + i] = turned[i * group + row];
      }
    }
  }
}

typedef float lanes __attribute__((ext_vector_type(16), aligned(4)));

VERSIONS void qk_vector_matrix(const float *x, ptrdiff_t depth, const float *weights, ptrdiff_t stride, float *y,
                               ptrdiff_t columns) {
  ptrdiff_t column = 0;
  for (; column + 64 <= columns; column += 64) {
    lanes a = 0, b = 0, c = 0, d = 0;
    const float *line = weights + column;
    for (ptrdiff_t k = 0; k < depth; k++, line += stride) {
      const lanes factor = x[k];
      a += factor * *(const lanes *)line;
      b += factor * *(const lanes *)(line + 16);
      c += factor * *(const lanes *)(line + 32);
      d += factor * *(const lanes *)(line + 48);
    }
    *(lanes *)(y + column) = a;
    *(lanes *)(y + column + 16) = b;
    *(lanes *)(y + column + 32) = c;
    *(lanes *)(y + column + 48) = d;
  }
  for (; column + 16 <= columns; column += 16) {
    lanes a = 0;
    const float *line = weights + column;
    for (ptrdiff_t k = 0; k < depth; k++, line += stride) {
      a += (lanes)x[k] * *(const lanes *)line;
    }
    *(lanes *)(y + column) = a;
  }
  for (; column < columns; column++) {
    float sum = 0;
    for (ptrdiff_t k = 0; k < depth; k++) {
      sum += x[k] * weights[k * stride + column];
    }
    y[column] = sum;
  }
}

VERSIONS void qk_resample(const float *line, float *out, ptrdiff_t places, ptrdiff_t taps, const int32_t *indices,
                          const float *weights, ptrdiff_t channels) {
#pragma STDC FP_CONTRACT OFF
  if (channels == 1 && taps == 2) {
    for (ptrdiff_t place = 0; place < places; place++) {
      out[place] = weights[2 * place] * line[indices[2 * place]]
                   + weights[2 * place + 1] * line[indices[2 * place + 1]];
    }
    return;
  }
  if (taps == 1) {
    for (ptrdiff_t place = 0; place < places; place++) {
      const float *source = line + indices[place] * channels;
      for (ptrdiff_t i = 0; i < channels; i++) {
        out[place * channels + i] = source[i];
      }
    }
    return;
  }
  for (ptrdiff_t place = 0; place < places; place++) {
    float *target = out + place * channels;
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
      const float *source = line + indices[place * taps + tap] * channels;
      const float weight = weights[place * taps + tap];
      if (tap == 0) {
        for (ptrdiff_t i = 0; i < channels; i++) {
          target[i] = weight * source[i];
        }
      } else {
        for (ptrdiff_t i = 0; i < channels; i++) {
          target[i] += weight * source[i];
        }
      }
    }
  }
}
