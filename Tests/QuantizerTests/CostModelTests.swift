@testable import Calibration
import IR
import Testing

@testable import Quantizer

@Suite struct CostModelTests {
  /// The plain sum.
  private func plain(_ values: [Float], _ candidate: CandidateGrid, gamma: Double) -> Double {
    Golden.cost(
      values, scale: Double(candidate.grid.scale), offset: Int(candidate.grid.offset),
      codes: candidate.codeMin...candidate.codeMax, gamma: gamma)
  }

  private func values(_ count: Int) -> [Float] {
    var random = SplitMix(state: UInt64(count))
    return (0..<count).map { _ in
      (0..<6).reduce(Float(0)) { sum, _ in sum + Float.random(in: -0.5...0.7, using: &random) }
    }
  }

  private let grids = [(8, 1.0), (8, 0.7), (4, 1.0), (4, 0.4), (4, 1.2)].flatMap { bits, share in
    QuantizerSchema.allCases.map { schema in
      RangeToEncoding.candidate(min: -3 * share, max: 4 * share, bitwidth: bits, schema: schema)
    }
  }

  @Test(arguments: [1, 7, 8, 9, 1000, 20_001]) func rawIsThePlainSum(count: Int) {
    let list = values(count)
    let model = RawCostModel(list)
    for grid in grids {
      let expected = plain(list, grid, gamma: 3)
      // Many values are computed in Float.
      let tolerance = count < 64 ? 1e-6 : 2e-5
      #expect(abs(model.cost(grid, gamma: 3) - expected) <= tolerance * expected)
    }
  }

  /// A clamp's bound that is the edge of a bin, so that its bin has no width.
  @Test(arguments: [Float(1), 6]) func histogramSeesValuesAtTheMaximum(bound: Float) {
    let list = values(20_000).map { min($0, bound / 4) * 4 } + [Float](repeating: bound, count: 3000)
    let model = HistogramCostModel(HistogramObserver(list))
    for share in [1.0, 0.98, 0.9, 0.7] {
      let grid = RangeToEncoding.candidate(
        min: model.minimum * share, max: model.maximum * share, bitwidth: 8, schema: .asymmetric)
      let expected = plain(list, grid, gamma: 3)
      let found = model.cost(grid, gamma: 3)
      #expect(abs(found - expected) <= 0.02 * expected, "\(share): \(found) against \(expected)")
    }
  }

  @Test func histogramComesClose() {
    let list = values(50_000) + [Float](repeating: 0, count: 30_000)
    let model = HistogramCostModel(HistogramObserver(list))
    for grid in grids {
      let expected = plain(list, grid, gamma: 3)
      let found = model.cost(grid, gamma: 3)
      #expect(abs(found - expected) <= 0.01 * expected, "\(grid): \(found) against \(expected)")
    }
  }
}
