// Matrix multiplication and the operations along one axis or none.
#include "internal.h"

/// Describes [batch, rows, columns], or its transpose [batch, columns, rows] seen as the former;
/// without the batch axis when `rank` is 2.
static dnnl_status_t describe_matrices(dnnl_memory_desc_t *descriptor, int rank, ptrdiff_t batch,
                                       ptrdiff_t rows, ptrdiff_t columns, bool transposed) {
  const dnnl_dims_t sizes = {batch, rows, columns};
  const dnnl_dims_t strides = {rows * columns, transposed ? 1 : columns, transposed ? rows : 1};
  return dnnl_memory_desc_init_by_strides(descriptor, rank, sizes + (3 - rank), dnnl_f32,
                                          strides + (3 - rank));
}

qdnn_primitive *qdnn_matmul_create(ptrdiff_t batch_a, ptrdiff_t batch_b, ptrdiff_t m, ptrdiff_t k,
                                   ptrdiff_t n, uint32_t layout, const float *constant_b,
                                   const float *bias, const qdnn_post_op *post_ops,
                                   ptrdiff_t post_op_count, char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  const ptrdiff_t all_sizes[5] = {batch_a, batch_b, m, k, n};
  const bool transpose_a = (layout & qdnn_matmul_transpose_a) != 0;
  const bool transpose_b = (layout & qdnn_matmul_transpose_b) != 0;
  if (!qdnn_internal_require_positive("matmul", all_sizes, 5, failure)) {
    return NULL;
  }
  if (batch_a != batch_b && batch_a != 1 && batch_b != 1) {
    qdnn_internal_report(failure, "matmul: batches of %td and %td", batch_a, batch_b);
    return NULL;
  }
  // One B for the whole batch: the batch is nothing but more rows.
  if (batch_b == 1 && !transpose_a) {
    if (__builtin_mul_overflow(m, batch_a, &m)) {
      qdnn_internal_report(failure, "matmul: too many rows");
      return NULL;
    }
    batch_a = 1;
  }
  const ptrdiff_t batch = batch_a > batch_b ? batch_a : batch_b;
  const int rank = batch == 1 ? 2 : 3;
  const dnnl_dims_t b_sizes = {batch_b, k, n}, bias_sizes = {1, 1, n};
  dnnl_memory_desc_t a, b, packed_b, bias_descriptor, dst;
  dnnl_matmul_desc_t descriptor;
  dnnl_status_t status = describe_matrices(&a, rank, batch_a, m, k, transpose_a);
  if (status == dnnl_success) {
    status = describe_matrices(&b, rank, batch_b, k, n, transpose_b);
  }
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&packed_b, rank, b_sizes + (3 - rank), dnnl_f32,
                                          dnnl_format_tag_any);
  }
  if (status == dnnl_success) {
    status = qdnn_internal_describe_dense(&bias_descriptor, rank, bias_sizes + (3 - rank));
  }
  if (status == dnnl_success) {
    status = describe_matrices(&dst, rank, batch, m, n, false);
  }
  if (status == dnnl_success) {
    status = dnnl_matmul_desc_init(&descriptor, &a, constant_b == NULL ? &b : &packed_b,
                                   bias == NULL ? NULL : &bias_descriptor, &dst);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "matmul: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  constant_source constants[2];
  int count = 0;
  if (constant_b != NULL) {
    constants[count++] = (constant_source){
        DNNL_ARG_WEIGHTS, &b, constant_b, (layout & qdnn_matmul_mapped_b) != 0};
  }
  if (bias != NULL) {
    constants[count++] = (constant_source){DNNL_ARG_BIAS, &bias_descriptor, bias, false};
  }
  return qdnn_internal_build_primitive("matmul", &descriptor, post_ops, post_op_count,
                                       constant_b == NULL, constants, count, failure);
}

qdnn_primitive *qdnn_integer_matmul_create(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n,
                                           const int8_t *weights, const qdnn_byte_output *output,
                                           char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  const ptrdiff_t all_sizes[3] = {m, k, n};
  if (!qdnn_internal_require_positive("matmul", all_sizes, 3, failure)) {
    return NULL;
  }
  const numbers numbers = qdnn_internal_integers(output, 1);
  const dnnl_dims_t a_sizes = {m, k}, b_sizes = {k, n}, dst_sizes = {m, n}, bias_sizes = {1, n};
  dnnl_memory_desc_t a, b, packed_b, bias, dst;
  dnnl_matmul_desc_t descriptor;
  dnnl_status_t status = dnnl_memory_desc_init_by_tag(&a, 2, a_sizes, numbers.src, dnnl_ab);
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&b, 2, b_sizes, numbers.weights, dnnl_ab);
  }
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&packed_b, 2, b_sizes, numbers.weights,
                                          dnnl_format_tag_any);
  }
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&bias, 2, bias_sizes, numbers.bias, dnnl_ab);
  }
  if (status == dnnl_success) {
    status = dnnl_memory_desc_init_by_tag(&dst, 2, dst_sizes, numbers.dst, dnnl_ab);
  }
  const bool has_bias = output != NULL && output->bias != NULL;
  if (status == dnnl_success) {
    status = dnnl_matmul_desc_init(&descriptor, &a, &packed_b, has_bias ? &bias : NULL, &dst);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "matmul: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  const constant_source constants[2] = {
      {DNNL_ARG_WEIGHTS, &b, weights, false},
      {DNNL_ARG_BIAS, &bias, has_bias ? output->bias : NULL, false},
  };
  return qdnn_internal_build_scaled("matmul", &descriptor, &numbers,
                                    output == NULL ? NULL : output->post_ops,
                                    output == NULL ? 0 : output->post_op_count, false, constants,
                                    has_bias ? 2 : 1, failure);
}

qdnn_primitive *qdnn_eltwise_create(qdnn_function function, float alpha, float beta,
                                    ptrdiff_t count, char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  dnnl_alg_kind_t algorithm;
  if (!qdnn_internal_require_positive("element-wise", &count, 1, failure)) {
    return NULL;
  }
  if (!qdnn_internal_eltwise_algorithm(function, &algorithm)) {
    qdnn_internal_report(failure, "element-wise: not a function of one number");
    return NULL;
  }
  const dnnl_dims_t sizes = {count};
  dnnl_memory_desc_t data;
  dnnl_eltwise_desc_t descriptor;
  dnnl_status_t status = qdnn_internal_describe_dense(&data, 1, sizes);
  if (status == dnnl_success) {
    status = dnnl_eltwise_forward_desc_init(&descriptor, dnnl_forward_inference, algorithm, &data,
                                            alpha, beta);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "element-wise: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  return qdnn_internal_build_primitive("element-wise", &descriptor, NULL, 0, false, NULL, 0,
                                       failure);
}

qdnn_primitive *qdnn_softmax_create(int logarithm, ptrdiff_t outer, ptrdiff_t axis, ptrdiff_t inner,
                                    char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  const ptrdiff_t all_sizes[3] = {outer, axis, inner};
  if (!qdnn_internal_require_positive("softmax", all_sizes, 3, failure)) {
    return NULL;
  }
  const dnnl_dims_t sizes = {outer, axis, inner};
  dnnl_memory_desc_t data;
  union {
    dnnl_softmax_desc_t softmax;
    dnnl_logsoftmax_desc_t logsoftmax;
  } descriptor;
  dnnl_status_t status = qdnn_internal_describe_dense(&data, inner == 1 ? 2 : 3, sizes);
  if (status == dnnl_success) {
    status = logarithm != 0 ? dnnl_logsoftmax_forward_desc_init(&descriptor.logsoftmax,
                                                                dnnl_forward_inference, &data, 1)
                            : dnnl_softmax_forward_desc_init(&descriptor.softmax,
                                                             dnnl_forward_inference, &data, 1);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "softmax: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  return qdnn_internal_build_primitive("softmax", &descriptor, NULL, 0, false, NULL, 0, failure);
}

qdnn_primitive *qdnn_layer_norm_create(ptrdiff_t rows, ptrdiff_t size, float epsilon,
                                       const float *scale, const float *shift, char *error,
                                       size_t error_capacity) {
  failure failure = {error, error_capacity};
  const ptrdiff_t all_sizes[2] = {rows, size};
  if (!qdnn_internal_require_positive("layer normalization", all_sizes, 2, failure)) {
    return NULL;
  }
  const dnnl_dims_t sizes = {rows, size}, channel_sizes = {size};
  dnnl_memory_desc_t data, channels;
  dnnl_layer_normalization_desc_t descriptor;
  const unsigned flags =
      (scale == NULL ? 0U : dnnl_use_scale) | (shift == NULL ? 0U : dnnl_use_shift);
  dnnl_status_t status = qdnn_internal_describe_dense(&data, 2, sizes);
  if (status == dnnl_success) {
    status = qdnn_internal_describe_dense(&channels, 1, channel_sizes);
  }
  if (status == dnnl_success) {
    status = dnnl_layer_normalization_forward_desc_init(&descriptor, dnnl_forward_inference, &data,
                                                        NULL, epsilon, flags);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "layer normalization: %s", qdnn_internal_status_text(status));
    return NULL;
  }
  constant_source constants[2];
  int count = 0;
  if (scale != NULL) {
    constants[count++] = (constant_source){DNNL_ARG_SCALE, &channels, scale, false};
  }
  if (shift != NULL) {
    constants[count++] = (constant_source){DNNL_ARG_SHIFT, &channels, shift, false};
  }
  return qdnn_internal_build_primitive("layer normalization", &descriptor, NULL, 0, false,
                                       constants, count, failure);
}

int qdnn_product(int transpose_a, int transpose_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                 const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int accumulate,
                 float *c, ptrdiff_t ldc) {
  qdnn_set_one_thread();
  return (int)dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0f, a, lda, b,
                         ldb, accumulate ? 1.0f : 0.0f, c, ldc);
}
