import Calibration
import IR
import Operators

/// Decides about every open tensor without calibration (`--enable_float_fallback`): given encodings
/// spread over data-invariant operators and into fused pairs, biases between given tensors are computed,
/// everything else becomes float at the width that the options say.
///
/// An operator whose result is given but that reads a float tensor of which nothing tells the range, or a
/// weight that is open, computes in float; a Quantize behind it makes the given tensor. Each such
/// operator is a note `float-operator`.
public func assignFloatFallback(
  _ graph: Graph, options: QuantizerOptions
) throws(Diagnostic) -> QuantizationResult {
  try options.validate()
  guard !graph.isMaterialized else {
    throw Diagnostic("already-quantized", "the graph is fixed point already", kind: .internal)
  }
  let kept = try keepingFloat(graph, options.keepFloat)
  if !options.skipNonfinite { try requireNumbers(graph) }
  var assigner = Assigner(graph: kept.graph, options: options, jobs: 1, memo: nil)
  assigner.notes = kept.notes
  assigner.settleFloatTriples()
  try assigner.spreadGiven()
  assigner.findUses()
  assigner.leaveOpenFloat()
  try assigner.assignBiases()
  assigner.findFixedBorders()
  assigner.computeInFloat()
  assigner.settle()
  return QuantizationResult(
    graph: assigner.graph, notes: assigner.notes, borders: assigner.borders,
    dataInvariantOpsRequantize: options.includeDataInvariantOps,
    keepsWeightsQuantized: options.keepsWeightsQuantized, packs4BitWeights: options.packs4BitWeights)
}

/// What is decided of a graph before anything is calibrated: operators left in float, given encodings spread over
/// data-invariant operators and into fused pairs. With `calibrates` false as ``assignFloatFallback(_:options:)``
/// decides. Throws what the options' names have no match for.
public func previewedEncodings(
  _ graph: Graph, options: QuantizerOptions, calibrates: Bool = true
) throws(Diagnostic) -> (graph: Graph, notes: [Diagnostic]) {
  guard calibrates else {
    let result = try assignFloatFallback(graph, options: options)
    return (result.graph, result.notes)
  }
  let kept = try keepingFloat(graph, options.keepFloat)
  var assigner = Assigner(graph: kept.graph, options: options, jobs: 1, memo: nil)
  assigner.notes = kept.notes
  assigner.settleFloatTriples()
  try assigner.spreadGiven()
  return (assigner.graph, assigner.notes)
}

extension Assigner {
  /// Given encodings over data-invariant operators, Concats of equal ones and fused pairs.
  mutating func spreadGiven() throws(Diagnostic) {
    let groups = try ActivationGroups(graph, values: [:], options: options, jobs: 1)
    for node in groups.conflicts {
      notes.append(
        Diagnostic(
          "encoding-conflict",
          "the given encodings of its input and output differ: values are converted",
          at: .init(node: node), severity: .warning))
    }
    for index in graph.tensors.indices where graph.tensors[index].state == .open {
      let id = TensorID(index)
      guard groups.contains(id), let found = groups.encoding(of: id), found.source == .spread
      else { continue }
      give(id, found.encoding, found.source)
    }
    shareInFusedPairs()
  }

  /// Open tensors become float, but for biases, which can still be computed.
  mutating func leaveOpenFloat() {
    let biases = Set(uses.filter { $0.value.allSatisfy { $0.role == .bias } }.keys)
    for index in graph.tensors.indices
    where graph.tensors[index].type.element == .float32 && graph.tensors[index].state == .open {
      let id = TensorID(index)
      guard biases.contains(id) else {
        graph.tensors[index].state = .float
        continue
      }
      let isComputable = (uses[id] ?? []).allSatisfy { use in
        let node = graph.nodes[use.node]
        return node.inputs.prefix(2).allSatisfy { $0.flatMap { graph[$0].encoding } != nil }
      }
      if !isComputable { graph.tensors[index].state = .float }
    }
    constants.removeAll { graph[$0].state == .float }
  }

  /// Encodings for tensors that stay float and whose range is known without samples.
  mutating func findFixedBorders() {
    for node in graph.nodes {
      for (slot, id) in node.outputs.enumerated() where graph[id].state == .float {
        guard case .fixedUnit(let signed) = node.op.quantization.output(slot) else { continue }
        borders[id] = RangeToEncoding.fixedUnit(signed: signed, bitwidth: options.actBitwidth)
      }
    }
  }

  /// Operators that cannot compute in fixed point, because the range of an operand is not known,
  /// compute in float.
  mutating func computeInFloat() {
    let inner = graph.fusedIntermediates()
    var names = NameTable(graph)
    var nodes: [Node] = []
    for index in graph.nodes.indices {
      var node = graph.nodes[index]
      let rules = rules
      guard let slot = node.inputs.indices.first(where: { rules.need(node, $0) == .unknown }) else {
        nodes.append(node)
        continue
      }
      var behind: [Node] = []
      for (slot, id) in node.outputs.enumerated() where graph[id].encoding != nil {
        guard inner[id] == nil else {
          makeFloat(id)
          continue
        }
        let name = graph[id].name
        let float = graph.add(
          Tensor(
            name: names.unique(BorderName.of(name, BorderName.float)), type: graph[id].type))
        makeFloat(float)
        node.outputs[slot] = float
        graph.nodes[index].outputs[slot] = float
        behind.append(
          Node(name: "\(name)_quantize", op: Quantize(), inputs: [float], outputs: [id]))
      }
      let operand = node.inputs[slot].map { graph[$0].name } ?? ""
      notes.append(
        Diagnostic(
          "float-operator",
          "it computes in float: \(operand) is float and nothing tells its range",
          at: .init(node: node.name), severity: .note))
      nodes.append(node)
      nodes += behind
    }
    graph.nodes = nodes
  }

  private mutating func makeFloat(_ id: TensorID) {
    graph[id].encoding = nil
    graph[id].encodingSource = nil
    graph[id].state = .float
    graph[id].bitwidth = options.floatBitwidth == 16 ? 16 : nil
  }
}
