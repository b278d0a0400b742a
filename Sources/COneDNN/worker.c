// Workers: what one thread needs to execute primitives.
#include <stdlib.h>

#include "internal.h"

/// The arguments of a primitive as one worker passes them: memory objects are made once, their
/// addresses set for every execution.
typedef struct binding {
  uint64_t primitive;  // its number; 0: the entry is free
  dnnl_exec_arg_t arguments[4 + max_constants];
  int count;
  int owned;  // the first ones: source, target, second operand, scratchpad, as far as there are any
} binding;

struct qdnn_worker {
  dnnl_stream_t stream;
  void *scratchpad;
  size_t scratchpad_bytes;
  binding *bindings;  // a table by the primitives' numbers, at most half full
  size_t capacity, used;
};

static bool grow_scratchpad(qdnn_worker *worker, size_t bytes) {
  if (bytes <= worker->scratchpad_bytes) {
    return true;
  }
  void *larger = qdnn_pages_allocate(bytes);
  if (larger == NULL) {
    return false;
  }
  free(worker->scratchpad);
  worker->scratchpad = larger;
  worker->scratchpad_bytes = bytes;
  return true;
}

qdnn_worker *qdnn_worker_create(size_t scratchpad_bytes, char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  qdnn_set_one_thread();
  dnnl_engine_t engine = qdnn_internal_shared_engine(failure);
  if (engine == NULL) {
    return NULL;
  }
  qdnn_worker *worker = calloc(1, sizeof *worker);
  if (worker == NULL || !grow_scratchpad(worker, scratchpad_bytes)) {
    qdnn_internal_report(failure, "worker: out of memory (scratchpad of %zu bytes)",
                         scratchpad_bytes);
    qdnn_worker_destroy(worker);
    return NULL;
  }
  dnnl_status_t status = dnnl_stream_create(&worker->stream, engine, dnnl_stream_default_flags);
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "worker: oneDNN's stream cannot be created: %s",
                         qdnn_internal_status_text(status));
    qdnn_worker_destroy(worker);
    return NULL;
  }
  return worker;
}

void qdnn_worker_destroy(qdnn_worker *worker) {
  if (worker == NULL) {
    return;
  }
  if (worker->stream != NULL) {
    dnnl_stream_destroy(worker->stream);
  }
  for (size_t i = 0; i < worker->capacity; i++) {
    for (int k = 0; worker->bindings[i].primitive != 0 && k < worker->bindings[i].owned; k++) {
      dnnl_memory_destroy(worker->bindings[i].arguments[k].memory);
    }
  }
  free(worker->bindings);
  free(worker->scratchpad);
  free(worker);
}

// MARK: Execution

/// Whether a primitive has its source, target, second operand or scratchpad (0 to 3).
static bool uses(const qdnn_primitive *primitive, int operand) {
  return operand < 2 || (operand == 2 ? primitive->has_src2 : primitive->scratchpad_bytes > 0);
}

static dnnl_status_t bind(binding *target, const qdnn_primitive *primitive, dnnl_engine_t engine) {
  const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_SCRATCHPAD};
  const dnnl_memory_desc_t *shapes[4] = {&primitive->src, &primitive->dst, &primitive->src2,
                                         &primitive->scratchpad};
  for (int i = 0; i < 4; i++) {
    if (!uses(primitive, i)) {
      continue;
    }
    dnnl_exec_arg_t *argument = &target->arguments[target->count];
    argument->arg = names[i];
    dnnl_status_t status = dnnl_memory_create(&argument->memory, shapes[i], engine, DNNL_MEMORY_NONE);
    if (status != dnnl_success) {
      return status;
    }
    target->count = ++target->owned;
  }
  for (int i = 0; i < primitive->constant_count; i++) {
    target->arguments[target->count].arg = primitive->constants[i].argument;
    target->arguments[target->count++].memory = primitive->constants[i].memory;
  }
  target->primitive = primitive->number;
  return dnnl_success;
}

/// The entry of a number, or the free one where it belongs.
static binding *entry(binding *bindings, size_t capacity, uint64_t number) {
  size_t place = number & (capacity - 1);
  while (bindings[place].primitive != 0 && bindings[place].primitive != number) {
    place = (place + 1) & (capacity - 1);
  }
  return &bindings[place];
}

/// The worker's arguments for a primitive, made when they are first asked for; NULL with a status.
static binding *find_binding(qdnn_worker *worker, const qdnn_primitive *primitive, dnnl_engine_t engine,
                             dnnl_status_t *status) {
  if (2 * (worker->used + 1) > worker->capacity) {
    const size_t capacity = worker->capacity == 0 ? 64 : 2 * worker->capacity;
    binding *larger = calloc(capacity, sizeof *larger);
    if (larger == NULL) {
      *status = dnnl_out_of_memory;
      return NULL;
    }
    for (size_t i = 0; i < worker->capacity; i++) {
      if (worker->bindings[i].primitive != 0) {
        *entry(larger, capacity, worker->bindings[i].primitive) = worker->bindings[i];
      }
    }
    free(worker->bindings);
    worker->bindings = larger;
    worker->capacity = capacity;
  }
  binding *found = entry(worker->bindings, worker->capacity, primitive->number);
  if (found->primitive == 0) {
    *status = bind(found, primitive, engine);
    if (*status != dnnl_success) {
      for (int i = 0; i < found->owned; i++) {
        dnnl_memory_destroy(found->arguments[i].memory);
      }
      *found = (binding){0};
      return NULL;
    }
    worker->used += 1;
  }
  return found;
}

int qdnn_execute(const qdnn_primitive *primitive, qdnn_worker *worker, const float *src,
                 const float *src2, float *dst, char *error, size_t error_capacity) {
  return qdnn_execute_any(primitive, worker, src, src2, dst, error, error_capacity);
}

int qdnn_execute_any(const qdnn_primitive *primitive, qdnn_worker *worker, const void *src,
                     const void *src2, void *dst, char *error, size_t error_capacity) {
  failure failure = {error, error_capacity};
  if (primitive->has_src2 != (src2 != NULL)) {
    qdnn_internal_report(failure, "execute: the second operand is %s",
                         src2 == NULL ? "missing" : "not expected");
    return 1;
  }
  if (!grow_scratchpad(worker, primitive->scratchpad_bytes)) {
    qdnn_internal_report(failure, "execute: out of memory (scratchpad of %zu bytes)",
                         primitive->scratchpad_bytes);
    return 1;
  }
  qdnn_set_one_thread();
  dnnl_engine_t engine = qdnn_internal_shared_engine(failure);
  if (engine == NULL) {
    return 1;
  }

  dnnl_status_t status = dnnl_success;
  binding *bound = find_binding(worker, primitive, engine, &status);
  // Inputs are only read. In the order of `bind`.
  void *const addresses[4] = {(void *)src, dst, (void *)src2, worker->scratchpad};
  for (int i = 0, k = 0; status == dnnl_success && i < 4; i++) {
    if (uses(primitive, i)) {
      status = dnnl_memory_set_data_handle(bound->arguments[k++].memory, addresses[i]);
    }
  }
  if (status == dnnl_success) {
    status = dnnl_primitive_execute(primitive->handle, worker->stream, bound->count, bound->arguments);
  }
  if (status == dnnl_success) {
    status = dnnl_stream_wait(worker->stream);
  }
  if (status != dnnl_success) {
    qdnn_internal_report(failure, "execute (%s): %s", primitive->implementation,
                         qdnn_internal_status_text(status));
    return 1;
  }
  return 0;
}
