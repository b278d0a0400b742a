/// A thin wall of our own shape over oneDNN: the only code which knows oneDNN's interface.
///
/// Everything is 32-bit float, computed by IEEE rules (no reduced-precision accumulation, denormals
/// kept), but for the functions whose names say `integer`. Activations are channel-last: `[batch, spatial..., channels]`, dense, without gaps.
///
/// Errors. A function which can fail returns NULL (creation) or a number other than 0 (execution)
/// and, where `error` is given, leaves a NUL-terminated text of at most `error_capacity` bytes
/// there. The text is untouched on success. Nothing here throws, aborts on bad sizes, or keeps a
/// pointer it was given: constants are copied.
///
/// Threads. Every primitive is built for one thread and is immutable: any number of workers may
/// execute the same one at the same time, each with a `qdnn_worker` of its own. Results are the
/// same bits for any number of workers. One `qdnn_worker` must not be used by two threads at the
/// same time.
#ifndef QTOOLS_CONEDNN_H
#define QTOOLS_CONEDNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define QDNN_NULLABLE _Nullable
#define QDNN_NONNULL _Nonnull
#define QDNN_CLOSED_ENUM __attribute__((enum_extensibility(closed)))
#else
#define QDNN_NULLABLE
#define QDNN_NONNULL
#define QDNN_CLOSED_ENUM
#endif
#define QDNN_CHECKED __attribute__((warn_unused_result))

// MARK: Library

/// The version of oneDNN in use, for example "2.6.3". Valid for the life of the process.
const char *qdnn_version(void);

/// The instruction set oneDNN effectively uses, for example "avx512_core_amx". Valid for the life
/// of the process. Float results differ in their last bits between instruction sets; never within
/// one.
const char *qdnn_instruction_set(void);

/// Limits OpenMP to one thread for primitives created or executed by the calling thread.
/// Every function here which creates or executes does this by itself: the calling thread stays
/// limited afterwards.
void qdnn_set_one_thread(void);

/// Memory on a cache line's boundary, in large pages where it is large and the system has them; NULL when
/// there is none. Given back with `free`.
void *QDNN_NULLABLE qdnn_pages_allocate(size_t bytes) QDNN_CHECKED;

/// Memory for a packed constant, zeros, on a cache line's boundary, beside the constants of primitives: many pieces
/// lie in few large pages. NULL when there is none. `owner` is what qdnn_constant_free wants.
void *QDNN_NULLABLE qdnn_constant_allocate(size_t bytes, void *QDNN_NULLABLE *QDNN_NONNULL owner) QDNN_CHECKED;

/// Gives back the memory of a packed constant.
void qdnn_constant_free(void *owner);

// MARK: Worker

/// What one thread needs to execute primitives: a stream and a scratchpad.
typedef struct qdnn_worker qdnn_worker;

/// Creates a worker whose scratchpad holds `scratchpad_bytes` bytes (0 is fine: it grows when a
/// primitive needs more). NULL with an error text when out of memory or when this processor is not
/// supported.
qdnn_worker *QDNN_NULLABLE qdnn_worker_create(size_t scratchpad_bytes, char *QDNN_NULLABLE error,
                                              size_t error_capacity) QDNN_CHECKED;

/// Destroys a worker; NULL is ignored.
void qdnn_worker_destroy(qdnn_worker *QDNN_NULLABLE worker);

// MARK: Primitive

/// One operation of fixed shapes with its constants packed for this processor.
typedef struct qdnn_primitive qdnn_primitive;

/// Destroys a primitive and its packed constants; NULL is ignored.
void qdnn_primitive_destroy(qdnn_primitive *QDNN_NULLABLE primitive);

/// Bytes of scratchpad a worker needs to execute the primitive.
size_t qdnn_primitive_scratchpad_bytes(const qdnn_primitive *primitive);

/// Bytes of packed constants the primitive owns.
size_t qdnn_primitive_constant_bytes(const qdnn_primitive *primitive);

/// oneDNN's name of the chosen implementation, for example "brgconv:avx512_core". Valid as long as
/// the primitive.
const char *qdnn_primitive_implementation(const qdnn_primitive *primitive);

/// Executes the primitive.
///
/// - src:  the input; its shape is the one given at creation.
/// - src2: the second operand of a matmul created without constant B, else NULL.
/// - dst:  the output; must not overlap the inputs, except that for element-wise operations, softmax
///         and layer normalization it may be `src` itself. With a `sum` post-operation it holds the
///         addend on entry.
///
/// 0 on success; otherwise not 0 and an error text.
int qdnn_execute(const qdnn_primitive *primitive, qdnn_worker *worker, const float *src,
                 const float *QDNN_NULLABLE src2, float *dst, char *QDNN_NULLABLE error,
                 size_t error_capacity) QDNN_CHECKED;

/// The same for operands of any type: those of integer primitives are bytes, or 32-bit sums.
int qdnn_execute_any(const qdnn_primitive *primitive, qdnn_worker *worker, const void *src,
                     const void *QDNN_NULLABLE src2, void *dst, char *QDNN_NULLABLE error,
                     size_t error_capacity) QDNN_CHECKED;

// MARK: Element-wise functions and post-operations

/// A function of one number, applied to every element. `a` and `b` are the fields `alpha` and
/// `beta`.
typedef enum QDNN_CLOSED_ENUM qdnn_function {
  qdnn_function_relu = 0,        ///< x > 0 ? x : a * x (a = 0: the common one; otherwise leaky)
  qdnn_function_clip = 1,        ///< min(max(x, a), b)
  qdnn_function_hard_swish = 2,  ///< x * min(max(x + 3, 0), 6) / 6
  qdnn_function_sum = 3,         ///< x + what dst held before; only as a post-operation
  qdnn_function_sigmoid = 4,     ///< 1 / (1 + exp(-x))
  qdnn_function_tanh = 5,
  qdnn_function_exp = 6,
  qdnn_function_log = 7,         ///< off by up to 4e-6, also near 1
  qdnn_function_sqrt = 8,
  qdnn_function_abs = 9,
  qdnn_function_square = 10,
  qdnn_function_elu = 11,        ///< x > 0 ? x : a * (exp(x) - 1)
  qdnn_function_linear = 12,     ///< a * x + b
  qdnn_function_softplus = 13,   ///< log(1 + exp(x))
  qdnn_function_gelu_erf = 14,   ///< x / 2 * (1 + erf(x / sqrt(2)))
  qdnn_function_gelu_tanh = 15,  ///< the approximation of gelu by tanh
  qdnn_function_swish = 16,      ///< x / (1 + exp(-a * x))
  qdnn_function_mish = 17,       ///< x * tanh(log(1 + exp(x)))
  qdnn_function_round = 18,      ///< to the nearest integer, halves to the even one
  qdnn_function_pow = 19,        ///< a * x ^ b
  // Only as post-operations, with `values`:
  qdnn_function_channel_add = 20,       ///< x + value
  qdnn_function_channel_multiply = 21,  ///< x * value
  qdnn_function_channel_minimum = 22,   ///< the smaller one
  qdnn_function_channel_maximum = 23    ///< the larger one
} qdnn_function;

/// One post-operation: applied to every element of a result before it is stored. `values` are the
/// constants of a channel function, one for each channel (column of a matmul) or, with a
/// `value_count` of 1, one for all; they are copied.
typedef struct qdnn_post_op {
  qdnn_function function;
  float alpha;
  float beta;
  const float *QDNN_NULLABLE values;
  ptrdiff_t value_count;
} qdnn_post_op;

/// Applies `function` to `count` (> 0) numbers. `qdnn_function_sum` is refused.
qdnn_primitive *QDNN_NULLABLE qdnn_eltwise_create(qdnn_function function, float alpha, float beta,
                                                  ptrdiff_t count, char *QDNN_NULLABLE error,
                                                  size_t error_capacity) QDNN_CHECKED;

// MARK: Convolution and pooling

/// The window along one spatial axis. All lengths in elements.
///
/// The padding at the end is implied by the others. For convolution and pooling it is
/// `(out - 1) * stride + (kernel - 1) * dilation + 1 - in - pad_begin`, where a negative number
/// (above -stride) means that the last elements are unused; for deconvolution the same with `in`
/// and `out` exchanged.
typedef struct qdnn_axis {
  ptrdiff_t in;         ///< input length, > 0
  ptrdiff_t out;        ///< output length, > 0
  ptrdiff_t kernel;     ///< kernel length, > 0
  ptrdiff_t stride;     ///< > 0
  ptrdiff_t dilation;   ///< distance of neighbouring taps: 1 = dense
  ptrdiff_t pad_begin;  ///< >= 0
} qdnn_axis;

/// Convolution (cross-correlation, as in ONNX) over `rank` = 1, 2 or 3 spatial axes, outermost axis
/// first.
///
/// - src:      [batch, in..., in_channels]
/// - weights:  [kernel..., in_channels / groups, out_channels]; the out-channels axis is group-major.
///             Depthwise is groups = in_channels, hence [kernel..., 1, out_channels].
/// - bias:     [out_channels] or NULL
/// - dst:      [batch, out..., out_channels]
/// - post_ops: applied in order; NULL when `post_op_count` is 0
qdnn_primitive *QDNN_NULLABLE qdnn_conv_create(
    ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch, ptrdiff_t in_channels,
    ptrdiff_t out_channels, ptrdiff_t groups, const float *weights, const float *QDNN_NULLABLE bias,
    const qdnn_post_op *QDNN_NULLABLE post_ops, ptrdiff_t post_op_count, char *QDNN_NULLABLE error,
    size_t error_capacity) QDNN_CHECKED;

/// Deconvolution (ONNX ConvTranspose). Parameters as for `qdnn_conv_create`; the weights have the
/// same layout [kernel..., in_channels / groups, out_channels] and are not flipped.
qdnn_primitive *QDNN_NULLABLE qdnn_deconv_create(
    ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch, ptrdiff_t in_channels,
    ptrdiff_t out_channels, ptrdiff_t groups, const float *weights, const float *QDNN_NULLABLE bias,
    const qdnn_post_op *QDNN_NULLABLE post_ops, ptrdiff_t post_op_count, char *QDNN_NULLABLE error,
    size_t error_capacity) QDNN_CHECKED;

/// The kinds of pooling.
typedef enum QDNN_CLOSED_ENUM qdnn_pooling {
  qdnn_pooling_max = 0,
  qdnn_pooling_average_include_pad = 1,  ///< divides by the number of taps of the kernel
  qdnn_pooling_average_exclude_pad = 2   ///< divides by the number of taps inside the input
} qdnn_pooling;

/// Pooling over `rank` = 1, 2 or 3 spatial axes, outermost first.
///
/// - src: [batch, in..., channels]
/// - dst: [batch, out..., channels]
///
/// Padding as long as the window or longer is refused. `average_include_pad` divides by the whole
/// kernel even where the implied padding at the end exceeds the one intended (ceil mode).
qdnn_primitive *QDNN_NULLABLE qdnn_pool_create(qdnn_pooling pooling, ptrdiff_t rank,
                                               const qdnn_axis *axes, ptrdiff_t batch,
                                               ptrdiff_t channels, char *QDNN_NULLABLE error,
                                               size_t error_capacity) QDNN_CHECKED;

// MARK: Matrix multiplication

/// Layouts of the operands of a matmul; flags to be or-ed.
enum {
  qdnn_matmul_transpose_a = 1,  ///< A is stored [batch_a, K, M]
  qdnn_matmul_transpose_b = 2,  ///< B is stored [batch_b, N, K]
  qdnn_matmul_mapped_b = 4      ///< B lies in a file mapped read-only: its pages are given back as they are packed
};

/// Matrix multiplication: dst[i] = A[i] * B[i] + bias for every i of the batch. All sizes > 0.
///
/// - A (src):  [batch_a, M, K], or [batch_a, K, M] with `qdnn_matmul_transpose_a`
/// - B:        [batch_b, K, N], or [batch_b, N, K] with `qdnn_matmul_transpose_b`. `constant_b`
///             gives it once, and it is packed for this processor; NULL: it comes as `src2` with
///             every execution.
/// - batch_a, batch_b: equal, or one of them 1, which is repeated
/// - bias:     [N] or NULL
/// - dst:      [max(batch_a, batch_b), M, N]
qdnn_primitive *QDNN_NULLABLE qdnn_matmul_create(ptrdiff_t batch_a, ptrdiff_t batch_b, ptrdiff_t m,
                                                 ptrdiff_t k, ptrdiff_t n, uint32_t layout,
                                                 const float *QDNN_NULLABLE constant_b,
                                                 const float *QDNN_NULLABLE bias,
                                                 const qdnn_post_op *QDNN_NULLABLE post_ops,
                                                 ptrdiff_t post_op_count, char *QDNN_NULLABLE error,
                                                 size_t error_capacity) QDNN_CHECKED;

/// One product of dense row-major matrices, without a primitive: c = op(a) * op(b), or c + op(a) * op(b)
/// with `accumulate`. op(a) is [m, k], op(b) [k, n], c [m, n]; `lda`, `ldb`, `ldc` are the lengths of
/// the stored rows. All sizes > 0. 0 on success. The same bits for the same sizes on one machine.
int qdnn_product(int transpose_a, int transpose_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                 const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int accumulate,
                 float *c, ptrdiff_t ldc) QDNN_CHECKED;

// MARK: Integers

/// How 32-bit sums become unsigned bytes: each is converted to float, the bias of its channel is
/// added, the sum multiplied by the channel's scale, post-operations applied; the result is rounded
/// half to even and clamped to 0..255.
typedef struct qdnn_byte_output {
  const float *scales;    ///< one, or one for each channel of the output
  ptrdiff_t scale_count;  ///< 1 or the number of channels
  const int32_t *QDNN_NULLABLE bias;  ///< one for each channel
  const qdnn_post_op *QDNN_NULLABLE post_ops;
  ptrdiff_t post_op_count;
} qdnn_byte_output;

/// Convolution, or deconvolution where `transposed` is not 0, of unsigned bytes by signed ones; shapes
/// as for `qdnn_conv_create`. `output` NULL: the result is the 32-bit sums. Padding holds 0.
///
/// Products are added in 32 bits where the processor can; instruction sets without VNNI add pairs of
/// products in 16 bits, which holds while two neighbouring weights have magnitudes of 128 together at
/// most. Sums beyond 2^24 are exact only if the implementation's name begins with "brg": all others
/// convert them to float and back.
qdnn_primitive *QDNN_NULLABLE qdnn_integer_conv_create(
    ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch, ptrdiff_t in_channels,
    ptrdiff_t out_channels, ptrdiff_t groups, int transposed, const int8_t *weights,
    const qdnn_byte_output *QDNN_NULLABLE output, char *QDNN_NULLABLE error,
    size_t error_capacity) QDNN_CHECKED;

/// Product of unsigned bytes [m, k] and signed ones [k, n]; the rest as for
/// `qdnn_integer_conv_create`, but "gemm:jit" keeps 32-bit sums too.
qdnn_primitive *QDNN_NULLABLE qdnn_integer_matmul_create(
    ptrdiff_t m, ptrdiff_t k, ptrdiff_t n, const int8_t *weights,
    const qdnn_byte_output *QDNN_NULLABLE output, char *QDNN_NULLABLE error,
    size_t error_capacity) QDNN_CHECKED;

// MARK: Softmax and normalization

/// Softmax (or its logarithm, when `logarithm` is not 0) along the middle axis of
/// [outer, axis, inner]. All sizes > 0.
qdnn_primitive *QDNN_NULLABLE qdnn_softmax_create(int logarithm, ptrdiff_t outer, ptrdiff_t axis,
                                                  ptrdiff_t inner, char *QDNN_NULLABLE error,
                                                  size_t error_capacity) QDNN_CHECKED;

/// Layer normalization over the last axis of [rows, size]:
/// (x - mean) / sqrt(variance + epsilon) * scale + shift, the variance being the biased one.
/// `scale` and `shift` are [size] or NULL.
qdnn_primitive *QDNN_NULLABLE qdnn_layer_norm_create(ptrdiff_t rows, ptrdiff_t size, float epsilon,
                                                     const float *QDNN_NULLABLE scale,
                                                     const float *QDNN_NULLABLE shift,
                                                     char *QDNN_NULLABLE error,
                                                     size_t error_capacity) QDNN_CHECKED;

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#ifdef __cplusplus
}
#endif

#endif
