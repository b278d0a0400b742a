// The wall between Swift and the FlatBuffers C++ code generated from Schemas/dlc.fbs.
//
// No C++ exception crosses it and no function aborts on bad input: a builder that runs out of
// memory or past its size limit fails for good (every later call returns 0), and readers hand
// out tables only of payloads that passed FlatBuffers' verifier.
//
// "Payload" here means the FlatBuffer alone, without the eight bytes in front of it.

#ifndef CDLCSCHEMA_H
#define CDLCSCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__clang__) || defined(__GNUC__)
#define DLC_CHECKED __attribute__((warn_unused_result))
#else
#define DLC_CHECKED
#endif

// ---- values that both directions share ----

/// UTF-8 text of `count` bytes; not to be used after its buffer is gone. `bytes` is never null.
typedef struct {
  const char *_Nonnull bytes;
  size_t count;
} DLCText;

/// One scale and offset: real = (stored + offset) * scale.
typedef struct {
  uint32_t bitwidth;
  float min;
  float max;
  float scale;
  int32_t offset;
  bool symmetric;
} DLCFixedPoint;

/// Byte range of one tensor; `offset` counts from the payload's first byte (NETP) or, where
/// `external` is set, from the first byte of model.params.bin.
typedef struct {
  DLCText name;
  bool external;
  uint64_t offset;
  uint64_t count;
} DLCTensorBytes;

// ---- writing the NETD payload ----

/// Position of something already in the builder; 0 means absent (or that the builder failed).
typedef uint32_t DLCOffset;

typedef struct DLCBuilder DLCBuilder;

/// Null when memory is out.
DLCBuilder *_Nullable dlc_builder_create(void) DLC_CHECKED;
void dlc_builder_destroy(DLCBuilder *_Nullable builder);
/// True once a call ran out of memory or passed the size limit (1 GiB).
bool dlc_builder_failed(const DLCBuilder *_Nonnull builder);

DLCOffset dlc_builder_string(DLCBuilder *_Nonnull builder, const char *_Nullable bytes,
                             size_t count) DLC_CHECKED;
/// A vector of strings, tables or tensors; `offsets` may be null when `count` is 0.
DLCOffset dlc_builder_offsets(DLCBuilder *_Nonnull builder, const DLCOffset *_Nullable offsets,
                              size_t count) DLC_CHECKED;
DLCOffset dlc_builder_ints(DLCBuilder *_Nonnull builder, const int32_t *_Nullable values,
                           size_t count) DLC_CHECKED;

/// A record without scales (kind NoEncoding).
DLCOffset dlc_builder_no_quantization(DLCBuilder *_Nonnull builder) DLC_CHECKED;
DLCOffset dlc_builder_per_tensor(DLCBuilder *_Nonnull builder, int32_t kind, bool overridden,
                                 DLCFixedPoint value) DLC_CHECKED;
DLCOffset dlc_builder_per_axis(DLCBuilder *_Nonnull builder, int32_t kind, bool overridden,
                               int32_t axis, const DLCFixedPoint *_Nullable channels,
                               size_t count) DLC_CHECKED;

/// A range of model.params.bin.
typedef struct {
  uint64_t offset;
  uint64_t count;
} DLCRange;

/// A grid a block; the numbers of the grids lie in the ranges.
typedef struct {
  int32_t axis;
  int32_t block_axis;
  uint32_t block_size;
  uint32_t bitwidth;
  bool symmetric;
  DLCRange scales;
  DLCRange offsets;
} DLCBlockFields;

DLCOffset dlc_builder_block(DLCBuilder *_Nonnull builder, bool overridden,
                            DLCBlockFields fields) DLC_CHECKED;

/// A scale a channel, a factor a block.
typedef struct {
  int32_t axis;
  int32_t block_axis;
  uint32_t block_size;
  uint32_t blocks_per_axis;
  uint8_t block_scale_bitwidth;
  size_t channel_count;
  size_t factor_count;
} DLCExpansionFields;

/// `channels` and `factors` have the counts of `fields`.
DLCOffset dlc_builder_expansion(DLCBuilder *_Nonnull builder, bool overridden,
                                DLCExpansionFields fields, const DLCFixedPoint *_Nullable channels,
                                const uint16_t *_Nullable factors) DLC_CHECKED;

typedef struct {
  uint32_t index;
  DLCOffset name;
  int32_t role;
  DLCOffset dims;
  int32_t layout;
  DLCOffset quantization;
  int32_t type;
  uint8_t flags;
} DLCTensorFields;

DLCOffset dlc_builder_tensor(DLCBuilder *_Nonnull builder, DLCTensorFields fields) DLC_CHECKED;

/// A scalar attribute. `text` is 0 but for the text kinds.
DLCOffset dlc_builder_scalar_attribute(DLCBuilder *_Nonnull builder, DLCOffset name, int32_t type,
                                       int64_t integer, float real, DLCOffset text) DLC_CHECKED;
DLCOffset dlc_builder_tensor_attribute(DLCBuilder *_Nonnull builder, DLCOffset name,
                                       DLCOffset tensor) DLC_CHECKED;
DLCOffset dlc_builder_node(DLCBuilder *_Nonnull builder, DLCOffset name, DLCOffset type,
                           DLCOffset inputs, DLCOffset outputs, DLCOffset attributes) DLC_CHECKED;
DLCOffset dlc_builder_graph(DLCBuilder *_Nonnull builder, DLCOffset name, DLCOffset nodes,
                            DLCOffset tensors) DLC_CHECKED;

/// Ends the payload with a root over `graphs` (a vector). Null when the builder failed; the bytes
/// live as long as the builder, which takes nothing more.
const uint8_t *_Nullable dlc_builder_finish(DLCBuilder *_Nonnull builder, DLCOffset graphs,
                                            size_t *_Nonnull count) DLC_CHECKED;

// ---- reading the NETD payload ----

typedef struct DLCModel DLCModel;
typedef struct DLCGraph DLCGraph;
typedef struct DLCNode DLCNode;
typedef struct DLCAttribute DLCAttribute;
typedef struct DLCTensor DLCTensor;
typedef struct DLCQuantization DLCQuantization;

/// Runs the verifier over the whole payload; null if it fails. `payload` must be aligned to 8.
const DLCModel *_Nullable dlc_model_open(const uint8_t *_Nonnull payload,
                                         size_t count) DLC_CHECKED;

/// Indices in all functions below must be less than the matching count.
size_t dlc_model_graph_count(const DLCModel *_Nonnull model);
const DLCGraph *_Nonnull dlc_model_graph(const DLCModel *_Nonnull model, size_t index);

DLCText dlc_graph_name(const DLCGraph *_Nonnull graph);
size_t dlc_graph_node_count(const DLCGraph *_Nonnull graph);
const DLCNode *_Nonnull dlc_graph_node(const DLCGraph *_Nonnull graph, size_t index);
size_t dlc_graph_tensor_count(const DLCGraph *_Nonnull graph);
const DLCTensor *_Nonnull dlc_graph_tensor(const DLCGraph *_Nonnull graph, size_t index);

DLCText dlc_node_name(const DLCNode *_Nonnull node);
DLCText dlc_node_type(const DLCNode *_Nonnull node);
size_t dlc_node_input_count(const DLCNode *_Nonnull node);
DLCText dlc_node_input(const DLCNode *_Nonnull node, size_t index);
size_t dlc_node_output_count(const DLCNode *_Nonnull node);
DLCText dlc_node_output(const DLCNode *_Nonnull node, size_t index);
size_t dlc_node_attribute_count(const DLCNode *_Nonnull node);
const DLCAttribute *_Nonnull dlc_node_attribute(const DLCNode *_Nonnull node, size_t index);

typedef struct {
  DLCText name;
  int32_t kind;
  /// Set where the attribute has a scalar; the fields after it are 0 or empty otherwise.
  bool has_value;
  int32_t value_type;
  int64_t integer;
  float real;
  DLCText text;
  const DLCTensor *_Nullable tensor;
} DLCAttributeFields;

DLCAttributeFields dlc_attribute_fields(const DLCAttribute *_Nonnull attribute);

typedef struct {
  uint32_t index;
  DLCText name;
  int32_t role;
  size_t rank;
  int32_t layout;
  int32_t type;
  int32_t requested_type;
  uint8_t flags;
  const DLCQuantization *_Nullable quantization;
} DLCTensorView;

DLCTensorView dlc_tensor_view(const DLCTensor *_Nonnull tensor);
int32_t dlc_tensor_dim(const DLCTensor *_Nonnull tensor, size_t index);
typedef struct {
  int32_t kind;
  bool overridden;
  bool has_per_tensor;
  DLCFixedPoint per_tensor;
  bool has_per_axis;
  int32_t axis;
  size_t channel_count;
  /// Set where the record has both ranges and they are not negative.
  bool has_block;
  DLCBlockFields block;
  bool has_expansion;
  DLCExpansionFields expansion;
} DLCQuantizationView;

DLCQuantizationView dlc_quantization_view(const DLCQuantization *_Nonnull quantization);
/// Copies all `channel_count` records of a per-axis record into `channels`.
void dlc_quantization_channels(const DLCQuantization *_Nonnull quantization,
                               DLCFixedPoint *_Nonnull channels);
/// Copies the `expansion.channel_count` records and `expansion.factor_count` factors.
void dlc_quantization_expansion(const DLCQuantization *_Nonnull quantization,
                                DLCFixedPoint *_Nonnull channels, uint16_t *_Nonnull factors);

// ---- reading the NETP payload ----

typedef struct DLCParameters DLCParameters;
typedef struct DLCGraphParameters DLCGraphParameters;

/// Runs the verifier over the payload's structure (tensor bytes are not touched); null if it
/// fails. `payload` may have any alignment.
const DLCParameters *_Nullable dlc_parameters_open(const uint8_t *_Nonnull payload,
                                                   size_t count) DLC_CHECKED;
size_t dlc_parameters_graph_count(const DLCParameters *_Nonnull parameters);
const DLCGraphParameters *_Nonnull dlc_parameters_graph(const DLCParameters *_Nonnull parameters,
                                                        size_t index);
DLCText dlc_graph_parameters_name(const DLCGraphParameters *_Nonnull graph);
size_t dlc_graph_parameters_tensor_count(const DLCGraphParameters *_Nonnull graph);
size_t dlc_graph_parameters_node_count(const DLCGraphParameters *_Nonnull graph);
size_t dlc_graph_parameters_node_tensor_count(const DLCGraphParameters *_Nonnull graph,
                                              size_t node);
/// False where the range is negative. `payload` is the one that was opened.
bool dlc_graph_parameters_tensor(const DLCGraphParameters *_Nonnull graph, size_t index,
                                 const uint8_t *_Nonnull payload,
                                 DLCTensorBytes *_Nonnull result) DLC_CHECKED;
bool dlc_graph_parameters_node_tensor(const DLCGraphParameters *_Nonnull graph, size_t node,
                                      size_t index, const uint8_t *_Nonnull payload,
                                      DLCTensorBytes *_Nonnull result) DLC_CHECKED;

#ifdef __cplusplus
}
#endif

#endif
