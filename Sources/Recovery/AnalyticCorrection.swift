import Glibc
import IR
import Quantizer

/// Biases that put back what rounding the weights moves the means by, from the statistics of folded
/// BatchNorms alone, without samples (Nagel et al. 1906.04721, section 4.2): the mean of a layer's input is
/// that of a clipped normal distribution.
///
/// Layers whose input is not a layer with such statistics, with a clamp or nothing between, are named in a
/// note and left alone. `statistics` are those of `graph`.
public func analyticallyCorrected(
  _ graph: Graph, statistics: Statistics, quantizer: QuantizerOptions, jobs: Int
) throws(Diagnostic) -> QuantizationResult {
  let float = try keepingFloat(graph, quantizer.keepFloat).graph.withOwnBiases { graph[$0.output].state != .float }
  var bound = statistics
  bound.graphHash = float.observationHash()
  let first = try assignEncodings(float, statistics: bound, options: quantizer, jobs: jobs)
  let layers = Layer.layers(of: float)
  let means = float.inputMeans(layers)
  var improved = float
  var left: [String] = []
  var changed = 0
  for layer in layers {
    guard let encoding = first.graph[layer.weight].encoding, let bias = layer.bias,
      float[bias].state == .open, let old = float.biasValues(layer),
      let weights = ChannelWeights(layer, of: float), weights.outputChannels == old.count
    else { continue }
    guard let mean = means[layer.input], !mean.isEmpty else {
      left.append(layer.name)
      continue
    }
    let shape = float[layer.weight].type.shape
    let rounded = encoding.values(of: encoding.codes(of: weights.values, shape: shape), shape: shape)
    var sums = old.map { Double($0) }
    weights.forEach { place, o, c in
      sums[o] -= Double(rounded[place] - weights.values[place]) * mean[c % mean.count]
    }
    improved.setBias(layer, sums.map { Float($0) })
    changed += 1
  }
  bound.graphHash = improved.observationHash()
  var result = try assignEncodings(improved, statistics: bound, options: quantizer, jobs: jobs)
  if changed == 0 {
    result.notes.append(
      Diagnostic(
        "option-without-effect",
        "bias_correction changed 0 layers: without samples it needs folded BatchNorms, and no layer has one before it",
        hint: "give samples by --input_list", severity: .warning))
  } else if !left.isEmpty {
    result.notes.append(
      Diagnostic(
        "layer-left-alone",
        "without samples the biases of \(left.count) layers are not corrected, the mean of their input is unknown: "
          + left.joined(separator: ", "), severity: .note))
  }
  return result
}

extension Graph {
  /// Means of the channels of tensors that layers with folded BatchNorms make, behind their clamp.
  fileprivate func inputMeans(_ layers: [Layer]) -> [TensorID: [Double]] {
    var result: [TensorID: [Double]] = [:]
    for layer in layers {
      guard let normed = batchNorms[self[layer.output].name] else { continue }
      if layer.result == layer.output {
        result[layer.result] = normed.beta.map { Double($0) }
        continue
      }
      guard let bounds = clamp(behind: layer), bounds.high.count == normed.beta.count else { continue }
      result[layer.result] = normed.beta.indices.map { c in
        clippedMean(
          Double(normed.beta[c]), abs(Double(normed.gamma[c])), Double(bounds.low), Double(bounds.high[c]))
      }
    }
    return result
  }
}

/// The mean of a normal number (mean, deviation) clipped to [low, high].
func clippedMean(_ mean: Double, _ deviation: Double, _ low: Double, _ high: Double) -> Double {
  guard deviation > 1e-12 else { return min(max(mean, low), high) }
  func density(_ z: Double) -> Double { z.isInfinite ? 0 : exp(-z * z / 2) / (2 * Double.pi).squareRoot() }
  func share(_ z: Double) -> Double { 0.5 * erfc(-z / 2.0.squareRoot()) }
  let (a, b) = ((low - mean) / deviation, (high - mean) / deviation)
  var result = mean * (share(b) - share(a)) + deviation * (density(a) - density(b))
  if low.isFinite { result += low * share(a) }
  if high.isFinite { result += high * (1 - share(b)) }
  return result
}
