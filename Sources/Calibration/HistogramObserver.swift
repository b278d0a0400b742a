/// Extrema and a histogram of what was seen: a monoid (``init()``, ``observe(_:)``, ``merge(_:)``)
/// of integers and extrema, so the result is the same for every split and order of the data.
///
/// Bin `i` covers `[(firstBin + i) * w, (firstBin + i + 1) * w)` with `w = 2^binExponent`. The exponent
/// is the least for which the extrema lie within ``maximumBins`` bins; a bin is never narrower than
/// the spacing of Floats at the largest magnitude. As the range grows neighbours are joined in pairs,
/// which gives the counts of binning again: `floor(floor(x / w) / 2) = floor(x / 2w)`.
///
/// Source: the project's quantization specification, section 2.1.
public struct HistogramObserver: Sendable, Hashable {
  /// Most bins that a histogram has.
  public static let maximumBins = 4096

  /// Extrema, counts of zeros and of non-finite values.
  public private(set) var extrema = MinMaxObserver()
  /// Logarithm to base two of a bin's width; meaningful while ``counts`` is not empty.
  public private(set) var binExponent = 0
  /// Number of the first bin: its left edge is `firstBin * 2^binExponent`, the least value lies in it.
  public private(set) var firstBin = 0
  /// Finite values by bin, from the bin of the least value to the bin of the largest.
  public private(set) var counts: [UInt64] = []

  /// The empty observer.
  public init() {}

  /// Summarises values at once.
  public init(_ values: [Float]) {
    values.withUnsafeBufferPointer { observe($0) }
  }

  /// Width of a bin.
  public var binWidth: Double { Double(sign: .plus, exponent: binExponent, significand: 1) }

  /// Finite values seen.
  public var finiteCount: Int { extrema.count - extrema.nonFinite }

  /// The left edge of bin `index`; `counts.count` gives the right edge of the last.
  public func edge(_ index: Int) -> Double { Double(firstBin + index) * binWidth }

  /// Adds what another observer saw after this one.
  public mutating func merge(_ other: HistogramObserver) {
    let isFirst = !extrema.hasRange
    extrema.merge(other.extrema)
    guard other.extrema.hasRange else { return }
    if isFirst {
      (binExponent, firstBin, counts) = (other.binExponent, other.firstBin, other.counts)
      return
    }
    regrow()
    let shift = binExponent - other.binExponent
    for (index, count) in other.counts.enumerated() {
      counts[((other.firstBin + index) >> shift) - firstBin] &+= count
    }
  }

  /// The same data in at most `bins` bins (1 or more; two where the data has both signs).
  public func coarsened(bins: Int) -> HistogramObserver {
    var result = self
    while result.counts.count > max(bins, 2) { result.rebin(exponent: result.binExponent + 1) }
    return result
  }

  /// Adds values; they are only read.
  public mutating func observe(_ values: UnsafeBufferPointer<Float>) {
    var seen = MinMaxObserver()
    seen.observe(values)
    observe(values, seen: seen, scratch: HistogramScratch())
  }

  /// Adds values with the extrema `seen`. `scratch` is the caller's, used by one thread at a time: an
  /// observer needs it only during the call, so many share one.
  package mutating func observe(
    _ values: UnsafeBufferPointer<Float>, seen: MinMaxObserver, scratch: HistogramScratch
  ) {
    let before = (extrema.minimum, extrema.maximum)
    extrema.merge(seen)
    guard let base = values.baseAddress, seen.hasRange else { return }
    if before != (extrema.minimum, extrema.maximum) { regrow() }
    let binning = self.binning
    guard seen.nonFinite == 0 else {
      for value in values where value.isFinite { counts[binning.bin(value)] &+= 1 }
      return
    }
    counts.withUnsafeMutableBufferPointer { counts in
      scratch.count(base, values.count, binning, into: counts)
    }
  }

  /// Restores what was saved: `extrema` and the counts of all bins that they span. nil where the counts
  /// do not fit the extrema.
  package init?(extrema: MinMaxObserver, counts: [UInt64]) {
    self.extrema = extrema
    guard extrema.hasRange else { return nil }
    regrow()
    guard counts.count == self.counts.count, counts.first ?? 0 > 0, counts.last ?? 0 > 0 else {
      return nil
    }
    var total: UInt64 = 0
    for count in counts {
      let (sum, overflow) = total.addingReportingOverflow(count)
      guard !overflow else { return nil }
      total = sum
    }
    let zeros = counts.indices.contains(-firstBin) ? counts[-firstBin] : 0
    guard total == UInt64(finiteCount), zeros >= UInt64(extrema.zeros) else { return nil }
    self.counts = counts
  }

  /// Brings the bins to the extrema.
  private mutating func regrow() {
    rebin(exponent: Self.exponent(minimum: extrema.minimum, maximum: extrema.maximum))
  }

  /// Joins bins to those of a width at least as large, spanning exactly the extrema.
  private mutating func rebin(exponent: Int) {
    let scale = Double(sign: .plus, exponent: -exponent, significand: 1)
    let first = Int((Double(extrema.minimum) * scale).rounded(.down))
    let last = Int((Double(extrema.maximum) * scale).rounded(.down))
    guard exponent != binExponent || first != firstBin || last - first + 1 != counts.count else {
      return
    }
    var joined = [UInt64](repeating: 0, count: last - first + 1)
    let shift = exponent - binExponent
    for (index, count) in counts.enumerated() {
      joined[((firstBin + index) >> shift) - first] &+= count
    }
    (binExponent, firstBin, counts) = (exponent, first, joined)
  }

  /// The exponent of the bin width for a range.
  static func exponent(minimum: Float, maximum: Float) -> Int {
    let largest = max(abs(minimum), abs(maximum))
    guard largest > 0 else { return -149 }
    var exponent = max(Int(largest.exponent) - 23, -149)
    while true {
      let scale = Double(sign: .plus, exponent: -exponent, significand: 1)
      let first = (Double(minimum) * scale).rounded(.down)
      let last = (Double(maximum) * scale).rounded(.down)
      if last - first < Double(maximumBins) { return exponent }
      exponent += 1
    }
  }

  private var binning: HistogramBinning {
    HistogramBinning(exponent: binExponent, first: firstBin, bins: counts.count)
  }
}

/// From values to places among the counts of a histogram; every value lies inside.
struct HistogramBinning {
  let exponent: Int
  let first: Int
  let bins: Int

  /// The plain form; products of Double are exact here.
  func bin(_ value: Float) -> Int {
    let scaled = Double(value) * Double(sign: .plus, exponent: -exponent, significand: 1)
    return Int(scaled.rounded(.down)) - first
  }

  /// Whether the array form holds: 2^-exponent is a Float, and bin numbers stay where adding
  /// 1.5 * 2^23 rounds to whole numbers.
  var isFast: Bool { exponent > -127 && first > -0x20_0000 && first + bins < 0x20_0000 }

  /// Places of `count` values.
  func bins(_ values: UnsafePointer<Float>, _ count: Int, into result: UnsafeMutablePointer<Int32>) {
    typealias Lanes = SIMD16<Float>
    var index = 0
    if isFast {
      let scale = Lanes(repeating: Float(sign: .plus, exponent: -exponent, significand: 1))
      let magic = Lanes(repeating: 0x1.8p23)
      let one = Lanes(repeating: 1)
      let none = Lanes(repeating: 0)
      let shift = SIMD16<Int32>(
        repeating: Int32(bitPattern: Float(0x1.8p23).bitPattern) &+ Int32(first))
      let source = UnsafeRawPointer(values)
      let target = UnsafeMutableRawPointer(result)
      while index &+ 16 <= count {
        let lanes = source.loadUnaligned(fromByteOffset: index &* 4, as: Lanes.self)
        let scaled = lanes * scale
        var whole = (scaled + magic) - magic
        whole -= none.replacing(with: one, where: whole .> scaled)
        // A product of a negative number that underflowed still lies below zero.
        whole.replace(with: -one, where: (lanes .< none) .& (whole .>= none))
        let places = unsafeBitCast(whole + magic, to: SIMD16<Int32>.self) &- shift
        target.storeBytes(of: places, toByteOffset: index &* 4, as: SIMD16<Int32>.self)
        index &+= 16
      }
    }
    while index < count {
      result[index] = Int32(truncatingIfNeeded: bin(values[index]))
      index &+= 1
    }
  }
}

/// Four tables of counts side by side, so that equal neighbours do not wait for one another. Empty
/// between two calls; used by one thread at a time.
package final class HistogramScratch {
  private static let block = 1024
  private static let stride = HistogramObserver.maximumBins
  /// Values counted before the tables are emptied; their counts have 32 bits.
  private static let most = 1 << 31

  private let tables: UnsafeMutablePointer<UInt32>
  private let places: UnsafeMutablePointer<Int32>

  package init() {
    tables = .allocate(capacity: Self.stride * 4)
    tables.initialize(repeating: 0, count: Self.stride * 4)
    places = .allocate(capacity: Self.block)
    places.initialize(repeating: 0, count: Self.block)
  }

  deinit {
    tables.deallocate()
    places.deallocate()
  }

  /// Adds finite values to counts, of which there are as many as the binning has bins.
  func count(
    _ values: UnsafePointer<Float>, _ count: Int, _ binning: HistogramBinning,
    into counts: UnsafeMutableBufferPointer<UInt64>
  ) {
    precondition(binning.bins <= Self.stride && counts.count == binning.bins)
    var start = 0
    // Emptying the tables costs about as much as counting twice as many values as there are bins.
    guard count > 2 * binning.bins else {
      while start < count {
        let length = min(Self.block, count - start)
        binning.bins(values + start, length, into: places)
        for index in 0..<length { counts[Int(places[index])] &+= 1 }
        start += length
      }
      return
    }
    while start < count {
      let length = min(Self.most, count - start)
      tally(values + start, length, binning)
      empty(into: counts)
      start += length
    }
  }

  private func tally(_ values: UnsafePointer<Float>, _ count: Int, _ binning: HistogramBinning) {
    let (first, second) = (tables, tables + Self.stride)
    let (third, fourth) = (tables + 2 * Self.stride, tables + 3 * Self.stride)
    var start = 0
    while start < count {
      let length = min(Self.block, count - start)
      binning.bins(values + start, length, into: places)
      var index = 0
      while index &+ 4 <= length {
        first[Int(places[index])] &+= 1
        second[Int(places[index &+ 1])] &+= 1
        third[Int(places[index &+ 2])] &+= 1
        fourth[Int(places[index &+ 3])] &+= 1
        index &+= 4
      }
      while index < length {
        first[Int(places[index])] &+= 1
        index &+= 1
      }
      start += length
    }
  }

  /// Adds the tables to the counts and empties them.
  private func empty(into counts: UnsafeMutableBufferPointer<UInt64>) {
    let (first, second) = (tables, tables + Self.stride)
    let (third, fourth) = (tables + 2 * Self.stride, tables + 3 * Self.stride)
    for bin in counts.indices {
      let low = UInt64(first[bin]) &+ UInt64(second[bin])
      counts[bin] &+= low &+ UInt64(third[bin]) &+ UInt64(fourth[bin])
    }
    for table in [first, second, third, fourth] {
      table.update(repeating: 0, count: counts.count)
    }
  }
}
