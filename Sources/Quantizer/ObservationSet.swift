import IR

/// The tensors that calibration watches: every float activation that could carry an encoding of its
/// own under any width, schema or option, so that the statistics stay valid for all of them.
///
/// Left out: the tensor between the halves of a fused pair, outputs of known range, outputs that
/// are never quantized.
public struct ObservationSet: Sendable, Hashable {
  /// Float inputs of the graph.
  public let inputs: [TensorID]
  /// Watched results of nodes, in order of the nodes.
  public let intermediates: [TensorID]

  /// All watched tensors: inputs, then results.
  public var tensors: [TensorID] { inputs + intermediates }

  /// Chooses the tensors of a graph; depends on its structure only, not on annotations, but for
  /// tensors that are unfused and have no encoding yet.
  public init(_ graph: Graph) {
    let inner = graph.innerTensorsOfFusedPairs()
    inputs = graph.inputs.filter { graph[$0].type.element == .float32 }
    var found: [TensorID] = []
    for node in graph.nodes {
      let rule = node.op.quantization
      for (slot, output) in node.outputs.enumerated()
      where graph[output].type.element == .float32 && inner[output] == nil
        && !(graph[output].isUnfused && graph[output].encoding != nil)
      {
        switch rule.output(slot) {
        case .own, .sameAsInput, .tiedToInputs: found.append(output)
        case .fixedUnit, .unquantized: break
        }
      }
    }
    intermediates = found
  }
}

extension Graph {
  /// For each tensor inside a fused pair the output of the whole pair.
  package func innerTensorsOfFusedPairs() -> [TensorID: TensorID] {
    let readers = fusedIntermediates()
    return readers.reduce(into: [:]) { result, pair in
      var last = pair.value
      while let outer = self[last].outputs.first, let next = readers[outer] { last = next }
      if let outer = self[last].outputs.first { result[pair.key] = outer }
    }
  }

  /// The nodes of fused pairs that bound each channel from above, by the constant that holds the bounds.
  func boundsOfFusedPairs() -> [TensorID: NodeID] {
    fusedIntermediates().values.reduce(into: [:]) { result, reader in
      guard self[reader].op.quantization.fusion == .bound, let bound = self[reader].inputs[1] else { return }
      result[bound] = reader
    }
  }
}
