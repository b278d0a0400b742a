extension Graph {
  /// For every tensor whether it lies inside a fused pair: made by a producer whose only reader is an
  /// activation that is quantized together with it. Such a tensor shares the encoding of the
  /// activation's output, is not observed and not simulated (quantization.md, fused pairs; QNN draws
  /// both operators and gives them one encoding). An upper bound a channel, ElementWiseMinimum with a
  /// constant, belongs to the pair behind whose clamp it stands.
  public func fusedIntermediates() -> [TensorID: NodeID] {
    let readers = consumers()
    let border = Set(outputs)
    var result: [TensorID: NodeID] = [:]
    for node in nodes {
      guard node.outputs.count == 1, let output = node.outputs.first, !border.contains(output),
        !self[output].isUnfused,
        readers[output.index].count == 1, let reader = readers[output.index].first,
        self[reader].inputs.first == output, !integerNodes.contains(node.name),
        !integerNodes.contains(self[reader].name)
      else { continue }
      switch (node.op.quantization.fusion, self[reader].op.quantization.fusion) {
      case (.convolution, .clamp), (.convolution, .curve), (.arithmetic, .clamp):
        result[output] = reader
      case (.clamp, .bound):
        guard let input = node.inputs.first, let input, result[input] != nil,
          self[reader].inputs.count == 2, let bound = self[reader].inputs[1],
          self[bound].constant != nil,
          self[reader].outputs.first.map({ self[$0].type.shape })
            == self[output].type.shape
        else { continue }
        result[output] = reader
      default: break
      }
    }
    return result
  }
}
