import Calibration
import IR
import Operators
import Quantizer
import Testing

@testable import Measurement

@Suite("Reports and pages")
struct ReportTests {
  /// The estimate from a histogram is near what the values give, clipped or not.
  @Test(arguments: 0..<6) func estimatedNoise(seed: Int) throws {
    var random = SplitMix(state: UInt64(seed))
    let values = (0..<20_000).map { _ -> Float in
      let sum = (0..<4).reduce(Float(0)) { total, _ in total + Float.random(in: -1...1, using: &random) }
      return seed % 2 == 0 ? max(sum, 0) : sum
    }
    let histogram = HistogramObserver(values)
    for (bits, share) in [(4, 1.0), (8, 1.0), (8, 0.6), (16, 1.0)] {
      let calibrator = Calibrator(method: .minMax, schema: .asymmetric, bitwidth: bits)
      let encoding = try calibrator.encoding(
        min: Double(histogram.extrema.minimum) * share, max: Double(histogram.extrema.maximum) * share)
      var quantized = values
      encoding.simulate(values, into: &quantized, count: values.count)
      let estimate = try #require(histogram.estimatedSQNR(encoding))
      #expect(abs(estimate - naiveSQNR(values, quantized)) < 0.4, "\(bits) bits, \(share)")
    }
    #expect(
      HistogramObserver().estimatedSQNR(Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: 0)])) == nil)
  }

  @Test func everyTensorIsThere() throws {
    let float = try convolutions()
    let set = samples(float)
    var options = QuantizerOptions()
    options.perChannel = true
    var observing = ObservationOptions(options)
    observing.histograms = true
    let statistics = try observe(
      float, backend: set.backend, sampleCount: set.count, load: set.load, jobs: 1, options: observing)
    let result = try assignEncodings(float, statistics: statistics, options: options)
    let section = ReportSection(title: "Extra <b>", header: ["a"], rows: [["1"]])
    let report = QuantizationReport(
      result.graph, source: float, statistics: statistics, sections: [section])
    #expect(report.rows.map(\.name) == ["x", "w1", "b1", "r1", "w2", "b2", "c2", "w3", "y"])
    #expect(
      report.rows.map(\.role) == [
        .input, .weight, .bias, .activation, .weight, .bias, .activation, .weight, .activation,
      ])
    for row in report.rows {
      #expect(row.grid != nil && row.observed != nil && (row.sqnr ?? 0) > 20, "\(row.name)")
      #expect(QuantizationReport.cells(of: row).count == QuantizationReport.header.count)
    }
    let weight = try #require(report.rows.first { $0.name == "w1" })
    #expect(weight.grid?.count == 4 && weight.rangesBefore.count == 4 && weight.rangesAfter.count == 4)
    let page = ReportPage.text(report, title: "t")
    #expect(page.contains("Extra &lt;b&gt;") && page.contains("Distribution of r1"))
    expectSelfContained(page)
  }

  /// A channel that an algorithm took out is no noise of its weight.
  @Test func removedChannelsAreNoNoise() throws {
    let float = try convolutions()
    var removed = float
    for (name, channels) in [("w1", 4), ("b1", 4)] {
      let id = try #require(removed.tensor(named: name))
      let constant = try #require(removed[id].constant)
      removed[id].constant = Constant(
        constant.floats().enumerated().map { $0.offset % channels == 1 ? 0 : $0.element }, shape: constant.type.shape)
    }
    let result = try quantized(removed, samples(float))
    let report = QuantizationReport(result.graph, source: float, statistics: nil)
    let weight = try #require(report.rows.first { $0.name == "w1" })
    #expect((weight.sqnr ?? 0) > 30)
  }

  @Test func findingsBecomeRows() {
    let note = Diagnostic("k", "m", at: .init(node: "n", tensor: "t"), hint: "h", severity: .note)
    let section = ReportSection(title: "s", findings: [note])
    #expect(section.rows == [["k", "node n, tensor t", "m", "h"]] && section.header.count == 4)
  }

  /// Names of tensors are text, never markup; nothing is fetched.
  @Test func namesAreEscaped() throws {
    var float = try convolutions()
    let id = try #require(float.tensor(named: "r1"))
    float[id].name = "</script><img onerror=\"alert(1)\">&'"
    let fixed = try quantized(float, samples(float)).materialized()
    var options = ComparisonOptions()
    options.histograms = true
    options.sensitivity = true
    let result = try GraphComparison.measure(
      reference: float, container: fixed, options: options, samples: samples(float))
    let page = ComparisonPage.text(result, container: "a<b", reference: "c&d")
    #expect(!page.contains("<img") && page.contains("&lt;/script&gt;&lt;img"))
    #expect(page.contains("a&lt;b against c&amp;d"))
    #expect(page.components(of: "</script>") == 1)
    expectSelfContained(page)
  }

  private func expectSelfContained(_ page: String) {
    let words = [" src=", "@import", "url(", "fetch(", "https:", "nan", "inf\""]
    let found = words.filter { page.contains($0) }
    #expect(found == [])
    #expect(page.components(of: "http:") == page.components(of: "xmlns=\"http://www.w3.org/2000/svg\""))
    #expect(page.components(of: "href=") == 1 && page.contains("href=\"data:,\""))
    #expect(page.components(of: "<svg") == page.components(of: "</svg>"))
  }

  @Test(
    arguments: [
      (0, "0"), (1.23456, "1.235"), (-12.3456, "-12.35"), (123456, "1.23e5"), (0.0123456, "0.01235"),
      (0.000012, "1.20e-5"), (999.96, "1000.0"), (.infinity, "∞"),
    ] as [(Double, String)])
  func numbers(value: Double, text: String) { #expect(Markup.number(value) == text) }
}

extension String {
  /// How often a word occurs.
  fileprivate func components(of word: String) -> Int {
    split(separator: word, omittingEmptySubsequences: false).count - 1
  }
}
