/// A sum of Doubles that is the same for every order and every split of them: a fixed-point number wide
/// enough for all of them, so nothing is rounded before ``value`` is asked for.
///
/// Numbers below the normal range count as zero. Source: Kulisch's long accumulator.
struct ExactSum: Sendable {
  /// Words of 32 bits with room for carries; word i stands for 2^(32 i - bias).
  private var words = [Int64](repeating: 0, count: ExactSum.wordCount)
  /// Additions since carries were moved on.
  private var pending = 0
  /// Whether a number was not finite.
  private(set) var isInvalid = false

  private static let bias = 1088
  private static let wordCount = 68
  /// Additions after which a word could overflow, with a margin.
  private static let mostPending = 1 << 29

  /// Zero.
  init() {}

  /// Adds a number.
  mutating func add(_ number: Double) {
    guard number.isFinite else {
      isInvalid = true
      return
    }
    guard number.isNormal else { return }
    let significand = number.significandBitPattern | 1 << 52
    let position = Int(number.exponent) - 52 + Self.bias
    let (word, shift) = (position >> 5, UInt64(position & 31))
    let low = significand << shift
    let high = shift == 0 ? 0 : significand >> (64 - shift)
    let sign: Int64 = number < 0 ? -1 : 1
    words[word] += sign * Int64(low & 0xFFFF_FFFF)
    words[word + 1] += sign * Int64(low >> 32)
    if high != 0 { words[word + 2] += sign * Int64(high) }
    pending += 1
    if pending >= Self.mostPending { settle() }
  }

  /// Adds another sum.
  mutating func merge(_ other: ExactSum) {
    isInvalid = isInvalid || other.isInvalid
    if pending + other.pending >= Self.mostPending { settle() }
    for index in words.indices { words[index] += other.words[index] }
    pending += other.pending + 1
  }

  /// The sum; NaN where a number was not finite.
  var value: Double {
    if isInvalid { return .nan }
    var copy = self
    copy.settle()
    let isNegative = copy.words[Self.wordCount - 1] < 0
    if isNegative {
      for index in copy.words.indices { copy.words[index] = -copy.words[index] }
      copy.settle()
    }
    guard let top = copy.words.lastIndex(where: { $0 != 0 }) else { return 0 }
    // The words below the third are less than half a unit in the last place of the result, or nearly so.
    var sum = 0.0
    for index in stride(from: max(top - 3, 0), through: top, by: 1) {
      sum += Double(copy.words[index]) * Double(sign: .plus, exponent: 32 * (index - top), significand: 1)
    }
    let result = sum * Double(sign: .plus, exponent: max(32 * top - Self.bias, -1022), significand: 1)
    return isNegative ? -result : result
  }

  /// Moves carries on: every word but the last is from 0 to 2^32 - 1 after it.
  private mutating func settle() {
    var carry: Int64 = 0
    for index in 0..<(Self.wordCount - 1) {
      let total = words[index] + carry
      carry = total >> 32
      words[index] = total & 0xFFFF_FFFF
    }
    words[Self.wordCount - 1] += carry
    pending = 1
  }
}
