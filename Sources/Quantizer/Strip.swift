import IR

extension Graph {
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
    }
    result.integerNodes = []
    return result
  }
}
