// Convolution, deconvolution and pooling: operations with a window over the spatial axes.
#include "internal.h"

enum { max_spatial = 3 };

/// The window in oneDNN's terms.
typedef struct window {
  dnnl_dims_t strides, kernel, dilates, pad_begin, pad_end;
} window;

/// Checks the axes and derives the padding at the end. `swapped` exchanges in and out
/// (deconvolution).
static bool make_window(const char *operation, ptrdiff_t rank, const qdnn_axis *axes, bool swapped,
                        window *window, failure failure) {
  if (rank < 1 || rank > max_spatial) {
    qdnn_internal_report(failure, "%s: %td spatial axes; 1 to %d are possible", operation, rank,
                         (int)max_spatial);
    return false;
  }
  for (ptrdiff_t i = 0; i < rank; i++) {
    const qdnn_axis axis = axes[i];
    const ptrdiff_t sizes[5] = {axis.in, axis.out, axis.kernel, axis.stride, axis.dilation};
    if (!qdnn_internal_require_positive(operation, sizes, 5, failure)) {
      return false;
    }
    const ptrdiff_t wide = swapped ? axis.out : axis.in;
    const ptrdiff_t narrow = swapped ? axis.in : axis.out;
    ptrdiff_t taps, steps, reach;
    if (__builtin_mul_overflow(axis.kernel - 1, axis.dilation, &taps)
        || __builtin_mul_overflow(narrow - 1, axis.stride, &steps)
        || __builtin_add_overflow(taps, steps, &reach) || __builtin_add_overflow(reach, 1, &reach)
        || axis.pad_begin < 0 || axis.pad_begin > PTRDIFF_MAX - wide) {
      qdnn_internal_report(
          failure, "%s: impossible window (kernel %td, stride %td, dilation %td, padding %td)",
          operation, axis.kernel, axis.stride, axis.dilation, axis.pad_begin);
      return false;
    }
    window->strides[i] = axis.stride;
    window->kernel[i] = axis.kernel;
    window->dilates[i] = axis.dilation - 1;  // oneDNN counts the gaps
    window->pad_begin[i] = axis.pad_begin;
    window->pad_end[i] = reach - wide - axis.pad_begin;
    if (window->pad_end[i] <= -axis.stride) {
      qdnn_internal_report(failure, "%s: output length %td is too short for its window", operation,
                           axis.out);
      return false;
    }
  }
  return true;
}

/// Describes channel-last activations; `out` selects the output lengths.
static dnnl_status_t describe_activations(dnnl_memory_desc_t *descriptor, dnnl_data_type_t type,
                                          ptrdiff_t rank, const qdnn_axis *axes, bool out,
                                          ptrdiff_t batch, ptrdiff_t channels) {
  static const dnnl_format_tag_t tags[max_spatial] = {dnnl_nwc, dnnl_nhwc, dnnl_ndhwc};
  dnnl_dims_t sizes = {batch, channels};
  for (ptrdiff_t i = 0; i < rank; i++) {
    sizes[2 + i] = out ? axes[i].out : axes[i].in;
  }
  return dnnl_memory_desc_init_by_tag(descriptor, (int)rank + 2, sizes, type, tags[rank - 1]);
}

/// Describes the weights: `plain` as given, [kernel..., in / groups, out], and `packed` in a layout
/// left to oneDNN. oneDNN's order of axes is [groups,] out / groups, in / groups, kernel...
static dnnl_status_t describe_weights(dnnl_memory_desc_t *plain, dnnl_memory_desc_t *packed,
                                      dnnl_data_type_t type, ptrdiff_t rank, const qdnn_axis *axes,
                                      ptrdiff_t in_channels, ptrdiff_t out_channels,
                                      ptrdiff_t groups) {
  const ptrdiff_t group_in = in_channels / groups, group_out = out_channels / groups;
  dnnl_dims_t sizes, strides;
  int count = 0;
  if (groups > 1) {
    sizes[count] = groups;
    strides[count++] = group_out;
  }
  sizes[count] = group_out;
  strides[count++] = 1;
  sizes[count] = group_in;
  strides[count++] = out_channels;
  dnnl_dim_t stride = group_in * out_channels;
  for (ptrdiff_t i = rank - 1; i >= 0; i--) {
    sizes[count + i] = axes[i].kernel;
    strides[count + i] = stride;
    stride *= axes[i].kernel;
  }
  count += (int)rank;
  dnnl_status_t status = dnnl_memory_desc_init_by_strides(plain, count, sizes, type, strides);
  if (status != dnnl_success) {
    return status;
  }
  return dnnl_memory_desc_init_by_tag(packed, count, sizes, type, dnnl_format_tag_any);
}

/// Convolution and deconvolution differ in the direction of the window only.
static qdnn_primitive *create_conv(bool transposed, const numbers *numbers, ptrdiff_t rank,
                                   const qdnn_axis *axes, ptrdiff_t batch, ptrdiff_t in_channels,
                                   ptrdiff_t out_channels, ptrdiff_t groups, const void *weights,
                                   const void *bias, const qdnn_post_op *post_ops, ptrdiff_t post_op_count,
                                   failure failure) {
  const char *operation = transposed ? "deconvolution" : "convolution";
  const ptrdiff_t sizes[4] = {batch, in_channels, out_channels, groups};
  window window;
  if (!qdnn_internal_require_positive(operation, sizes, 4, failure)) {
    return NULL;
  }
  if (!make_window(operation, rank, axes, transposed, &window, failure)) {
    return NULL;
  }
  if (in_channels % groups != 0 || out_channels % groups != 0) {
    qdnn_internal_report(failure, "%s: %td and %td channels cannot be divided into %td groups",
                         operation, in_channels, out_channels, groups);
    return NULL;
  }

  dnnl_memory_desc_t src, dst, plain, packed, bias_descriptor;
  const dnnl_dims_t bias_sizes = {out_channels};
  dnnl_status_t status = describe_activations(&src, numbers->src, rank, axes, false, batch, in_channels);
  if (status == dnnl_success) {
    status = describe_activations(&dst, numbers->dst, rank, axes, true, batch, out_channels);
  }
  if (status == dnnl_success) {
    status = describe_weights(&plain, &packed, numbers->weights, rank, axes, in_channels, out_channels, groups);
  }
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&bias_descriptor, 1, bias_sizes, numbers->bias, dnnl_a);
  }
  const dnnl_memory_desc_t *optional_bias = bias == NULL ? NULL : &bias_descriptor;
  union {
    dnnl_convolution_desc_t direct;
    dnnl_deconvolution_desc_t transposed;
  } descriptor;
  if (status == dnnl_success) {
    status = transposed ? dnnl_dilated_deconvolution_forward_desc_init(
                              &descriptor.transposed, dnnl_forward_inference,
                              dnnl_deconvolution_direct, &src, &packed, optional_bias, &dst,
                              window.strides, window.dilates, window.pad_begin, window.pad_end)
                        : dnnl_dilated_convolution_forward_desc_init(
                              &descriptor.direct, dnnl_forward_inference, dnnl_convolution_direct,
                              &src, &packed, optional_bias, &dst, window.strides, window.dilates,
                              window.pad_begin, window.pad_end);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "%s: %s", operation, qdnn_internal_status_text(status));
    return NULL;
  }
  const constant_source constants[2] = {
      {DNNL_ARG_WEIGHTS, &plain, weights, false},
      {DNNL_ARG_BIAS, &bias_descriptor, bias, false},
  };
  return qdnn_internal_build_scaled(operation, &descriptor, numbers, post_ops, post_op_count, false,
                                    constants, bias == NULL ? 1 : 2, failure);
}

qdnn_primitive *qdnn_conv_create(ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch,
                                 ptrdiff_t in_channels, ptrdiff_t out_channels, ptrdiff_t groups,
                                 const float *weights, const float *bias,
                                 const qdnn_post_op *post_ops, ptrdiff_t post_op_count, char *error,
                                 size_t error_capacity) {
  return create_conv(false, &qdnn_internal_floats, rank, axes, batch, in_channels, out_channels, groups, weights, bias,
                     post_ops, post_op_count, (failure){error, error_capacity});
}

qdnn_primitive *qdnn_deconv_create(ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch,
                                   ptrdiff_t in_channels, ptrdiff_t out_channels, ptrdiff_t groups,
                                   const float *weights, const float *bias,
                                   const qdnn_post_op *post_ops, ptrdiff_t post_op_count,
                                   char *error, size_t error_capacity) {
  return create_conv(true, &qdnn_internal_floats, rank, axes, batch, in_channels, out_channels, groups, weights, bias,
                     post_ops, post_op_count, (failure){error, error_capacity});
}

qdnn_primitive *qdnn_integer_conv_create(ptrdiff_t rank, const qdnn_axis *axes, ptrdiff_t batch,
                                         ptrdiff_t in_channels, ptrdiff_t out_channels,
                                         ptrdiff_t groups, int transposed, const int8_t *weights,
                                         const qdnn_byte_output *output, char *error,
                                         size_t error_capacity) {
  const numbers numbers = qdnn_internal_integers(output, 1);
  return create_conv(transposed != 0, &numbers, rank, axes, batch, in_channels, out_channels,
                     groups, weights, output == NULL ? NULL : output->bias,
                     output == NULL ? NULL : output->post_ops,
                     output == NULL ? 0 : output->post_op_count, (failure){error, error_capacity});
}

qdnn_primitive *qdnn_pool_create(qdnn_pooling pooling, ptrdiff_t rank, const qdnn_axis *axes,
                                 ptrdiff_t batch, ptrdiff_t channels, char *error,
                                 size_t error_capacity) {
  failure failure = {error, error_capacity};
  const ptrdiff_t sizes[2] = {batch, channels};
  window window;
  if (!qdnn_internal_require_positive("pooling", sizes, 2, failure)) {
    return NULL;
  }
  if (!make_window("pooling", rank, axes, false, &window, failure)) {
    return NULL;
  }
  dnnl_alg_kind_t algorithm = dnnl_alg_kind_undef;
  switch (pooling) {
    case qdnn_pooling_max: algorithm = dnnl_pooling_max; break;
    case qdnn_pooling_average_include_pad: algorithm = dnnl_pooling_avg_include_padding; break;
    case qdnn_pooling_average_exclude_pad: algorithm = dnnl_pooling_avg_exclude_padding; break;
  }
  bool dilated = false;
  for (ptrdiff_t i = 0; i < rank; i++) {
    const dnnl_dim_t reach = (axes[i].kernel - 1) * axes[i].dilation + 1;
    dilated = dilated || axes[i].dilation > 1;
    // A window wholly in the padding has no maximum and no average.
    if (window.pad_begin[i] >= reach || window.pad_end[i] >= reach) {
      qdnn_internal_report(failure, "pooling: padding as long as the window");
      return NULL;
    }
  }
  dnnl_memory_desc_t src, dst;
  union {
    dnnl_pooling_desc_t dense;
    dnnl_pooling_v2_desc_t dilated;
  } descriptor;
  dnnl_status_t status = describe_activations(&src, dnnl_f32, rank, axes, false, batch, channels);
  if (status == dnnl_success) {
    status = describe_activations(&dst, dnnl_f32, rank, axes, true, batch, channels);
  }
  if (status == dnnl_success) {
    status = dilated
                 ? dnnl_pooling_v2_forward_desc_init(&descriptor.dilated, dnnl_forward_inference,
                                                     algorithm, &src, &dst, window.strides,
                                                     window.kernel, window.dilates,
                                                     window.pad_begin, window.pad_end)
                 : dnnl_pooling_forward_desc_init(&descriptor.dense, dnnl_forward_inference,
                                                  algorithm, &src, &dst, window.strides,
                                                  window.kernel, window.pad_begin, window.pad_end);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "pooling: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  return qdnn_internal_build_primitive("pooling", &descriptor, NULL, 0, false, NULL, 0, failure);
}
