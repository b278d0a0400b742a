internal import COnnxProto
import IR

/// Turns the protobuf library's structs into plain values.
enum ModelParser {
  /// Parses a mapped model.
  static func parse(_ file: MappedFile) throws(Diagnostic) -> ONNXModelProto {
    let source = UnsafeRawBufferPointer(start: file.base, count: file.count)
    let message = try WireScanner.withoutTensorBytes(source)
    let parsed = message.withUnsafeBufferPointer { buffer in
      onnx__model_proto__unpack(nil, buffer.count, buffer.baseAddress)
    }
    guard let parsed else {
      throw Diagnostic(
        "onnx-damaged", "not an ONNX model, or damaged: its fields cannot be parsed",
        hint: "export or download the model again")
    }
    defer { onnx__model_proto__free_unpacked(parsed, nil) }
    return try model(parsed.pointee)
  }

  private static func model(_ model: Onnx__ModelProto) throws(Diagnostic) -> ONNXModelProto {
    guard let graphMessage = model.graph else {
      throw Diagnostic(
        "onnx-no-graph", "not an ONNX model: it has no graph",
        hint: "give a .onnx file that holds a whole model")
    }
    var functions: [String: ONNXFunction] = [:]
    for entry in items(model.functions, model.n_functions) {
      let callee = ONNXNode(
        name: "", opType: text(entry.name), domain: standardized(text(entry.domain)), inputs: [],
        outputs: [], attributes: [], overload: text(entry.overload)
      ).callee
      functions[callee] = function(entry)
    }
    return ONNXModelProto(
      irVersion: model.ir_version, producer: text(model.producer_name),
      opsets: opsets(model.opset_import, model.n_opset_import),
      graph: graph(graphMessage.pointee), functions: functions)
  }

  private static func standardized(_ domain: String) -> String {
    domain == "ai.onnx" ? "" : domain
  }

  private static func opsets(
    _ base: UnsafeMutablePointer<UnsafeMutablePointer<Onnx__OperatorSetIdProto>?>?, _ count: Int
  ) -> [String: Int64] {
    var result: [String: Int64] = [:]
    for entry in items(base, count) { result[standardized(text(entry.domain))] = entry.version }
    return result
  }

  private static func function(_ function: Onnx__FunctionProto) -> ONNXFunction {
    ONNXFunction(
      inputs: texts(function.input, function.n_input),
      outputs: texts(function.output, function.n_output),
      attributes: texts(function.attribute, function.n_attribute),
      defaults: items(function.attribute_proto, function.n_attribute_proto).map(attribute),
      nodes: items(function.node, function.n_node).map(node),
      opsets: opsets(function.opset_import, function.n_opset_import))
  }

  private static func graph(_ graph: Onnx__GraphProto) -> ONNXGraph {
    ONNXGraph(
      name: text(graph.name),
      nodes: items(graph.node, graph.n_node).map(node),
      initializers: items(graph.initializer, graph.n_initializer).map(tensor),
      sparseInitializers: items(graph.sparse_initializer, graph.n_sparse_initializer)
        .compactMap(sparse),
      inputs: items(graph.input, graph.n_input).map(valueInfo),
      outputs: items(graph.output, graph.n_output).map(valueInfo),
      valueInfos: items(graph.value_info, graph.n_value_info).map(valueInfo))
  }

  private static func node(_ node: Onnx__NodeProto) -> ONNXNode {
    var result = ONNXNode(
      name: text(node.name), opType: text(node.op_type), domain: standardized(text(node.domain)),
      inputs: texts(node.input, node.n_input), outputs: texts(node.output, node.n_output),
      attributes: items(node.attribute, node.n_attribute).map(attribute),
      overload: text(node.overload))
    for attribute in result.attributes {
      if case .graph(let body) = attribute.value { result.captured += body.capturedNames }
    }
    return result
  }

  private static func attribute(_ attribute: Onnx__AttributeProto) -> ONNXAttribute {
    ONNXAttribute(name: text(attribute.name), value: value(attribute))
  }

  private static func value(_ attribute: Onnx__AttributeProto) -> ONNXAttributeValue {
    if let reference = attribute.ref_attr_name, reference.pointee != 0 {
      return .reference(text(reference))
    }
    let kind = attribute.has_type != 0 ? attribute.type.rawValue : 0
    switch kind == 0 ? guessedKind(attribute) : kind {
    case 1: return .float(attribute.f)
    case 2: return .int(attribute.i)
    case 3: return .string(text(attribute.s))
    case 4:
      guard let pointer = attribute.t else { return .other("tensor without a value") }
      return .tensor(tensor(pointer.pointee))
    case 6: return .floats(numbers(attribute.floats, attribute.n_floats))
    case 7: return .ints(numbers(attribute.ints, attribute.n_ints))
    case 8:
      return .strings(
        UnsafeBufferPointer(start: attribute.strings, count: attribute.n_strings).map(text))
    case 11:
      guard let pointer = attribute.sparse_tensor, let value = sparse(pointer.pointee) else {
        return .other("sparse tensor without a value")
      }
      return .sparse(value)
    case 5:
      guard let pointer = attribute.g else { return .other("graph without a value") }
      return .graph(graph(pointer.pointee))
    case 10: return .other("list of graphs")
    case 9, 12: return .other("list of tensors")
    default: return .other("value of kind \(kind)")
    }
  }

  /// The kind of a value in files of IR version 1, which do not name it.
  private static func guessedKind(_ attribute: Onnx__AttributeProto) -> UInt32 {
    if attribute.has_f != 0 { return 1 }
    if attribute.has_i != 0 { return 2 }
    if attribute.has_s != 0 { return 3 }
    if attribute.t != nil { return 4 }
    if attribute.g != nil { return 5 }
    if attribute.n_floats > 0 { return 6 }
    if attribute.n_ints > 0 { return 7 }
    if attribute.n_strings > 0 { return 8 }
    if attribute.sparse_tensor != nil { return 11 }
    // A list without elements leaves no trace; lists of integers are the most common.
    return 7
  }

  private static func tensor(_ tensor: Onnx__TensorProto) -> ONNXTensor {
    ONNXTensor(
      name: text(tensor.name), dims: numbers(tensor.dims, tensor.n_dims),
      dataType: tensor.data_type, storage: storage(tensor))
  }

  private static func storage(_ tensor: Onnx__TensorProto) -> ONNXTensor.Storage {
    if tensor.segment != nil { return .segment }
    if tensor.has_data_location != 0, tensor.data_location.rawValue == 1 {
      var entries: [String: String] = [:]
      for entry in items(tensor.external_data, tensor.n_external_data) {
        entries[text(entry.key)] = text(entry.value)
      }
      return .external(entries)
    }
    if tensor.has_raw_data != 0 {
      let reference = UnsafeRawBufferPointer(
        start: tensor.raw_data.data, count: tensor.raw_data.len)
      guard reference.count == WireScanner.referenceSize else { return .none }
      let offset = UInt64(littleEndian: reference.loadUnaligned(as: UInt64.self))
      let length = UInt64(
        littleEndian: reference.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      guard let offset = Int(exactly: offset), let length = Int(exactly: length) else {
        return .none
      }
      return .raw(offset: offset, length: length)
    }
    if tensor.n_float_data > 0 { return .floats(numbers(tensor.float_data, tensor.n_float_data)) }
    if tensor.n_int32_data > 0 { return .int32(numbers(tensor.int32_data, tensor.n_int32_data)) }
    if tensor.n_int64_data > 0 { return .int64(numbers(tensor.int64_data, tensor.n_int64_data)) }
    if tensor.n_double_data > 0 {
      return .doubles(numbers(tensor.double_data, tensor.n_double_data))
    }
    if tensor.n_uint64_data > 0 {
      return .uint64(numbers(tensor.uint64_data, tensor.n_uint64_data))
    }
    return tensor.n_string_data > 0 ? .strings : .none
  }

  private static func sparse(_ sparse: Onnx__SparseTensorProto) -> ONNXSparseTensor? {
    guard let values = sparse.values, let indices = sparse.indices else { return nil }
    return ONNXSparseTensor(
      values: tensor(values.pointee), indices: tensor(indices.pointee),
      dims: numbers(sparse.dims, sparse.n_dims))
  }

  private static func valueInfo(_ info: Onnx__ValueInfoProto) -> ONNXValueInfo {
    var result = ONNXValueInfo(name: text(info.name))
    guard let type = info.type?.pointee, type.value_case.rawValue != 0 else { return result }
    guard type.value_case.rawValue == 1, let tensor = type.tensor_type?.pointee else {
      result.isTensor = false
      return result
    }
    result.dataType = tensor.elem_type
    if let shape = tensor.shape?.pointee {
      result.shape = items(shape.dim, shape.n_dim).map { dimension in
        switch dimension.value_case.rawValue {
        case 1: return dimension.dim_value < 0 ? .unknown : .fixed(dimension.dim_value)
        case 2:
          let symbol = text(dimension.dim_param)
          return symbol.isEmpty ? .unknown : .symbol(symbol)
        default: return .unknown
        }
      }
    }
    return result
  }

  // MARK: C arrays and strings

  private static func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String {
    pointer.map { String(cString: $0) } ?? ""
  }

  private static func text(_ data: ProtobufCBinaryData) -> String {
    String(decoding: UnsafeBufferPointer(start: data.data, count: data.len), as: UTF8.self)
  }

  private static func texts(
    _ base: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int
  ) -> [String] {
    UnsafeBufferPointer(start: base, count: base == nil ? 0 : count).map(text)
  }

  private static func numbers<Number: BitwiseCopyable>(
    _ base: UnsafeMutablePointer<Number>?, _ count: Int
  ) -> [Number] {
    Array(UnsafeBufferPointer(start: base, count: base == nil ? 0 : count))
  }

  private static func items<Message>(
    _ base: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, _ count: Int
  ) -> [Message] {
    UnsafeBufferPointer(start: base, count: base == nil ? 0 : count).compactMap { $0?.pointee }
  }
}
