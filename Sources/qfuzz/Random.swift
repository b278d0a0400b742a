/// A small seeded generator (SplitMix64): the same numbers for the same seed, everywhere.
struct Random: RandomNumberGenerator {
  private var state: UInt64

  /// The numbers of case `number` of a run.
  init(seed: UInt64, number: Int) {
    state = seed &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(truncatingIfNeeded: number) &* 0xD134_2543_DE82_EF95
    _ = next()
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number from 0 to `bound` - 1; 0 where `bound` is not positive.
  mutating func below(_ bound: Int) -> Int { bound > 0 ? Int.random(in: 0..<bound, using: &self) : 0 }

  /// Whether an event of one in `count` happens.
  mutating func one(in count: Int) -> Bool { below(count) == 0 }

  /// An element; nil of an empty list.
  mutating func pick<Element>(_ list: [Element]) -> Element? { list.isEmpty ? nil : list[below(list.count)] }

  /// A number at which arithmetic goes wrong, or one near `value`.
  mutating func integer(near value: UInt64) -> UInt64 {
    switch below(8) {
    case 0: return value &+ 1
    case 1: return value &- 1
    case 2: return value &* 2
    case 3: return UInt64(below(20))
    case 4: return UInt64(bitPattern: Int64(-1 - below(4)))
    case 5: return 1 << UInt64(below(64))
    case 6: return (1 << UInt64(below(64))) &- 1
    default: return [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, .max / 2, 1 << 63, .max][below(8)]
    }
  }

  /// The bits of a float at which arithmetic goes wrong.
  mutating func floatBits() -> UInt32 {
    let list: [Float] = [
      0, -0.0, 1, -1, .infinity, -.infinity, .nan, .greatestFiniteMagnitude, .leastNonzeroMagnitude, 1e-30, 1e30, 0.5,
      -2, 255, 1e10,
    ]
    return one(in: 8) ? UInt32(truncatingIfNeeded: next()) : list[below(list.count)].bitPattern
  }
}

/// Changes without knowledge of a format.
enum ByteMutator {
  /// Changes `bytes` in one place; `other` lends parts.
  static func mutate(_ bytes: inout [UInt8], _ random: inout Random, other: [UInt8] = []) {
    guard !bytes.isEmpty else {
      bytes = other.isEmpty ? [UInt8(truncatingIfNeeded: random.next())] : other
      return
    }
    let place = random.below(bytes.count)
    let length = min(1 + random.below(random.one(in: 4) ? 64 : 8), bytes.count - place)
    switch random.below(9) {
    case 0: bytes[place] ^= 1 << UInt8(random.below(8))
    case 1: bytes[place] = UInt8(truncatingIfNeeded: random.next())
    case 2: bytes[place] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)]
    case 3:
      let width = [1, 2, 4, 8][random.below(4)]
      guard place + width <= bytes.count else { return }
      var value: UInt64 = 0
      for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[place + index]) }
      value = random.one(in: 4) ? UInt64(random.floatBits()) : random.integer(near: value)
      for index in 0..<width { bytes[place + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    case 4: bytes.removeSubrange(place..<place + length)
    case 5: bytes.insert(contentsOf: bytes[place..<place + length], at: random.below(bytes.count))
    case 6: bytes.removeSubrange(place...)
    case 7:
      guard !other.isEmpty else { return }
      let start = random.below(other.count)
      let part = other[start..<min(start + length, other.count)]
      bytes.replaceSubrange(place..<min(place + part.count, bytes.count), with: part)
    default:
      let target = random.below(bytes.count - length + 1)
      bytes.replaceSubrange(target..<target + length, with: Array(bytes[place..<place + length]))
    }
  }
}
