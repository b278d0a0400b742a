internal import CDLCSchema
import IR

/// Where a NETP payload says that bytes are; the bytes themselves are not touched.
struct ParameterIndex {
  /// Bytes of static tensors by name.
  private(set) var tensors: [String: Bytes] = [:]
  /// Bytes of tensor attributes by name, for each node.
  private(set) var nodes: [[String: Bytes]] = []
  private let bin: Bytes?

  /// Reads the structure of `payload` (without header), which must hold exactly one graph, called
  /// `graph`. `bin` is the content of model.params.bin, where there is one.
  init(payload: Bytes, bin: Bytes?, graph: String) throws(Diagnostic) {
    defer { withExtendedLifetime(payload) {} }
    self.bin = bin
    let start = payload.base.assumingMemoryBound(to: UInt8.self)
    guard let root = dlc_parameters_open(start, payload.count) else {
      throw ContainerFailure.input(
        "verifier", "the FlatBuffer does not pass verification", member: MemberName.parameters,
        byte: PayloadHeader.size, hint: "the file is damaged; copy or convert it again")
    }
    guard dlc_parameters_graph_count(root) == 1 else {
      throw ContainerFailure.input(
        "graphs", "\(dlc_parameters_graph_count(root)) graphs, one is supported",
        member: MemberName.parameters, byte: PayloadHeader.size)
    }
    let table = dlc_parameters_graph(root, 0)
    guard graph.utf8.elementsEqual(dlc_graph_parameters_name(table).buffer) else {
      throw ContainerFailure.input(
        "graphs", "the parameters are not those of graph \(graph.debugDescription)",
        member: MemberName.parameters, byte: PayloadHeader.size)
    }
    for index in 0..<dlc_graph_parameters_tensor_count(table) {
      var entry = DLCTensorBytes()
      let sound = dlc_graph_parameters_tensor(table, index, start, &entry)
      try add(entry, sound: sound, payload: payload, to: &tensors)
    }
    for node in 0..<dlc_graph_parameters_node_count(table) {
      var entries: [String: Bytes] = [:]
      for index in 0..<dlc_graph_parameters_node_tensor_count(table, node) {
        var entry = DLCTensorBytes()
        let sound = dlc_graph_parameters_node_tensor(table, node, index, start, &entry)
        try add(entry, sound: sound, payload: payload, to: &entries)
      }
      nodes.append(entries)
    }
  }

  private func add(
    _ entry: DLCTensorBytes, sound: Bool, payload: Bytes, to entries: inout [String: Bytes]
  ) throws(Diagnostic) {
    guard let name = entry.name.string(limit: ModelDecoder.nameLimit) else {
      throw ContainerFailure.input(
        "bad-name", "a tensor's name is not UTF-8 text or too long", member: MemberName.parameters)
    }
    let whole = entry.external ? bin : payload
    guard sound, let offset = Int(exactly: entry.offset), let count = Int(exactly: entry.count),
      let bytes = whole?.window(from: offset, count: count)
    else {
      throw ContainerFailure.input(
        "range", "the tensor's bytes lie outside model.params.bin", member: MemberName.parameters,
        tensor: name, hint: "the file is incomplete; copy or convert it again")
    }
    guard entries.updateValue(bytes, forKey: name) == nil else {
      throw ContainerFailure.input(
        "duplicate-tensor", "two entries have this name", member: MemberName.parameters,
        tensor: name)
    }
  }
}

extension DLCText {
  /// The bytes, without copying.
  var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }

  /// The text; nil where it is not UTF-8 or longer than `limit` bytes.
  func string(limit: Int) -> String? {
    count <= limit ? String(validating: buffer, as: UTF8.self) : nil
  }
}
