import IR
import Operators

/// The last pass: turns annotations into fixed point. Weights become codes, activations and the
/// border get fixed-point types, and where neighbours differ one Convert, Quantize or Dequantize is
/// inserted, shared by all consumers. Integer and boolean tensors stay as they are.
///
/// `borders` tells the encodings by which fixed-point operators read tensors that stay float.
/// Throws `open-tensor` while a float tensor has neither an encoding nor the state float.
public func materialize(
  _ graph: Graph, borders: [TensorID: Encoding] = [:], dataInvariantOpsRequantize: Bool = false
) throws(Diagnostic) -> Graph {
  guard !graph.isMaterialized else { return graph }
  let open = graph.tensors.filter {
    $0.type.element.isFloat && $0.state == .open && $0.encoding == nil
  }
  if let failure = Diagnostic.combining(
    open.map {
      Diagnostic(
        "open-tensor", "it has no encoding and is not float by choice", at: .init(tensor: $0.name))
    })
  {
    throw failure
  }
  var writer = BorderWriter(
    graph: graph,
    rules: BorderRules(graph: graph, borders: borders, requantizes: dataInvariantOpsRequantize))
  for node in graph.nodes { try writer.add(node) }
  var result = writer.graph
  result.nodes = writer.nodes
  for index in result.tensors.indices {
    guard let encoding = result.tensors[index].encoding else { continue }
    let type = result.tensors[index].type
    guard type.element == .float32 else { continue }
    if let problem = encoding.problem(shape: type.shape) {
      throw Diagnostic("bad-encoding", problem, at: .init(tensor: result.tensors[index].name))
    }
    let fixed = TensorType(encoding.storage, type.shape)
    if let constant = result.tensors[index].constant {
      let codes = encoding.quantized(constant.floats(), shape: type.shape)
      result.tensors[index].constant = Constant(type: fixed, bytes: codes)
    }
    result.tensors[index].type = fixed
  }
  result.isMaterialized = true
  if var failure = Diagnostic.combining(result.verify()) {
    failure.kind = .internal
    throw failure
  }
  return result
}

/// Copies the nodes of a graph and puts the operators between precisions before their first reader.
private struct BorderWriter {
  private struct Key: Hashable {
    let tensor: TensorID
    let need: OperandNeed
  }

  var graph: Graph
  let rules: BorderRules
  var nodes: [Node] = []
  private var made: [Key: TensorID] = [:]
  private var names: NameTable

  init(graph: Graph, rules: BorderRules) {
    self.graph = graph
    self.rules = rules
    names = NameTable(graph)
  }

  mutating func add(_ node: Node) throws(Diagnostic) {
    var node = node
    for slot in node.inputs.indices {
      let need = rules.need(node, slot)
      guard let id = node.inputs[slot], need != .asIs else { continue }
      node.inputs[slot] = try converted(id, need)
    }
    if node.isBorder, let input = node.inputs.first ?? nil {
      switch (graph[input].encoding, node.outputs.first.flatMap { graph[$0].encoding }) {
      case (nil, _?): node.op = Quantize()
      case (_?, nil): node.op = Dequantize()
      default: break
      }
    }
    nodes.append(node)
  }

  private mutating func converted(
    _ id: TensorID, _ need: OperandNeed
  ) throws(Diagnostic) -> TensorID {
    if let found = made[Key(tensor: id, need: need)] { return found }
    let source = graph[id]
    var tensor = Tensor(name: "", type: TensorType(.float32, source.type.shape))
    let op: any Operator
    let suffix: String
    switch need {
    case .asIs: return id
    case .unknown:
      throw Diagnostic(
        "missing-border",
        "it stays float, a fixed-point operator reads it, and nothing tells its range",
        at: .init(tensor: source.name), hint: "give samples by --input_list")
    case .float:
      (op, suffix) = (Dequantize(), "dequantized")
      tensor.state = .float
    case .fixed(let encoding):
      let isFixed = source.encoding != nil
      op = isFixed ? Convert() : Quantize()
      suffix = isFixed ? "converted" : "quantized"
      tensor.encoding = encoding
      tensor.encodingSource = .computed
      tensor.state = .given
      // A constant is quantized again from its float values instead.
      tensor.constant = source.constant
    }
    tensor.name = names.unique("\(source.name)_\(suffix)")
    let result = graph.add(tensor)
    made[Key(tensor: id, need: need)] = result
    if tensor.constant == nil {
      nodes.append(Node(name: tensor.name, op: op, inputs: [id], outputs: [result]))
    }
    return result
  }
}

extension Graph {
  /// The float graph of a materialised one: weights dequantized, operators between precisions
  /// removed. Encodings from overrides and from the source stay as annotations, all others are open
  /// again. A graph that is float already is given back as it is.
  public func dematerialized() -> Graph {
    guard isMaterialized else { return self }
    var result = self
    for index in result.tensors.indices where result.tensors[index].type.element.isFixedPoint {
      let tensor = result.tensors[index]
      let type = tensor.type.logical
      if let constant = tensor.constant, let encoding = tensor.encoding {
        let values = encoding.dequantized(constant.integers() ?? [], shape: type.shape)
        result.tensors[index].constant = Constant(values, shape: type.shape)
      }
      result.tensors[index].type = type
    }
    for index in result.tensors.indices {
      switch result.tensors[index].encodingSource {
      case .override, .source: continue
      case .spread, .fixed, .calibrated, .computed, nil:
        result.tensors[index].encoding = nil
        result.tensors[index].encodingSource = nil
        if result.tensors[index].state == .given { result.tensors[index].state = .open }
      }
    }
    let border = Set(outputs)
    var kept: [Node] = []
    var replaced: [TensorID: TensorID] = [:]
    for var node in nodes {
      node.inputs = node.inputs.map { $0.map { replaced[$0] ?? $0 } }
      if node.isBorder, let input = node.inputs.first, let input, let output = node.outputs.first,
        !border.contains(output), result[output].encoding == nil
      {
        replaced[output] = input
      } else {
        if node.isBorder { node.op = Convert() }
        kept.append(node)
      }
    }
    result.nodes = kept
    result.isMaterialized = false
    return result.compacted()
  }
}
