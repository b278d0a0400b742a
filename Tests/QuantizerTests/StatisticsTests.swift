@testable import Calibration
import Foundation
import IR
import Quantizer
import Runtime
import Testing

@Suite struct StatisticsTests {
  private func sample(_ index: Int) -> [Bytes] {
    var random = SplitMix(state: UInt64(index) &* 77)
    return [Bytes((0..<8).map { _ in Float.random(in: -2...2, using: &random) })]
  }

  private func run(_ indices: [Int], jobs: Int) throws -> Statistics {
    try observe(
      try graph(convolutions), backend: ReferenceBackend(), sampleCount: indices.count,
      load: { index throws(Diagnostic) in sample(indices[index]) }, jobs: jobs)
  }

  @Test func onlyTensorsOutsideFusedPairsAreObserved() throws {
    let statistics = try run([1], jobs: 1)
    #expect(statistics.tensors.map(\.name) == ["x", "r", "y"])
    #expect(statistics.tensors[1].observer.minimum >= 0)
    #expect(statistics.tensors[0].observer.count == 8)
  }

  @Test func everyOrderSplitAndNumberOfWorkersGivesTheSame() throws {
    let whole = try run(Array(0..<9), jobs: 1)
    #expect(try run(Array(0..<9), jobs: 2) == whole)
    #expect(try run([8, 3, 1, 0, 2, 7, 6, 5, 4], jobs: 2) == whole)
    var merged = try run([5, 6, 7, 8], jobs: 2)
    try merged.merge(try run([0, 1, 2, 3, 4], jobs: 1))
    #expect(merged == whole)
    #expect(try merged.encoded() == whole.encoded())
    #expect(try run([0, 1], jobs: 1).calibrationHash != whole.calibrationHash)
  }

  @Test func emptyTensorsAreErrorsOfTheInput() throws {
    let network = try graph(
      """
      graph "e" {
        input %x: float32[0, 3]
        %y: float32[0, 3] = Relu(%x) "relu"
        output %y
      }
      """)
    let error = try #require(throws: Diagnostic.self) {
      try observe(
        network, backend: ReferenceBackend(), sampleCount: 1,
        load: { _ throws(Diagnostic) in [Bytes([Float]())] }, jobs: 1)
    }
    #expect(error.code == "empty-tensor" && error.kind == .input && error.location.tensor == "x")
  }

  @Test func nonFiniteValuesAreErrors() throws {
    let network = try graph(convolutions)
    var values = [Float](repeating: 1, count: 8)
    values[5] = .nan
    let bad = values
    let error = try #require(throws: Diagnostic.self) {
      try observe(
        network, backend: ReferenceBackend(), sampleCount: 3,
        load: { index throws(Diagnostic) in
          index == 1 ? [Bytes(bad)] : [Bytes([Float](repeating: 1, count: 8))]
        }, jobs: 1)
    }
    #expect(error.code == "non-finite-activation" && error.location.tensor == "x")
    #expect(error.message.contains("sample 2") && error.message.contains("element 5"))
    let large = try #require(throws: Diagnostic.self) {
      try observe(
        network, backend: ReferenceBackend(), sampleCount: 1,
        load: { _ throws(Diagnostic) in [Bytes([Float](repeating: 3e38, count: 8))] }, jobs: 1)
    }
    #expect(large.code == "non-finite-activation" && large.location.tensor == "r")
    let short = try #require(throws: Diagnostic.self) {
      try observe(
        network, backend: ReferenceBackend(), sampleCount: 1,
        load: { _ throws(Diagnostic) in [Bytes([Float](repeating: 1, count: 7))] }, jobs: 1)
    }
    #expect(short.code == "sample-size")
  }

  @Test func fileRoundTrip() throws {
    var statistics = try run([1, 2, 3], jobs: 1)
    let exact: [Float] = [0.1, -3.4e38, .leastNonzeroMagnitude, 16_777_215]
    statistics.tensors[0].observe(exact)
    #expect(try Statistics(decoding: statistics.encoded()) == statistics)
    let path = NSTemporaryDirectory() + "statistics-\(UUID().uuidString).json"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try statistics.save(path: path)
    #expect(try Statistics.load(path: path) == statistics)
  }

  @Test func brokenFilesAreErrors() throws {
    let good = try run([1], jobs: 1).encoded()
    let text = String(decoding: good, as: UTF8.self)
    for count in 0..<(good.count - 2) {
      let error = #expect(throws: Diagnostic.self) {
        try Statistics(decoding: Array(good[..<count]))
      }
      #expect(error?.code == "statistics-format")
    }
    let changes = [
      ("\"version\" : 2", "\"version\" : 3"), ("qtools-statistics", "other"),
      ("\"samples\" : 1", "\"samples\" : 0"), ("\"samples\" : 1", "\"samples\" : 1e40"),
      ("\"name\" : \"r\"", "\"name\" : \"x\""), ("\"count\" : 8", "\"count\" : -8"),
      ("\"min\" : ", "\"min\" : 1e300, \"other\" : "), ("\"min\" : ", "\"min\" : 9"),
      ("\"min\" : ", "\"min\" : 0.1, \"other\" : "), ("\"count\" : 8,", ""),
      ("\"count\" : 8,", "\"count\" : 8, \"count\" : 9,"), ("\"samples\" : 1", "\"samples\" : 1, \"extra\" : 2"),
    ]
    for (old, new) in changes {
      #expect(text.contains(old))
      let broken = text.replacingOccurrences(of: old, with: new)
      let error = #expect(throws: Diagnostic.self) {
        try Statistics(decoding: Array(broken.utf8))
      }
      #expect(error?.code == "statistics-format", "\(new)")
    }
    let missing = #expect(throws: Diagnostic.self) {
      try Statistics.load(path: "/nonexistent/statistics.json")
    }
    #expect(missing?.code == "statistics-read")
  }

  /// Counts that files can hold do not wrap when these merge.
  @Test func countsDoNotWrap() throws {
    for field in ["count", "masked"] {
      var one = try run([1], jobs: 1)
      if field == "masked" {
        one.tensors[0].masked.count = .max - 1
      } else {
        one.tensors[0] = TensorStatistics(
          name: one.tensors[0].name, observer: MinMaxObserver(minimum: 0, maximum: 1, count: .max, zeros: 0))
      }
      let two = one
      let error = #expect(throws: Diagnostic.self) { try one.merge(two) }
      #expect(error?.code == "statistics-overflow")
    }
  }

  @Test func otherGraphIsAMismatch() throws {
    let statistics = try run([1], jobs: 1)
    let other = try graph(
      convolutions.replacingOccurrences(of: "[1, -1, 0.5]", with: "[1, 1, 0.5]"))
    let error = #expect(throws: Diagnostic.self) { try statistics.check(other) }
    #expect(error?.code == "statistics-mismatch")
    #expect(error?.hint?.contains("--load_stats") == true)
    var foreign = Statistics(observing: other)
    #expect(throws: Diagnostic.self) { try foreign.merge(statistics) }
    // Annotations do not matter: statistics stay valid for another width.
    var annotated = try graph(convolutions)
    annotated[annotated.inputs[0]].encoding = RangeToEncoding.fixedUnit(signed: true, bitwidth: 16)
    annotated[annotated.inputs[0]].state = .given
    try statistics.check(annotated)
  }

  @Test func mergingBackendsWarns() throws {
    var one = try run([1], jobs: 1)
    #expect(one.warnings.isEmpty)
    var two = one
    two.backends = ["another machine"]
    try one.merge(two)
    #expect(one.backends.count == 2 && one.warnings.count == 1)
  }
}
