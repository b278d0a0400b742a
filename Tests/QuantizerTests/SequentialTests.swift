import Calibration
import IR
import Operators
import Runtime
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
}
