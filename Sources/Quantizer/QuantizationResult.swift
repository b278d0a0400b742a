import IR

/// A graph whose tensors carry their encodings, and what there is to say about it.
public struct QuantizationResult: Sendable {
  /// The annotated graph; still float (see ``materialized()``).
  public var graph: Graph
  /// Warnings and notes, in the order of the graph.
  public var notes: [Diagnostic]
  /// Encodings by which integer operators read tensors that stay float.
  public var borders: [TensorID: Encoding]
  /// Whether data-invariant operators requantize (`--include_data_invariant_ops`).
  public var dataInvariantOpsRequantize: Bool

  /// Whether weights of float operators stay fixed point (`--keep_weights_quantized`).
  public var keepsWeightsQuantized = false
  /// Whether 4-bit weights are stored two a byte (`--pack_4_bit_weights`).
  public var packs4BitWeights = false

  /// The fixed-point graph, by ``materialize(_:borders:dataInvariantOpsRequantize:)``.
  public func materialized() throws(Diagnostic) -> Graph {
    try materialize(
      graph, borders: borders, dataInvariantOpsRequantize: dataInvariantOpsRequantize,
      keepsWeightsQuantized: keepsWeightsQuantized, packs4BitWeights: packs4BitWeights)
  }

  /// How many tensors have their encoding from each source.
  public var coverage: [EncodingSource: Int] {
    graph.tensors.reduce(into: [:]) { counts, tensor in
      if tensor.encoding != nil, let source = tensor.encodingSource {
        counts[source, default: 0] += 1
      }
    }
  }
}
