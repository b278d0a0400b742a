internal import CDLCSchema
import IR

/// Makes a graph from a NETD payload; everything in it is untrusted.
struct ModelDecoder {
  /// Where tensor bytes and lists come from.
  enum Source {
    /// From `model.params`.
    case index(ParameterIndex)
    /// Lists from `qtools.json`, static tensors without values.
    case lists([ListKey: AttributeValue])
  }

  /// A list parameter: position of its node, name.
  struct ListKey: Hashable {
    let node: Int
    let name: String
  }

  /// Longest name in bytes, most axes.
  static let nameLimit = 65_536
  static let rankLimit = 32

  /// What was read: the graph and, for ``Source/lists(_:)``, the tensors that lack their values.
  struct Result {
    var graph: Graph
    var staticTensors: [TensorID] = []
  }

  /// The payload without header, aligned to 8.
  private let payload: Bytes
  private let root: OpaquePointer
  private let table: OpaquePointer
  /// The graph's name.
  let graphName: String

  /// Verifies the payload.
  init(payload: Bytes) throws(Diagnostic) {
    self.payload = payload
    guard
      let root = dlc_model_open(payload.base.assumingMemoryBound(to: UInt8.self), payload.count)
    else {
      throw ContainerFailure.input(
        "verifier", "the FlatBuffer does not pass verification", member: MemberName.model,
        byte: PayloadHeader.size, hint: "the file is damaged; copy or convert it again")
    }
    self.root = root
    guard dlc_model_graph_count(root) == 1 else {
      throw ContainerFailure.input(
        "graphs", "\(dlc_model_graph_count(root)) graphs, one is supported",
        member: MemberName.model, byte: PayloadHeader.size)
    }
    table = dlc_model_graph(root, 0)
    guard let name = dlc_graph_name(table).string(limit: ModelDecoder.nameLimit) else {
      throw ContainerFailure.input(
        "bad-name", "the graph's name is not UTF-8 text or too long", member: MemberName.model,
        byte: PayloadHeader.size)
    }
    graphName = name
  }

  /// Whether a node has parameters whose bytes are in `model.params` and not in `lists`.
  func needsParameters(beyond lists: [ListKey: AttributeValue]) -> Bool {
    defer { withExtendedLifetime(payload) {} }
    for position in 0..<dlc_graph_node_count(table) {
      let node = dlc_graph_node(table, position)
      for index in 0..<dlc_node_attribute_count(node) {
        let fields = dlc_attribute_fields(dlc_node_attribute(node, index))
        guard fields.tensor != nil else { continue }
        guard let name = fields.name.string(limit: ModelDecoder.nameLimit),
          lists[ListKey(node: position, name: name)] != nil
        else { return true }
      }
    }
    return false
  }

  /// Whether encodings have numbers in `model.params.bin`.
  var needsBin: Bool {
    defer { withExtendedLifetime(payload) {} }
    return (0..<dlc_graph_tensor_count(table)).contains {
      EncodingRecord.isExternal(dlc_tensor_view(dlc_graph_tensor(table, $0)).quantization)
    }
  }

  /// The graph. `sidecar` is the content of `qtools.json`, `bin` that of `model.params.bin`, where
  /// there are such members.
  func decode(registry: OperatorRegistry, sidecar: Sidecar?, source: Source, bin: Bytes?)
    throws(Diagnostic) -> Result
  {
    defer { withExtendedLifetime(payload) {} }
    var result = Result(graph: Graph(name: graphName))
    var names: [String: TensorID?] = [:]
    var roles: [WireType.Role] = []
    for index in 0..<dlc_graph_tensor_count(table) {
      let raw = dlc_graph_tensor(table, index)
      let view = dlc_tensor_view(raw)
      let byte = position(raw)
      let name = try self.name(view.name, what: "a tensor", byte: byte)
      guard let role = WireType.Role(rawValue: view.role) else {
        throw failure("role", "tensor role \(view.role) is unknown", byte: byte, tensor: name)
      }
      guard names[name] == nil else {
        throw failure("duplicate-tensor", "two tensors have this name", byte: byte, tensor: name)
      }
      if role == .absent {
        names[name] = .some(nil)
        continue
      }
      let tensor = try self.tensor(raw, view, name: name, role: role, sidecar: sidecar, source: source, bin: bin)
      let id = result.graph.add(tensor)
      if role == .fixed, tensor.constant == nil { result.staticTensors.append(id) }
      names[name] = id
      roles.append(role)
    }
    try readNodes(into: &result.graph, names: names, registry: registry, source: source)
    result.graph.inputs = ids(roles, [.graphInput, .graphInputOutput])
    result.graph.outputs = ids(roles, [.graphOutput, .graphInputOutput])
    return result
  }

  private func ids(_ roles: [WireType.Role], _ wanted: [WireType.Role]) -> [TensorID] {
    roles.indices.filter { wanted.contains(roles[$0]) }.map(TensorID.init)
  }

  // MARK: - Tensors

  private func tensor(
    _ raw: OpaquePointer, _ view: DLCTensorView, name: String, role: WireType.Role,
    sidecar: Sidecar?, source: Source, bin: Bytes?
  ) throws(Diagnostic) -> Tensor {
    let byte = position(raw)
    let type = try self.type(raw, view, name: name)
    var tensor = Tensor(name: name, type: type)
    var codes: (Int, Int)?
    if let listed = sidecar?.codes[name] {
      guard listed.count == 2 else {
        throw Sidecar.damaged("codes must be two numbers", path: "codes", tensor: name)
      }
      codes = (listed[0], listed[1])
    }
    do throws(EncodingRecord.Problem) {
      tensor.encoding = try EncodingRecord.read(
        view.quantization, type: type, codes: codes, bin: bin)
    } catch {
      throw failure(
        error.code, error.message, byte: view.quantization.map(position) ?? byte, tensor: name)
    }
    if type.element.isFixedPoint, tensor.encoding == nil {
      throw failure("encoding", "a fixed-point tensor has no encoding", byte: byte, tensor: name)
    }
    if sidecar == nil, let record = view.quantization, tensor.encoding != nil,
      dlc_quantization_view(record).overridden
    {
      tensor.encodingSource = .override
    }
    if tensor.encoding != nil { tensor.state = .given }
    if role == .fixed, case .index(let index) = source {
      tensor.constant = try constant(of: tensor, index: index, byte: byte)
    }
    return tensor
  }

  private func type(_ raw: OpaquePointer, _ view: DLCTensorView, name: String) throws(Diagnostic)
    -> TensorType
  {
    let byte = position(raw)
    guard let element = WireType.type(view.type) else {
      throw failure(
        "type", "data type 0x\(String(view.type, radix: 16)) is not supported", byte: byte,
        tensor: name)
    }
    guard view.rank <= ModelDecoder.rankLimit else {
      throw failure(
        "shape", "\(view.rank) axes, at most \(ModelDecoder.rankLimit) are supported", byte: byte,
        tensor: name)
    }
    let shape = (0..<view.rank).map { Int(dlc_tensor_dim(raw, $0)) }
    // Empty axes count as one, so that no product of some of the sizes overflows either.
    let filled = TensorType(element, shape.map { $0 == 0 ? 1 : $0 })
    guard filled.checkedCount() != nil else {
      throw failure("shape", "shape \(shape) is not valid", byte: byte, tensor: name)
    }
    return TensorType(element, shape)
  }

  private func constant(of tensor: Tensor, index: ParameterIndex, byte: Int) throws(Diagnostic)
    -> Constant
  {
    guard let bytes = index.tensors[tensor.name] else {
      throw failure(
        "missing-bytes", "model.params has no bytes for the tensor", byte: byte, tensor: tensor.name)
    }
    let element = tensor.type.element
    guard element != .string else {
      throw failure("type", "constants of text are not supported", byte: byte, tensor: tensor.name)
    }
    let expected = ModelEncoder.storedCount(tensor.type, axis: tensor.encoding?.axis)
    guard bytes.count == expected else {
      throw failure(
        "byte-count", "\(bytes.count) bytes instead of \(expected) for \(tensor.type)", byte: byte,
        tensor: tensor.name)
    }
    guard element.isPacked else { return Constant(type: tensor.type, bytes: bytes) }
    let packing = NibblePacking(shape: tensor.type.shape, axis: tensor.encoding?.axis)
    return Constant(
      type: tensor.type, bytes: packing.unpack(bytes, signed: element.isSignedFixedPoint))
  }

  // MARK: - Nodes

  private func readNodes(
    into graph: inout Graph, names: [String: TensorID?], registry: OperatorRegistry, source: Source
  ) throws(Diagnostic) {
    let count = dlc_graph_node_count(table)
    if case .index(let index) = source, index.nodes.count != count {
      throw ContainerFailure.input(
        "node-count", "\(index.nodes.count) nodes here, \(count) in model",
        member: MemberName.parameters, byte: PayloadHeader.size)
    }
    graph.nodes.reserveCapacity(count)
    for position in 0..<count {
      let raw = dlc_graph_node(table, position)
      let byte = self.position(raw)
      let type = try text(dlc_node_type(raw), what: "an operator type", byte: byte)
      if type == "Input" { continue }
      let name = try text(dlc_node_name(raw), what: "a node", byte: byte)
      func known(_ text: DLCText) throws(Diagnostic) -> TensorID? {
        let tensor = try self.text(text, what: "an operand", byte: byte)
        if tensor.isEmpty { return nil }
        guard let id = names[tensor] else {
          throw failure(
            "dangling", "there is no tensor \(tensor.debugDescription)", byte: byte, node: name)
        }
        return id
      }
      var inputs: [TensorID?] = []
      for index in 0..<dlc_node_input_count(raw) {
        inputs.append(try known(dlc_node_input(raw, index)))
      }
      var outputs: [TensorID] = []
      for index in 0..<dlc_node_output_count(raw) {
        guard let id = try known(dlc_node_output(raw, index)) else {
          throw failure("dangling", "an output has no tensor", byte: byte, node: name)
        }
        outputs.append(id)
      }
      let attributes = try self.attributes(raw, position: position, name: name, source: source)
      let op: any Operator
      do throws(Diagnostic) {
        op = try registry.make(type, attributes)
      } catch {
        var located = error.inNode(name)
        located.location.member = MemberName.model
        located.location.byte = byte
        throw located
      }
      graph.nodes.append(Node(name: name, op: op, inputs: inputs, outputs: outputs))
    }
  }

  private func attributes(_ node: OpaquePointer, position: Int, name: String, source: Source)
    throws(Diagnostic) -> [Attribute]
  {
    var attributes: [Attribute] = []
    for index in 0..<dlc_node_attribute_count(node) {
      let raw = dlc_node_attribute(node, index)
      let byte = self.position(raw)
      let fields = dlc_attribute_fields(raw)
      let title = try text(fields.name, what: "a parameter", byte: byte)
      var value: AttributeValue?
      switch (fields.kind, fields.has_value, fields.tensor) {
      case (0, true, nil):
        value = WireAttribute.value(
          type: fields.value_type, integer: fields.integer, real: fields.real,
          text: fields.text.string(limit: ModelDecoder.nameLimit))
      case (1, _, let tensor?):
        let key = ListKey(node: position, name: title)
        value = try list(tensor, key: key, node: name, source: source)
      default: break
      }
      guard let value else {
        throw failure(
          "parameter", "parameter \(title) has no readable value", byte: byte, node: name)
      }
      attributes.append(Attribute(title, value))
    }
    return attributes
  }

  private func list(_ tensor: OpaquePointer, key: ListKey, node: String, source: Source)
    throws(Diagnostic) -> AttributeValue?
  {
    switch source {
    case .lists(let lists): return lists[key]
    case .index(let index):
      let view = dlc_tensor_view(tensor)
      let byte = position(tensor)
      let name = try text(view.name, what: "a parameter's tensor", byte: byte)
      let type = try self.type(tensor, view, name: name)
      guard let bytes = index.nodes[key.node][name] else {
        throw failure(
          "missing-bytes", "model.params has no bytes for parameter \(key.name)", byte: byte,
          node: node)
      }
      guard bytes.count == type.byteCount else {
        throw failure(
          "byte-count", "parameter \(key.name) has \(bytes.count) bytes for \(type)", byte: byte,
          node: node)
      }
      return WireAttribute.value(type: type, bytes: bytes)
    }
  }

  // MARK: - Text and positions

  private func text(_ text: DLCText, what: String, byte: Int) throws(Diagnostic) -> String {
    guard let string = text.string(limit: ModelDecoder.nameLimit) else {
      throw failure("bad-name", "the name of \(what) is not UTF-8 text or too long", byte: byte)
    }
    return string
  }

  private func name(_ text: DLCText, what: String, byte: Int) throws(Diagnostic) -> String {
    let string = try self.text(text, what: what, byte: byte)
    guard !string.isEmpty else {
      throw failure("bad-name", "\(what) has no name", byte: byte)
    }
    return string
  }

  /// Place of a table in the member.
  private func position(_ table: OpaquePointer) -> Int {
    UnsafeRawPointer(table) - payload.base + PayloadHeader.size
  }

  private func failure(
    _ code: String, _ message: String, byte: Int, node: String? = nil, tensor: String? = nil
  ) -> Diagnostic {
    ContainerFailure.input(
      code, message, member: MemberName.model, byte: byte, node: node, tensor: tensor)
  }
}
