import Calibration
import IR
import Operators
import Runtime
import Synchronization
import Testing

@testable import Quantizer

/// Observation in topological order.
@Suite struct SequentialTests {
  private func load(_ order: [Int], _ count: Int = 8) -> SampleLoader {
    { index throws(Diagnostic) in
      var random = SplitMix(state: UInt64(order[index]))
      return [Bytes((0..<count).map { _ in Float.random(in: -2...2, using: &random) })]
    }
  }

  private func both(
    _ network: Graph, _ options: QuantizerOptions, order: [Int] = Array(0..<6), jobs: Int = 1
  ) throws -> (float: Statistics, sequential: Statistics) {
    let float = try observe(
      network, backend: ReferenceBackend(), sampleCount: order.count, load: load(order), jobs: jobs,
      options: ObservationOptions(options))
    let sequential = try observeSequentially(
      network, float: float, options: options, backend: ReferenceBackend(),
      sampleCount: order.count, load: load(order), jobs: jobs)
    return (float, sequential)
  }

  @Test func levelsFollowTheGraph() throws {
    let network = try graph(convolutions)
    #expect(network.observationLevels().map { $0.map { network[$0].name } } == [["r"], ["y"]])
    #expect(network.sequentialRuns == 2)
  }

  /// Each tensor is what the quantized graph before it makes: worked out by hand for two layers.
  @Test(arguments: [CalibrationMethod.minMax, .sqnr])
  func everythingBeforeIsQuantized(method: CalibrationMethod) throws {
    let network = try graph(convolutions)
    var options = QuantizerOptions()
    options.actCalibration = method
    options.biasBitwidth = 32
    let seen = try both(network, options)
    #expect(seen.sequential.tensors[0] == seen.float.tensors[0])
    var encodings = try assignEncodings(network, statistics: seen.float, options: options)
    for (place, name) in [(1, "r"), (2, "y")] {
      var expected = TensorStatistics(name: name, histograms: options.needsHistograms)
      // Float from here on, quantized before: the graph with this tensor's encoding taken away.
      var open = encodings.graph
      for inner in name == "r" ? ["c", "r"] : ["y"] {
        let id = try #require(open.tensor(named: inner))
        open[id].encoding = nil
        open[id].state = .float
      }
      let id = try #require(open.tensor(named: name))
      let plan = try ReferenceBackend().prepare(open, options: PlanOptions(taps: [id]))
      let worker = try plan.makeWorker()
      for index in 0..<6 {
        let inputs = try load(Array(0..<6))(index)
        _ = try worker.run(
          inputs,
          tap: { (tapped: TensorID, view: TensorView) throws(Diagnostic) in
            if tapped == id { expected.observe(Array(view.elements(as: Float.self))) }
          })
      }
      #expect(seen.sequential.tensors[place] == expected)
      var mixed = seen.float
      mixed.tensors[place] = expected
      encodings = try assignEncodings(network, statistics: mixed, options: options)
    }
    #expect(seen.sequential != seen.float)
  }

  @Test func orderAndJobsDoNotShow() throws {
    let network = try graph(convolutions)
    var options = QuantizerOptions()
    options.actCalibration = .mse
    options.perChannel = true
    let one = try both(network, options).sequential
    #expect(try both(network, options, order: [5, 2, 0, 1, 4, 3], jobs: 3).sequential == one)
  }

  @Test func tiesAndMovedDataKeepOneEncoding() throws {
    let network = try graph(
      """
      graph "t" {
        input %x: float32[1, 8]
        %e: float32[1, 8] = ElementWiseExp(%x) "exp"
        %n: float32[1, 8] = ElementWiseNeg(%x) "neg"
        %r: float32[1, 8] = Reshape(%n) {shape: [1, 8]} "reshape"
        %k: float32[1, 16] = Concat(%e, %r) {axis: 1} "concat"
        %s: float32[1, 16] = Sigmoid(%k) "sigmoid"
        %y: float32[1, 16] = ElementWiseExp(%s) "exp2"
        output %y
      }
      """)
    var options = QuantizerOptions()
    options.actCalibration = .sqnr
    let seen = try both(network, options)
    let result = try assignEncodings(network, statistics: seen.sequential, options: options)
    #expect(try result.graph.find("n").encoding == result.graph.find("r").encoding)
    #expect(try result.graph.find("k").encoding == result.graph.find("e").encoding)
    #expect(try result.materialized().verify().isEmpty)
  }

  /// What is kept between levels changes how often samples are read, never what is observed.
  @Test(arguments: SequentialNetworks.all.indices, [8, 16])
  func keptActivationsDoNotShow(index: Int, bits: Int) throws {
    let network = try graph(SequentialNetworks.all[index])
    let count = network[network.inputs[0]].type.count
    var options = QuantizerOptions()
    options.actCalibration = bits == 8 ? .percentile : .minMax
    options.actBitwidth = bits
    options.perChannel = bits == 8
    options.keepFloat = network.nodes.map(\.name).filter { $0.hasPrefix("float") }
    let float = try observe(
      network, backend: OneDNNBackend(), sampleCount: 5, load: load(Array(0..<5), count), jobs: 1,
      options: ObservationOptions(options))
    func run(_ bytes: Int, jobs: Int) throws -> (statistics: Statistics, reads: Int) {
      let reads = Mutex(0)
      let read = load(Array(0..<5), count)
      let statistics = try observeSequentially(
        network, float: float, options: options, backend: OneDNNBackend(), sampleCount: 5,
        load: { (index) throws(Diagnostic) in
          reads.withLock { $0 += 1 }
          return try read(index)
        }, jobs: jobs, cacheBytes: bytes)
      return (statistics, reads.withLock { $0 })
    }
    let without = try run(0, jobs: 1)
    #expect(without.reads == 5 * network.sequentialRuns)
    let whole = try run(1 << 30, jobs: 1)
    #expect(whole.statistics == without.statistics)
    #expect(whole.reads < without.reads)
    // Too little for the wide tensors.
    for (bytes, jobs) in [(200, 1), (700, 2), (1 << 30, 3)] {
      #expect(try run(bytes, jobs: jobs).statistics == without.statistics)
    }
  }

  @Test func statisticsOfOtherSamplesAreRefused() throws {
    let network = try graph(convolutions)
    let float = try observe(
      network, backend: ReferenceBackend(), sampleCount: 2, load: load([0, 1]), jobs: 1)
    let failure = #expect(throws: Diagnostic.self) {
      try observeSequentially(
        network, float: float, options: QuantizerOptions(), backend: ReferenceBackend(), sampleCount: 2,
        load: load([0, 2]), jobs: 1)
    }
    #expect(failure?.code == "statistics-samples")
  }

  /// A reader that a level has no need of makes no fused pair of the others: the sum has a grid of its own.
  @Test func cutsFuseNothing() throws {
    let network = try graph(
      """
      graph "f" {
        input %x: float32[1, 8]
        const %k: float32[8] = [0.3, -0.2, 0.1, 0.7, -0.9, 0.4, 0.25, -0.35]
        %s: float32[1, 8] = ElementWiseAdd(%x, %k) "add"
        %r: float32[1, 8] = Relu(%s) "relu"
        %e: float32[1, 8] = ElementWiseExp(%r) "exp"
        %y: float32[1, 8] = ElementWiseMultiply(%e, %s) "times"
        output %y
      }
      """)
    var options = QuantizerOptions()
    let seen = try both(network, options)
    options.calibrationOrder = .sequential
    var expected = TensorStatistics(name: "r", histograms: false)
    var open = try assignEncodings(network, statistics: seen.sequential, options: options).graph
    let id = try #require(open.tensor(named: "r"))
    open[id].encoding = nil
    open[id].state = .float
    let worker = try ReferenceBackend().prepare(open, options: PlanOptions(taps: [id])).makeWorker()
    for index in 0..<6 {
      _ = try worker.run(
        try load(Array(0..<6))(index),
        tap: { (tapped: TensorID, view: TensorView) throws(Diagnostic) in
          if tapped == id { expected.observe(Array(view.elements(as: Float.self))) }
        })
    }
    #expect(seen.sequential.tensors.first { $0.name == "r" } == expected)
  }
}

/// Networks whose levels have long-lived tensors, ties that are settled late, several results of one operator, masks
/// and operators in float.
enum SequentialNetworks {
  /// Convolutions wide enough for oneDNN's own kernels, depthwise ones between them.
  private static var stack: String {
    var random = SplitMix(state: 7)
    func values(_ count: Int) -> String {
      (0..<count).map { _ in "\(Float.random(in: -0.3...0.3, using: &random))" }.joined(separator: ", ")
    }
    let pads = "stride: [1, 1], pad_amount: [1, 1, 1, 1], dilation: [1, 1]"
    var lines = ["graph \"stack\" {", "  input %x: float32[1, 7, 7, 16]"]
    var body: [String] = []
    var last = "x"
    for layer in 0..<3 {
      lines.append("  const %d\(layer): float32[3, 3, 1, 16] = [\(values(144))]")
      lines.append("  const %w\(layer): float32[1, 1, 16, 16] = [\(values(256))]")
      lines.append("  const %b\(layer): float32[16] = [\(values(16))]")
      body += [
        "  %e\(layer): float32[1, 7, 7, 16] = DepthWiseConv2d(%\(last), %d\(layer), %b\(layer)) {\(pads)} \"de\(layer)\"",
        "  %f\(layer): float32[1, 7, 7, 16] = Relu(%e\(layer)) \"df\(layer)\"",
        "  %g\(layer): float32[1, 7, 7, 16] = Conv2d(%f\(layer), %w\(layer), %b\(layer)) \(pointwise) \"pe\(layer)\"",
        "  %h\(layer): float32[1, 7, 7, 16] = Relu(%g\(layer)) \"pf\(layer)\"",
      ]
      last = "h\(layer)"
    }
    return (lines + body + ["  output %\(last)", "}"]).joined(separator: "\n")
  }

  static let all = [
    convolutions, stack,
    """
    graph "ties" {
      input %x: float32[1, 8]
      %e: float32[1, 8] = ElementWiseExp(%x) "exp"
      %n: float32[1, 8] = ElementWiseNeg(%x) "neg"
      %m: float32[1, 8] = ElementWiseMultiply(%n, %e) "times"
      %q: float32[1, 8] = ElementWiseAdd(%m, %n) "plus"
      %k: float32[1, 24] = Concat(%e, %q, %n) {axis: 1} "concat"
      %s: float32[1, 24] = Sigmoid(%k) "sigmoid"
      %t: float32[1, 24] = ElementWiseExp(%s) "exp2"
      %y: float32[1, 24] = ElementWiseMultiply(%t, %k) "last"
      output %y
    }
    """,
    """
    graph "split" {
      input %x: float32[1, 8]
      %a: float32[1, 8] = ElementWiseExp(%x) "exp"
      %l: float32[1, 4], %r: float32[1, 4] = Split(%a) {axis: 1, sizes: [4, 4]} "split"
      %b: float32[1, 4] = ElementWiseNeg(%l) "neg"
      %c: float32[1, 4] = ElementWiseMultiply(%b, %l) "times"
      %d: float32[1, 4] = ElementWiseAdd(%c, %r) "float plus"
      %f: float32[1, 4] = Relu(%d) "relu"
      %y: float32[1, 4] = ElementWiseMultiply(%f, %r) "last"
      output %y
    }
    """,
    """
    graph "attention" {
      input %x: float32[2, 4]
      const %w: float32[4, 4] = [0.5, -1, 0.2, 0.3, 1, 0.1, -0.4, 0.6, -0.7, 0.9, 0.8, -0.2, 0.25, 0.35, -0.45, 0.55]
      const %m: float32[1, 2] = [0, -3.4e38]
      %q: float32[2, 4] = MatMul(%x, %w) {transpose_in0: false, transpose_in1: false} "float query"
      %k: float32[2, 4] = MatMul(%q, %w) {transpose_in0: false, transpose_in1: false} "key"
      %s: float32[2, 2] = MatMul(%q, %k) {transpose_in0: false, transpose_in1: true} "scores"
      %t: float32[2, 2] = ElementWiseAdd(%s, %m) "mask"
      %p: float32[2, 2] = Softmax(%t) {axis: 1, beta: 1} "softmax"
      %o: float32[2, 4] = MatMul(%p, %k) {transpose_in0: false, transpose_in1: false} "out"
      %y: float32[2, 4] = ElementWiseAdd(%o, %x) "last"
      output %y
    }
    """,
  ]
}
