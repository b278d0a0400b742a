import IR

/// A property that the encodings of a graph should have.
public struct EncodingRule: Sendable {
  /// How grave it is where the rule does not hold.
  public enum Severity: String, Sendable, CaseIterable { case error, warning, off }

  /// Numbers that rules compare with.
  public struct Limits: Sendable {
    /// Largest magnitude of an activation's range.
    public var range = 1000.0
    /// Times that a Concat may make the grid of an input coarser instead of sharing one.
    public var concatGrowth = 4.0
    /// Relative difference of a bias's scale from input scale times weight scale.
    public var biasScale = 1e-5

    /// The limits by which containers are judged unless a file says otherwise.
    public init() {}
  }

  /// A place where a rule does not hold.
  public struct Violation: Sendable, Hashable {
    public var rule: String
    public var severity: Severity
    /// The node concerned, where one is.
    public var node: String?
    public var tensor: String
    public var message: String
  }

  /// In kebab case, as files and reports name it.
  public let name: String
  /// What holds where the rule is kept.
  public let summary: String
  /// How grave it is unless a file says otherwise.
  public let severity: Severity
  let check: @Sendable (EncodedGraph, Limits, inout [Finding]) -> Void

  struct Finding {
    var node: String?
    var tensor: String
    var message: String
  }

  /// Where the rule does not hold in a graph, in its order.
  public func violations(
    in graph: Graph, limits: Limits = Limits(), severity: Severity? = nil
  ) -> [Violation] {
    let severity = severity ?? self.severity
    guard severity != .off else { return [] }
    var found: [Finding] = []
    check(EncodedGraph(graph), limits, &found)
    return found.map {
      Violation(rule: name, severity: severity, node: $0.node, tensor: $0.tensor, message: $0.message)
    }
  }
}

/// A graph with what rules ask about it.
struct EncodedGraph {
  /// An operand of a node with its role.
  struct Operand {
    var node: Node
    var id: TensorID
    var tensor: Tensor
    var role: QuantizationRule.Input
  }

  let graph: Graph
  let fused: [TensorID: NodeID]
  let producers: [NodeID?]

  init(_ graph: Graph) {
    self.graph = graph
    fused = graph.fusedIntermediates()
    producers = graph.producers()
  }

  /// Constant operands that a node's rule calls weight or bias; each tensor once.
  var parameters: [Operand] {
    var seen = Set<TensorID>()
    var found: [Operand] = []
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil else { continue }
        let role = node.op.quantization.input(slot)
        switch role {
        case .weight, .bias: break
        case .activation, .unquantized: continue
        }
        if seen.insert(id).inserted {
          found.append(Operand(node: node, id: id, tensor: graph[id], role: role))
        }
      }
    }
    return found
  }

  /// Tensors that runs compute or are given, that have an encoding in effect.
  var activations: [(id: TensorID, tensor: Tensor)] {
    graph.tensors.enumerated().compactMap { index, tensor in
      guard tensor.constant == nil, tensor.encoding != nil, fused[TensorID(index)] == nil else {
        return nil
      }
      return (TensorID(index), tensor)
    }
  }

  /// The encoding in effect of a tensor: inside a fused pair that of the pair.
  func encoding(_ id: TensorID) -> Encoding? {
    guard let reader = fused[id], let output = graph[reader].outputs.first else {
      return graph[id].encoding
    }
    return graph[output].encoding
  }

  /// What a Convert in front of an operand converts; the operand itself elsewhere.
  func beforeConvert(_ id: TensorID) -> TensorID {
    guard let producer = producers[id.index], graph[producer].op.typeName == "Convert",
      let source = graph[producer].inputs.first ?? nil
    else { return id }
    return source
  }
}

/// A rule of the user's: what the encodings of chosen tensors have to be.
public struct CustomRule: Sendable {
  /// Which place of an operator a tensor has to have.
  public enum Place: String, Sendable, CaseIterable { case output, input, weight, bias }

  public var name: String
  public var severity = EncodingRule.Severity.error
  /// Decides about names of tensors; nil takes all.
  public var tensors: (@Sendable (String) -> Bool)?
  /// Decides about types of operators; nil takes all.
  public var operators: (@Sendable (String) -> Bool)?
  public var place = Place.output
  /// What is required; nil asks nothing.
  public var bitwidth: Int?
  public var symmetric: Bool?
  public var perChannel: Bool?
  public var least: Double?
  public var most: Double?
  /// Whether tensors without an encoding are violations, too.
  public var required = false

  /// A rule that takes every output and asks nothing.
  public init(name: String) { self.name = name }

  /// Where the rule does not hold in a graph, each tensor once.
  public func violations(in graph: Graph) -> [EncodingRule.Violation] {
    guard severity != .off else { return [] }
    let encoded = EncodedGraph(graph)
    var seen = Set<TensorID>()
    var found: [EncodingRule.Violation] = []
    for node in graph.nodes where operators?(node.op.typeName) ?? true {
      for id in operands(node, graph) where tensors?(graph[id].name) ?? true {
        guard graph[id].type.logical.element == .float32, seen.insert(id).inserted else { continue }
        // Inside a fused pair the encoding behind the activation is the one in effect.
        for message in complaints(encoded.encoding(id)) {
          found.append(
            EncodingRule.Violation(
              rule: name, severity: severity, node: node.name, tensor: graph[id].name,
              message: message))
        }
      }
    }
    return found
  }

  private func operands(_ node: Node, _ graph: Graph) -> [TensorID] {
    if place == .output { return node.outputs }
    return node.inputs.enumerated().compactMap { slot, id in
      guard let id else { return nil }
      let role: Place
      switch node.op.quantization.input(slot) {
      case .weight where graph[id].constant != nil: role = .weight
      case .bias where graph[id].constant != nil: role = .bias
      default: role = .input
      }
      return role == place ? id : nil
    }
  }

  private func complaints(_ encoding: Encoding?) -> [String] {
    guard let encoding else { return required ? ["it has no encoding"] : [] }
    var result: [String] = []
    if let bitwidth, encoding.bitwidth != bitwidth {
      result.append("it has \(encoding.bitwidth) bits, not \(bitwidth)")
    }
    if let symmetric, encoding.symmetric != symmetric {
      result.append("it is \(encoding.symmetric ? "symmetric" : "asymmetric")")
    }
    if let perChannel, (encoding.axis != nil) != perChannel {
      result.append(encoding.axis == nil ? "it has one grid" : "it has a grid a channel")
    }
    let low = encoding.channels.indices.map { encoding.minimum(channel: $0) }.min() ?? 0
    let high = encoding.channels.indices.map { encoding.maximum(channel: $0) }.max() ?? 0
    if let least, low < least { result.append("its range begins at \(low), below \(least)") }
    if let most, high > most { result.append("its range ends at \(high), above \(most)") }
    return result
  }
}
