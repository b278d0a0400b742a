import IR
import Quantizer

/// Gives a float graph its encodings with the weights and biases that `options` ask for: scales, rounding
/// and bias correction, layer by layer on quantized inputs.
///
/// `statistics` are those of `graph`, observed before. `cache` bytes may be kept of all samples together;
/// what does not fit is computed again. `progress` is told the layer that is worked on. `checkpoint` keeps
/// what was found of each layer, and gives it back to a run with the same graph, options and samples.
///
/// Throws what ``Quantizer/assignEncodings(_:statistics:options:jobs:)`` and the runtime throw.
public func recovered(
  _ graph: Graph, statistics: Statistics, quantizer: QuantizerOptions, options: RecoveryOptions,
  samples: SampleSet, cache: Int, checkpoint: Checkpoint? = nil,
  progress: (@Sendable (_ layer: String, _ done: Int, _ total: Int) -> Void)? = nil
) throws(Diagnostic) -> QuantizationResult {
  let float = try keepingFloat(graph, quantizer.keepFloat).graph.withOwnBiases { layer in
    graph[layer.output].state != .float
  }
  var bound = statistics
  bound.graphHash = float.observationHash()
  let first = try assignEncodings(float, statistics: bound, options: quantizer, jobs: samples.jobs)
  let quantized = try first.materialized()
  var walk = LayerWalk(
    float: float, options: options, quantizer: quantizer, samples: samples, cache: cache,
    givenWeights: float.namesGiven(), givenBiases: float.namesGiven())
  walk.progress = progress
  if let checkpoint {
    walk.known = { (index, layer) throws(Diagnostic) in try checkpoint.update(index, layer: layer) }
    walk.keep = { (index, update) throws(Diagnostic) in try checkpoint.keep(index, update) }
  }
  var notes: [Diagnostic] = []
  let updates = try walk.run(quantized, notes: &notes)
  var improved = float
  improved.apply(updates)
  bound.graphHash = improved.observationHash()
  var result = try assignEncodings(improved, statistics: bound, options: quantizer, jobs: samples.jobs)
  // Weights that were found here are given to the second assignment: what it says of open weights is about
  // the others only, the first one spoke of all.
  result.notes.removeAll { $0.code == "option-without-effect" && !first.notes.contains($0) }
  result.notes += first.notes.filter {
    ["zero-channels", "unsigned-channels"].contains($0.code) && !result.notes.contains($0)
  }
  result.notes += notes
  if updates.isEmpty {
    result.notes.append(
      Diagnostic(
        "option-without-effect", "--apply_algorithms changed 0 layers: none has quantized weights",
        severity: .warning))
  }
  return result
}

extension Graph {
  /// Names of the tensors that are given an encoding, or stay float.
  fileprivate func namesGiven() -> Set<String> {
    Set(tensors.lazy.filter { $0.state != .open }.map(\.name))
  }

  /// Puts what was found into a float graph: weights on their grids with these as their encodings,
  /// biases.
  mutating func apply(_ updates: [LayerUpdate]) {
    let layers = Dictionary(grouping: Layer.layersWithStates(of: self)) { $0.name }
    for update in updates {
      guard let found = layers[update.node], let first = found.first else { continue }
      if let weight = update.weight, let layer = found.first(where: { self[$0.weight].name == weight.name }),
        self[layer.weight].state == .open
      {
        setWeight(layer, weight.values)
        self[layer.weight].encoding = weight.encoding
        self[layer.weight].encodingSource = .calibrated
        self[layer.weight].state = .given
      }
      if let bias = update.bias { setBias(first, bias) }
    }
  }
}
