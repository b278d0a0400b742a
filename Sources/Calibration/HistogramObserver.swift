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
    guard let base = values.baseAddress else { return }
    if values.count < HistogramTables.worthwhile {
      grow(base, count: values.count) { _ in }
      guard !counts.isEmpty else { return }
      let binning = self.binning
      counts.withUnsafeMutableBufferPointer { counts in
        for index in 0..<values.count where base[index].isFinite {
          counts[binning.bin(base[index])] &+= 1
        }
      }
      return
    }
    let tables = HistogramTables()
    var start = 0
    while start < values.count {
      let length = min(HistogramTables.chunk, values.count - start)
      let before = extrema.nonFinite
      grow(base + start, count: length) { tables.fold(into: &$0) }
      if extrema.nonFinite == before {
        tables.count(base + start, length, binning)
      } else {
        let binning = self.binning
        for index in start..<(start + length) where base[index].isFinite {
          counts[binning.bin(base[index])] &+= 1
        }
      }
      if tables.isFull { tables.fold(into: &counts) }
      start += length
    }
    tables.fold(into: &counts)
  }

  /// Takes the extrema of values in and makes room for them; `settle` is called before bins move.
  private mutating func grow(
    _ base: UnsafePointer<Float>, count: Int, _ settle: (inout [UInt64]) -> Void
  ) {
    let before = (extrema.minimum, extrema.maximum)
    extrema.observe(UnsafeBufferPointer(start: base, count: count))
    guard extrema.hasRange, before != (extrema.minimum, extrema.maximum) else { return }
    settle(&counts)
    regrow()
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

/// Four tables of counts side by side, so that equal neighbours do not wait for one another.
private final class HistogramTables {
  /// Fewer values than this are counted one by one: clearing tables would cost more.
  static let worthwhile = 4096
  /// Values between two looks at the extrema; the chunk stays in the nearest cache.
  static let chunk = 4096
  private static let block = 1024
  private static let stride = HistogramObserver.maximumBins

  private let tables: UnsafeMutablePointer<UInt32>
  private let places: UnsafeMutablePointer<Int32>
  /// Counted since the tables were last emptied.
  private var pending = 0
  /// Whether one more chunk could exceed 32 bits.
  var isFull: Bool { pending > 0xF000_0000 }
  private var bins = 0

  init() {
    tables = .allocate(capacity: Self.stride * 4)
    tables.initialize(repeating: 0, count: Self.stride * 4)
    places = .allocate(capacity: Self.block)
    places.initialize(repeating: 0, count: Self.block)
  }

  deinit {
    tables.deallocate()
    places.deallocate()
  }

  /// Counts finite values.
  func count(_ values: UnsafePointer<Float>, _ count: Int, _ binning: HistogramBinning) {
    precondition(binning.bins <= Self.stride)
    bins = binning.bins
    pending += count
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
  func fold(into counts: inout [UInt64]) {
    guard pending > 0 else { return }
    for bin in 0..<bins {
      var sum: UInt64 = 0
      for table in 0..<4 {
        sum &+= UInt64(tables[table * Self.stride + bin])
        tables[table * Self.stride + bin] = 0
      }
      counts[bin] &+= sum
    }
    pending = 0
  }
}
