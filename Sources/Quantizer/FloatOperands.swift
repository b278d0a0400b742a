import IR

extension Graph {
  /// Open activations that nothing but operands which are never quantized reads (coordinates of a GridSample, boxes),
  /// directly or through operators that only move data: on a grid they would lose what they are for. Results of
  /// layers with weights are not among them, nor outputs of the graph.
  ///
  /// Inputs of the graph that only such operators read stay float, too.
  func activationsOfFloatOperands() -> Set<TensorID> {
    let readers = consumers()
    let producers = producers()
    let borders = Set(outputs)
    let pairs = fusedIntermediates()
    let fused = Set(pairs.keys).union(pairs.values.flatMap { self[$0].outputs })
    var found = Set<TensorID>()

    func isCandidate(_ id: TensorID) -> Bool {
      let tensor = self[id]
      return tensor.type.element == .float32 && tensor.constant == nil && tensor.state == .open
        && tensor.bitwidth == nil && !borders.contains(id) && !fused.contains(id) && !readers[id.index].isEmpty
    }
    /// Whether a node takes what it reads there, and gives it on, as float.
    func isFloat(_ node: Node, _ slot: Int) -> Bool {
      if node.op.quantization.input(slot) == .unquantized { return true }
      return node.outputs.indices.allSatisfy { output in
        node.op.quantization.output(output) == .sameAsInput(slot) && found.contains(node.outputs[output])
      }
    }
    func isReadAsFloat(_ id: TensorID) -> Bool {
      readers[id.index].allSatisfy { reader in
        self[reader].inputs.indices.allSatisfy { self[reader].inputs[$0] != id || isFloat(self[reader], $0) }
      }
    }
    for node in nodes.reversed() {
      let hasWeights = node.inputs.indices.contains { slot in
        if case .weight = node.op.quantization.input(slot) { node.inputs[slot] != nil } else { false }
      }
      guard !hasWeights, !node.outputs.isEmpty,
        node.outputs.allSatisfy({ isCandidate($0) && producers[$0.index] != nil && isReadAsFloat($0) })
      else { continue }
      found.formUnion(node.outputs)
    }
    let floatNodes = Set(nodes.indices.filter { index in nodes[index].outputs.contains(where: found.contains) })
    for id in inputs where isCandidate(id) {
      let isAmongFloats = readers[id.index].allSatisfy { floatNodes.contains($0.index) }
      if isReadAsFloat(id) || isAmongFloats { found.insert(id) }
    }
    return found
  }
}
