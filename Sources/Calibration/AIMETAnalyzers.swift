/// The range an analyzer proposes.
public struct AnalyzedRange: Sendable, Hashable {
  /// Real value of the lowest and of the highest code.
  public var minimum: Float
  public var maximum: Float

  /// Step of a grid with `numSteps` steps over the range.
  public func scale(numSteps: Int) -> Float { (maximum - minimum) / Float(numSteps) }
}

/// An encoding analyzer as AIMET users know them: takes batches in, proposes a range.
///
/// ```swift
/// var analyzer = SqnrEncodingAnalyzer()
/// analyzer.update([-1, 0.5, 2])
/// let ranges = analyzer.compute(numSteps: 255, symmetric: false)  // one range
/// ```
///
/// Analyzers follow aimet-torch 2.42's search number for number, in Float; ``Calibrator`` is what this
/// toolchain itself calibrates with.
public protocol EncodingAnalyzer: Sendable {
  /// Shape of the ranges: empty for one a tensor; else of the tensor's rank, with 1 or the tensor's
  /// size in each dimension.
  var shape: [Int] { get }
  /// Forgets every batch.
  mutating func reset()
  /// Takes a dense batch of finite values in; `dimensions` is its shape, needed where ``shape`` is not
  /// empty.
  mutating func update(_ values: [Float], dimensions: [Int])
  /// A range for each element of ``shape`` on a grid of `numSteps` steps (codes minus one); empty
  /// before the first batch. Strict symmetric grids have one step less.
  func compute(numSteps: Int, symmetric: Bool) -> [AnalyzedRange]
}

extension EncodingAnalyzer {
  /// Takes a batch in, all of whose values share one range.
  public mutating func update(_ values: [Float]) { update(values, dimensions: [values.count]) }

  /// The values of each range.
  fileprivate func split(_ values: [Float], _ dimensions: [Int]) -> [[Float]] {
    precondition(values.allSatisfy(\.isFinite), "an analyzer takes finite values")
    precondition(dimensions.reduce(1, *) == values.count, "the dimensions do not fit the values")
    guard shape.contains(where: { $0 != 1 }) else { return [values] }
    precondition(
      shape.count == dimensions.count
        && zip(shape, dimensions).allSatisfy { $0 == 1 || $0 == $1 },
      "the analyzer's shape does not fit the batch")
    var parts = [[Float]](repeating: [], count: shape.reduce(1, *))
    for (index, value) in values.enumerated() {
      var (rest, part, stride) = (index, 0, 1)
      for axis in shape.indices.reversed() {
        if shape[axis] != 1 {
          part += rest % dimensions[axis] * stride
          stride *= shape[axis]
        }
        rest /= dimensions[axis]
      }
      parts[part].append(value)
    }
    return parts
  }
}

/// The smallest step: Float's epsilon, or a hundredth over the number of steps.
private func leastScale(_ numSteps: Int) -> Double {
  min(Double(Float.ulpOfOne), 0.01 / Double(numSteps))
}

/// AIMET's min-max analyzer.
public struct MinMaxEncodingAnalyzer: EncodingAnalyzer {
  public let shape: [Int]
  private var ranges: [ClosedRange<Float>] = []

  /// One range, or one for each element of `shape`.
  public init(shape: [Int] = []) { self.shape = shape }

  public mutating func reset() { ranges = [] }

  public mutating func update(_ values: [Float], dimensions: [Int]) {
    guard !values.isEmpty else { return }
    let found = split(values, dimensions).map { part in
      part.reduce(part[0]...part[0]) { min($0.lowerBound, $1)...max($0.upperBound, $1) }
    }
    ranges =
      ranges.isEmpty
      ? found
      : zip(ranges, found).map {
        min($0.lowerBound, $1.lowerBound)...max($0.upperBound, $1.upperBound)
      }
  }

  public func compute(numSteps: Int, symmetric: Bool) -> [AnalyzedRange] {
    ranges.map { range in
      var low = min(range.lowerBound, 0)
      var high = max(range.upperBound, 0)
      let least = Float(leastScale(numSteps))
      let wider = (high - low) / Float(numSteps) < least ? least : 0
      guard symmetric else {
        return AnalyzedRange(minimum: low, maximum: high + Float(numSteps) * wider)
      }
      let (above, below) = (numSteps / 2, (numSteps + 1) / 2)
      high += Float(above) * wider
      low -= Float(below) * wider
      // Two bits: one positive code would double the step.
      let scale = max(high / Float(above + (numSteps == 3 ? 1 : 0)), -low / Float(below))
      return AnalyzedRange(minimum: -Float(below) * scale, maximum: Float(above) * scale)
    }
  }
}

/// AIMET's percentile analyzer: (100 - percentile)% clipped at each end, at left edges of bins.
public struct PercentileEncodingAnalyzer: EncodingAnalyzer {
  public let shape: [Int]
  /// Bins of each histogram.
  public let numBins: Int
  /// Share of the values, in percent, below the upper end: 50 to 100.
  public let percentile: Double
  /// What was seen, one for each range.
  public private(set) var histograms: [AIMETHistogram] = []

  /// One range, or one for each element of `shape`.
  public init(shape: [Int] = [], numBins: Int = 2048, percentile: Double = 100) {
    precondition(numBins > 0 && (50...100).contains(percentile))
    (self.shape, self.numBins, self.percentile) = (shape, numBins, percentile)
  }

  /// An analyzer that has seen a histogram.
  public init(histogram: AIMETHistogram, percentile: Double) {
    self.init(numBins: histogram.counts.count, percentile: percentile)
    histograms = [histogram]
  }

  public mutating func reset() { histograms = [] }

  public mutating func update(_ values: [Float], dimensions: [Int]) {
    guard !values.isEmpty else { return }
    histograms.take(split(values, dimensions), bins: numBins, growthLimit: .infinity)
  }

  public func compute(numSteps: Int, symmetric: Bool) -> [AnalyzedRange] {
    histograms.map { range($0, numSteps, symmetric) }
  }

  private func range(_ histogram: AIMETHistogram, _ numSteps: Int, _ symmetric: Bool) -> AnalyzedRange {
    var sum: Float = 0
    let sums = histogram.counts.map { count in
      sum += count
      return sum
    }
    func first(_ target: Float) -> Int { sums.firstIndex { $0 >= target } ?? sums.count - 1 }
    var top = first(sum * Float(percentile) / 100)
    var bottom = first(sum * Float(1 - percentile / 100))
    if percentile == 100 { (bottom, top) = (0, sums.count) }
    var low = min(histogram.edges[bottom], 0)
    var high = max(histogram.edges[top], 0)
    let least = leastScale(numSteps)
    let (above, below) = (numSteps / 2, (numSteps + 1) / 2)
    if (high - low) / Float(numSteps) < Float(least) {
      if symmetric { low -= Float(least * Double(below)) }
      high += Float(least * Double(symmetric ? above : numSteps))
    }
    guard symmetric else { return AnalyzedRange(minimum: low, maximum: high) }
    let scale = max(high / Float(above), -low / Float(below))
    return AnalyzedRange(minimum: -Float(below) * scale, maximum: Float(above) * scale)
  }
}

extension [AIMETHistogram] {
  /// Takes one batch for each histogram in.
  mutating func take(_ parts: [[Float]], bins: Int, growthLimit: Float) {
    if isEmpty {
      self = parts.map { AIMETHistogram(first: $0, bins: bins, growthLimit: growthLimit) }
    } else {
      for (index, part) in parts.enumerated() { self[index].update(part) }
    }
  }
}

/// AIMET's SQNR analyzer: the candidate of least quantization and clipping noise on a histogram.
public struct SqnrEncodingAnalyzer: EncodingAnalyzer {
  public let shape: [Int]
  /// Bins of each histogram.
  public let numBins: Int
  /// Numbers of scales tried, asymmetric and symmetric, and of offsets.
  public let asymmetricDeltaCandidates: Int
  public let symmetricDeltaCandidates: Int
  public let offsetCandidates: Int
  /// Weight of the squared error of a bin that is clipped.
  public let gamma: Double
  private let growthLimit: Float
  /// What was seen, one for each range.
  public private(set) var histograms: [AIMETHistogram] = []

  /// One range, or one for each element of `shape`. Batches after the first stretch a histogram by at
  /// most `growthLimit / 2` of its first width at each side.
  public init(
    shape: [Int] = [], numBins: Int = 2048, asymmetricDeltaCandidates: Int = 17,
    symmetricDeltaCandidates: Int = 101, offsetCandidates: Int = 21, gamma: Double = 3,
    growthLimit: Float = .infinity
  ) {
    precondition(
      numBins > 0 && asymmetricDeltaCandidates > 1 && symmetricDeltaCandidates > 1
        && offsetCandidates > 2 && gamma > 0)
    self.shape = shape
    self.numBins = numBins
    self.asymmetricDeltaCandidates = asymmetricDeltaCandidates
    self.symmetricDeltaCandidates = symmetricDeltaCandidates
    self.offsetCandidates = offsetCandidates
    self.gamma = gamma
    self.growthLimit = growthLimit
  }

  /// AIMET's `tf_enhanced` analyzer: 512 bins that grow to three times their first range at most.
  public static func tfEnhanced(shape: [Int] = []) -> SqnrEncodingAnalyzer {
    SqnrEncodingAnalyzer(shape: shape, numBins: 512, growthLimit: 3)
  }

  /// A copy with default candidates that has seen a histogram.
  public init(histogram: AIMETHistogram, gamma: Double = 3) {
    self.init(numBins: histogram.counts.count, gamma: gamma)
    histograms = [histogram]
  }

  public mutating func reset() { histograms = [] }

  public mutating func update(_ values: [Float], dimensions: [Int]) {
    guard !values.isEmpty else { return }
    histograms.take(split(values, dimensions), bins: numBins, growthLimit: growthLimit)
  }

  public func compute(numSteps: Int, symmetric: Bool) -> [AnalyzedRange] {
    histograms.map { histogram in
      let trials = candidates(histogram, numSteps, symmetric)
      let costs = trials.map { cost(histogram, $0.delta, $0.offset, numSteps) }
      var best = 0
      for index in trials.indices where costs[index] < costs[best] { best = index }
      let low = trials[best].offset * trials[best].delta
      return AnalyzedRange(minimum: low, maximum: low + Float(numSteps) * trials[best].delta)
    }
  }

  /// What is tried, in AIMET's order.
  func candidates(
    _ histogram: AIMETHistogram, _ numSteps: Int, _ symmetric: Bool
  ) -> [(delta: Float, offset: Float)] {
    let least = leastScale(numSteps)
    let steps = Float(numSteps)
    let low = min(histogram.minimum, 0)
    let high = max(max(histogram.maximum, 0), low + Float(least * Double(numSteps)))
    if symmetric {
      let widest = 2 * max(high, -low) / steps
      return (1...symmetricDeltaCandidates).map {
        let delta = widest * Float($0) / Float(symmetricDeltaCandidates - 1)
        return (max(delta, Float(least)), -Float((numSteps + 1) / 2))
      }
    }
    let widest = (high - low) / steps
    let observed = (low / widest).rounded(.toNearestOrEven)
    let minimum = widest * observed
    let maximum = minimum + widest * steps
    let places = min(numSteps + 2, offsetCandidates)
    let stride = Double(numSteps) / Double(places - 2)
    let count = Int(((stride + Double(numSteps)) / stride).rounded(.up))
    let offsets =
      (0..<count).map { Float(-Double(numSteps) + Double($0) * stride).rounded(.toNearestOrEven) }
      + [observed]
    return (1...asymmetricDeltaCandidates).flatMap { share in
      let delta = widest * Float(share) / Float(asymmetricDeltaCandidates - 1)
      return offsets.map { offset in
        let bottom = max(minimum, delta * offset)
        let top = min(maximum, delta * offset + delta * steps)
        let clamped = max((top - bottom) / steps, Float(least))
        return (clamped, (bottom / clamped).rounded(.toNearestOrEven))
      }
    }
  }

  /// The noise of a candidate, measured at the middles of bins; a clipped bin counts gamma times.
  func cost(_ histogram: AIMETHistogram, _ delta: Float, _ offset: Float, _ numSteps: Int) -> Double {
    let width = histogram.edges[1] - histogram.edges[0]
    let start = histogram.edges[0] + width / 2
    let steps = Float(numSteps)
    var total = 0.0
    for (index, count) in histogram.counts.enumerated() {
      let middle = start + width * Float(index)
      let code = (middle / delta - offset).rounded(.toNearestOrEven)
      let back = (min(max(code, 0), steps) + offset) * delta
      let difference = abs(back - middle)
      let noise = difference * difference * count
      total += Double(code < 0 || code > steps ? noise * Float(gamma) : noise)
    }
    return total
  }
}
