import IR

extension Sidecar {
  /// The lists by node and name; a record without value is an error.
  func listValues() throws(Diagnostic) -> [ModelDecoder.ListKey: AttributeValue] {
    var values: [ModelDecoder.ListKey: AttributeValue] = [:]
    for (index, list) in lists.enumerated() {
      guard let value = list.value else {
        throw Sidecar.damaged("a list has no value", path: "lists[\(index)]")
      }
      values[ModelDecoder.ListKey(node: list.node, name: list.name)] = value
    }
    return values
  }

  /// Puts what is recorded here into a graph that was read from the payloads.
  func apply(to graph: inout Graph) throws(Diagnostic) {
    let names = Dictionary(
      graph.tensors.enumerated().map { ($0.element.name, TensorID($0.offset)) },
      uniquingKeysWith: { first, _ in first })
    func id(_ name: String, _ path: String) throws(Diagnostic) -> TensorID {
      guard let id = names[name] else {
        throw Sidecar.damaged("there is no tensor \(name.debugDescription)", path: path)
      }
      return id
    }
    graph.isMaterialized = isMaterialized
    graph.aliases = aliases
    graph.folded = folded
    graph.inputs = try order(graph.inputs, by: inputs, path: "inputs", id)
    graph.outputs = try order(graph.outputs, by: outputs, path: "outputs", id)
    for key in states.keys.sorted() {
      guard let state = QuantizationState(rawValue: key) else {
        throw Sidecar.damaged("state \(key.debugDescription) is unknown", path: "states")
      }
      for name in states[key] ?? [] { graph[try id(name, "states.\(key)")].state = state }
    }
    for (name, bitwidth) in (bitwidths ?? [:]).sorted(by: { $0.key < $1.key }) {
      guard (2...32).contains(bitwidth) else {
        throw Sidecar.damaged("\(bitwidth) is no bitwidth", path: "bitwidths", tensor: name)
      }
      graph[try id(name, "bitwidths")].bitwidth = bitwidth
    }
    for name in unfused ?? [] { graph[try id(name, "unfused")].isUnfused = true }
    for (name, order) in (sourceOrders ?? [:]).sorted(by: { $0.key < $1.key }) {
      let tensor = try id(name, "sourceOrders")
      guard order.sorted() == Array(0..<graph[tensor].type.rank) else {
        throw Sidecar.damaged("\(order) is no order of its axes", path: "sourceOrders", tensor: name)
      }
      graph[tensor].sourceOrder = order
    }
    let nodeNames = Set(graph.nodes.map(\.name))
    for name in integerNodes ?? [] where !nodeNames.contains(name) {
      throw Sidecar.damaged("there is no node \(name.debugDescription)", path: "integerNodes")
    }
    graph.integerNodes = Set(integerNodes ?? [])
    for key in sources.keys.sorted() {
      guard let source = EncodingSource(rawValue: key) else {
        throw Sidecar.damaged("source \(key.debugDescription) is unknown", path: "sources")
      }
      for name in sources[key] ?? [] {
        graph[try id(name, "sources.\(key)")].encodingSource = source
      }
    }
    for name in codes.keys.sorted() where graph[try id(name, "codes")].encoding == nil {
      throw Sidecar.damaged("codes without an encoding", path: "codes", tensor: name)
    }
    for name in batchNorms.keys.sorted() {
      guard let record = batchNorms[name], let beta = Sidecar.unpack(record.beta),
        let gamma = Sidecar.unpack(record.gamma), beta.count == gamma.count
      else { throw Sidecar.damaged("the statistics are damaged", path: "batchNorms.\(name)") }
      graph.batchNorms[name] = BatchNormStatistics(beta: beta, gamma: gamma)
    }
    for (name, data) in (channelScales ?? [:]).sorted(by: { $0.key < $1.key }) {
      let tensor = graph[try id(name, "channelScales")]
      guard let scales = Sidecar.unpack(data), scales.count == tensor.type.shape.last,
        scales.allSatisfy({ $0.isFinite && $0 > 0 })
      else { throw Sidecar.damaged("the scales are damaged", path: "channelScales.\(name)") }
      graph.channelScales[name] = scales
    }
    for (name, data) in (channelShifts ?? [:]).sorted(by: { $0.key < $1.key }) {
      let tensor = graph[try id(name, "channelShifts")]
      guard let shifts = Sidecar.unpack(data), shifts.count == tensor.type.shape.last,
        shifts.allSatisfy(\.isFinite)
      else { throw Sidecar.damaged("the shifts are damaged", path: "channelShifts.\(name)") }
      graph.channelShifts[name] = shifts
    }
  }

  /// The ids in the recorded order. The roles in `model` must agree; static tensors, whose role tells
  /// nothing else, may be among them.
  private func order(
    _ found: [TensorID], by names: [String], path: String,
    _ id: (String, String) throws(Diagnostic) -> TensorID
  ) throws(Diagnostic) -> [TensorID] {
    var ordered: [TensorID] = []
    for name in names { ordered.append(try id(name, path)) }
    guard Set(found).isSubset(of: ordered) else {
      throw Sidecar.damaged("the list does not agree with the tensors' roles in model", path: path)
    }
    return ordered
  }
}
