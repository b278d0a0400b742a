internal import COnnxProto
import IR

/// Turns an exported model into the bytes of a .onnx file, by the protobuf library.
struct ModelPacker {
  private typealias List<Message> = UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?

  let model: ONNXExportResult
  /// File name that large constants are referred to by; nil: all are in the model.
  let external: String?
  private let arena = MessageArena()

  init(model: ONNXExportResult, external: String?) {
    self.model = model
    self.external = external
  }

  /// Bytes of initializers below which they always stay in the model.
  static let smallInitializer = 1024
  /// Where constants begin in the file of external data.
  static let externalAlignment = 64

  /// The places of the initializers that go to the external file, in their order.
  static func externalPlaces(_ initializers: [ExportedInitializer]) -> [String: Int] {
    var offset = 0
    var places: [String: Int] = [:]
    for item in initializers where item.bytes.count >= smallInitializer {
      offset = (offset + externalAlignment - 1) / externalAlignment * externalAlignment
      places[item.name] = offset
      offset += item.bytes.count
    }
    return places
  }

  /// The packed model. Throws where it passes protobuf's limit of 2 GiB.
  func pack() throws(Diagnostic) -> Bytes {
    var message = Onnx__ModelProto()
    onnx__model_proto__init(&message)
    message.has_ir_version = 1
    message.ir_version = Int64(model.irVersion)
    message.producer_name = arena.text("qtools")
    message.graph = arena.make(graph())
    var opset = Onnx__OperatorSetIdProto()
    onnx__operator_set_id_proto__init(&opset)
    opset.domain = arena.text("")
    opset.has_version = 1
    opset.version = Int64(model.opset)
    message.opset_import = arena.array([arena.make(opset)])
    message.n_opset_import = 1
    let root = arena.make(message)
    return try withExtendedLifetime(arena) { () throws(Diagnostic) in
      let size = onnx__model_proto__get_packed_size(root)
      guard size < Int(Int32.max) else {
        throw Diagnostic(
          "onnx-too-large", "the model takes \(size) bytes, more than the 2 GiB that protobuf allows",
          kind: .internal)
      }
      return Bytes(count: size) { target in
        if let base = target.bindMemory(to: UInt8.self).baseAddress {
          _ = onnx__model_proto__pack(root, base)
        }
      }
    }
  }

  private func graph() -> Onnx__GraphProto {
    var graph = Onnx__GraphProto()
    onnx__graph_proto__init(&graph)
    graph.name = arena.text(model.name.isEmpty ? "graph" : model.name)
    let nodes = model.nodes.map { arena.make(node($0)) as UnsafeMutablePointer? }
    graph.node = arena.array(nodes)
    graph.n_node = nodes.count
    let places = external == nil ? [:] : ModelPacker.externalPlaces(model.initializers)
    let initializers = model.initializers.map {
      arena.make(tensor($0, place: places[$0.name])) as UnsafeMutablePointer?
    }
    graph.initializer = arena.array(initializers)
    graph.n_initializer = initializers.count
    (graph.input, graph.n_input) = values(model.inputs)
    (graph.output, graph.n_output) = values(model.outputs)
    (graph.value_info, graph.n_value_info) = values(model.values)
    return graph
  }

  private func values(_ list: [ExportedValue]) -> (List<Onnx__ValueInfoProto>, Int) {
    (arena.array(list.map { arena.make(value($0)) as UnsafeMutablePointer? }), list.count)
  }

  private func node(_ node: ExportedNode) -> Onnx__NodeProto {
    var message = Onnx__NodeProto()
    onnx__node_proto__init(&message)
    message.name = arena.text(node.name)
    message.op_type = arena.text(node.opType)
    message.input = arena.texts(node.inputs)
    message.n_input = node.inputs.count
    message.output = arena.texts(node.outputs)
    message.n_output = node.outputs.count
    let attributes = node.attributes.map {
      arena.make(attribute($0.name, $0.value)) as UnsafeMutablePointer?
    }
    message.attribute = arena.array(attributes)
    message.n_attribute = attributes.count
    return message
  }

  private func attribute(_ name: String, _ value: ONNXAttribute) -> Onnx__AttributeProto {
    var message = Onnx__AttributeProto()
    onnx__attribute_proto__init(&message)
    message.name = arena.text(name)
    message.has_type = 1
    switch value {
    case .int(let value):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
      message.has_i = 1
      message.i = Int64(value)
    case .float(let value):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT
      message.has_f = 1
      message.f = value
    case .ints(let values):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
      message.ints = arena.array(values.map { Int64($0) })
      message.n_ints = values.count
    case .floats(let values):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS
      message.floats = arena.array(values)
      message.n_floats = values.count
    case .strings(let texts):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS
      message.strings = arena.array(
        texts.map { text in
          let bytes = Array(text.utf8)
          return ProtobufCBinaryData(len: bytes.count, data: arena.array(bytes))
        })
      message.n_strings = texts.count
    case .string(let text):
      message.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING
      let bytes = Array(text.utf8)
      message.has_s = 1
      message.s = ProtobufCBinaryData(len: bytes.count, data: arena.array(bytes))
    }
    return message
  }

  private func tensor(_ item: ExportedInitializer, place: Int?) -> Onnx__TensorProto {
    var message = Onnx__TensorProto()
    onnx__tensor_proto__init(&message)
    message.name = arena.text(item.name)
    message.dims = arena.array(item.shape.map { Int64($0) })
    message.n_dims = item.shape.count
    message.has_data_type = 1
    message.data_type = item.type
    if let place, let external {
      let entries = [
        ("location", external), ("offset", "\(place)"), ("length", "\(item.bytes.count)"),
      ]
      let pairs = entries.map { key, value in
        var entry = Onnx__StringStringEntryProto()
        onnx__string_string_entry_proto__init(&entry)
        entry.key = arena.text(key)
        entry.value = arena.text(value)
        return arena.make(entry) as UnsafeMutablePointer?
      }
      message.external_data = arena.array(pairs)
      message.n_external_data = pairs.count
      message.has_data_location = 1
      message.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL
      return message
    }
    // The library only reads the bytes; they live as long as the model that is packed.
    message.has_raw_data = 1
    message.raw_data = ProtobufCBinaryData(
      len: item.bytes.count,
      data: UnsafeMutablePointer(mutating: item.bytes.base.assumingMemoryBound(to: UInt8.self)))
    return message
  }

  private func value(_ value: ExportedValue) -> Onnx__ValueInfoProto {
    let dimensions = value.type.shape.map { size in
      var dimension = Onnx__TensorShapeProto__Dimension()
      onnx__tensor_shape_proto__dimension__init(&dimension)
      dimension.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
      dimension.dim_value = Int64(size)
      return arena.make(dimension) as UnsafeMutablePointer?
    }
    var shape = Onnx__TensorShapeProto()
    onnx__tensor_shape_proto__init(&shape)
    shape.dim = arena.array(dimensions)
    shape.n_dim = dimensions.count
    var tensor = Onnx__TypeProto__Tensor()
    onnx__type_proto__tensor__init(&tensor)
    tensor.has_elem_type = 1
    tensor.elem_type = value.type.element.onnxCode
    tensor.shape = arena.make(shape)
    var type = Onnx__TypeProto()
    onnx__type_proto__init(&type)
    type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
    type.tensor_type = arena.make(tensor)
    var message = Onnx__ValueInfoProto()
    onnx__value_info_proto__init(&message)
    message.name = arena.text(value.name)
    message.type = arena.make(type)
    return message
  }
}
