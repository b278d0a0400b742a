/// The histogram of AIMET's analyzers: a fixed number of bins exactly over the range of the first
/// batch, stretched by later ones. Not a monoid: its counts depend on the order of the batches.
/// ``HistogramObserver`` is the one this toolchain calibrates with.
///
/// Source: aimet-torch 2.42's observable behaviour; all numbers are Float, as there.
public struct AIMETHistogram: Sendable, Hashable {
  /// Values a bin; stretched histograms share bins out, so these need not be whole.
  public private(set) var counts: [Float]
  /// Ends of the bins, one more than ``counts``.
  public private(set) var edges: [Float]
  /// Range that the histogram speaks for.
  public private(set) var minimum: Float
  public private(set) var maximum: Float
  /// How far later batches may stretch it.
  private var limits: (low: Float, high: Float) { (lowLimit, highLimit) }
  private var lowLimit: Float
  private var highLimit: Float

  /// A histogram made elsewhere; `edges` has one element more than `counts`, in rising order.
  public init(counts: [Float], edges: [Float]) {
    precondition(!counts.isEmpty && edges.count == counts.count + 1)
    self.counts = counts
    self.edges = edges
    (minimum, maximum) = (edges[0], edges[counts.count])
    (lowLimit, highLimit) = (-.infinity, .infinity)
  }

  /// The histogram of a first batch of finite values; later ones may stretch the range by
  /// `growthLimit / 2` of its width at each side.
  init(first values: [Float], bins: Int, growthLimit: Float) {
    let (low, high) = Self.range(values)
    edges = Self.edges(low, high, bins)
    (minimum, maximum) = (low, high)
    counts = [Float](repeating: 0, count: bins)
    let width = edges[bins] - edges[0]
    let growth = width * growthLimit / 2
    lowLimit = edges[0] - growth
    highLimit = edges[bins] + growth
    count(values, edges[0], edges[bins])
  }

  /// Takes a later batch of finite values in.
  mutating func update(_ values: [Float]) {
    let bins = counts.count
    let (low, high) = Self.range(values)
    let least = min(max(low, limits.low), edges[0])
    let largest = min(max(high, edges[bins]), limits.high)
    if !(least == minimum && largest == maximum) { stretch(least, largest) }
    count(values, least, largest)
    edges = Self.edges(least, largest, bins)
    (minimum, maximum) = (least, largest)
  }

  /// Moves each bin to the new bin that holds its left edge; what lies beyond that bin's end goes one
  /// new width further.
  private mutating func stretch(_ least: Float, _ largest: Float) {
    let bins = counts.count
    let width = (largest - least) / Float(bins)
    let oldWidth = edges[1] - edges[0]
    func place(_ value: Float) -> Int { min(Int((value - least) / width), bins - 1) }
    var moved = [Float](repeating: 0, count: bins)
    var rests: [(Int, Float)] = []
    for index in 0..<bins {
      let left = edges[index]
      let target = place(left)
      let end = least + width * Float(target + 1)
      let part = min(((end - left) / oldWidth * counts[index]).rounded(.toNearestOrEven), counts[index])
      moved[target] += part
      if part < counts[index] { rests.append((place(left + width), counts[index] - part)) }
    }
    for (target, rest) in rests { moved[target] += rest }
    counts = moved
  }

  /// Counts values in `counts.count` bins over a range; what lies outside goes to the ends.
  private mutating func count(_ values: [Float], _ least: Float, _ largest: Float) {
    let bins = counts.count
    var (low, high) = (least, largest)
    if low == high { (low, high) = (low - 1, high + 1) }
    var found = [Float](repeating: 0, count: bins)
    for value in values {
      if value < low {
        found[0] += 1
      } else if value > high {
        found[bins - 1] += 1
      } else {
        found[min(Int((value - low) / (high - low) * Float(bins)), bins - 1)] += 1
      }
    }
    for index in 0..<bins { counts[index] += found[index] }
  }

  private static func range(_ values: [Float]) -> (Float, Float) {
    values.reduce((.infinity, -.infinity)) { (min($0.0, $1), max($0.1, $1)) }
  }

  private static func edges(_ low: Float, _ high: Float, _ bins: Int) -> [Float] {
    let (low, high) = low == high ? (low - 0.5, high + 0.5) : (low, high)
    let step = (high - low) / Float(bins)
    return (0...bins).map { Float($0) * step + low }
  }
}
