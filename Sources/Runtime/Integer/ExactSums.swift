import COneDNN
import IR

// 32-bit sums by oneDNN that are exact beyond 2^24 too.

extension IntegerAccumulation {
  /// Primitives whose sums are exact, weights being factor * high + low with the least such factor from `factor` on.
  /// Most of oneDNN's kernels that give 32-bit sums turn them into Float and back: sums of the parts stay below 2^24
  /// there.
  func makeExactSums(
    _ axes: [qdnn_axis], factor least: Int16
  ) throws(Diagnostic) -> (high: OneDNNPrimitive, low: OneDNNPrimitive?, factor: Int16) {
    func parts(_ factor: Int16) -> (high: [Int8], low: [Int8]) {
      let shift = factor.trailingZeroBitCount
      return (
        weights.map { Int8(truncatingIfNeeded: $0 >> shift) },
        weights.map { Int8(truncatingIfNeeded: $0 & (factor - 1)) }
      )
    }
    var (factor, split) = (least, parts(least))
    var high = try make(axes, split.high, channels, nil)
    if !keepsSums(high) {
      while [split.high, split.low].contains(where: { largestSum($0, channels) > Self.exactReach }) {
        // Parts of 64 steps are the largest that every processor multiplies exactly.
        guard factor < 64 else { throw Diagnostic("onednn", "\(high.implementation) rounds sums beyond 2^24") }
        factor *= 2
        split = parts(factor)
      }
      if factor != least { high = try make(axes, split.high, channels, nil) }
    }
    return (high, factor == 1 ? nil : try make(axes, split.low, channels, nil), factor)
  }

  /// Whether a primitive of oneDNN 2.6 that gives 32-bit sums leaves them as they are.
  func keepsSums(_ primitive: OneDNNPrimitive) -> Bool {
    if primitive.implementation.hasPrefix("brg") { return true }
    if case .product = form { return primitive.implementation.hasPrefix("gemm") }
    return false
  }

  /// The largest magnitude of a sum of codes times weights, [..., channels], over all channels and codes.
  func largestSum(_ weights: [Int8], _ channels: Int) -> Int {
    var (positive, negative) = ([Int](repeating: 0, count: channels), [Int](repeating: 0, count: channels))
    for start in stride(from: 0, to: weights.count, by: channels) {
      for channel in 0..<channels {
        let step = Int(weights[start + channel])
        if step > 0 { positive[channel] += step } else { negative[channel] -= step }
      }
    }
    return 255 * max(positive.max() ?? 0, negative.max() ?? 0)
  }
}
