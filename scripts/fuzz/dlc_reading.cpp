// libFuzzer target of the C++ wall (Sources/CDLCSchema): opens a payload as model and as parameters and
// reads all there is through the C interface, as Sources/Container does. scripts/fuzz/run.sh builds it.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "CDLCSchema.h"

static volatile size_t sum;

static void use(DLCText text) {
  for (size_t i = 0; i < text.count; i++) sum = sum + static_cast<unsigned char>(text.bytes[i]);
}

static void use(const DLCQuantization *quantization) {
  if (!quantization) return;
  DLCQuantizationView view = dlc_quantization_view(quantization);
  std::vector<DLCFixedPoint> channels(view.channel_count);
  dlc_quantization_channels(quantization, channels.data());
  if (view.has_expansion) {
    std::vector<DLCFixedPoint> scales(view.expansion.channel_count);
    std::vector<uint16_t> factors(view.expansion.factor_count);
    dlc_quantization_expansion(quantization, scales.data(), factors.data());
  }
}

static void use(const DLCTensor *tensor) {
  DLCTensorView view = dlc_tensor_view(tensor);
  use(view.name);
  for (size_t i = 0; i < view.rank; i++) sum = sum + static_cast<size_t>(dlc_tensor_dim(tensor, i));
  use(view.quantization);
}

static void readModel(const uint8_t *data, size_t size) {
  const DLCModel *model = dlc_model_open(data, size);
  if (!model) return;
  for (size_t g = 0; g < dlc_model_graph_count(model); g++) {
    const DLCGraph *graph = dlc_model_graph(model, g);
    use(dlc_graph_name(graph));
    for (size_t i = 0; i < dlc_graph_tensor_count(graph); i++) use(dlc_graph_tensor(graph, i));
    for (size_t i = 0; i < dlc_graph_node_count(graph); i++) {
      const DLCNode *node = dlc_graph_node(graph, i);
      use(dlc_node_name(node));
      use(dlc_node_type(node));
      for (size_t k = 0; k < dlc_node_input_count(node); k++) use(dlc_node_input(node, k));
      for (size_t k = 0; k < dlc_node_output_count(node); k++) use(dlc_node_output(node, k));
      for (size_t k = 0; k < dlc_node_attribute_count(node); k++) {
        DLCAttributeFields fields = dlc_attribute_fields(dlc_node_attribute(node, k));
        use(fields.name);
        use(fields.text);
        if (fields.tensor) use(fields.tensor);
      }
    }
  }
}

static void use(const DLCTensorBytes &bytes, const uint8_t *data, size_t size) {
  use(bytes.name);
  if (bytes.external) return;
  if (bytes.offset > size || bytes.count > size - bytes.offset) abort();
  for (size_t i = 0; i < bytes.count; i += 97) sum = sum + data[bytes.offset + i];
}

static void readParameters(const uint8_t *data, size_t size) {
  const DLCParameters *parameters = dlc_parameters_open(data, size);
  if (!parameters) return;
  for (size_t g = 0; g < dlc_parameters_graph_count(parameters); g++) {
    const DLCGraphParameters *graph = dlc_parameters_graph(parameters, g);
    use(dlc_graph_parameters_name(graph));
    DLCTensorBytes bytes;
    for (size_t i = 0; i < dlc_graph_parameters_tensor_count(graph); i++)
      if (dlc_graph_parameters_tensor(graph, i, data, &bytes)) use(bytes, data, size);
    for (size_t n = 0; n < dlc_graph_parameters_node_count(graph); n++)
      for (size_t i = 0; i < dlc_graph_parameters_node_tensor_count(graph, n); i++)
        if (dlc_graph_parameters_node_tensor(graph, n, i, data, &bytes)) use(bytes, data, size);
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // The readers ask for 8 bytes of alignment; an exact allocation lets overruns be seen.
  void *copy = nullptr;
  if (posix_memalign(&copy, 8, size ? size : 1) != 0) return 0;
  if (size) memcpy(copy, data, size);
  readModel(static_cast<const uint8_t *>(copy), size);
  readParameters(static_cast<const uint8_t *>(copy), size);
  free(copy);
  return 0;
}
