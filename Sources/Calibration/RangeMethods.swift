import Foundation

extension HistogramObserver {
  /// The value below which `share` (0 to 1) of the finite values lie, interpolated linearly inside
  /// its bin; the extrema at the ends.
  func quantile(_ share: Double) -> Double {
    let (least, largest) = (Double(extrema.minimum), Double(extrema.maximum))
    let target = share * Double(finiteCount)
    var below = 0.0
    for (index, count) in counts.enumerated() where count > 0 {
      if below + Double(count) >= target {
        let left = max(edge(index), least)
        let right = min(edge(index + 1), largest)
        return left + (right - left) * max(0, (target - below) / Double(count))
      }
      below += Double(count)
    }
    return largest
  }

  /// The range that clips (100 - `percent`)% of the values at each end.
  func percentileRange(_ percent: Double) -> (min: Double, max: Double) {
    let share = min(max(percent / 100, 0.5), 1)
    return (quantile(1 - share), quantile(share))
  }
}

/// Ranges whose quantized histogram tells most of the histogram.
///
/// Source: the method NVIDIA published for TensorRT ("8-bit Inference with TensorRT", 2017), with both
/// ends searched; values that are exactly zero are left out, because every grid holds them.
struct EntropySearch {
  /// Least mean number of values in a bin.
  static let valuesPerBin = 16

  let bitwidth: Int
  let schema: QuantizerSchema
  let strict: Bool
  let steps: QuantizationSteps?
  let jobs: Int
  private let histogram: HistogramObserver
  private let counts: [Double]
  /// Sums of the counts before each bin.
  private let sums: [Double]

  init(
    _ histogram: HistogramObserver, bitwidth: Int, schema: QuantizerSchema, strict: Bool,
    steps: QuantizationSteps?, jobs: Int
  ) {
    let bins = max(2, histogram.finiteCount / Self.valuesPerBin)
    let histogram = histogram.counts.count > bins ? histogram.coarsened(bins: bins) : histogram
    self.histogram = histogram
    self.bitwidth = bitwidth
    self.schema = schema
    self.strict = strict
    self.steps = steps
    self.jobs = jobs
    var counts = histogram.counts.map { Double($0) }
    if counts.indices.contains(-histogram.firstBin) {
      counts[-histogram.firstBin] -= Double(histogram.extrema.zeros)
    }
    self.counts = counts
    sums = counts.reduce(into: [0]) { $0.append(($0.last ?? 0) + $1) }
  }

  /// The range of least divergence; the observed one where bins are too wide for a choice.
  func range() -> (min: Double, max: Double) {
    let (least, largest) = (Double(histogram.extrema.minimum), Double(histogram.extrema.maximum))
    var best = (least, largest)
    var lowest = divergence(best) ?? .infinity
    guard lowest.isFinite, largest - least >= RangeToEncoding.minimumRange else { return best }
    func visit(_ ranges: [(Double, Double)]) {
      let found = parallelMap(ranges.count, jobs: jobs) { divergence(ranges[$0]) ?? .infinity }
      for (range, value) in zip(ranges, found) where value < lowest { (best, lowest) = (range, value) }
    }
    let shares = (1...32).map { Double($0) / 32 }
    if schema == .asymmetric, least < 0, largest > 0 {
      visit(shares.flatMap { low in shares.map { (least * low, largest * $0) } })
    } else {
      visit((1...128).map { (least * Double($0) / 128, largest * Double($0) / 128) })
    }
    var step = 1.0 / 64
    while step > 1.0 / 2000 {
      let middle = best
      var ranges: [(Double, Double)] = []
      for left in [-1.0, 0, 1] {
        for right in [-1.0, 0, 1] where schema == .asymmetric || left == right {
          let low = middle.0 + left * step * least
          let high = middle.1 + right * step * largest
          if low >= min(least, 0), high <= max(largest, 0), low < high { ranges.append((low, high)) }
        }
      }
      visit(ranges)
      step /= 2
    }
    return best
  }

  /// The divergence of the quantized histogram from the histogram whose values beyond the range are
  /// moved to its ends; nil where steps are narrower than bins.
  private func divergence(_ range: (Double, Double)) -> Double? {
    let candidate = RangeToEncoding.candidate(
      min: range.0, max: range.1, bitwidth: bitwidth,
      schema: histogram.extrema.minimum >= 0 || schema == .asymmetric ? schema : .symmetric,
      strict: strict, steps: steps)
    let scale = Double(candidate.grid.scale)
    guard scale >= histogram.binWidth else { return nil }
    let width = histogram.binWidth
    func place(_ value: Double) -> Int {
      let bin = (value / width).rounded(.down) - Double(histogram.firstBin)
      return Int(min(max(bin, 0), Double(counts.count - 1)))
    }
    var first = place(candidate.lowest * scale)
    var last = place(candidate.highest * scale)
    while first < last, counts[first] == 0 { first += 1 }
    while last > first, counts[last] == 0 { last -= 1 }
    let total = sums[counts.count]
    let inside = sums[last + 1] - sums[first]
    guard total > 0, inside > 0 else { return nil }
    let under = sums[first]
    let over = total - sums[last + 1]
    var result = 0.0
    var index = first
    while index <= last {
      // The bins whose middles share a code.
      let code = ((histogram.edge(index) + width / 2) / scale).rounded()
      let end = min(last + 1, max(index + 1, place((code + 0.5) * scale + width / 2)))
      var filled = 0.0
      for bin in index..<end where counts[bin] > 0 { filled += 1 }
      let even = filled > 0 ? (sums[end] - sums[index]) / filled / inside : 0
      for bin in index..<end where counts[bin] > 0 {
        let moved = (bin == first ? under : 0) + (bin == last ? over : 0)
        let share = (counts[bin] + moved) / total
        result += share * log(share / even)
      }
      index = end
    }
    return result
  }
}
