/// Extrema and counts of what was seen: a monoid (``init()``, ``observe(_:)``, ``merge(_:)``), so
/// the result is the same for every split of the data.
public struct MinMaxObserver: Sendable, Hashable {
  /// Least finite value, infinity while there is none. Zero is always positive zero.
  public private(set) var minimum: Float = .infinity
  /// Largest finite value, minus infinity while there is none.
  public private(set) var maximum: Float = -.infinity
  /// Elements seen, finite or not.
  public private(set) var count = 0
  /// Elements that were zero, of either sign.
  public private(set) var zeros = 0
  /// Elements that were NaN or infinite.
  public private(set) var nonFinite = 0
  /// Position of the first such element in the sequence of everything seen.
  public private(set) var firstNonFinite: Int?

  /// The empty observer.
  public init() {}

  /// Restores a summary; the caller has checked the numbers.
  package init(minimum: Float, maximum: Float, count: Int, zeros: Int, nonFinite: Int = 0) {
    self.minimum = minimum + 0
    self.maximum = maximum + 0
    self.count = count
    self.zeros = zeros
    self.nonFinite = nonFinite
  }

  /// The same without the place of the first non-finite value, which depends on the order.
  package var withoutPlaces: MinMaxObserver {
    var copy = self
    copy.firstNonFinite = nil
    return copy
  }

  /// Whether a finite value was seen.
  public var hasRange: Bool { minimum <= maximum }

  /// Adds what another observer saw after this one. Counts wrap, but no memory holds that many.
  public mutating func merge(_ other: MinMaxObserver) {
    if firstNonFinite == nil, let first = other.firstNonFinite { firstNonFinite = count &+ first }
    minimum = min(minimum, other.minimum)
    maximum = max(maximum, other.maximum)
    count &+= other.count
    zeros &+= other.zeros
    nonFinite &+= other.nonFinite
  }

  /// Adds values; they are only read.
  public mutating func observe(_ values: UnsafeBufferPointer<Float>) {
    guard let base = values.baseAddress else { return }
    // Blocks keep the lane counters small and confine the search for a non-finite value.
    let block = 4096
    var start = 0
    while start < values.count {
      let length = min(block, values.count - start)
      observe(base + start, count: length)
      start += length
    }
  }

  /// One block: extrema, zeros and a probe for non-finite values in 16 lanes (x - x is zero for
  /// finite x and NaN otherwise).
  private mutating func observe(_ base: UnsafePointer<Float>, count length: Int) {
    typealias Lanes = SIMD16<Float>
    let bytes = UnsafeRawPointer(base)
    var low = Lanes(repeating: .infinity)
    var high = Lanes(repeating: -.infinity)
    var probe = Lanes(repeating: 0)
    var zeroLanes = SIMD16<Int32>(repeating: 0)
    let one = SIMD16<Int32>(repeating: 1)
    let none = SIMD16<Int32>(repeating: 0)
    let whole = length & ~15
    var index = 0
    while index < whole {
      let lanes = bytes.loadUnaligned(fromByteOffset: index &* 4, as: Lanes.self)
      low.replace(with: lanes, where: lanes .< low)
      high.replace(with: lanes, where: lanes .> high)
      probe += lanes - lanes
      zeroLanes &+= none.replacing(with: one, where: lanes .== 0)
      index &+= 16
    }
    var least = low.min()
    var most = high.max()
    var check = probe.sum()
    var found = Int(zeroLanes.wrappedSum())
    while index < length {
      let value = base[index]
      least = value < least ? value : least
      most = value > most ? value : most
      check += value - value
      found += value == 0 ? 1 : 0
      index += 1
    }
    guard check == 0 else {
      observeNonFinite(base, count: length)
      return
    }
    // Adding zero turns a negative zero into the positive one: no order of the data can show.
    minimum = min(minimum, least + 0)
    maximum = max(maximum, most + 0)
    zeros &+= found
    count &+= length
  }

  /// The plain form for a block with NaN or infinities in it.
  private mutating func observeNonFinite(_ base: UnsafePointer<Float>, count length: Int) {
    for index in 0..<length {
      let value = base[index]
      if value.isFinite {
        minimum = min(minimum, value + 0)
        maximum = max(maximum, value + 0)
        if value == 0 { zeros &+= 1 }
      } else {
        nonFinite &+= 1
        if firstNonFinite == nil { firstNonFinite = count &+ index }
      }
    }
    count &+= length
  }
}
