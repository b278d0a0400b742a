import Calibration
import Foundation
import IR

extension Assigner {
  /// What rounding a bias may cost its layer before a hint is due, in dB.
  private static let noticeable = 1.0

  /// A hint where rounding of 8-bit biases is a large part of the noise of their layers.
  ///
  /// An estimate in the usual model of rounding: a grid of step s adds noise s^2/12, a weight's noise
  /// reaches the output through the power of the input, and outputs, weights and bias are rounded
  /// independently.
  mutating func noteNoisyBiases() {
    var found: [(node: String, cost: Double)] = []
    for id in constants where (uses[id] ?? []).contains(where: { $0.role == .bias }) {
      guard let encoding = graph[id].encoding, encoding.bitwidth < 16, encoding.axis == nil,
        graph[id].encodingSource == .calibrated, let values = graph[id].constant?.floats(),
        let grid = encoding.channels.first, !values.isEmpty
      else { continue }
      let noise = values.reduce(0.0) { sum, value in
        let code = grid.quantize(value, codeMin: encoding.codeMin, codeMax: encoding.codeMax)
        let error = Double(value) - Double(grid.dequantize(code))
        return sum + error * error
      }
      for use in uses[id] ?? [] where use.role == .bias {
        guard let own = outputNoise(graph.nodes[use.node], channels: values.count) else { continue }
        let cost = 10 * log10(1 + noise / Double(values.count) / own)
        if cost > Self.noticeable { found.append((graph.nodes[use.node].name, cost)) }
      }
    }
    guard !found.isEmpty else { return }
    found.sort { ($1.cost, $0.node) < ($0.cost, $1.node) }
    let worst = found.prefix(3).map { "\($0.node) \(String(format: "%.1f", $0.cost)) dB" }
    notes.append(
      Diagnostic(
        "bias-noise",
        "rounding biases to 8 bits costs \(counted(found.count, "layer")) more than 1 dB (estimated): "
          + worst.joined(separator: ", "),
        hint: "--bias_bitwidth 32 has exact biases", severity: .note))
  }

  /// Estimated power of a layer's noise without its bias: rounding of its output and of its weights.
  private func outputNoise(_ node: Node, channels: Int) -> Double? {
    guard let output = node.outputs.first, let made = graph[output].encoding?.channels.first,
      node.inputs.count > 1, let input = node.inputs[0], let weight = node.inputs[1],
      let steps = graph[weight].encoding?.channels, graph[weight].constant != nil
    else { return nil }
    var noise = Double(made.scale) * Double(made.scale) / 12
    if let power = observed[input]?.power {
      let square = steps.reduce(0) { $0 + Double($1.scale) * Double($1.scale) } / Double(steps.count)
      let inner = Double(graph[weight].type.count) / Double(max(channels, 1))
      noise += inner * power * square / 12
    }
    return noise
  }
}

extension ObservedValues {
  /// Mean square: of the histogram's bins, else that of a bell whose range is six deviations wide.
  fileprivate var power: Double {
    guard let histogram, histogram.finiteCount > 0 else {
      let deviation = (range.upperBound - range.lowerBound) / 6
      return deviation * deviation
    }
    var sum = 0.0
    for (index, count) in histogram.counts.enumerated() where count > 0 {
      let middle = (histogram.edge(index) + histogram.edge(index + 1)) / 2
      sum += Double(count) * middle * middle
    }
    return sum / Double(histogram.finiteCount)
  }
}
