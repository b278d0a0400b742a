import IR

/// The tensors of an operator with weights that are float together: output, weights, bias.
struct FloatTriple {
  /// Behind the activation where there is a fused pair.
  var output: TensorID
  /// Constants; none where an operand takes the place of the weight.
  var weights: [TensorID] = []
  var bias: TensorID?

  /// All of them, the output first.
  var all: [TensorID] { [output] + weights + [bias].compactMap { $0 } }
}

extension Graph {
  /// Operators whose output, weight and bias are float together.
  private static let tripleTypes: Set<String> = [
    "Conv2d", "Conv3d", "TransposeConv2d", "DepthWiseConv2d", "FullyConnected", "MatMul",
  ]

  /// What is float together of an operator; nil for operators without that rule. `inner` are the tensors inside
  /// fused pairs with the activation's output.
  func floatTriple(of node: Node, inner: [TensorID: TensorID]) -> FloatTriple? {
    guard Self.tripleTypes.contains(node.op.typeName), let made = node.outputs.first else { return nil }
    var triple = FloatTriple(output: inner[made] ?? made)
    for (slot, id) in node.inputs.enumerated() {
      guard let id, self[id].constant != nil, self[id].type.element == .float32 else { continue }
      switch node.op.quantization.input(slot) {
      case .weight: triple.weights.append(id)
      case .bias: triple.bias = id
      case .activation, .unquantized: break
      }
    }
    return triple
  }

  /// Weights of which nothing is decided and whose operator stays float: they follow it.
  var weightsOfFloatOperators: Set<TensorID> {
    let inner = innerTensorsOfFusedPairs()
    var result = Set<TensorID>()
    for node in nodes {
      guard let triple = floatTriple(of: node, inner: inner), self[triple.output].state == .float else { continue }
      result.formUnion(triple.weights.filter { self[$0].state == .open })
    }
    return result
  }

  /// Whether an operator takes and gives 32-bit integers in place of float operands.
  func computesInIntegers(_ node: Node) -> Bool {
    func whole(_ type: TensorType) -> TensorType {
      type.element == .float32 ? TensorType(.int32, type.shape) : type
    }
    let types = node.inputs.enumerated().map { slot, id in
      id.map {
        node.op.quantization.input(slot) == .unquantized ? self[$0].type.logical : whole(self[$0].type.logical)
      }
    }
    guard let results = try? node.op.infer(types) else { return false }
    return results == outputTypes(node).map(whole)
  }
}

extension Assigner {
  /// Weights with a given encoding whose operator is float become float too, with a warning, unless they are kept
  /// quantized; those with one of the source only where an override makes the operator float, which says it. A weight
  /// that an integer operator reads as well keeps its encoding.
  mutating func settleFloatTriples() {
    guard !options.keepsWeightsQuantized else { return }
    let inner = graph.innerTensorsOfFusedPairs()
    var readers: [TensorID: (node: String, output: TensorID)] = [:]
    var others = Set<TensorID>()
    for node in graph.nodes {
      let triple = graph.floatTriple(of: node, inner: inner)
      for case let id? in node.inputs where graph[id].constant != nil {
        if let triple, triple.weights.contains(id), graph[triple.output].state == .float {
          readers[id] = readers[id] ?? (node.name, triple.output)
        } else {
          others.insert(id)
        }
      }
    }
    for (id, reader) in readers.sorted(by: { $0.key.index < $1.key.index }) where !others.contains(id) {
      guard graph[id].encoding != nil else { continue }
      switch graph[id].encodingSource {
      case .override:
        notes.append(
          Diagnostic(
            "override-float-triple", "it becomes float because \(graph[reader.output].name) of \(reader.node) is",
            at: .init(tensor: graph[id].name), hint: "--keep_weights_quantized stores it with the encoding given",
            severity: .warning))
      case .source where graph[reader.output].encodingSource == .override: break
      default: continue
      }
      graph[id].encoding = nil
      graph[id].state = .float
      graph[id].bitwidth = graph[reader.output].bitwidth
    }
  }
}
