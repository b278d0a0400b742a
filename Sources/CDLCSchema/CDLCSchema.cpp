// Writing: the builder half of CDLCSchema.h.

#include "CDLCSchema.h"

#include <cmath>
#include <new>
#include <vector>

#include "dlc_generated.h"

using flatbuffers::Offset;

namespace {

// Twice this is FlatBuffers' own limit, at which it aborts.
constexpr size_t kBuilderLimit = size_t{1} << 30;

template <typename Table>
Offset<Table> at(DLCOffset offset) {
  return Offset<Table>(offset);
}

template <typename Element>
Offset<flatbuffers::Vector<Offset<Element>>> tables(DLCOffset offset) {
  return Offset<flatbuffers::Vector<Offset<Element>>>(offset);
}

}  // namespace

struct DLCBuilder {
  flatbuffers::FlatBufferBuilder flat{64 * 1024};
  bool failed = false;
  bool finished = false;

  // Runs `body` unless the builder has failed or `extra` more bytes would pass the limit.
  template <typename Body>
  DLCOffset add(size_t extra, Body body) {
    if (failed || finished) return 0;
    if (extra > kBuilderLimit || flat.GetSize() > kBuilderLimit - extra) {
      failed = true;
      return 0;
    }
    try {
      return body().o;
    } catch (...) {
      failed = true;
      return 0;
    }
  }
};

namespace {

// Above what any table of the schema takes together with its vtable.
constexpr size_t kTable = 128;

// Bytes of a vector with `count` elements, or more than the limit.
size_t vectorBytes(size_t count, size_t element) {
  return count > kBuilderLimit / element ? kBuilderLimit + 1 : count * element + 16;
}

Offset<dlc::FixedPoint> fixedPoint(DLCBuilder *builder, const DLCFixedPoint &value) {
  return dlc::CreateFixedPoint(builder->flat, value.bitwidth, value.min, value.max, value.scale,
                               value.offset, value.symmetric);
}

}  // namespace

extern "C" {

DLCBuilder *dlc_builder_create(void) {
  try {
    return new DLCBuilder();
  } catch (...) {
    return nullptr;
  }
}

void dlc_builder_destroy(DLCBuilder *builder) { delete builder; }

bool dlc_builder_failed(const DLCBuilder *builder) { return builder->failed; }

DLCOffset dlc_builder_string(DLCBuilder *builder, const char *bytes, size_t count) {
  return builder->add(vectorBytes(count, 1),
                      [&] { return builder->flat.CreateString(bytes ? bytes : "", count); });
}

DLCOffset dlc_builder_offsets(DLCBuilder *builder, const DLCOffset *offsets, size_t count) {
  return builder->add(vectorBytes(count, sizeof(DLCOffset)), [&] {
    std::vector<Offset<void>> elements;
    elements.reserve(count);
    for (size_t i = 0; i < count; i++) elements.emplace_back(offsets[i]);
    return builder->flat.CreateVector(elements);
  });
}

DLCOffset dlc_builder_ints(DLCBuilder *builder, const int32_t *values, size_t count) {
  static const int32_t none = 0;
  return builder->add(vectorBytes(count, sizeof(int32_t)), [&] {
    return builder->flat.CreateVector(values ? values : &none, values ? count : 0);
  });
}

DLCOffset dlc_builder_no_quantization(DLCBuilder *builder) {
  return builder->add(kTable, [&] {
    return dlc::CreateQuantization(builder->flat, dlc::EncodingKind_NoEncoding);
  });
}

DLCOffset dlc_builder_per_tensor(DLCBuilder *builder, int32_t kind, bool overridden,
                                 DLCFixedPoint value) {
  return builder->add(2 * kTable, [&] {
    auto record = fixedPoint(builder, value);
    return dlc::CreateQuantization(builder->flat, static_cast<dlc::EncodingKind>(kind), overridden,
                                   record);
  });
}

DLCOffset dlc_builder_per_axis(DLCBuilder *builder, int32_t kind, bool overridden, int32_t axis,
                               const DLCFixedPoint *channels, size_t count) {
  return builder->add(vectorBytes(count, 64) + 2 * kTable, [&] {
    std::vector<Offset<dlc::FixedPoint>> records;
    records.reserve(count);
    for (size_t i = 0; i < count; i++) records.push_back(fixedPoint(builder, channels[i]));
    auto vector = builder->flat.CreateVector(records);
    auto table = dlc::CreateAxisFixedPoint(builder->flat, axis, vector);
    return dlc::CreateQuantization(builder->flat, static_cast<dlc::EncodingKind>(kind), overridden,
                                   0, table);
  });
}

DLCOffset dlc_builder_block(DLCBuilder *builder, bool overridden, DLCBlockFields fields) {
  return builder->add(4 * kTable, [&] {
    auto scales = dlc::CreateFileRange(builder->flat, static_cast<int64_t>(fields.scales.offset),
                                       static_cast<int64_t>(fields.scales.count));
    auto offsets = dlc::CreateFileRange(builder->flat, static_cast<int64_t>(fields.offsets.offset),
                                        static_cast<int64_t>(fields.offsets.count));
    auto table =
        dlc::CreateBlock(builder->flat, fields.axis, fields.block_axis, fields.block_size,
                         fields.bitwidth, fields.symmetric, false, scales, offsets);
    return dlc::CreateQuantization(builder->flat, dlc::EncodingKind_Block, overridden, 0, 0, table);
  });
}

DLCOffset dlc_builder_expansion(DLCBuilder *builder, bool overridden, DLCExpansionFields fields,
                                const DLCFixedPoint *channels, const uint16_t *factors) {
  return builder->add(
      vectorBytes(fields.channel_count, 64) + vectorBytes(fields.factor_count, 2) + 2 * kTable, [&] {
        static const uint16_t none = 0;
        std::vector<Offset<dlc::FixedPoint>> records;
        records.reserve(fields.channel_count);
        for (size_t i = 0; i < fields.channel_count; i++)
          records.push_back(fixedPoint(builder, channels[i]));
        auto list = builder->flat.CreateVector(records);
        auto numbers = builder->flat.CreateVector(factors ? factors : &none,
                                                  factors ? fields.factor_count : 0);
        auto table = dlc::CreateBlockwiseExpansion(
            builder->flat, fields.axis, list, fields.blocks_per_axis, fields.block_size,
            fields.block_scale_bitwidth, fields.block_axis, numbers);
        return dlc::CreateQuantization(builder->flat, dlc::EncodingKind_BlockwiseExpansion,
                                       overridden, 0, 0, 0, table);
      });
}

DLCOffset dlc_builder_tensor(DLCBuilder *builder, DLCTensorFields fields) {
  return builder->add(kTable, [&] {
    auto type = static_cast<dlc::DataType>(fields.type);
    return dlc::CreateTensorInfo(
        builder->flat, fields.index, at<flatbuffers::String>(fields.name),
        static_cast<dlc::TensorRole>(fields.role), at<flatbuffers::Vector<int32_t>>(fields.dims),
        fields.layout, at<dlc::Quantization>(fields.quantization), type, type, fields.flags);
  });
}

DLCOffset dlc_builder_scalar_attribute(DLCBuilder *builder, DLCOffset name, int32_t type,
                                       int64_t integer, float real, DLCOffset text) {
  return builder->add(2 * kTable, [&] {
    // Minus zero equals the default and would be left out.
    builder->flat.ForceDefaults(std::signbit(real));
    auto value = dlc::CreateScalarValue(builder->flat, static_cast<dlc::DataType>(type), integer,
                                        real, at<flatbuffers::String>(text));
    builder->flat.ForceDefaults(false);
    return dlc::CreateAttribute(builder->flat, at<flatbuffers::String>(name),
                                dlc::AttributeKind_Scalar, 0, value);
  });
}

DLCOffset dlc_builder_tensor_attribute(DLCBuilder *builder, DLCOffset name, DLCOffset tensor) {
  return builder->add(kTable, [&] {
    return dlc::CreateAttribute(builder->flat, at<flatbuffers::String>(name),
                                dlc::AttributeKind_Tensor, 0, 0, at<dlc::TensorInfo>(tensor));
  });
}

DLCOffset dlc_builder_node(DLCBuilder *builder, DLCOffset name, DLCOffset type, DLCOffset inputs,
                           DLCOffset outputs, DLCOffset attributes) {
  return builder->add(kTable, [&] {
    return dlc::CreateNode(builder->flat, at<flatbuffers::String>(name),
                           at<flatbuffers::String>(type), tables<flatbuffers::String>(inputs),
                           tables<flatbuffers::String>(outputs), tables<dlc::Attribute>(attributes));
  });
}

DLCOffset dlc_builder_graph(DLCBuilder *builder, DLCOffset name, DLCOffset nodes,
                            DLCOffset tensors) {
  return builder->add(kTable, [&] {
    return dlc::CreateGraph(builder->flat, at<flatbuffers::String>(name), tables<dlc::Node>(nodes),
                            tables<dlc::TensorInfo>(tensors));
  });
}

const uint8_t *dlc_builder_finish(DLCBuilder *builder, DLCOffset graphs, size_t *count) {
  auto root = builder->add(2 * kTable, [&] {
    auto model = dlc::CreateModel(builder->flat, tables<dlc::Graph>(graphs));
    dlc::FinishModelBuffer(builder->flat, model);
    return model;
  });
  if (root == 0) return nullptr;
  builder->finished = true;
  *count = builder->flat.GetSize();
  return builder->flat.GetBufferPointer();
}

}  // extern "C"
