#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// libgomp's header lies in gcc's private folder; this is the only function needed of it.
extern void omp_set_num_threads(int count);

// MARK: Errors

void qdnn_internal_report(failure failure, const char *format, ...) {
  if (failure.text == NULL || failure.capacity == 0) {
    return;
  }
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(failure.text, failure.capacity, format, arguments);
  va_end(arguments);
}

const char *qdnn_internal_status_text(dnnl_status_t status) {
  switch (status) {
    case dnnl_success: return "success";
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "not implemented by oneDNN";
    case dnnl_iterator_ends: return "iterator ends";
    case dnnl_runtime_error: return "run-time error";
    case dnnl_not_required: return "not required";
  }
  return "unknown status";
}

bool qdnn_internal_require_positive(const char *operation, const ptrdiff_t *sizes, int count,
                                    failure failure) {
  for (int i = 0; i < count; i++) {
    if (sizes[i] <= 0) {
      qdnn_internal_report(failure, "%s: size %td is not positive", operation, sizes[i]);
      return false;
    }
  }
  return true;
}

// MARK: Library

static char version_text[32];
static dnnl_engine_t engine;
static dnnl_status_t engine_status;

static void initialize_library(void) {
  const dnnl_version_t *version = dnnl_version();
  snprintf(version_text, sizeof version_text, "%d.%d.%d", version->major, version->minor,
           version->patch);
  engine_status = dnnl_engine_create(&engine, dnnl_cpu, 0);
}

static void require_library(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, initialize_library);
}

dnnl_engine_t qdnn_internal_shared_engine(failure failure) {
  require_library();
  if (engine_status != dnnl_success) {
    qdnn_internal_report(failure, "oneDNN's processor engine cannot be created: %s",
                         qdnn_internal_status_text(engine_status));
    return NULL;
  }
  return engine;
}

const char *qdnn_version(void) {
  require_library();
  return version_text;
}

const char *qdnn_instruction_set(void) {
  switch ((int)dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_all: return "all";
    case dnnl_cpu_isa_sse41: return "sse41";
    case dnnl_cpu_isa_avx: return "avx";
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
    case dnnl_cpu_isa_avx512_mic: return "avx512_mic";
    case dnnl_cpu_isa_avx512_mic_4ops: return "avx512_mic_4ops";
    case dnnl_cpu_isa_avx512_core: return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
  }
  return "unknown";
}

void qdnn_set_one_thread(void) { omp_set_num_threads(1); }

// MARK: Building primitives

dnnl_status_t qdnn_internal_describe_dense(dnnl_memory_desc_t *descriptor, int rank,
                                           const dnnl_dim_t *sizes) {
  dnnl_dims_t strides;
  dnnl_dim_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= sizes[i];
  }
  return dnnl_memory_desc_init_by_strides(descriptor, rank, sizes, dnnl_f32, strides);
}

bool qdnn_internal_eltwise_algorithm(qdnn_function function, dnnl_alg_kind_t *algorithm) {
  switch (function) {
    case qdnn_function_relu: *algorithm = dnnl_eltwise_relu; return true;
    case qdnn_function_clip: *algorithm = dnnl_eltwise_clip; return true;
    case qdnn_function_hard_swish: *algorithm = dnnl_eltwise_hardswish; return true;
    case qdnn_function_sum: return false;
    case qdnn_function_sigmoid: *algorithm = dnnl_eltwise_logistic; return true;
    case qdnn_function_tanh: *algorithm = dnnl_eltwise_tanh; return true;
    case qdnn_function_exp: *algorithm = dnnl_eltwise_exp; return true;
    case qdnn_function_log: *algorithm = dnnl_eltwise_log; return true;
    case qdnn_function_sqrt: *algorithm = dnnl_eltwise_sqrt; return true;
    case qdnn_function_abs: *algorithm = dnnl_eltwise_abs; return true;
    case qdnn_function_square: *algorithm = dnnl_eltwise_square; return true;
    case qdnn_function_elu: *algorithm = dnnl_eltwise_elu; return true;
    case qdnn_function_linear: *algorithm = dnnl_eltwise_linear; return true;
    case qdnn_function_softplus: *algorithm = dnnl_eltwise_soft_relu; return true;
    case qdnn_function_gelu_erf: *algorithm = dnnl_eltwise_gelu_erf; return true;
    case qdnn_function_gelu_tanh: *algorithm = dnnl_eltwise_gelu_tanh; return true;
    case qdnn_function_swish: *algorithm = dnnl_eltwise_swish; return true;
    case qdnn_function_mish: *algorithm = dnnl_eltwise_mish; return true;
    case qdnn_function_round: *algorithm = dnnl_eltwise_round; return true;
    case qdnn_function_pow: *algorithm = dnnl_eltwise_pow; return true;
    case qdnn_function_channel_add:
    case qdnn_function_channel_multiply:
    case qdnn_function_channel_minimum:
    case qdnn_function_channel_maximum: return false;
  }
  return false;
}

/// oneDNN's algorithm of a channel function; false for other functions.
static bool channel_algorithm(qdnn_function function, dnnl_alg_kind_t *algorithm) {
  switch (function) {
    case qdnn_function_channel_add: *algorithm = dnnl_binary_add; return true;
    case qdnn_function_channel_multiply: *algorithm = dnnl_binary_mul; return true;
    case qdnn_function_channel_minimum: *algorithm = dnnl_binary_min; return true;
    case qdnn_function_channel_maximum: *algorithm = dnnl_binary_max; return true;
    default: return false;
  }
}

/// Describes the values of a channel function over the result of an operation. The number of axes of
/// the result is 0 for operations that have no channels.
static dnnl_status_t describe_values(const_dnnl_op_desc_t operation, ptrdiff_t count,
                                     dnnl_memory_desc_t *descriptor) {
  const dnnl_memory_desc_t *result = NULL;
  int axis = 1;
  switch (*(const dnnl_primitive_kind_t *)operation) {
    case dnnl_convolution: result = &((const dnnl_convolution_desc_t *)operation)->dst_desc; break;
    case dnnl_matmul:
      result = &((const dnnl_matmul_desc_t *)operation)->dst_desc;
      axis = result->ndims - 1;
      break;
    default: return dnnl_invalid_arguments;
  }
  if (count != 1 && count != result->dims[axis]) {
    return dnnl_invalid_arguments;
  }
  dnnl_dims_t sizes;
  for (int i = 0; i < result->ndims; i++) {
    sizes[i] = i == axis ? count : 1;
  }
  return qdnn_internal_describe_dense(descriptor, result->ndims, sizes);
}

/// The attributes every primitive gets: scratchpad from the worker, strict float, scales,
/// post-operations.
static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attributes, const_dnnl_op_desc_t operation,
                                     const numbers *numbers,
                                     const qdnn_post_op *post_ops, ptrdiff_t post_op_count) {
  dnnl_post_ops_t chain = NULL;
  dnnl_status_t status = dnnl_primitive_attr_create(attributes);
  if (status == dnnl_success) {
    status = dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user);
  }
  if (status == dnnl_success) {  // overrides the environment variable, which could allow bfloat16
    status = dnnl_primitive_attr_set_fpmath_mode(*attributes, dnnl_fpmath_mode_strict);
  }
  if (status == dnnl_success && numbers->scales != NULL) {
    status = dnnl_primitive_attr_set_output_scales(*attributes, numbers->scale_count,
                                                   numbers->scale_mask, numbers->scales);
  }
  if (status == dnnl_success && post_op_count > 0) {
    status = dnnl_post_ops_create(&chain);
  }
  for (ptrdiff_t i = 0; status == dnnl_success && i < post_op_count; i++) {
    dnnl_alg_kind_t algorithm;
    if (post_ops[i].function == qdnn_function_sum) {
      status = dnnl_post_ops_append_sum(chain, 1);
    } else if (qdnn_internal_eltwise_algorithm(post_ops[i].function, &algorithm)) {
      status =
          dnnl_post_ops_append_eltwise(chain, 1, algorithm, post_ops[i].alpha, post_ops[i].beta);
    } else if (channel_algorithm(post_ops[i].function, &algorithm) && post_ops[i].values != NULL) {
      dnnl_memory_desc_t values;
      status = describe_values(operation, post_ops[i].value_count, &values);
      if (status == dnnl_success) {
        status = dnnl_post_ops_append_binary(chain, algorithm, &values);
      }
    } else {
      status = dnnl_invalid_arguments;
    }
  }
  if (status == dnnl_success && chain != NULL) {
    status = dnnl_primitive_attr_set_post_ops(*attributes, chain);
  }
  if (chain != NULL) {
    dnnl_post_ops_destroy(chain);
  }
  return status;
}

numbers qdnn_internal_integers(const qdnn_byte_output *output, int channel_axis) {
  numbers numbers = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_s32, NULL, 0, 0};
  if (output != NULL) {
    numbers.dst = dnnl_u8;
    numbers.scales = output->scales;
    numbers.scale_count = output->scale_count;
    numbers.scale_mask = output->scale_count == 1 ? 0 : 1 << channel_axis;
  }
  return numbers;
}

/// Copies `source` from its plain layout to the layout `wanted`.
static dnnl_status_t reorder(dnnl_engine_t engine, const constant_source *source,
                             const dnnl_memory_desc_t *wanted, dnnl_memory_t target) {
  dnnl_memory_t plain = NULL;
  dnnl_primitive_desc_t descriptor = NULL;
  dnnl_primitive_t copy = NULL;
  dnnl_stream_t stream = NULL;
  // oneDNN takes a mutable pointer; a reorder's source is only read.
  dnnl_status_t status = dnnl_memory_create(&plain, source->plain, engine, (void *)source->values);
  if (status == dnnl_success) {
    status = dnnl_reorder_primitive_desc_create(&descriptor, source->plain, engine, wanted, engine,
                                                NULL);
  }
  if (status == dnnl_success) {
    status = dnnl_primitive_create(&copy, descriptor);
  }
  if (status == dnnl_success) {
    status = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
  }
  if (status == dnnl_success) {
    dnnl_exec_arg_t arguments[2] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, target}};
    status = dnnl_primitive_execute(copy, stream, 2, arguments);
  }
  if (status == dnnl_success) {
    status = dnnl_stream_wait(stream);
  }
  if (stream != NULL) {
    dnnl_stream_destroy(stream);
  }
  if (copy != NULL) {
    dnnl_primitive_destroy(copy);
  }
  if (descriptor != NULL) {
    dnnl_primitive_desc_destroy(descriptor);
  }
  if (plain != NULL) {
    dnnl_memory_destroy(plain);
  }
  return status;
}

/// The same for a large matrix in a mapped file, a slice after the other, so that little of it is in memory beside
/// what has been packed. Not implemented where the layout cannot be cut.
static dnnl_status_t reorder_in_slices(dnnl_engine_t engine, const constant_source *source,
                                       const dnnl_memory_desc_t *wanted, void *storage) {
  enum { slice_bytes = 16 << 20, unit = 64 };
  const dnnl_memory_desc_t *plain = source->plain;
  if (!source->is_mapped || plain->ndims != 2 || plain->format_kind != dnnl_blocked) {
    return dnnl_unimplemented;
  }
  const dnnl_dim_t *strides = plain->format_desc.blocking.strides;
  const int axis = strides[0] >= strides[1] ? 0 : 1;  // along which slices are neighbours in the file
  const size_t line = (size_t)strides[axis] * sizeof(float);
  const dnnl_dim_t count = (dnnl_dim_t)(slice_bytes / (line * unit) + 1) * unit;
  dnnl_status_t status = dnnl_success;
  for (dnnl_dim_t first = 0; status == dnnl_success && first < plain->dims[axis]; first += count) {
    const dnnl_dim_t taken = count < plain->dims[axis] - first ? count : plain->dims[axis] - first;
    dnnl_dims_t sizes = {plain->dims[0], plain->dims[1]}, offsets = {0, 0};
    sizes[axis] = taken;
    offsets[axis] = first;
    dnnl_memory_desc_t from, to;
    dnnl_memory_t target = NULL;
    if (dnnl_memory_desc_init_submemory(&from, plain, sizes, offsets) != dnnl_success
        || dnnl_memory_desc_init_submemory(&to, wanted, sizes, offsets) != dnnl_success) {
      return dnnl_unimplemented;
    }
    status = dnnl_memory_create(&target, &to, engine, storage);
    if (status == dnnl_success) {
      const constant_source slice = {source->argument, &from, source->values, true};
      status = reorder(engine, &slice, &to, target);
    }
    if (target != NULL) {
      dnnl_memory_destroy(target);
    }
    qdnn_internal_discard((const char *)source->values + (size_t)first * line, (size_t)taken * line);
  }
  return status;
}

/// Packs a constant into the layout `wanted` and gives it to the primitive.
static dnnl_status_t add_constant(qdnn_primitive *primitive, dnnl_engine_t engine,
                                  const constant_source *source, const dnnl_memory_desc_t *wanted) {
  constant *target = &primitive->constants[primitive->constant_count];
  target->argument = source->argument;
  target->bytes = dnnl_memory_desc_get_size(wanted);
  target->storage = qdnn_internal_allocate(target->bytes, &target->owner);
  if (target->storage == NULL) {
    return dnnl_out_of_memory;
  }
  primitive->constant_count += 1;
  dnnl_status_t status = dnnl_memory_create(&target->memory, wanted, engine, target->storage);
  if (status != dnnl_success) {
    return status;
  }
  if (dnnl_memory_desc_equal(source->plain, wanted)) {
    memcpy(target->storage, source->values, target->bytes);
  } else {
    status = reorder_in_slices(engine, source, wanted, target->storage);
    if (status != dnnl_success) {
      status = reorder(engine, source, wanted, target->memory);
    }
  }
  // Layers that share their weights share what is packed of them.
  if (status == dnnl_success &&
      qdnn_internal_share(&target->storage, target->bytes, &target->owner, &target->record)) {
    target->bytes = 0;
    status = dnnl_memory_set_data_handle(target->memory, target->storage);
  }
  return status;
}

const numbers qdnn_internal_floats = {dnnl_f32, dnnl_f32, dnnl_f32, dnnl_f32, NULL, 0, 0};

qdnn_primitive *qdnn_internal_build_primitive(const char *operation,
                                              const_dnnl_op_desc_t descriptor,
                                              const qdnn_post_op *post_ops, ptrdiff_t post_op_count,
                                              bool second_operand, const constant_source *constants,
                                              int constant_count, failure failure) {
  return qdnn_internal_build_scaled(operation, descriptor, &qdnn_internal_floats, post_ops,
                                    post_op_count, second_operand, constants, constant_count,
                                    failure);
}

qdnn_primitive *qdnn_internal_build_scaled(const char *operation, const_dnnl_op_desc_t descriptor,
                                           const numbers *numbers, const qdnn_post_op *post_ops,
                                           ptrdiff_t post_op_count, bool second_operand,
                                           const constant_source *constants, int constant_count,
                                           failure failure) {
  // The number of threads is frozen into a primitive when its descriptor is created.
  qdnn_set_one_thread();
  dnnl_engine_t engine = qdnn_internal_shared_engine(failure);
  if (engine == NULL) {
    return NULL;
  }
  if (post_op_count < 0 || (post_op_count > 0 && post_ops == NULL)) {
    qdnn_internal_report(failure, "%s: bad list of post-operations", operation);
    return NULL;
  }
  qdnn_primitive *primitive = calloc(1, sizeof *primitive);
  if (primitive == NULL) {
    qdnn_internal_report(failure, "%s: out of memory", operation);
    return NULL;
  }
  static _Atomic uint64_t numbers_given;
  primitive->number = ++numbers_given;

  const char *step = "bad post-operations";
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_primitive_desc_t implementation = NULL;
  dnnl_status_t status = make_attributes(&attributes, descriptor, numbers, post_ops, post_op_count);
  if (status == dnnl_success) {
    step = "no implementation";
    status = dnnl_primitive_desc_create(&implementation, descriptor, attributes, engine, NULL);
  }
  if (status == dnnl_success) {
    step = "cannot be created";
    primitive->src = *dnnl_primitive_desc_query_md(implementation, dnnl_query_src_md, 0);
    primitive->dst = *dnnl_primitive_desc_query_md(implementation, dnnl_query_dst_md, 0);
    primitive->scratchpad =
        *dnnl_primitive_desc_query_md(implementation, dnnl_query_scratchpad_md, 0);
    primitive->scratchpad_bytes = dnnl_memory_desc_get_size(&primitive->scratchpad);
    primitive->has_src2 = second_operand;
    if (second_operand) {
      primitive->src2 = *dnnl_primitive_desc_query_md(implementation, dnnl_query_weights_md, 0);
    }
    const char *name = NULL;
    dnnl_primitive_desc_query(implementation, dnnl_query_impl_info_str, 0, (void *)&name);
    snprintf(primitive->implementation, sizeof primitive->implementation, "%s",
             name == NULL ? "" : name);
    status = dnnl_primitive_create(&primitive->handle, implementation);
  }
  for (ptrdiff_t i = 0; status == dnnl_success && i < post_op_count; i++) {
    if (post_ops[i].values == NULL) {
      continue;
    }
    step = "too many post-operations";
    dnnl_memory_desc_t values;
    status = primitive->constant_count + constant_count < max_constants
                 ? describe_values(descriptor, post_ops[i].value_count, &values)
                 : dnnl_invalid_arguments;
    if (status == dnnl_success) {
      const constant_source source = {DNNL_ARG_ATTR_MULTIPLE_POST_OP((int)i) | DNNL_ARG_SRC_1, &values,
                                      post_ops[i].values, false};
      status = add_constant(primitive, engine, &source, &values);
    }
  }
  for (int i = 0; status == dnnl_success && i < constant_count; i++) {
    step = "constants cannot be packed";
    const dnnl_memory_desc_t *wanted =
        dnnl_primitive_desc_query_md(implementation, dnnl_query_exec_arg_md, constants[i].argument);
    status = add_constant(primitive, engine, &constants[i], wanted);
  }
  if (implementation != NULL) {
    dnnl_primitive_desc_destroy(implementation);
  }
  if (attributes != NULL) {
    dnnl_primitive_attr_destroy(attributes);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "%s: %s: %s", operation, step, qdnn_internal_status_text(status));
    qdnn_primitive_destroy(primitive);
    return NULL;
  }
  return primitive;
}

void qdnn_primitive_destroy(qdnn_primitive *primitive) {
  if (primitive == NULL) {
    return;
  }
  if (primitive->handle != NULL) {
    dnnl_primitive_destroy(primitive->handle);
  }
  for (int i = 0; i < primitive->constant_count; i++) {
    if (primitive->constants[i].memory != NULL) {
      dnnl_memory_destroy(primitive->constants[i].memory);
    }
    if (primitive->constants[i].record != NULL) {
      qdnn_internal_unshare(primitive->constants[i].record);
    } else {
      qdnn_internal_free(primitive->constants[i].owner);
    }
  }
  free(primitive);
}

size_t qdnn_primitive_scratchpad_bytes(const qdnn_primitive *primitive) {
  return primitive->scratchpad_bytes;
}

size_t qdnn_primitive_constant_bytes(const qdnn_primitive *primitive) {
  size_t sum = 0;
  for (int i = 0; i < primitive->constant_count; i++) {
    sum += primitive->constants[i].bytes;
  }
  return sum;
}

const char *qdnn_primitive_implementation(const qdnn_primitive *primitive) {
  return primitive->implementation;
}
