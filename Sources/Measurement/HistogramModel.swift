import Calibration
import Foundation
import IR

extension HistogramObserver {
  /// Estimated signal to quantization noise in dB of the values behind a histogram on a grid; nil where there
  /// are none. Exact zeros count as such; inside a bin values are spread evenly.
  public func estimatedSQNR(_ encoding: Encoding) -> Double? {
    guard finiteCount > 0, encoding.axis == nil, let grid = encoding.channels.first else { return nil }
    let step = Double(grid.scale)
    let (low, high) = (encoding.minimum(), encoding.maximum())
    var (signal, noise) = (0.0, 0.0)
    func error(_ value: Double) -> Double {
      if value < low || value > high { return value < low ? low - value : value - high }
      let code = grid.quantize(Float(value), codeMin: encoding.codeMin, codeMax: encoding.codeMax)
      return value - Double(grid.dequantize(code))
    }
    let points = 8
    for (index, all) in counts.enumerated() where all > 0 {
      let count = index == -firstBin ? Double(all) - Double(extrema.zeros) : Double(all)
      let left = edge(index)
      for point in 0..<points {
        let value = left + binWidth * (Double(point) + 0.5) / Double(points)
        signal += count * value * value / Double(points)
        let isInside = value >= low && value <= high
        let difference = error(value)
        // In a bin wider than a step the points tell nothing of where values lie between two codes.
        noise += count / Double(points) * (isInside && binWidth >= step ? step * step / 12 : difference * difference)
      }
    }
    let zero = error(0)
    noise += Double(extrema.zeros) * zero * zero
    guard signal > 0 else { return noise > 0 ? -.infinity : .infinity }
    return decibels(noiseRatio: noise / signal)
  }
}
