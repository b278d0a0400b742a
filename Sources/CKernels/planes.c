// Convolutions of few channels: vectors hold neighbouring pixels.
#include <stdbool.h>
#include <string.h>

#include "CKernels.h"
#include "versions.h"

enum {
  lane_count = 16,
  pair = 2 * lane_count,
  channel_block = 8,
  span = 8 * lane_count  // numbers of a depthwise convolution at a time
};

typedef float lanes __attribute__((ext_vector_type(16), aligned(4)));
typedef float half_lanes __attribute__((ext_vector_type(8), aligned(4)));

int qk_has_wide_vectors(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") != 0;
#else
  return 0;
#endif
}

// Rows of the input are kept in a ring as long as the kernel is high. In a row every channel has a part for
// each phase of the stride: element i of phase p is column i * stride + p - padding, zero outside.

static ptrdiff_t phase_length(const qk_planes *p) {
  const ptrdiff_t vectors = (p->out_width + pair - 1) / pair * pair;
  return (vectors + (p->kernel[1] - 1) / p->stride[1] + lane_count) & ~(ptrdiff_t)(lane_count - 1);
}

static ptrdiff_t row_length(const qk_planes *p) { return p->channels * p->stride[1] * phase_length(p); }

ptrdiff_t qk_planes_scratch(const qk_planes *planes, ptrdiff_t link_count) {
  return planes->kernel[0] * row_length(planes) + planes->stride[1] * phase_length(planes)
         + qk_block * link_count;
}

/// One row of one channel: its numbers behind `before` zeros and zeros behind them, `length` in all.
VERSIONS static void fill_line(const float *restrict source, ptrdiff_t count, ptrdiff_t step, ptrdiff_t before,
                               float *restrict line, ptrdiff_t length) {
  const ptrdiff_t begin = before < length ? before : length;
  const ptrdiff_t end = begin + count < length ? begin + count : length;
  for (ptrdiff_t i = 0; i < begin; i++) {
    line[i] = 0;
  }
  if (step == 1) {
    for (ptrdiff_t i = begin; i < end; i++) {
      line[i] = source[i - begin];
    }
  } else {
    for (ptrdiff_t i = begin; i < end; i++) {
      line[i] = source[(i - begin) * step];
    }
  }
  for (ptrdiff_t i = end; i < length; i++) {
    line[i] = 0;
  }
}

/// Every second number of a line, and the others.
VERSIONS static void split_line(const float *restrict line, float *restrict even, float *restrict odd,
                                ptrdiff_t length) {
  for (ptrdiff_t i = 0; i < length; i += lane_count) {
    const lanes a = *(const lanes *)(line + 2 * i), b = *(const lanes *)(line + 2 * i + lane_count);
    *(lanes *)(even + i) =
        __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *(lanes *)(odd + i) =
        __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  }
}

/// Asks for a later row: rows of planes are too short for the processor to see where they lead.
static void fetch_row(const qk_planes *p, const float *x, ptrdiff_t row) {
  if (row < 0 || row >= p->height || p->column_step != 1) {
    return;
  }
  for (ptrdiff_t channel = 0; channel < p->channels; channel++) {
    const float *source = x + channel * p->channel_step + row * p->row_step;
    for (ptrdiff_t i = 0; i < p->width; i += lane_count) {
      __builtin_prefetch(source + i);
    }
  }
}

static void fill_row(const qk_planes *p, const float *x, ptrdiff_t row, float *target, float *line) {
  const ptrdiff_t length = phase_length(p), stride = p->stride[1];
  const bool outside = row < 0 || row >= p->height;
  for (ptrdiff_t channel = 0; channel < p->channels; channel++, target += stride * length) {
    const float *source = outside ? x : x + channel * p->channel_step + row * p->row_step;
    const ptrdiff_t width = outside ? 0 : p->width;
    if (stride == 1) {
      fill_line(source, width, p->column_step, p->pad[1], target, length);
      continue;
    }
    fill_line(source, width, p->column_step, p->pad[1], line, stride * length);
    if (stride == 2) {
      split_line(line, target, target + length, length);
      continue;
    }
    for (ptrdiff_t phase = 0; phase < stride; phase++) {
      for (ptrdiff_t i = 0; i < length; i++) {
        target[phase * length + i] = line[i * stride + phase];
      }
    }
  }
}

/// Eight vectors of eight as their columns.
INLINE void turn(half_lanes r[8]) {
  half_lanes s[8];
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  half_lanes t[8];
  for (int i = 0; i < 8; i += 4) {
    t[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    t[i + 1] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    t[i + 2] = __builtin_shufflevector(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    t[i + 3] = __builtin_shufflevector(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = __builtin_shufflevector(t[i], t[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(t[i], t[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/// Writes `count` pixels of eight channels, of which `kept` exist.
INLINE void store(const lanes sums[8], float *y, ptrdiff_t step, ptrdiff_t count, ptrdiff_t kept) {
  for (int part = 0; part < 2; part++) {
    half_lanes pixels[8];
    for (int i = 0; i < 8; i++) {
      pixels[i] = part == 0 ? __builtin_shufflevector(sums[i], sums[i], 0, 1, 2, 3, 4, 5, 6, 7)
                            : __builtin_shufflevector(sums[i], sums[i], 8, 9, 10, 11, 12, 13, 14, 15);
    }
    turn(pixels);
    for (int i = 0; i < 8; i++) {
      const ptrdiff_t pixel = part * 8 + i;
      if (pixel >= count) {
        return;
      }
      if (kept == channel_block) {
        *(half_lanes *)(y + pixel * step) = pixels[i];
      } else {
        for (ptrdiff_t channel = 0; channel < kept; channel++) {
          y[pixel * step + channel] = pixels[i][channel];
        }
      }
    }
  }
}

/// One row of the output. `offsets` are the places of the taps in the ring.
VERSIONS static void run_row(const qk_planes *p, const qk_planes_constants *k, const float *ring, const ptrdiff_t *offsets, ptrdiff_t taps,
                             float *y) {
  for (ptrdiff_t channel = 0; channel < p->out_channels; channel += channel_block) {
    const ptrdiff_t left = p->out_channels - channel;
    const ptrdiff_t kept = left < channel_block ? left : channel_block;
    const float *weights = k->weights + channel * taps, *bias = k->bias + channel;
    for (ptrdiff_t column = 0; column < p->out_width; column += pair) {
      lanes first[8], second[8];
      for (int i = 0; i < 8; i++) {
        first[i] = second[i] = bias[i];
      }
      const float *x = ring + column, *w = weights;
      for (ptrdiff_t tap = 0; tap < taps; tap++, w += channel_block) {
        const lanes a = *(const lanes *)(x + offsets[tap]), b = *(const lanes *)(x + offsets[tap] + lane_count);
#pragma clang loop unroll(full)
        for (int i = 0; i < 8; i++) {
          first[i] += a * w[i];
          second[i] += b * w[i];
        }
      }
      float *target = y + column * p->out_channels + channel;
      const ptrdiff_t count = p->out_width - column;
      store(first, target, p->out_channels, count, kept);
      if (count > lane_count) {
        store(second, target + lane_count * p->out_channels, p->out_channels, count - lane_count, kept);
      }
    }
  }
}

/// Places of the taps of output row `out` in the ring: element `column / stride` of a phase, times `width`.
static void place_taps(const qk_planes *p, ptrdiff_t out, ptrdiff_t channels, ptrdiff_t width, ptrdiff_t *offsets) {
  const ptrdiff_t rows = p->kernel[0], length = phase_length(p) * width;
  const ptrdiff_t row_size = channels * p->stride[1] * length, first = out * p->stride[0];
  ptrdiff_t taps = 0;
  for (ptrdiff_t channel = 0; channel < channels; channel++) {
    for (ptrdiff_t row = 0; row < rows; row++) {
      for (ptrdiff_t column = 0; column < p->kernel[1]; column++) {
        offsets[taps++] = (first + row) % rows * row_size
                          + (channel * p->stride[1] + column % p->stride[1]) * length
                          + column / p->stride[1] * width;
      }
    }
  }
}

void qk_planes_convolution(const qk_planes *planes, const qk_planes_constants *constants, const float *x,
                           float *y, float *scratch) {
  const qk_planes *p = planes;
  const ptrdiff_t rows = p->kernel[0], row_size = row_length(p);
  const ptrdiff_t taps = p->channels * rows * p->kernel[1];
  float *ring = scratch, *line = scratch + rows * row_size, *tiles = line + p->stride[1] * phase_length(p);
  ptrdiff_t next = 0, offsets[qk_planes_taps];  // the first row, counted from the padding, that is not in the ring
  for (ptrdiff_t out = 0; out < p->out_height; out++) {
    const ptrdiff_t top = out * p->stride[0];
    next = next > top ? next : top;
    for (; next < top + rows; next++) {
      fetch_row(p, x, next - p->pad[0] + 2 * p->stride[0]);
      fill_row(p, x, next - p->pad[0], ring + next % rows * row_size, line);
    }
    place_taps(p, out, p->channels, 1, offsets);
    float *target = y + out * p->out_width * p->out_channels;
    run_row(p, constants, ring, offsets, taps, target);
    if (constants->link_count > 0) {
      qk_chain(target, target, p->out_width, p->out_channels, constants->links, constants->link_count, tiles);
    }
  }
}

// Depthwise: a vector holds a few pixels with all their channels, and so do the weights.

VERSIONS static void run_pixels(const qk_planes *p, const qk_planes_constants *k, const float *ring, const ptrdiff_t *offsets, ptrdiff_t taps,
                                float *y) {
  const ptrdiff_t total = p->out_width * p->channels;
  const lanes bias = *(const lanes *)k->bias;
  for (ptrdiff_t start = 0; start < total; start += span) {
    lanes sums[span / lane_count];
#pragma clang loop unroll(full)
    for (int i = 0; i < span / lane_count; i++) {
      sums[i] = bias;
    }
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
      const float *x = ring + offsets[tap] + start;
      const lanes w = *(const lanes *)(k->weights + tap * lane_count);
#pragma clang loop unroll(full)
      for (int i = 0; i < span / lane_count; i++) {
        sums[i] += w * *(const lanes *)(x + i * lane_count);
      }
    }
    memcpy(y + start, sums, (size_t)(total - start < span ? total - start : span) * sizeof(float));
  }
}

ptrdiff_t qk_pixels_scratch(const qk_planes *planes, ptrdiff_t link_count) {
  // The last vectors of a row read beyond it.
  return planes->kernel[0] * row_length(planes) + span + qk_block * link_count;
}

void qk_pixels_convolution(const qk_planes *planes, const qk_planes_constants *constants, const float *x,
                           float *y, float *scratch) {
  const qk_planes *p = planes;
  const ptrdiff_t rows = p->kernel[0], row_size = row_length(p), taps = rows * p->kernel[1];
  float *ring = scratch, *tiles = scratch + rows * row_size + span;
  for (ptrdiff_t i = 0; i < span; i++) {
    ring[rows * row_size + i] = 0;
  }
  ptrdiff_t next = 0, offsets[qk_planes_taps];
  for (ptrdiff_t out = 0; out < p->out_height; out++) {
    const ptrdiff_t top = out * p->stride[0];
    next = next > top ? next : top;
    for (; next < top + rows; next++) {
      const ptrdiff_t row = next - p->pad[0];
      const bool outside = row < 0 || row >= p->height;
      fill_line(outside ? x : x + row * p->row_step, outside ? 0 : p->width * p->channels, 1,
                p->pad[1] * p->channels, ring + next % rows * row_size, row_size);
    }
    place_taps(p, out, 1, p->channels, offsets);
    float *target = y + out * p->out_width * p->channels;
    run_pixels(p, constants, ring, offsets, taps, target);
    if (constants->link_count > 0) {
      qk_chain(target, target, p->out_width, p->channels, constants->links, constants->link_count, tiles);
    }
  }
}
