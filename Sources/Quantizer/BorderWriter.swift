import IR
import Operators

/// Puts the operators between precisions into an annotated graph: where neighbours differ one Convert,
/// Quantize or Dequantize, shared by all consumers; Casts around the nodes that compute in 32-bit
/// integers. The result is still annotated: simulated, it gives the bits that the materialised graph
/// gives.
///
/// `borders` tells the encodings by which fixed-point operators read tensors that stay float. Throws
/// `missing-border` where one is not told and `int32-operator` where an operator has no integer form.
public func insertingBorders(
  _ graph: Graph, borders: [TensorID: Encoding] = [:], dataInvariantOpsRequantize: Bool = false,
  keepsWeightsQuantized: Bool = false
) throws(Diagnostic) -> Graph {
  var writer = BorderWriter(
    graph: graph,
    rules: BorderRules(
      graph: graph, borders: borders, requantizes: dataInvariantOpsRequantize,
      keepsWeights: keepsWeightsQuantized))
  return try writer.written()
}

/// Copies the nodes of a graph and puts the operators between precisions before their first reader.
private struct BorderWriter {
  private struct Key: Hashable {
    let tensor: TensorID
    let need: OperandNeed
  }

  private var graph: Graph
  private let rules: BorderRules
  private var nodes: [Node] = []
  /// What each tensor was turned into already.
  private var made: [Key: TensorID] = [:]
  private var names: NameTable
  private var errors: [Diagnostic] = []

  init(graph: Graph, rules: BorderRules) {
    self.graph = graph
    self.rules = rules
    names = NameTable(graph)
  }

  /// The graph with its borders; all errors at once.
  mutating func written() throws(Diagnostic) -> Graph {
    turnConstants()
    let hidden = integerOnly()
    for node in rules.graph.nodes { add(node, hidden) }
    if let failure = Diagnostic.combining(errors) { throw failure }
    graph.nodes = nodes
    return graph
  }

  /// Constants without an encoding that nobody reads as they are become what their first reader
  /// needs, under their own name.
  private mutating func turnConstants() {
    let source = rules.graph
    var needs: [TensorID: OperandNeed] = [:]
    var order: [TensorID] = []
    for node in source.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, source[id].constant != nil, source[id].encoding == nil else { continue }
        let need = rules.need(node, slot)
        if needs[id] == nil { order.append(id) }
        if needs[id] == nil || need == .asIs { needs[id] = need }
      }
    }
    for id in order where !source.outputs.contains(id) {
      guard let need = needs[id], need != .asIs, need != .unknown else { continue }
      if case .float(let width) = need, source[id].bitwidth != nil, source[id].bitwidth != width {
        continue
      }
      graph[id] = turned(source[id], need)
      made[Key(tensor: id, need: need)] = id
    }
  }

  /// A constant as a reader needs it. The codes of an encoding are computed later.
  private func turned(_ tensor: Tensor, _ need: OperandNeed) -> Tensor {
    var tensor = tensor
    switch need {
    case .asIs, .unknown: break
    case .float(let width):
      tensor.state = .float
      tensor.bitwidth = width
    case .fixed(let encoding):
      tensor.encoding = encoding
      tensor.encodingSource = .computed
    case .int32:
      guard let constant = tensor.constant else { break }
      tensor.type = TensorType(.int32, tensor.type.shape)
      tensor.constant = Constant(
        type: tensor.type, bytes: Bytes(constant.floats().map { wholeNumber($0) }))
      tensor.encoding = nil
      tensor.encodingSource = nil
    }
    return tensor
  }

  /// Results of integer nodes that only integer nodes read: they become integers under their own name.
  private func integerOnly() -> Set<TensorID> {
    let source = rules.graph
    guard !source.integerNodes.isEmpty else { return [] }
    var result = Set<TensorID>()
    for node in source.nodes where source.integerNodes.contains(node.name) {
      for id in node.outputs where source[id].type.element == .float32 { result.insert(id) }
    }
    result.subtract(source.outputs)
    for node in source.nodes {
      for (slot, id) in node.inputs.enumerated() {
        if let id, rules.need(node, slot) != .int32 { result.remove(id) }
      }
    }
    return result
  }

  private mutating func add(_ source: Node, _ hidden: Set<TensorID>) {
    var node = source
    for slot in source.inputs.indices {
      let need = rules.need(source, slot)
      guard let id = source.inputs[slot], need != .asIs else { continue }
      if let other = converted(id, need) { node.inputs[slot] = other }
    }
    if node.isBorder, let input = node.inputs.first ?? nil {
      switch (graph[input].encoding, node.outputs.first.flatMap { graph[$0].encoding }) {
      case (nil, _?): node.op = Quantize()
      case (_?, nil): node.op = Dequantize()
      default: break
      }
    }
    guard rules.precision(source) == .int32 else { return nodes.append(node) }
    addInteger(node, hidden)
  }

  /// A node on 32-bit integers, and behind it the way back for readers that want other numbers.
  private mutating func addInteger(_ source: Node, _ hidden: Set<TensorID>) {
    var node = source
    var behind: [Node] = []
    for (slot, id) in node.outputs.enumerated() where graph[id].type.element == .float32 {
      let type = TensorType(.int32, graph[id].type.shape)
      if hidden.contains(id) {
        graph[id].type = type
        graph[id].encoding = nil
        graph[id].encodingSource = nil
        if graph[id].state == .given { graph[id].state = .open }
        made[Key(tensor: id, need: .int32)] = id
        continue
      }
      let name = graph[id].name
      let whole = graph.add(
        Tensor(name: names.unique(BorderName.of(name, BorderName.int32)), type: type))
      node.outputs[slot] = whole
      made[Key(tensor: id, need: .int32)] = whole
      var result = id
      if graph[id].encoding != nil {
        result = addFloat(like: id, word: BorderName.float, bitwidth: 32)
        behind.append(
          Node(name: "\(name)_quantize", op: Quantize(), inputs: [result], outputs: [id]))
      }
      behind.insert(
        Node(
          name: "\(graph[result].name)_cast", op: Cast(to: .float32), inputs: [whole],
          outputs: [result]), at: 0)
    }
    checkInteger(node)
    nodes.append(node)
    nodes += behind
  }

  private mutating func checkInteger(_ node: Node) {
    guard !graph.computesInIntegers(node) else { return }
    errors.append(
      Diagnostic(
        "int32-operator", "\(node.op.typeName) cannot compute in 32-bit integers",
        at: .init(node: node.name),
        hint: "leave its tensors out of the 32-bit overrides, or give them 8 or 16 bits"))
  }

  /// A float tensor beside another one.
  private mutating func addFloat(like id: TensorID, word: String, bitwidth: Int) -> TensorID {
    var tensor = Tensor(
      name: names.unique(BorderName.of(graph[id].name, word)),
      type: TensorType(.float32, graph[id].type.shape))
    tensor.state = .float
    if bitwidth == 16 { tensor.bitwidth = 16 }
    return graph.add(tensor)
  }

  /// The tensor that holds another one as a reader needs it; nil after an error.
  private mutating func converted(_ id: TensorID, _ need: OperandNeed) -> TensorID? {
    if let found = made[Key(tensor: id, need: need)] { return found }
    let source = rules.graph[id]
    let op: any Operator
    var input = id
    let result: TensorID
    switch need {
    case .asIs: return id
    case .unknown:
      errors.append(
        Diagnostic(
          "missing-border",
          "it stays float, a fixed-point operator reads it, and nothing tells its range",
          at: .init(tensor: source.name), hint: "give samples by --input_list"))
      made[Key(tensor: id, need: need)] = id
      return nil
    case .float(let width):
      if source.constant != nil, source.encoding == nil { return copied(id, need) }
      op = source.encoding == nil ? Convert() : Dequantize()
      let word = source.encoding == nil ? BorderName.converted : BorderName.dequantized
      result = addFloat(like: id, word: word, bitwidth: width)
    case .int32:
      if source.constant != nil { return copied(id, need) }
      if source.encoding != nil { input = converted(id, .float(32)) ?? id }
      op = Cast(to: .int32)
      result = graph.add(
        Tensor(
          name: names.unique(BorderName.of(source.name, BorderName.int32)),
          type: TensorType(.int32, source.type.shape)))
    case .fixed(let encoding):
      // A constant is quantized again from its float values.
      if source.constant != nil { return copied(id, need) }
      op = source.encoding == nil ? Quantize() : Convert()
      let word = source.encoding == nil ? BorderName.quantized : BorderName.converted
      var tensor = Tensor(
        name: names.unique(BorderName.of(source.name, word)),
        type: TensorType(.float32, source.type.shape))
      tensor.encoding = encoding
      tensor.encodingSource = .computed
      tensor.state = .given
      result = graph.add(tensor)
    }
    made[Key(tensor: id, need: need)] = result
    nodes.append(Node(name: graph[result].name, op: op, inputs: [input], outputs: [result]))
    return result
  }

  /// A copy of a constant as another reader needs it.
  private mutating func copied(_ id: TensorID, _ need: OperandNeed) -> TensorID {
    let source = rules.graph[id]
    var tensor = turned(source, need)
    let word =
      switch need {
      case .int32: BorderName.int32
      case .fixed where source.encoding == nil: BorderName.quantized
      case .asIs, .float, .fixed, .unknown: BorderName.converted
      }
    tensor.name = names.unique(BorderName.of(source.name, word))
    if tensor.encoding != nil { tensor.state = .given }
    let result = graph.add(tensor)
    made[Key(tensor: id, need: need)] = result
    return result
  }
}

/// A float as a 32-bit integer, towards zero as Cast does; what does not fit is at the end of the range.
func wholeNumber(_ value: Float) -> Int32 {
  value.isNaN ? 0 : Int32(max(min(value.rounded(.towardZero), 0x1.fffffep30), -0x1p31))
}
