import IR

/// The fixed-point graph, where overrides and source leave nothing for calibration to decide: every
/// activation and constant has an encoding of theirs, takes one over data-invariant operators, or stays
/// float by choice. nil where something is open, or where nothing was given at all.
///
/// Throws what ``materialize(_:borders:dataInvariantOpsRequantize:)`` throws.
public func materializedIfComplete(_ graph: Graph) throws(Diagnostic) -> Graph? {
  guard !graph.isMaterialized, graph.tensors.contains(where: { $0.encoding != nil }) else {
    return nil
  }
  guard let result = try? assignEncodings(graph, statistics: nil, options: QuantizerOptions()) else {
    return nil
  }
  // Copies of constants that assignment adds come behind the tensors of the graph.
  for (index, tensor) in result.graph.tensors.enumerated() where tensor.encoding != nil {
    let wasGiven = graph.tensors.indices.contains(index) && graph.tensors[index].state != .open
    switch tensor.encodingSource {
    case .override, .source, .spread: continue
    case .fixed, .calibrated, .computed, nil: if !wasGiven { return nil }
    }
  }
  return try result.materialized()
}
