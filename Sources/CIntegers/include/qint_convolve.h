/// Part of CIntegers.h. Convolutions of one group whose output tiles stay in registers while all of the window is added, for processors
/// with vectors of 512 bits. The window is read where it lies in a channel-last input: nothing is gathered, so
/// an input that windows leave has to be copied into its border first.
///
/// Nothing here checks sizes, allocates or fails.
#ifndef QTOOLS_CINTEGERS_CONVOLVE_H
#define QTOOLS_CINTEGERS_CONVOLVE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define QINT_NULLABLE _Nullable
#else
#define QINT_NULLABLE
#endif

/// Output channels of a block of packed weights, and pixels of a segment.
enum { qint_channel_block = 32, qint_shortest_segment = 4, qint_longest_segment = 7 };

/// Neighbouring pixels of the output, as many as `segment_length` says.
typedef struct qint_segment {
  ptrdiff_t in;   ///< bytes from the start of the input to the window of the first one
  ptrdiff_t out;  ///< number of the first one in the output
} qint_segment;

/// How windows walk: the bytes of a window are runs of neighbouring ones.
typedef struct qint_window {
  const ptrdiff_t *runs;  ///< bytes from the start of a window to each run
  ptrdiff_t run_count;
  ptrdiff_t run_length;  ///< whole groups of four bytes
  ptrdiff_t step;        ///< bytes between the windows of neighbouring pixels
  const qint_segment *segments;
  ptrdiff_t segment_count;
  ptrdiff_t segment_length;  ///< pixels: qint_shortest_segment to qint_longest_segment
  ptrdiff_t block;           ///< segments that see all channels before the next ones do
  ptrdiff_t channels;        ///< of the output
} qint_window;

/// Whether qint_convolve runs on this processor (AVX-512 with VNNI).
int qint_has_convolve(void);

/// Where channel 0 to 31 of a block lies in the packed weights, biases and scales of bytes.
ptrdiff_t qint_packed_channel(ptrdiff_t channel);

/// What bytes are multiplied by, and what becomes of the sums.
typedef struct qint_convolve_constants {
  const int8_t *weights;  ///< [blocks, runs, run_length / 4, 32, 4], on a cache line's boundary; 0 beyond the channels
  const int32_t *bias;    ///< [blocks, 32]
  const float *scales;    ///< [blocks, 32]
  float zero_point;
  uint8_t low, high;
} qint_convolve_constants;

/// For every pixel and channel
///
///     total = bias + sum over runs and bytes of byte * weight               exact, in 32 bits
///     byte = round(clamp(float(total) * scale + zero_point, low, high))     single operations, half to even
///
/// where float(total) * scale has to stay below 2^30 in size.
void qint_convolve(const qint_window *window, const qint_convolve_constants *constants, const uint8_t *in, uint8_t *out);

/// As qint_convolve_constants, for codes of two bytes.
typedef struct qint_wide_constants {
  const int8_t *weights;
  const double *bias;                       ///< whole
  const int32_t *QINT_NULLABLE short_bias;  ///< the same in 32 bits, cut off, where every total fits these
  const float *scales;
  float zero_point, low, high;
} qint_wide_constants;

/// For every pixel and channel
///
///     total = bias + sum over runs of (256 * high byte + low byte) * weight     exact
///     code = round(clamp(float(total) * scale + zero_point, low, high))         single operations, half to even
///
/// where the sums over each byte fit 32 bits.
void qint_convolve_wide(const qint_window *window, const qint_wide_constants *constants, const uint8_t *high,
                        const uint8_t *low, uint16_t *out);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
