@testable import Calibration
import Quantizer
import Testing

/// AIMET's analyzers against AIMET's numbers.
@Suite struct AnalyzerTests {
  @Test func percentileVector() {
    let histogram = AIMETHistogram(
      counts: [1, 1, 8, 13, 19, 27, 16, 10, 3, 2],
      edges: [
        -2.5710, -2.0989, -1.6269, -1.1548, -0.6827, -0.2106, 0.2614, 0.7335, 1.2056, 1.6776, 2.1497,
      ])
    let range = PercentileEncodingAnalyzer(histogram: histogram, percentile: 80)
      .compute(numSteps: 255, symmetric: false)[0]
    #expect(abs(range.minimum + 1.1548) <= 1e-4 && abs(range.maximum - 0.2614) <= 1e-4)
  }

  @Test func sqnrVector() {
    let histogram = AIMETHistogram(
      counts: [2, 0, 8, 8, 16, 22, 23, 12, 6, 3],
      edges: [
        -2.8907, -2.3625, -1.8343, -1.3061, -0.7779, -0.2497, 0.2784, 0.8066, 1.3348, 1.8630, 2.3912,
      ])
    let range = SqnrEncodingAnalyzer(histogram: histogram, gamma: 1)
      .compute(numSteps: 256, symmetric: false)[0]
    #expect(abs(range.minimum + 2.7080) <= 1e-4 && abs(range.maximum - 2.2438) <= 1e-4)
  }

  @Test func resetForgets() {
    var analyzers: [any EncodingAnalyzer] = [
      MinMaxEncodingAnalyzer(), SqnrEncodingAnalyzer(), PercentileEncodingAnalyzer(percentile: 99),
    ]
    for index in analyzers.indices {
      #expect(analyzers[index].compute(numSteps: 255, symmetric: true).isEmpty)
      analyzers[index].update([1, -1, 3])
      let first = analyzers[index].compute(numSteps: 255, symmetric: true)
      analyzers[index].update([100, -200])
      #expect(analyzers[index].compute(numSteps: 255, symmetric: true) != first)
      analyzers[index].reset()
      #expect(analyzers[index].compute(numSteps: 255, symmetric: true).isEmpty)
      analyzers[index].update([1, -1, 3])
      #expect(analyzers[index].compute(numSteps: 255, symmetric: true) == first)
    }
  }

  /// The search stays inside the observed grid for the candidates a user asks for.
  @Test func candidatesAreAParameter() {
    let values = (0..<1000).map { Float($0 % 97) / 97 - 0.25 }
    var fine = SqnrEncodingAnalyzer(
      numBins: 512, asymmetricDeltaCandidates: 33, symmetricDeltaCandidates: 201,
      offsetCandidates: 41, gamma: 2)
    fine.update(values)
    for symmetric in [false, true] {
      let range = fine.compute(numSteps: 15, symmetric: symmetric)[0]
      #expect(range.minimum <= 0 && range.maximum > 0 && range.scale(numSteps: 15) < 0.2)
    }
  }

  @Test(.enabled(if: Golden.isPresent)) func equalToTorch() throws {
    let golden = try Golden.shared.get()
    var analyzers: [String: any EncodingAnalyzer] = [:]
    var compared = 0
    for record in golden.find(engine: "torch") {
      let (shape, values) = try #require(golden.tensors[record.tensor])
      let key = "\(record.tensor) \(record.scheme) \(record.perChannelAxis ?? -1)"
      if analyzers[key] == nil {
        let own = record.perChannelAxis == nil ? [] : [shape[0], 1, 1, 1]
        var analyzer: any EncodingAnalyzer =
          switch record.scheme {
          case "minmax": MinMaxEncodingAnalyzer(shape: own)
          case "sqnr_2048": SqnrEncodingAnalyzer(shape: own)
          case "tf_enhanced": SqnrEncodingAnalyzer.tfEnhanced(shape: own)
          case "percentile_99.9": PercentileEncodingAnalyzer(shape: own, percentile: 99.9)
          default: PercentileEncodingAnalyzer(shape: own, percentile: 99.99)
          }
        if record.tensor == "multi_batch" {
          for row in 0..<4 { analyzer.update(Array(values[(row * 2048)..<((row + 1) * 2048)])) }
        } else {
          analyzer.update(values, dimensions: shape)
        }
        analyzers[key] = analyzer
      }
      let steps = (1 << record.bitwidth) - 1 - (record.strict ? 1 : 0)
      let found = try #require(analyzers[key]).compute(numSteps: steps, symmetric: record.symmetric)
      try #require(found.count == record.min.values.count)
      for (index, range) in found.enumerated() {
        let (low, high) = (record.min.values[index], record.max.values[index])
        let width = high - low
        let isClose =
          abs(Double(range.minimum) - low) <= 1e-5 * width
          && abs(Double(range.maximum) - high) <= 1e-5 * width
        compared += 1
        #expect(
          isClose,
          "\(key) \(record.bitwidth) \(record.mode) [\(index)]: \(range) against \(low) \(high)")
      }
    }
    print("golden: \(compared) ranges compared with AIMET's torch engine")
  }
}
