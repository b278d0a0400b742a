import IR

extension Graph {
  /// Whether something is decided about the precision of a tensor or node.
  public var hasDecisions: Bool {
    !integerNodes.isEmpty
      || tensors.contains { $0.state != .open || $0.encoding != nil || $0.bitwidth != nil }
  }

  /// The float graph without anything that overrides and the source said about encodings
  /// (`DLC_STRIP_QUANT`, `--export_stripped_dlc`): all tensors open, no widths, no integer nodes. Float
  /// weights are untouched; those of a materialised graph are dequantized.
  public func strippedOfEncodings() -> Graph {
    var result = dematerialized()
    for index in result.tensors.indices {
      result.tensors[index].encoding = nil
      result.tensors[index].encodingSource = nil
      result.tensors[index].state = .open
      result.tensors[index].bitwidth = nil
      result.tensors[index].isUnfused = false
    }
    result.integerNodes = []
    return result
  }
}
