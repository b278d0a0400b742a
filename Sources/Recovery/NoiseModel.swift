import Calibration
import Glibc
import IR
import Quantizer

/// What the noise objective needs to know of a layer.
struct LayerNoise: Sendable {
  /// Largest magnitude of a weight between each output channel and the inputs of its group.
  var weights: ChannelMagnitudes
  /// Importance of noise in each output, as it leaves the layer.
  var importance: [Double]
  /// For each output, taps times the variance of each input channel that it reads: what (c, o) adds.
  var taps: Double
  /// Variance of each input channel.
  var variance: [Double]
  /// Steps of a weight grid from zero to its largest magnitude.
  var steps: Double
  var isPerChannel: Bool
  /// Whether every output reads one input channel only.
  var inputBoundary: Int?
  var outputBoundary: Int?
}

/// What the noise objective needs to know of the tensor at a boundary.
struct BoundaryNoise: Sendable {
  /// Observed ends of each channel, zero inside.
  var low: [Double]
  var high: [Double]
  /// Importance of noise in each channel of the tensor.
  var importance: [Double]
  var steps: Double
  /// Channels whose scale is free.
  var isFree: [Bool]
}

/// The modelled noise of quantized weights and activations as a function of the scales of all
/// boundaries, and its descent.
///
/// Layer: step^2 / 12 for each weight, times the variance of what it meets (bias correction removes the
/// mean), back in the source's units; boundary: step^2 / 12 times the importance of each channel. The
/// logarithm of the sum is minimised over logarithms of scales by Adam (Kingma, Ba 1412.6980).
struct NoiseModel: Sendable {
  var layers: [LayerNoise]
  var boundaries: [BoundaryNoise]
  var jobs: Int

  /// The scales of all boundaries, one a channel, starting from ones, or from `start` where that is better.
  func minimised(steps: Int, start other: [[Double]]? = nil) -> [[Double]] {
    let zeros = boundaries.map { [Double](repeating: 0, count: $0.low.count) }
    var (logs, first, second) = (zeros, zeros, zeros)
    if let other {
      let given = zip(other, boundaries).map { scales, boundary in
        scales.indices.map { boundary.isFree[$0] ? log(scales[$0]) : 0 }
      }
      if value(given).value < value(zeros).value { logs = given }
    }
    let (start, end) = (0.05, 1e-4)
    for step in 0..<steps {
      let (_, gradient) = value(logs)
      let rate = start + (end - start) * Double(step) / Double(max(steps - 1, 1))
      let (c1, c2) = (1 - pow(0.9, Double(step + 1)), 1 - pow(0.999, Double(step + 1)))
      for b in logs.indices {
        for c in logs[b].indices where boundaries[b].isFree[c] {
          let g = gradient[b][c]
          first[b][c] = 0.9 * first[b][c] + 0.1 * g
          second[b][c] = 0.999 * second[b][c] + 0.001 * g * g
          logs[b][c] -= rate * (first[b][c] / c1) / ((second[b][c] / c2).squareRoot() + 1e-8)
        }
      }
    }
    return logs.map { $0.map { exp($0) } }
  }

  /// The logarithm of the noise and its derivative by the logarithms of the scales.
  func value(_ logs: [[Double]]) -> (value: Double, gradient: [[Double]]) {
    let scales = logs.map { $0.map { exp($0) } }
    let parts = parallelMap(layers.count, jobs: jobs) { layerNoise(layers[$0], scales) }
    var gradient = logs.map { $0.map { _ in 0.0 } }
    var total = 0.0
    for (layer, part) in zip(layers, parts) {
      total += part.noise
      if let b = layer.inputBoundary { for (c, g) in part.byInput.enumerated() { gradient[b][c] += g } }
      if let b = layer.outputBoundary { for (o, g) in part.byOutput.enumerated() { gradient[b][o] += g } }
    }
    for (b, boundary) in boundaries.enumerated() {
      let t = scales[b]
      var (high, low) = (0.0, 0.0)
      var (highest, lowest) = (-1, -1)
      for c in t.indices {
        if boundary.high[c] * t[c] > high { (high, highest) = (boundary.high[c] * t[c], c) }
        if boundary.low[c] * t[c] < low { (low, lowest) = (boundary.low[c] * t[c], c) }
      }
      let range = high - low
      guard range > 0 else { continue }
      let unit = range / boundary.steps * (range / boundary.steps) / 12
      var sum = 0.0
      for c in t.indices {
        let share = boundary.importance[c] / (t[c] * t[c])
        sum += share
        gradient[b][c] -= 2 * unit * share
      }
      let noise = unit * sum
      total += noise
      if highest >= 0 { gradient[b][highest] += 2 * noise * high / range }
      if lowest >= 0 { gradient[b][lowest] -= 2 * noise * low / range }
    }
    guard total > 0 else { return (0, gradient) }
    return (log(total), gradient.map { $0.map { $0 / total } })
  }

  private struct Part: Sendable {
    var noise = 0.0
    var byInput: [Double]
    var byOutput: [Double]
  }

  private func layerNoise(_ layer: LayerNoise, _ scales: [[Double]]) -> Part {
    let outputs = layer.importance.count
    let tin = layer.inputBoundary.map { scales[$0] } ?? []
    let tout = layer.outputBoundary.map { scales[$0] } ?? []
    // A flattened input repeats the channels of the boundary.
    let period = max(tin.count, 1)
    func inScale(_ c: Int) -> Double { tin.isEmpty ? 1 : tin[c % period] }
    var part = Part(
      byInput: [Double](repeating: 0, count: tin.count), byOutput: [Double](repeating: 0, count: tout.count))
    let (depth, each) = (layer.weights.depth, layer.weights.outputsOfGroup)
    // The input noise that the outputs of a group add up, and the largest scaled weight of each output.
    var energy = [Double](repeating: 0, count: (outputs + each - 1) / each)
    for g in energy.indices {
      for c in g * depth..<(g + 1) * depth { energy[g] += layer.variance[c] * inScale(c) * inScale(c) }
    }
    let at = layer.weights.largest { inScale($0) }
    let largest = at.indices.map { o -> Double in
      Double(layer.weights.values[(at[o] - o / each * depth) * outputs + o]) / inScale(at[o])
    }
    /// What more energy of the inputs would add, by groups.
    func addEnergy(_ weightOf: [Double]) {
      guard !tin.isEmpty else { return }
      for g in energy.indices {
        for c in g * depth..<(g + 1) * depth {
          part.byInput[c % period] += 2 * weightOf[g] * layer.variance[c] * inScale(c) * inScale(c)
        }
      }
    }
    let steps = layer.steps * layer.steps * 12
    if layer.isPerChannel {
      // The output's own scale is in its step and in its units: it cancels.
      var weightOf = energy.map { _ in 0.0 }
      for o in 0..<outputs {
        let unit = largest[o] * largest[o] / steps * layer.taps
        let noise = layer.importance[o] * unit * energy[o / each]
        part.noise += noise
        weightOf[o / each] += layer.importance[o] * unit
        if !tin.isEmpty { part.byInput[at[o] % period] -= 2 * noise }
      }
      addEnergy(weightOf)
      return part
    }
    var (whole, output) = (0.0, -1)
    for o in 0..<outputs {
      let value = largest[o] * (tout.isEmpty ? 1 : tout[o])
      if value > whole { (whole, output) = (value, o) }
    }
    guard output >= 0 else { return part }
    let unit = whole * whole / steps * layer.taps
    var shares = energy.map { _ in 0.0 }
    for o in 0..<outputs {
      let t = tout.isEmpty ? 1 : tout[o]
      let share = layer.importance[o] / (t * t)
      shares[o / each] += unit * share
      let noise = unit * share * energy[o / each]
      part.noise += noise
      if !tout.isEmpty { part.byOutput[o] -= 2 * noise }
    }
    if !tout.isEmpty { part.byOutput[output] += 2 * part.noise }
    if !tin.isEmpty { part.byInput[at[output] % period] -= 2 * part.noise }
    addEnergy(shares)
    return part
  }
}
