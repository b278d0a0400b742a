import IR

/// A grid and the codes that may be used of it, on the unsigned grid.
struct CandidateGrid: Sendable, Hashable {
  var grid: ScaleOffset
  var codeMin: Int
  var codeMax: Int

  /// Codes as multiples of the scale.
  var lowest: Double { Double(codeMin + Int(grid.offset)) }
  var highest: Double { Double(codeMax + Int(grid.offset)) }
}

/// What a grid costs on some data: the sum of squared errors, those of clipped values times gamma.
protocol CostModel: Sendable {
  /// Extrema of the data.
  var minimum: Double { get }
  var maximum: Double { get }
  /// Whether so few values are behind it that the cost has many local minima and is cheap.
  var isSmall: Bool { get }
  /// Distances below this are not seen.
  var resolution: Double { get }

  /// A cheaper model of the same data that tells good grids of `bitwidth` bits from bad ones; nil where
  /// there is none.
  func rough(bitwidth: Int) -> HistogramCostModel?

  /// The cost of a grid.
  func cost(_ candidate: CandidateGrid, gamma: Double) -> Double
}

/// Bins of a rough model: four a step at 8 bits.
private let roughBins = 1024

/// Adding and subtracting it rounds Doubles of magnitude below 2^51 to whole numbers, half to even.
private let magic = SIMD8<Double>(repeating: 0x1.8p52)

/// The cost on the values themselves.
struct RawCostModel: CostModel {
  let minimum: Double
  let maximum: Double
  private let values: [Float]
  var isSmall: Bool { values.count <= 0x4000 }
  var resolution: Double { 0 }

  func rough(bitwidth: Int) -> HistogramCostModel? {
    guard !isSmall, bitwidth <= 8 else { return nil }
    return HistogramCostModel(HistogramObserver(values).coarsened(bins: roughBins))
  }

  /// `values` are finite and not empty.
  init(_ values: [Float]) {
    var seen = MinMaxObserver()
    values.withUnsafeBufferPointer { seen.observe($0) }
    minimum = Double(seen.minimum)
    maximum = Double(seen.maximum)
    self.values = values
  }

  func cost(_ candidate: CandidateGrid, gamma: Double) -> Double {
    // Up to 9 bits a Float holds a ratio to 2^-15 of a step: enough for many values.
    values.count >= 64 && max(-candidate.lowest, candidate.highest) <= 512
      ? narrowCost(candidate, gamma: gamma) : wideCost(candidate, gamma: gamma)
  }

  /// The cost computed in Float and summed in Double by runs of values.
  private func narrowCost(_ candidate: CandidateGrid, gamma: Double) -> Double {
    typealias Lanes = SIMD8<Float>
    let scale = Double(candidate.grid.scale)
    let reciprocal = Lanes(repeating: Float(1 / scale))
    let (low, high) = (
      Lanes(repeating: Float(candidate.lowest)), Lanes(repeating: Float(candidate.highest))
    )
    let magic = Lanes(repeating: 0x1.8p23)
    let none = Lanes(repeating: 0)
    let run = 512
    var total = 0.0
    func error(_ ratio: Lanes) -> (square: Lanes, cut: Lanes) {
      let cut = pointwiseMin(pointwiseMax(ratio, low), high)
      let rest = ratio - ((cut + magic) - magic)
      let over = ratio - cut
      return (rest * rest, over)
    }
    func sum(_ ratios: Int, _ ratio: (Int) -> Lanes) {
      var inside = none
      var clipped = none
      for index in 0..<ratios {
        let (square, over) = error(ratio(index))
        inside += square
        if gamma != 1 {
          clipped += none.replacing(with: square, where: (over .> 0.5) .| (over .< -0.5))
        }
      }
      total += Double(inside.sum()) + (gamma - 1) * Double(clipped.sum())
    }
    values.withUnsafeBytes { bytes in
      let whole = values.count & ~7
      var start = 0
      while start < whole {
        let length = min(run, whole - start)
        sum(length / 8) { index in
          bytes.loadUnaligned(fromByteOffset: (start + index * 8) * 4, as: Lanes.self) * reciprocal
        }
        start += length
      }
      if whole < values.count {
        var rest = none
        for lane in 0..<(values.count - whole) { rest[lane] = values[whole + lane] }
        rest *= reciprocal
        // A lane that is left over must be a code, or it would count as an error.
        let fill = min(max(0, low[0]), high[0])
        for lane in (values.count - whole)..<8 { rest[lane] = fill }
        sum(1) { _ in rest }
      }
    }
    return total * scale * scale
  }

  private func wideCost(_ candidate: CandidateGrid, gamma: Double) -> Double {
    typealias Lanes = SIMD8<Double>
    let scale = Double(candidate.grid.scale)
    let reciprocal = Lanes(repeating: 1 / scale)
    let (lowest, highest) = (candidate.lowest, candidate.highest)
    let (low, high) = (Lanes(repeating: lowest), Lanes(repeating: highest))
    let (below, above) = (low - 0.5, high + 0.5)
    var inside = Lanes(repeating: 0)
    var clipped = Lanes(repeating: 0)
    let none = Lanes(repeating: 0)
    func add(_ ratio: Lanes) {
      var code = ratio
      code.replace(with: low, where: ratio .< low)
      code.replace(with: high, where: ratio .> high)
      code = (code + magic) - magic
      let error = ratio - code
      let square = error * error
      inside += square
      clipped += none.replacing(with: square, where: (ratio .< below) .| (ratio .> above))
    }
    values.withUnsafeBytes { bytes in
      var index = 0
      while index &+ 8 <= values.count {
        let lanes = bytes.loadUnaligned(fromByteOffset: index &* 4, as: SIMD8<Float>.self)
        add(Lanes(lanes) * reciprocal)
        index &+= 8
      }
      if index < values.count {
        var rest = none
        for lane in 0..<(values.count - index) { rest[lane] = Double(values[index + lane]) }
        // A lane that is left over must be a code, or it would count as an error.
        let fill = min(max(0, lowest), highest)
        rest *= reciprocal
        for lane in (values.count - index)..<8 { rest[lane] = fill }
        add(rest)
      }
    }
    return (inside.sum() + (gamma - 1) * clipped.sum()) * scale * scale
  }
}

/// The expected cost of a histogram: values are spread evenly inside their bin, but for zeros and the
/// extrema, whose places are known. Where bins are wider than a step the noise is that of even
/// rounding, so only clipping tells grids apart.
struct HistogramCostModel: CostModel {
  let minimum: Double
  let maximum: Double
  /// Ends of the bins, and the weight of each bin divided by its width (a last entry of zero).
  private let edges: [Double]
  private let density: [Double]
  private let points: RawCostModel
  /// The largest value, and how often it occurs beyond the one in `points` where its bin has no width:
  /// a clamp's bound that is the edge of a bin.
  private let top: RawCostModel
  private let topCount: Double
  private let histogram: HistogramObserver
  var isSmall: Bool { false }
  let resolution: Double

  func rough(bitwidth: Int) -> HistogramCostModel? {
    guard histogram.counts.count > roughBins, bitwidth <= 8 else { return nil }
    return HistogramCostModel(histogram.coarsened(bins: roughBins))
  }

  /// The histogram is not empty.
  init(_ histogram: HistogramObserver) {
    self.histogram = histogram
    let extrema = histogram.extrema
    minimum = Double(extrema.minimum)
    maximum = Double(extrema.maximum)
    resolution = histogram.binWidth
    var weights = histogram.counts.map { Double($0) }
    var edges = (0...weights.count).map(histogram.edge)
    edges[0] = minimum
    edges[weights.count] = maximum
    // One value lies at each end; zeros are exact on every grid with zero inside.
    let ends: [Float] = minimum < maximum ? [extrema.minimum, extrema.maximum] : []
    points = RawCostModel(ends.isEmpty ? [0] : ends)
    if minimum < maximum {
      if minimum != 0 { weights[0] -= 1 }
      if maximum != 0 { weights[weights.count - 1] -= 1 }
    }
    let last = weights.count - 1
    top = RawCostModel([extrema.maximum])
    topCount = minimum < maximum && edges[last] >= maximum ? max(weights[last], 0) : 0
    if -histogram.firstBin >= 0, -histogram.firstBin < weights.count {
      weights[-histogram.firstBin] -= Double(extrema.zeros)
    }
    density = zip(weights, zip(edges, edges.dropFirst())).map { weight, ends in
      ends.1 > ends.0 ? max(weight, 0) / (ends.1 - ends.0) : 0
    }
    self.edges = edges
  }

  func cost(_ candidate: CandidateGrid, gamma: Double) -> Double {
    // The integral of the squared error from the grid's zero to each edge, in steps of the grid; a
    // bin costs its density times the difference at its ends.
    typealias Lanes = SIMD8<Double>
    let scale = Double(candidate.grid.scale)
    let (low, high) = (candidate.lowest, candidate.highest)
    let (below, above) = (Lanes(repeating: low - 0.5), Lanes(repeating: high + 0.5))
    let (lowCode, highCode) = (Lanes(repeating: low), Lanes(repeating: high))
    let reciprocal = Lanes(repeating: 1 / scale)
    let third = gamma / 3
    let none = Lanes(repeating: 0)
    func integral(_ edges: Lanes) -> Lanes {
      let ratio = edges * reciprocal
      var inside = ratio
      inside.replace(with: below, where: ratio .< below)
      inside.replace(with: above, where: ratio .> above)
      var code = (inside + magic) - magic
      code.replace(with: lowCode, where: code .< lowCode)
      code.replace(with: highCode, where: code .> highCode)
      let rest = inside - code
      let under = none.replacing(with: ratio - lowCode, where: ratio .< below)
      let over = none.replacing(with: ratio - highCode, where: ratio .> above)
      var result = code * (1.0 / 12) + rest * rest * rest * (1.0 / 3)
      let eighth = none.replacing(with: Lanes(repeating: 0.125), where: ratio .< below)
      let eighthOver = none.replacing(with: Lanes(repeating: 0.125), where: ratio .> above)
      result += (under * under * under + eighth + over * over * over - eighthOver) * third
      return result
    }
    var total = 0.0
    edges.withUnsafeBytes { edges in
      var last = integral(Lanes(repeating: edges.load(as: Double.self)))[0]
      let bins = density.count
      var index = 0
      var sum = none
      while index &+ 8 <= bins {
        let right = edges.loadUnaligned(fromByteOffset: (index &+ 1) &* 8, as: Lanes.self)
        let ends = integral(right)
        var starts = Lanes(lowHalf: .init(repeating: 0), highHalf: .init(repeating: 0))
        starts[0] = last
        for lane in 1..<8 { starts[lane] = ends[lane &- 1] }
        let weight = density.withUnsafeBytes {
          $0.loadUnaligned(fromByteOffset: index &* 8, as: Lanes.self)
        }
        sum += (ends - starts) * weight
        last = ends[7]
        index &+= 8
      }
      total = sum.sum()
      while index < bins {
        let right = edges.load(fromByteOffset: (index &+ 1) &* 8, as: Double.self)
        let end = integral(Lanes(repeating: right))[0]
        total += (end - last) * density[index]
        last = end
        index &+= 1
      }
    }
    // The integral has the cube of the scale, a density the reciprocal of a width.
    let atTop = topCount > 0 ? topCount * top.cost(candidate, gamma: gamma) : 0
    return total * scale * scale * scale + points.cost(candidate, gamma: gamma) + atTop
  }
}
