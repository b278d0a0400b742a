@testable import Calibration
import Quantizer
import Testing

@Suite struct HistogramTests {
  private func values(_ seed: Int) -> [Float] {
    var random = SplitMix(state: UInt64(seed))
    let count = [3, 100, 4095, 4097, 9000, 20_011][seed % 6]
    let kind = seed % 9
    return (0..<count).map { index in
      switch kind {
      case 0: Float.random(in: -100...100, using: &random)
      case 1: Float(bitPattern: UInt32.random(in: 0...900, using: &random))
      case 2: -Float(bitPattern: UInt32.random(in: 0...9_000_000, using: &random))
      case 3:
        Float(
          sign: Bool.random(using: &random) ? .plus : .minus,
          exponent: Int.random(in: -149...126, using: &random),
          significand: Float.random(in: 1..<2, using: &random))
      case 4: 3
      case 5: index % 3 == 0 ? -0.0 : 0
      case 6: 1000 + Float.random(in: 0...0.01, using: &random)
      case 7:
        switch index % 50 {
        case 7: .nan
        case 8: -.infinity
        default: Float.random(in: -1...8, using: &random)
        }
      default: max(Float.random(in: -1...1, using: &random) * Float(index), -0.0)
      }
    }
  }

  private func observed(_ values: ArraySlice<Float>) -> HistogramObserver {
    HistogramObserver(Array(values))
  }

  /// The definition: the least width that fits, then floor.
  @Test(arguments: 0..<54) func matchesThePlainDefinition(seed: Int) {
    let list = values(seed)
    let seen = HistogramObserver(list)
    let finite = list.filter(\.isFinite).map(Double.init)
    #expect(seen.finiteCount == finite.count)
    var plain = MinMaxObserver()
    list.withUnsafeBufferPointer { plain.observe($0) }
    #expect(seen.extrema == plain)
    guard let least = finite.min(), let largest = finite.max() else { return }
    func bin(_ value: Double, _ exponent: Int) -> Int {
      Int((value / Double(sign: .plus, exponent: exponent, significand: 1)).rounded(.down))
    }
    let magnitude = Float(max(-least, largest))
    var exponent = max(magnitude == 0 ? -149 : Int(magnitude.exponent) - 23, -149)
    while bin(largest, exponent) - bin(least, exponent) >= 4096 { exponent += 1 }
    var counts = [UInt64](repeating: 0, count: bin(largest, exponent) - bin(least, exponent) + 1)
    for value in finite { counts[bin(value, exponent) - bin(least, exponent)] += 1 }
    #expect(seen.binExponent == exponent)
    #expect(seen.firstBin == bin(least, exponent))
    #expect(seen.counts == counts)
  }

  /// Any split, in any order, is the whole; merging is associative and commutative; the empty observer
  /// is neutral.
  @Test(arguments: 0..<54) func monoidLaws(seed: Int) {
    let list = values(seed)
    var random = SplitMix(state: UInt64(1000 + seed))
    let cuts = (0..<2).map { _ in Int.random(in: 0...list.count, using: &random) }.sorted()
    let parts = [
      observed(list[..<cuts[0]]), observed(list[cuts[0]..<cuts[1]]), observed(list[cuts[1]...]),
    ]
    let whole = observed(list[...])
    var left = HistogramObserver()
    for part in parts { left.merge(part) }
    var tail = parts[1]
    tail.merge(parts[2])
    var right = parts[0]
    right.merge(tail)
    right.merge(HistogramObserver())
    #expect(left == whole)
    #expect(right == whole)
    var turned = parts[2]
    turned.merge(parts[0])
    turned.merge(parts[1])
    // The place of the first non-finite value is all that depends on the order.
    #expect(turned.counts == whole.counts && turned.firstBin == whole.firstBin)
    #expect(turned.binExponent == whole.binExponent)
    #expect(turned.extrema.nonFinite == whole.extrema.nonFinite)
    #expect(turned.extrema.zeros == whole.extrema.zeros)
    var inPieces = HistogramObserver()
    var start = 0
    while start < list.count {
      let end = min(list.count, start + Int.random(in: 1...6000, using: &random))
      Array(list[start..<end]).withUnsafeBufferPointer { inPieces.observe($0) }
      start = end
    }
    #expect(inPieces == whole)
  }

  /// Joining neighbours is binning again with wider bins.
  @Test(arguments: 0..<54, [2, 100, 1024]) func joiningIsBinningAgain(seed: Int, bins: Int) {
    let list = values(seed)
    let seen = HistogramObserver(list).coarsened(bins: bins)
    #expect(seen.counts.count <= bins)
    var counts = [UInt64](repeating: 0, count: seen.counts.count)
    for value in list where value.isFinite {
      counts[Int((Double(value) / seen.binWidth).rounded(.down)) - seen.firstBin] += 1
    }
    #expect(seen.counts == counts)
  }
}
