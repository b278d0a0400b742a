// What the files of this target share. Knows oneDNN 2.6; nothing of it shows in the public header.
#ifndef QTOOLS_CONEDNN_INTERNAL_H
#define QTOOLS_CONEDNN_INTERNAL_H

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>

#include "COneDNN.h"

/// Where an error text goes; passed by value.
typedef struct failure {
  char *text;
  size_t capacity;
} failure;

/// Pages that hold packed constants of several primitives.
typedef struct slab slab;

/// Memory on a cache line's boundary, cut from a slab that the caller keeps and gives back; NULL when
/// there is none.
void *qdnn_internal_allocate(size_t bytes, slab **owner);

/// Lets the system have the pages wholly inside of mapped bytes; they are read again where they are needed.
void qdnn_internal_discard(const void *start, size_t bytes);

/// Gives back one piece of a slab; NULL is ignored.
void qdnn_internal_free(slab *owner);

/// A piece that several primitives may hold.
typedef struct shared_piece shared_piece;

/// Puts a piece that is written and never changes again among those that are shared. Where one of the same bytes
/// is there, the piece is given back and `*storage` is that one; true then. `*record` is NULL where there is
/// nothing to share or no memory to note it; the owner frees the piece then, else the record.
bool qdnn_internal_share(void **storage, size_t bytes, slab **owner, shared_piece **record);

/// Ends the use of a shared piece; NULL is ignored.
void qdnn_internal_unshare(shared_piece *record);

/// A constant a primitive holds: packed numbers and oneDNN's view of them.
typedef struct constant {
  int argument;  // DNNL_ARG_...
  void *storage;
  slab *owner;
  shared_piece *record;
  size_t bytes;  // 0 where another primitive has packed them before
  dnnl_memory_t memory;
} constant;

/// Weights, bias and what post-operations need.
enum { max_constants = 8 };

struct qdnn_primitive {
  uint64_t number;  // never used twice in a process
  dnnl_primitive_t handle;
  dnnl_memory_desc_t src, src2, dst, scratchpad;
  bool has_src2;
  size_t scratchpad_bytes;
  constant constants[max_constants];
  int constant_count;
  char implementation[64];
};

/// The plain values of a constant, to be packed into the layout a primitive asks for.
typedef struct constant_source {
  int argument;                     // DNNL_ARG_...
  const dnnl_memory_desc_t *plain;  // the layout of `values`
  const void *values;
  bool is_mapped;  // in a file mapped read-only: pages are given back once they were read
} constant_source;

/// The types of an operation's numbers, and what its sums are multiplied by.
typedef struct numbers {
  dnnl_data_type_t src, weights, bias, dst;
  const float *scales;  // one for each channel of the output; NULL: none
  ptrdiff_t scale_count;
  int scale_mask;  // the axis of the scales, as a bit; 0 for a single one
} numbers;

/// The types of an operation in 32-bit float.
extern const numbers qdnn_internal_floats;

/// The types of an operation from bytes to what `output` describes: bytes, or 32-bit sums if NULL.
numbers qdnn_internal_integers(const qdnn_byte_output *output, int channel_axis);

/// Writes a formatted error text.
void qdnn_internal_report(failure failure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/// oneDNN's status as text.
const char *qdnn_internal_status_text(dnnl_status_t status);

/// The one engine of the process, or NULL with an error text.
dnnl_engine_t qdnn_internal_shared_engine(failure failure);

/// True when all `count` sizes are positive; otherwise reports what `operation` is.
bool qdnn_internal_require_positive(const char *operation, const ptrdiff_t *sizes, int count,
                                    failure failure);

/// Builds the primitive of an operation descriptor and packs its constants.
/// `second_operand` tells that DNNL_ARG_WEIGHTS comes with every execution.
qdnn_primitive *qdnn_internal_build_primitive(const char *operation,
                                              const_dnnl_op_desc_t descriptor,
                                              const qdnn_post_op *post_ops, ptrdiff_t post_op_count,
                                              bool second_operand, const constant_source *constants,
                                              int constant_count, failure failure);

/// The same, with sums multiplied by the scales of `numbers`.
qdnn_primitive *qdnn_internal_build_scaled(const char *operation, const_dnnl_op_desc_t descriptor,
                                           const numbers *numbers, const qdnn_post_op *post_ops,
                                           ptrdiff_t post_op_count, bool second_operand,
                                           const constant_source *constants, int constant_count,
                                           failure failure);

/// oneDNN's algorithm of a function; false for `sum`, which is none, and for numbers outside of the
/// enumeration.
bool qdnn_internal_eltwise_algorithm(qdnn_function function, dnnl_alg_kind_t *algorithm);

/// Describes dense row-major memory of `rank` axes.
dnnl_status_t qdnn_internal_describe_dense(dnnl_memory_desc_t *descriptor, int rank,
                                           const dnnl_dim_t *sizes);

#endif
