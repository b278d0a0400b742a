// Normalization over channels and over images, channels last.
#include "CKernels.h"
#include "versions.h"

#pragma STDC FP_CONTRACT OFF

VERSIONS void qk_response_norm(const float *x, float *y, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t radius,
                               float alpha, float beta, float bias, float *scratch) {
  float *restrict squares = scratch, *restrict sums = scratch + channels + 2 * radius;
  for (ptrdiff_t i = 0; i < radius; i++) {
    squares[i] = squares[radius + channels + i] = 0;
  }
  for (ptrdiff_t row = 0; row < rows; row++, x += channels, y += channels) {
    for (ptrdiff_t i = 0; i < channels; i++) {
      squares[radius + i] = x[i] * x[i];
      sums[i] = 0;
    }
    for (ptrdiff_t tap = 0; tap <= 2 * radius; tap++) {
      for (ptrdiff_t i = 0; i < channels; i++) {
        sums[i] += squares[tap + i];
      }
    }
    if (beta == 0.75F) {
      for (ptrdiff_t i = 0; i < channels; i++) {
        const float root = __builtin_elementwise_sqrt(bias + alpha * sums[i]);
        sums[i] = root * __builtin_elementwise_sqrt(root);
      }
    } else if (beta == 0.5F) {
      for (ptrdiff_t i = 0; i < channels; i++) {
        sums[i] = __builtin_elementwise_sqrt(bias + alpha * sums[i]);
      }
    } else {
      for (ptrdiff_t i = 0; i < channels; i++) {
        sums[i] = bias + alpha * sums[i];
      }
    }
    for (ptrdiff_t i = 0; i < channels; i++) {
      y[i] = x[i] / sums[i];
    }
  }
}

/// The mean of each group from sums a channel, put in the place of every channel.
INLINE void share(double *sums, ptrdiff_t channels, ptrdiff_t groups, double count) {
  const ptrdiff_t size = channels / groups;
  for (ptrdiff_t first = 0; first < channels; first += size) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < size; i++) {
      sum += sums[first + i];
    }
    for (ptrdiff_t i = 0; i < size; i++) {
      sums[first + i] = sum / count;
    }
  }
}

VERSIONS void qk_image_norm(const float *x, float *y, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t groups,
                            double epsilon, const float *gamma, const float *beta, double *scratch) {
  double *restrict means = scratch, *restrict factors = scratch + channels;
  const double count = (double)pixels * (double)(channels / groups);
  for (ptrdiff_t i = 0; i < channels; i++) {
    means[i] = factors[i] = 0;
  }
  for (ptrdiff_t pixel = 0; pixel < pixels; pixel++) {
    const float *row = x + pixel * channels;
    for (ptrdiff_t i = 0; i < channels; i++) {
      means[i] += row[i];
    }
  }
  share(means, channels, groups, count);
  for (ptrdiff_t pixel = 0; pixel < pixels; pixel++) {
    const float *row = x + pixel * channels;
    for (ptrdiff_t i = 0; i < channels; i++) {
      const double distance = row[i] - means[i];
      factors[i] += distance * distance;
    }
  }
  share(factors, channels, groups, count);
  for (ptrdiff_t i = 0; i < channels; i++) {
    factors[i] = 1 / __builtin_elementwise_sqrt(factors[i] + epsilon);
  }
  for (ptrdiff_t pixel = 0; pixel < pixels; pixel++) {
    const float *row = x + pixel * channels;
    float *target = y + pixel * channels;
    for (ptrdiff_t i = 0; i < channels; i++) {
      target[i] = (float)((row[i] - means[i]) * factors[i]) * gamma[i] + beta[i];
    }
  }
}
