import Calibration
import IR
import Operators
import Quantizer
import Runtime
import Testing

@testable import Measurement

func graph(_ text: String) throws -> Graph {
  let graph = try Graph(text: text, registry: .standard)
  #expect(graph.verify().isEmpty)
  return graph
}

/// Parameters of a 1x1 convolution in the text form.
let pointwise = "{stride: [1, 1], pad_amount: [0, 0, 0, 0], dilation: [1, 1], group: 1}"

/// Two convolutions with a Relu between, weights that the seed makes. Where the second's name is given
/// its channels differ in size by that factor.
func convolutions(seed: UInt64 = 1, spread: Float = 1) throws -> Graph {
  var random = SplitMix(state: seed)
  func list(_ count: Int, _ factor: (Int) -> Float = { _ in 1 }) -> String {
    "[" + (0..<count).map { "\(Float.random(in: -1...1, using: &random) * factor($0))" }.joined(separator: ", ") + "]"
  }
  return try graph(
    """
    graph "c" {
      input %x: float32[1, 4, 4, 3]
      const %w1: float32[1, 1, 3, 4] = \(list(12))
      const %b1: float32[4] = \(list(4))
      const %w2: float32[1, 1, 4, 5] = \(list(20) { $0 % 5 == 0 ? spread : 1 })
      const %b2: float32[5] = \(list(5))
      const %w3: float32[1, 1, 5, 2] = \(list(10) { $0 / 2 == 0 ? 1 / spread : 1 })
      %c1: float32[1, 4, 4, 4] = Conv2d(%x, %w1, %b1) \(pointwise) "conv1"
      %r1: float32[1, 4, 4, 4] = Relu(%c1) "relu1"
      %c2: float32[1, 4, 4, 5] = Conv2d(%r1, %w2, %b2) \(pointwise) "conv2"
      %y: float32[1, 4, 4, 2] = Conv2d(%c2, %w3) \(pointwise) "conv3"
      output %y
    }
    """)
}

/// Made-up inputs of a graph, the same for a seed whatever the order of asking.
func samples(_ graph: Graph, count: Int = 7, jobs: Int = 1, seed: UInt64 = 5) -> MeasurementSamples {
  let types = graph.inputs.map { graph[$0].type.logical }
  return MeasurementSamples(count: count, jobs: jobs, backend: ReferenceBackend()) { index in
    var random = SplitMix(state: seed &+ UInt64(index) &* 977)
    return types.map { type in Bytes((0..<type.count).map { _ in Float.random(in: -1...1, using: &random) }) }
  }
}

/// The graph calibrated on samples.
func quantized(
  _ graph: Graph, _ samples: MeasurementSamples, _ change: (inout QuantizerOptions) -> Void = { _ in }
) throws -> QuantizationResult {
  var options = QuantizerOptions()
  options.biasBitwidth = 32
  change(&options)
  let statistics = try observe(
    graph, backend: samples.backend, sampleCount: samples.count, load: samples.load, jobs: 1,
    options: ObservationOptions(options))
  return try assignEncodings(graph, statistics: statistics, options: options)
}

/// The values of a tensor in every sample, one behind the other.
func values(_ graph: Graph, _ name: String, _ samples: MeasurementSamples, simulate: Bool) throws -> [Float] {
  let id = try #require(graph.tensor(named: name))
  let plan = try samples.backend.prepare(graph, options: PlanOptions(simulate: simulate, taps: [id]))
  let worker = try plan.makeWorker()
  var found: [Float] = []
  for index in 0..<samples.count {
    _ = try worker.run(try samples.load(index)) { tapped, view in
      if tapped == id { found += Array(view.elements(as: Float.self)) }
    }
  }
  return found
}

/// Signal to noise in dB by its formula.
func naiveSQNR(_ reference: [Float], _ other: [Float]) -> Double {
  let signal = reference.reduce(0.0) { $0 + Double($1) * Double($1) }
  let noise = zip(reference, other).reduce(0.0) { sum, pair in
    let difference = Double(pair.0) - Double(pair.1)
    return sum + difference * difference
  }
  return decibels(noiseRatio: noise / signal)
}

extension GraphComparison {
  /// The measures of a tensor in a view.
  func errors(_ name: String, _ view: ComparisonView) throws -> TensorErrors {
    try #require(try row(name).errors[view])
  }

  func row(_ name: String) throws -> TensorComparison { try #require(tensors.first { $0.name == name }) }
}
