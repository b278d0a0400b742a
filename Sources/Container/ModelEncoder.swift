internal import CDLCSchema
import IR

/// Builds the NETD payload of a graph with FlatBuffers' builder and lists what goes to
/// `model.params`.
struct ModelEncoder {
  /// Bytes of a parameter: a static tensor's, or a list of the node at a position.
  struct Parameter {
    let item: ParameterLayout.Item
    let content: Content
    enum Content {
      case tensor(TensorID)
      case bytes([UInt8])
    }
  }

  /// Bytes of the payload.
  private(set) var payload = Bytes([UInt8]())
  /// Static tensors, in graph order.
  private(set) var tensors: [Parameter] = []
  /// Lists of every node, the `Input` nodes in front included.
  private(set) var nodes: [[Parameter]] = []
  /// Numbers of encodings that go to `model.params.bin`.
  private(set) var external = ExternalNumbers()
  /// The lists once more, for `qtools.json`.
  private(set) var lists: [Sidecar.List] = []

  /// Bytes of all parameters with the padding that alignment takes at most; `Int.max` where the sum
  /// overflows.
  var staticBytes: Int {
    var total = 0
    for parameters in [tensors] + nodes {
      for entry in parameters {
        let (sum, overflow) = total.addingReportingOverflow(entry.item.count)
        if overflow || sum > Int.max - 68 { return .max }
        total = sum + 68
      }
    }
    return total
  }

  private let graph: Graph
  private let builder: Builder

  /// Owner of the C++ builder.
  private final class Builder {
    let handle: OpaquePointer
    init(_ handle: OpaquePointer) { self.handle = handle }
    deinit { dlc_builder_destroy(handle) }
  }

  /// Encodes a graph that passed the verifier. Throws for types the format lacks.
  init(_ graph: Graph) throws(Diagnostic) {
    guard let handle = dlc_builder_create() else {
      throw ContainerFailure.bug("no memory for the model's structure")
    }
    builder = Builder(handle)
    self.graph = graph
    var tensorOffsets: [DLCOffset] = []
    let roles = tensorRoles()
    for (index, tensor) in graph.tensors.enumerated() {
      tensorOffsets.append(try add(tensor, index: index, role: roles[index]))
    }
    var nodeOffsets: [DLCOffset] = []
    for id in graph.inputs {
      let name = string(graph[id].name)
      let names = vector([name])
      let none = vector([])
      nodeOffsets.append(dlc_builder_node(handle, name, string("Input"), names, names, none))
      nodes.append([])
    }
    for node in graph.nodes { nodeOffsets.append(try add(node)) }
    let root = dlc_builder_graph(
      handle, string(graph.name), vector(nodeOffsets), vector(tensorOffsets))
    var count = 0
    guard let bytes = dlc_builder_finish(handle, vector([root]), &count) else {
      throw Diagnostic(
        "container-too-large", "the model's structure without weights passes 1 GiB",
        at: Diagnostic.Location(member: MemberName.model))
    }
    payload = Bytes(owner: builder, base: UnsafeRawPointer(bytes), count: count)
  }

  private func string(_ text: String) -> DLCOffset {
    var text = text
    return text.withUTF8 { bytes in
      dlc_builder_string(
        builder.handle, UnsafeRawPointer(bytes.baseAddress)?.assumingMemoryBound(to: CChar.self),
        bytes.count)
    }
  }

  private func vector(_ offsets: [DLCOffset]) -> DLCOffset {
    dlc_builder_offsets(builder.handle, offsets, offsets.count)
  }

  private func tensorRoles() -> [WireType.Role] {
    var roles = graph.tensors.map { $0.constant == nil ? WireType.Role.intermediate : .fixed }
    for id in graph.inputs where roles[id.index] == .intermediate { roles[id.index] = .graphInput }
    for id in graph.outputs {
      switch roles[id.index] {
      case .intermediate: roles[id.index] = .graphOutput
      case .graphInput: roles[id.index] = .graphInputOutput
      default: break
      }
    }
    return roles
  }

  private func dims(_ shape: [Int], name: String) throws(Diagnostic) -> DLCOffset {
    var sizes: [Int32] = []
    for size in shape {
      guard let size = Int32(exactly: size), size >= 0 else {
        throw Diagnostic(
          "container-shape", "a size of \(size) does not fit the format",
          at: Diagnostic.Location(tensor: name))
      }
      sizes.append(size)
    }
    return dlc_builder_ints(builder.handle, sizes, sizes.count)
  }

  private func number(_ type: DataType, name: String) throws(Diagnostic) -> Int32 {
    guard let number = WireType.number(type) else {
      throw Diagnostic(
        "container-type", "the format has no \(type.rawValue) tensors",
        at: Diagnostic.Location(tensor: name),
        hint: "cast it to a type the format has, float32 or int8 say, in the source model")
    }
    return number
  }

  private mutating func add(_ tensor: Tensor, index: Int, role: WireType.Role) throws(Diagnostic)
    -> DLCOffset
  {
    let record = try EncodingRecord.write(
      tensor.encoding, overridden: tensor.encodingSource == .override, type: tensor.type.element,
      tensor: tensor.name, to: builder.handle, external: &external)
    let fields = DLCTensorFields(
      index: UInt32(truncatingIfNeeded: index), name: string(tensor.name), role: role.rawValue,
      dims: try dims(tensor.type.shape, name: tensor.name), layout: 0, quantization: record,
      type: try number(tensor.type.element, name: tensor.name), flags: 0)
    if role == .fixed {
      guard tensor.type.element != .string else {
        throw Diagnostic(
          "container-type", "constants of text cannot be stored",
          at: Diagnostic.Location(tensor: tensor.name))
      }
      let count = ModelEncoder.storedCount(tensor.type, axis: tensor.encoding?.axis)
      tensors.append(
        Parameter(
          item: ParameterLayout.Item(name: tensor.name, count: count),
          content: .tensor(TensorID(index))))
    }
    return dlc_builder_tensor(builder.handle, fields)
  }

  /// Bytes of a static tensor in the container.
  static func storedCount(_ type: TensorType, axis: Int?) -> Int {
    type.element.isPacked
      ? NibblePacking(shape: type.shape, axis: axis).packedCount : type.byteCount
  }

  private mutating func add(_ node: Node) throws(Diagnostic) -> DLCOffset {
    var parameters: [Parameter] = []
    var attributes: [DLCOffset] = []
    for attribute in node.op.attributes {
      switch WireAttribute(attribute) {
      case .scalar(let type, let integer, let real, let text):
        let words = text.map { string($0) } ?? 0
        attributes.append(
          dlc_builder_scalar_attribute(
            builder.handle, string(attribute.name), type, integer, real, words))
      case .list(let type, let bytes):
        let name = "\(node.name).\(attribute.name)"
        let wire = try number(type.element, name: name)
        let fields = DLCTensorFields(
          index: 0, name: string(name), role: WireType.Role.fixed.rawValue,
          dims: try dims(type.shape, name: name), layout: 0,
          quantization: dlc_builder_no_quantization(builder.handle), type: wire, flags: 0)
        let tensor = dlc_builder_tensor(builder.handle, fields)
        attributes.append(
          dlc_builder_tensor_attribute(builder.handle, string(attribute.name), tensor))
        parameters.append(
          Parameter(
            item: ParameterLayout.Item(name: name, count: bytes.count), content: .bytes(bytes)))
        lists.append(Sidecar.List(node: nodes.count, attribute: attribute))
      }
    }
    nodes.append(parameters)
    let inputs = vector(node.inputs.map { string($0.map { graph[$0].name } ?? "") })
    let outputs = vector(node.outputs.map { string(graph[$0].name) })
    return dlc_builder_node(
      builder.handle, string(node.name), string(node.op.typeName), inputs, outputs,
      vector(attributes))
  }
}

extension Sidecar.List {
  /// The record of a list, or of a number too wide for a scalar.
  init(node: Int, attribute: Attribute) {
    self.init(node: node, name: attribute.name)
    switch attribute.value {
    case .int(let value): int = value
    case .ints(let values): ints = values
    case .floats(let values): floats = Sidecar.pack(values)
    default: break
    }
  }

  /// The value, nil where there is none.
  var value: AttributeValue? {
    if let int { return .int(int) }
    if let ints { return .ints(ints) }
    return floats.flatMap(Sidecar.unpack).map { .floats($0) }
  }
}
