import IR
import Testing

@testable import Measurement

/// A small generator with a seed, so that failures repeat.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite("Sums and measures")
struct ErrorSumTests {
  private func numbers(_ count: Int, seed: UInt64) -> [Double] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in
      let exponent = Int.random(in: -60...60, using: &random)
      return Double.random(in: -1...1, using: &random) * Double(sign: .plus, exponent: exponent, significand: 1)
    }
  }

  /// The same bits for every order and split; near the plain sum.
  @Test(arguments: 0..<20) func exactSumKnowsNoOrder(seed: Int) {
    var random = SplitMix(state: UInt64(seed) + 100)
    let list = numbers(300, seed: UInt64(seed))
    var whole = ExactSum()
    for number in list { whole.add(number) }
    var (left, right) = (ExactSum(), ExactSum())
    for (index, number) in list.shuffled(using: &random).enumerated() {
      if index % 3 == 0 { left.add(number) } else { right.add(number) }
    }
    right.merge(left)
    #expect(right.value == whole.value)
    // Sorted by size and compensated by halves, plain addition is near.
    let plain = list.sorted { abs($0) < abs($1) }.reduce(0, +)
    #expect(abs(whole.value - plain) <= 1e-12 * list.map(abs).reduce(0, +))
  }

  @Test func exactSumCancels() {
    var sum = ExactSum()
    for number in [1e200, 1.0, -1e200, -0.25, 3e-200] { sum.add(number) }
    #expect(sum.value == 0.75)
    sum.add(-1)
    #expect(sum.value == -0.25)
    sum.add(.infinity)
    #expect(sum.value.isNaN)
    var small = ExactSum()
    small.add(3e-200)
    #expect(small.value == 3e-200)
    small.add(-3e-200)
    #expect(small.value == 0)
  }

  /// The measures against their formulas, over samples of any size.
  @Test(arguments: 0..<20) func measuresFollowTheFormulas(seed: Int) throws {
    var random = SplitMix(state: UInt64(seed) + 7)
    var sums = ErrorSums()
    var (signal, noise, product, power, largest, count) = (0.0, 0.0, 0.0, 0.0, 0.0, 0)
    for _ in 0..<4 {
      let size = Int.random(in: 1...70, using: &random)
      let x = (0..<size).map { _ in Float.random(in: -3...3, using: &random) }
      let y = x.map { $0 + Float.random(in: -0.1...0.1, using: &random) }
      sums.add(reference: x, other: y)
      for (a, b) in zip(x, y) {
        let (a, b) = (Double(a), Double(b))
        signal += a * a
        noise += (a - b) * (a - b)
        product += a * b
        power += b * b
        largest = max(largest, abs(a - b))
        count += 1
      }
    }
    let errors = try #require(sums.errors)
    #expect(errors.count == count && errors.skipped == 0)
    #expect(abs(errors.mse - noise / Double(count)) < 1e-12)
    #expect(abs(errors.sqnr + decibels(noiseRatio: signal / noise)) < 1e-9)
    #expect(abs(errors.cosine - product / (signal * power).squareRoot()) < 1e-12)
    #expect(errors.largest == largest)
  }

  @Test func equalTensorsAreExact() throws {
    var sums = ErrorSums()
    #expect(sums.errors == nil)
    sums.add(reference: [1, -2, 3], other: [1, -2, 3])
    let errors = try #require(sums.errors)
    #expect(errors.sqnr == .infinity && errors.mse == 0 && errors.noiseRatio == 0 && errors.cosine == 1)
  }

  /// Masks and what is not finite are left out and counted.
  @Test func masksAreLeftOut() throws {
    var sums = ErrorSums()
    sums.add(
      reference: [1, -.infinity, .nan, -3.4e38, 2, 4, 5], other: [1.5, -.infinity, 0, -40, 2, .infinity, 5])
    let errors = try #require(sums.errors)
    #expect(errors.count == 3 && errors.skipped == 4)
    #expect(abs(errors.mse - 0.25 / 3) < 1e-12)
    #expect(errors.largest == 0.5)
    var floored = ErrorSums()
    floored.add(reference: [1, -50, 2, -100, 3], other: [1, -40, 2.5, -40, 3], count: 5, floor: -40)
    let rest = try #require(floored.errors)
    #expect(rest.count == 3 && rest.skipped == 2 && rest.largest == 0.5)
  }
}
