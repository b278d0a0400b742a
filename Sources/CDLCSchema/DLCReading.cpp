// Reading: the verifier and the accessors of CDLCSchema.h.

#include "CDLCSchema.h"
#include "dlc_generated.h"

namespace {

// A table is reached through an offset of four bytes. An honest payload stays below this bound,
// one that refers to whole trees over and over is cut off.
flatbuffers::Verifier makeVerifier(const uint8_t *payload, size_t count) {
  flatbuffers::Verifier::Options options;
  options.max_depth = 16;
  options.max_tables = static_cast<flatbuffers::uoffset_t>(count / 4 + 16);
  return flatbuffers::Verifier(payload, count, options);
}

template <typename Root>
const Root *open(const uint8_t *payload, size_t count, const char *identifier) {
  if (count >= FLATBUFFERS_MAX_BUFFER_SIZE) return nullptr;
  try {
    auto verifier = makeVerifier(payload, count);
    if (!verifier.VerifyBuffer<Root>(identifier)) return nullptr;
    return flatbuffers::GetRoot<Root>(payload);
  } catch (...) {
    return nullptr;
  }
}

DLCText text(const flatbuffers::String *string) {
  if (!string) return DLCText{"", 0};
  return DLCText{string->c_str(), string->size()};
}

template <typename Element>
size_t size(const flatbuffers::Vector<Element> *vector) {
  return vector ? vector->size() : 0;
}

template <typename To, typename From>
const To *as(const From *from) {
  return reinterpret_cast<const To *>(from);
}

const dlc::Model *in(const DLCModel *p) { return as<dlc::Model>(p); }
const dlc::Graph *in(const DLCGraph *p) { return as<dlc::Graph>(p); }
const dlc::Node *in(const DLCNode *p) { return as<dlc::Node>(p); }
const dlc::Attribute *in(const DLCAttribute *p) { return as<dlc::Attribute>(p); }
const dlc::TensorInfo *in(const DLCTensor *p) { return as<dlc::TensorInfo>(p); }
const dlc::Quantization *in(const DLCQuantization *p) { return as<dlc::Quantization>(p); }
const dlc::ModelParameters *in(const DLCParameters *p) { return as<dlc::ModelParameters>(p); }
const dlc::GraphParameters *in(const DLCGraphParameters *p) {
  return as<dlc::GraphParameters>(p);
}

// For a vector index a caller has checked against the count.
template <typename Vector>
auto element(const Vector *vector, size_t index) {
  return vector->Get(static_cast<flatbuffers::uoffset_t>(index));
}

DLCFixedPoint fixedPoint(const dlc::FixedPoint *value) {
  return DLCFixedPoint{value->bitwidth(), value->min(),    value->max(),
                       value->scale(),    value->offset(), value->symmetric()};
}

bool range(const dlc::FileRange *value, DLCRange *result) {
  if (!value || value->offset() < 0 || value->size() < 0) return false;
  result->offset = static_cast<uint64_t>(value->offset());
  result->count = static_cast<uint64_t>(value->size());
  return true;
}

bool tensorBytes(const dlc::TensorData *data, const uint8_t *payload, DLCTensorBytes *result) {
  result->name = text(data->name());
  result->external = false;
  result->offset = 0;
  result->count = 0;
  if (auto range = data->range()) {
    if (range->offset() < 0 || range->size() < 0) return false;
    result->external = true;
    result->offset = static_cast<uint64_t>(range->offset());
    result->count = static_cast<uint64_t>(range->size());
  } else if (auto bytes = data->bytes()) {
    result->offset = static_cast<uint64_t>(bytes->Data() - payload);
    result->count = bytes->size();
  }
  return true;
}

}  // namespace

extern "C" {

const DLCModel *dlc_model_open(const uint8_t *payload, size_t count) {
  return as<DLCModel>(open<dlc::Model>(payload, count, dlc::ModelIdentifier()));
}

size_t dlc_model_graph_count(const DLCModel *model) { return size(in(model)->graphs()); }

const DLCGraph *dlc_model_graph(const DLCModel *model, size_t index) {
  return as<DLCGraph>(element(in(model)->graphs(), index));
}

DLCText dlc_graph_name(const DLCGraph *graph) { return text(in(graph)->name()); }
size_t dlc_graph_node_count(const DLCGraph *graph) { return size(in(graph)->nodes()); }
size_t dlc_graph_tensor_count(const DLCGraph *graph) { return size(in(graph)->tensors()); }

const DLCNode *dlc_graph_node(const DLCGraph *graph, size_t index) {
  return as<DLCNode>(element(in(graph)->nodes(), index));
}

const DLCTensor *dlc_graph_tensor(const DLCGraph *graph, size_t index) {
  return as<DLCTensor>(element(in(graph)->tensors(), index));
}

DLCText dlc_node_name(const DLCNode *node) { return text(in(node)->name()); }
DLCText dlc_node_type(const DLCNode *node) { return text(in(node)->type()); }
size_t dlc_node_input_count(const DLCNode *node) { return size(in(node)->inputs()); }
size_t dlc_node_output_count(const DLCNode *node) { return size(in(node)->outputs()); }
size_t dlc_node_attribute_count(const DLCNode *node) { return size(in(node)->attributes()); }

DLCText dlc_node_input(const DLCNode *node, size_t index) {
  return text(element(in(node)->inputs(), index));
}

DLCText dlc_node_output(const DLCNode *node, size_t index) {
  return text(element(in(node)->outputs(), index));
}

const DLCAttribute *dlc_node_attribute(const DLCNode *node, size_t index) {
  return as<DLCAttribute>(element(in(node)->attributes(), index));
}

DLCAttributeFields dlc_attribute_fields(const DLCAttribute *attribute) {
  auto table = in(attribute);
  DLCAttributeFields fields{};
  fields.name = text(table->name());
  fields.kind = table->kind();
  fields.text = text(nullptr);
  if (auto value = table->value()) {
    fields.has_value = true;
    fields.value_type = value->kind();
    fields.integer = value->integer();
    fields.real = value->real();
    fields.text = text(value->text());
  }
  fields.tensor = as<DLCTensor>(table->tensor());
  return fields;
}

DLCTensorView dlc_tensor_view(const DLCTensor *tensor) {
  auto table = in(tensor);
  return DLCTensorView{table->index(),
                       text(table->name()),
                       table->role(),
                       size(table->dims()),
                       table->layout(),
                       table->type(),
                       table->requested_type(),
                       table->flags(),
                       as<DLCQuantization>(table->quantization())};
}

int32_t dlc_tensor_dim(const DLCTensor *tensor, size_t index) {
  return element(in(tensor)->dims(), index);
}

DLCQuantizationView dlc_quantization_view(const DLCQuantization *quantization) {
  auto table = in(quantization);
  DLCQuantizationView view{};
  view.kind = table->kind();
  view.overridden = table->overridden();
  if (auto value = table->per_tensor()) {
    view.has_per_tensor = true;
    view.per_tensor = fixedPoint(value);
  }
  if (auto value = table->per_axis()) {
    view.has_per_axis = true;
    view.axis = value->axis();
    view.channel_count = size(value->channels());
  }
  if (auto value = table->block()) {
    view.has_block = range(value->scales(), &view.block.scales) &&
                     range(value->offsets(), &view.block.offsets);
    view.block.axis = value->axis();
    view.block.block_axis = value->block_axis();
    view.block.block_size = value->block_size();
    view.block.bitwidth = value->bitwidth();
    view.block.symmetric = value->symmetric();
  }
  if (auto value = table->expansion()) {
    view.has_expansion = true;
    view.expansion.axis = value->axis();
    view.expansion.block_axis = value->block_axis();
    view.expansion.block_size = value->block_size();
    view.expansion.blocks_per_axis = value->blocks_per_axis();
    view.expansion.block_scale_bitwidth = value->block_scale_bitwidth();
    view.expansion.channel_count = size(value->channels());
    view.expansion.factor_count = size(value->factors());
  }
  return view;
}

void dlc_quantization_channels(const DLCQuantization *quantization, DLCFixedPoint *channels) {
  auto axis = in(quantization)->per_axis();
  if (!axis || !axis->channels()) return;
  for (auto channel : *axis->channels()) *channels++ = fixedPoint(channel);
}

void dlc_quantization_expansion(const DLCQuantization *quantization, DLCFixedPoint *channels,
                                uint16_t *factors) {
  auto table = in(quantization)->expansion();
  if (!table) return;
  if (table->channels()) {
    for (auto channel : *table->channels()) *channels++ = fixedPoint(channel);
  }
  if (table->factors()) {
    for (auto factor : *table->factors()) *factors++ = factor;
  }
}

const DLCParameters *dlc_parameters_open(const uint8_t *payload, size_t count) {
  return as<DLCParameters>(open<dlc::ModelParameters>(payload, count, "NETP"));
}

size_t dlc_parameters_graph_count(const DLCParameters *parameters) {
  return size(in(parameters)->graphs());
}

const DLCGraphParameters *dlc_parameters_graph(const DLCParameters *parameters, size_t index) {
  return as<DLCGraphParameters>(element(in(parameters)->graphs(), index));
}

DLCText dlc_graph_parameters_name(const DLCGraphParameters *graph) {
  return text(in(graph)->name());
}

size_t dlc_graph_parameters_tensor_count(const DLCGraphParameters *graph) {
  return size(in(graph)->tensors());
}

size_t dlc_graph_parameters_node_count(const DLCGraphParameters *graph) {
  return size(in(graph)->nodes());
}

size_t dlc_graph_parameters_node_tensor_count(const DLCGraphParameters *graph, size_t node) {
  return size(element(in(graph)->nodes(), node)->tensors());
}

bool dlc_graph_parameters_tensor(const DLCGraphParameters *graph, size_t index,
                                 const uint8_t *payload, DLCTensorBytes *result) {
  return tensorBytes(element(in(graph)->tensors(), index), payload, result);
}

bool dlc_graph_parameters_node_tensor(const DLCGraphParameters *graph, size_t node, size_t index,
                                      const uint8_t *payload, DLCTensorBytes *result) {
  return tensorBytes(element(element(in(graph)->nodes(), node)->tensors(), index), payload, result);
}

}  // extern "C"
