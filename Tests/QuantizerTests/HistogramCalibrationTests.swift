import Calibration
import Foundation
import IR
import Quantizer
import Runtime
import Testing

/// Calibration by histograms through the whole quantizer.
@Suite struct HistogramCalibrationTests {
  private func values(_ seed: Int, _ count: Int = 8) -> [Float] {
    var random = SplitMix(state: UInt64(seed) &* 77)
    return (0..<count).map { _ in Float.random(in: -2...2, using: &random) }
  }

  private func run(
    _ indices: [Int], jobs: Int, _ change: (inout ObservationOptions) -> Void = { $0.histograms = true }
  ) throws -> Statistics {
    var options = ObservationOptions()
    change(&options)
    return try observe(
      try graph(convolutions), backend: ReferenceBackend(), sampleCount: indices.count,
      load: { index throws(Diagnostic) in [Bytes(values(indices[index]))] }, jobs: jobs,
      options: options)
  }

  @Test func histogramsDoNotDependOnOrderSplitAndWorkers() throws {
    let whole = try run(Array(0..<9), jobs: 1)
    #expect(whole.hasHistograms)
    #expect(try run([8, 3, 1, 0, 2, 7, 6, 5, 4], jobs: 3) == whole)
    var merged = try run([5, 6, 7, 8], jobs: 2)
    try merged.merge(try run([0, 1, 2, 3, 4], jobs: 1))
    #expect(merged == whole)
    var empty = Statistics(observing: try graph(convolutions))
    try empty.merge(whole)
    #expect(empty == whole)
    // Extrema alone are those of a run without histograms; a mix leaves extrema.
    let extrema = try run(Array(0..<9), jobs: 2) { $0.histograms = false }
    #expect(extrema.tensors.map(\.observer) == whole.tensors.map(\.observer))
    #expect(!extrema.hasHistograms)
    try merged.merge(extrema)
    #expect(!merged.hasHistograms && merged.tensors[0].observer.count == 2 * 72)
  }

  @Test func inputHistogramIsThatOfTheSamples() throws {
    let seen = try run(Array(0..<9), jobs: 2)
    #expect(seen.tensors[0].histogram == HistogramObserver((0..<9).flatMap { values($0) }))
  }

  @Test func fileKeepsHistogramsExactly() throws {
    var statistics = try run([1, 2, 3], jobs: 1)
    statistics.tensors[0].observe([0.1, -3.4e38, .leastNonzeroMagnitude, 16_777_215])
    statistics.tensors[1].observe([Float](repeating: 0, count: 70_000) + values(9, 70_000))
    let bytes = try statistics.encoded()
    let read = try Statistics(decoding: bytes)
    #expect(read == statistics && read.hasHistograms)
    #expect(try read.encoded() == bytes)
    #expect(bytes.count < 30_000)
    let text = String(decoding: bytes, as: UTF8.self)
    for (old, new) in [
      ("\"zeros\" : 7", "\"zeros\" : 99999999"), ("\"count\" : 28", "\"count\" : 29"),
      ("\"histogram\" : \"", "\"histogram\" : \"A"), ("\"histogram\" : \"", "\"histogram\" : \"AAAA"),
      ("\"histogram\" : \"", "\"histogram\" : \"////////////"),
    ] {
      let broken = text.replacingOccurrences(of: old, with: new)
      guard broken != text else { continue }
      let error = #expect(throws: Diagnostic.self) { try Statistics(decoding: Array(broken.utf8)) }
      #expect(error?.code == "statistics-format")
    }
  }

  @Test func filesOfVersionOneGiveRangesOnly() throws {
    let network = try graph(convolutions)
    let text = """
      {"backends": [], "calibration": "\(String(repeating: "0", count: 64))", "format": "qtools-statistics",
       "graph": "\(network.observationHash(version: 1))", "samples": 1, "tensors": [
       {"count": 8, "max": 1, "min": -1, "name": "x", "zeros": 0},
       {"count": 8, "max": 4, "min": 0, "name": "r", "zeros": 1},
       {"count": 8, "max": 3, "min": -3, "name": "y", "zeros": 0}], "version": 1}
      """
    let old = try Statistics(decoding: Array(text.utf8))
    #expect(throws: Diagnostic.self) { try old.check(network) }
    let bound = old.rebound(to: network)
    try bound.check(network)
    let other = try graph(convolutions.replacingOccurrences(of: "[1, -1, 0.5]", with: "[1, 1, 0.5]"))
    #expect(old.rebound(to: other) == old)
    var merged = Statistics(observing: network)
    try merged.merge(bound)
    let result = try assignEncodings(network, statistics: merged, options: QuantizerOptions())
    #expect(try result.graph.find("r").encoding?.channels[0].scale == Float(4.0 / 255))
    var options = QuantizerOptions()
    options.actCalibration = .sqnr
    let error = #expect(throws: Diagnostic.self) {
      try assignEncodings(network, statistics: merged, options: options)
    }
    #expect(error?.code == "statistics-extrema-only")
    #expect(error?.message.contains("sqnr") == true && error?.message.contains("3 of 3") == true)
  }

  /// Outputs that a list of samples adds do not bind the statistics: they serve the plain graph.
  @Test func addedOutputsDoNotBind() throws {
    let plain = try graph(convolutions)
    var more = plain
    more.outputs.append(try #require(more.tensor(named: "c")))
    let load: SampleLoader = { index throws(Diagnostic) in [Bytes(values(index))] }
    let seen = try observe(
      more, backend: ReferenceBackend(), sampleCount: 4, load: load, jobs: 1)
    #expect(seen.tensors.map(\.name) == ["x", "c", "r", "y"])
    try seen.check(plain)
    let own = try observe(
      plain, backend: ReferenceBackend(), sampleCount: 4, load: load, jobs: 1)
    let apart = try assignEncodings(plain, statistics: seen, options: QuantizerOptions())
    let exact = try assignEncodings(plain, statistics: own, options: QuantizerOptions())
    #expect(apart.graph.tensors.map(\.encoding) == exact.graph.tensors.map(\.encoding))
    var merged = Statistics(observing: plain)
    try merged.merge(seen)
    #expect(merged.tensors == own.tensors)
    let error = #expect(throws: Diagnostic.self) { try own.check(more) }
    #expect(error?.code == "statistics-mismatch" && error?.message.contains(" c") == true)
  }

  private func withHistograms(_ graph: Graph, _ lists: [String: [Float]]) -> Statistics {
    var result = Statistics(observing: graph, histograms: true)
    result.sampleCount = 1
    for index in result.tensors.indices {
      result.tensors[index].observe(lists[result.tensors[index].name] ?? [0, 1])
    }
    return result
  }

  /// A bell with an outlier, which clipping methods leave out.
  private func bell(_ seed: Int, outlier: Float) -> [Float] {
    var random = SplitMix(state: UInt64(seed))
    return (0..<20_000).map { _ in
      (0..<8).reduce(Float(0)) { sum, _ in sum + Float.random(in: -0.5...0.5, using: &random) }
    } + [outlier]
  }

  private let invariant = """
    graph "i" {
      input %x: float32[1, 4]
      input %z: float32[1, 4]
      %r: float32[2, 2] = Reshape(%x) {shape: [2, 2]} "reshape"
      %s: float32[2, 2] = Reshape(%z) {shape: [2, 2]} "reshape2"
      %k: float32[2, 4] = Concat(%r, %s) {axis: 1} "concat"
      output %k
    }
    """

  @Test(arguments: CalibrationMethod.allCases)
  func groupsAreCalibratedOnceOnAllTheirValues(method: CalibrationMethod) throws {
    let network = try graph(invariant)
    let lists = ["x": bell(1, outlier: 40), "r": bell(2, outlier: -20), "z": bell(3, outlier: 30)]
    var options = QuantizerOptions()
    options.actCalibration = method
    let statistics = withHistograms(
      network, lists.merging(["s": bell(3, outlier: 30), "k": bell(5, outlier: 40)]) { a, _ in a })
    var all = HistogramObserver()
    for tensor in statistics.tensors { all.merge(try #require(tensor.histogram)) }
    let expected = try options.actCalibrator().encoding(of: all)
    for jobs in [1, 3] {
      let result = try assignEncodings(network, statistics: statistics, options: options, jobs: jobs)
      for name in ["x", "z", "r", "s", "k"] {
        #expect(try result.graph.find(name).encoding == expected, "\(name)")
      }
    }
    let clips = [.percentile, .entropy].contains(method)
    #expect(!clips || expected.maximum() < 10, "\(method): \(expected.maximum())")
  }

  @Test func fixedRangesAndGivenEncodingsWin() throws {
    var network = try graph(
      """
      graph "f" {
        input %x: float32[1, 4]
        %e: float32[1, 4] = ElementWiseExp(%x) "exp"
        %s: float32[1, 4] = Sigmoid(%e) "sigmoid"
        %r: float32[2, 2] = Reshape(%s) {shape: [2, 2]} "reshape"
        output %r
      }
      """)
    let id = try #require(network.tensor(named: "e"))
    network[id].encoding = RangeToEncoding.encoding(min: -7, max: 7, bitwidth: 8, schema: .symmetric)
    network[id].state = .given
    network[id].encodingSource = .override
    var options = QuantizerOptions()
    options.actCalibration = .sqnr
    let result = try assignEncodings(
      network, statistics: withHistograms(network, ["x": bell(1, outlier: 3)]), options: options)
    #expect(try result.graph.find("e").encoding == network[id].encoding)
    for name in ["s", "r"] {
      #expect(
        try result.graph.find(name).encoding == RangeToEncoding.fixedUnit(signed: false, bitwidth: 8))
    }
  }

  /// One-sided data keeps zero at the lowest code; constants and tiny ranges are min-max's.
  @Test(arguments: CalibrationMethod.allCases) func difficultActivations(method: CalibrationMethod) throws {
    let network = try graph(convolutions)
    let relu = bell(4, outlier: 3).map { max($0, 0) }
    let statistics = withHistograms(network, ["x": [3, 3, 3], "r": relu, "y": [-1e-6, 2e-6]])
    var options = QuantizerOptions()
    options.actCalibration = method
    let result = try assignEncodings(network, statistics: statistics, options: options)
    #expect(try result.graph.find("x").encoding?.channels[0].offset == 0)
    #expect(try abs(#require(result.graph.find("x").encoding?.maximum()) - 3.0001) < 1e-6)
    let encoding = try #require(result.graph.find("r").encoding)
    #expect(encoding.channels[0].offset == 0 && encoding.maximum() > 1 && encoding.maximum() < 3.2)
    let tiny = try #require(result.graph.find("y").encoding)
    #expect(abs(tiny.maximum() - tiny.minimum() - 0.0001) < 1e-6)
  }

  @Test func weightsBySearchesAreThoseOfTheCalibrator() throws {
    let network = try graph(convolutions)
    for perChannel in [false, true] {
      for method in CalibrationMethod.allCases {
        var options = QuantizerOptions()
        options.paramCalibration = method
        options.perChannel = perChannel
        options.weightsBitwidth = 8
        let statistics = withHistograms(network, [:])
        let result = try assignEncodings(network, statistics: statistics, options: options, jobs: 2)
        let constant = try #require(network.find("w").constant)
        let expected =
          perChannel
          ? try options.paramCalibrator().encoding(
            of: constant.floats(), shape: constant.type.shape, axis: 3)
          : try options.paramCalibrator().encoding(of: constant.floats())
        #expect(try result.graph.find("w").encoding == expected)
        // Biases keep their whole range.
        #expect(
          try result.graph.find("b").encoding
            == RangeToEncoding.encoding(min: -1, max: 0.5, bitwidth: 8, schema: .asymmetric))
      }
    }
  }

  @Test func legacyNames() throws {
    func options(_ act: String?, _ param: String?) throws -> (QuantizerOptions, [Diagnostic]) {
      var result = QuantizerOptions()
      let notes = try LegacyQuantizer.apply(
        act: act.flatMap { LegacyQuantizer($0) }, param: param.flatMap { LegacyQuantizer($0) },
        to: &result)
      return (result, notes)
    }
    #expect(try options("tf", nil).0 == QuantizerOptions())
    let one = try options("enhanced weights", nil).0
    #expect(one.actCalibration == .minMax && one.paramCalibration == .sqnr)
    let two = try options("symmetric", "enhanced").0
    #expect(two.actSchema == .symmetric && two.paramSchema == .asymmetric && two.paramCalibration == .sqnr)
    let three = try options("adjusted", nil)
    #expect(three.0.actRule == .none && three.0.paramRule == .adjusted && three.1.count == 1)
    let four = try options("adjusted", "clip")
    #expect(four.0.paramRule == .clip && four.1.count == 1)
    let five = try options(nil, "enhanced activations").0
    #expect(five.actCalibration == .sqnr && five.paramCalibration == .minMax)
    for name in ["", "enhance", "tf weights", "enhanced both", "enhanced weights x"] {
      #expect(LegacyQuantizer(name) == nil)
    }
    #expect(LegacyQuantizer.names.allSatisfy { LegacyQuantizer($0) != nil })
  }

  @Test func bothOptionsForOneSideAreAnError() {
    for (act, param) in [("clip", "enhanced activations"), ("enhanced weights", "tf")] {
      var options = QuantizerOptions()
      let error = #expect(throws: Diagnostic.self) {
        _ = try LegacyQuantizer.apply(
          act: LegacyQuantizer(act), param: LegacyQuantizer(param), to: &options)
      }
      #expect(error?.kind == .usage)
    }
  }

  @Test func rules() throws {
    let clip = try annotated(try graph(convolutions), ["x": (-1, 2), "r": (0, 4)]) {
      $0.actRule = .clip
      $0.paramRule = .clip
    }
    #expect(
      try clip.graph.find("x").encoding == RangeToEncoding.clip(min: -1, max: 2, bitwidth: 8))
    #expect(try clip.graph.find("w").encoding == RangeToEncoding.clip(min: -2, max: 1, bitwidth: 8))
    let adjusted = try annotated(try graph(convolutions)) { $0.paramRule = .adjusted }
    #expect(
      try adjusted.graph.find("w").encoding
        == RangeToEncoding.adjusted(values: [0.5, -2, 0, 1, 0.25, 0], bitwidth: 8))
    let none = try annotated(try graph(convolutions)) {
      $0.paramRule = .adjusted
      $0.perChannel = true
    }
    #expect(none.notes.contains { $0.code == "option-without-effect" && $0.message.contains("adjusted") })
    let wide = #expect(throws: Diagnostic.self) {
      try annotated(try graph(convolutions)) {
        $0.paramRule = .adjusted
        $0.weightsBitwidth = 16
      }
    }
    #expect(wide?.kind == .usage)
  }

  @Test func clipMayLoseTheZeroOfPadding() throws {
    let padded = convolutions.replacingOccurrences(
      of: "%r, %w2) \(pointwise)",
      with: "%r, %w2) {stride: [1, 1], pad_amount: [1, 0, 0, 0], dilation: [1, 1], group: 1}"
    ).replacingOccurrences(of: "%y: float32[1, 2, 2, 1]", with: "%y: float32[1, 3, 2, 1]")
    for (range, isLost) in [((Float(0), Float(4)), true), ((-2, 2), false)] {
      let result = try annotated(try graph(padded), ["r": range]) { $0.actRule = .clip }
      let note = result.notes.first { $0.code == "zero-not-on-grid" }
      #expect((note != nil) == isLost)
      #expect(note == nil || note?.location.node == "conv2")
    }
    #expect(
      !(try annotated(try graph(padded), ["r": (0, 4)])).notes.contains { $0.code == "zero-not-on-grid" })
  }

  @Test func stepsAndStrictGrids() throws {
    let result = try annotated(try graph(convolutions), ["x": (-1, 1)]) {
      $0.actSchema = .symmetric
      $0.strictSymmetric = true
    }
    #expect(try result.graph.find("x").encoding?.codeMin == 1)
    #expect(try result.graph.find("w").encoding?.codeMin == 0)
    let narrow = try QuantizationSteps(minimum: -100, maximum: 63)
    let restricted = try annotated(try graph(convolutions), ["x": (-1, 1)]) {
      $0.actSchema = .symmetric
      $0.steps = narrow
    }
    let encoding = try #require(restricted.graph.find("x").encoding)
    #expect(encoding.codeMin == 28 && encoding.codeMax == 191 && encoding.channels[0].scale == 0.01)
    for change in [{ $0.steps = narrow }, { $0.strictSymmetric = true }] as [(inout QuantizerOptions) -> Void] {
      let unused = try annotated(try graph(convolutions), [:], change)
      #expect(unused.notes.map(\.code).filter { $0 != "bias-noise" } == ["option-without-effect"])
    }
    let wide = try QuantizationSteps(minimum: -0x8000, maximum: 0x7F7F)
    let error = #expect(throws: Diagnostic.self) {
      try annotated(try graph(convolutions)) {
        $0.actSchema = .symmetric
        $0.steps = wide
      }
    }
    #expect(error?.kind == .usage)
  }

  @Test func unsignedSymmetric() throws {
    let result = try annotated(
      try graph(convolutions), ["x": (-1, 1), "r": (0, 4), "y": (-3, 3)]
    ) { $0.actSchema = .unsignedSymmetric }
    #expect(try result.graph.find("x").encoding?.symmetric == true)
    let encoding = try #require(result.graph.find("r").encoding)
    #expect(!encoding.symmetric && encoding.channels[0] == ScaleOffset(scale: Float(4.0 / 255), offset: 0))
  }

  @Test func nonFiniteValuesCanBeLeftOut() throws {
    let network = try graph(convolutions)
    let load: SampleLoader = { index throws(Diagnostic) in
      var list = values(index)
      if index == 1 { list[5] = .nan }
      return [Bytes(list)]
    }
    for histograms in [false, true] {
      var options = ObservationOptions()
      options.skipNonfinite = true
      options.histograms = histograms
      let seen = try observe(
        network, backend: ReferenceBackend(), sampleCount: 3, load: load, jobs: 2, options: options)
      #expect(seen.tensors[0].observer.nonFinite == 1 && seen.tensors[0].observer.count == 24)
      #expect(seen.warnings.first?.code == "skipped-nonfinite")
      #expect(try Statistics(decoding: seen.encoded()) == seen)
      var quantizer = QuantizerOptions()
      let error = #expect(throws: Diagnostic.self) {
        try assignEncodings(network, statistics: seen, options: quantizer)
      }
      #expect(error?.code == "non-finite-activation")
      quantizer.skipNonfinite = true
      _ = try assignEncodings(network, statistics: seen, options: quantizer)
    }
    var options = ObservationOptions()
    options.skipNonfinite = true
    let nothing = #expect(throws: Diagnostic.self) {
      try observe(
        network, backend: ReferenceBackend(), sampleCount: 1,
        load: { _ throws(Diagnostic) in [Bytes([Float](repeating: .nan, count: 8))] }, jobs: 1,
        options: options)
    }
    #expect(nothing?.code == "non-finite-activation" && nothing?.kind == .input)
    var broken = network
    let id = try #require(broken.tensor(named: "w"))
    broken[id].constant = Constant([0.5, .nan, 0, .infinity, 0.25, 0], shape: [1, 1, 2, 3])
    #expect(throws: Diagnostic.self) { try annotated(broken) }
    let mended = try annotated(broken) { $0.skipNonfinite = true }
    #expect(mended.notes.map(\.code).contains("skipped-nonfinite"))
    #expect(try mended.graph.find("w").constant?.floats() == [0.5, 0, 0, 0.5, 0.25, 0])
  }
}
