import Foundation
import IR
import Operators
import Quantizer
import Runtime
import Testing

@testable import Recovery

/// Numbers from a seed.
typealias Random = SeededGenerator

extension SeededGenerator {
  /// A number about zero with deviation 1: a sum of uniform ones.
  mutating func normal() -> Float {
    Float((0..<12).reduce(-6.0) { sum, _ in sum + unit() })
  }

  mutating func normals(_ count: Int, _ scale: Float = 1) -> [Float] { (0..<count).map { _ in normal() * scale } }
}

/// Builds graphs node by node with random weights; types are inferred.
struct NetworkMaker {
  var graph = Graph(name: "test")
  var random: Random

  init(seed: UInt64, input: [Int]) {
    random = Random(seed: seed)
    graph.inputs = [graph.add(Tensor(name: "x", type: TensorType(.float32, input)))]
    last = graph.inputs[0]
  }

  /// The tensor that the next node reads.
  var last: TensorID

  mutating func constant(_ values: [Float], _ shape: [Int], _ name: String) -> TensorID {
    graph.add(Tensor(name: name, type: TensorType(.float32, shape), constant: Constant(values, shape: shape)))
  }

  mutating func add(_ op: any Operator, _ others: TensorID?...) throws {
    let inputs: [TensorID?] = [last] + others
    let types = try op.infer(inputs.map { $0.map { graph[$0].type } })
    let number = graph.nodes.count
    let outputs = types.enumerated().map { place, type in
      graph.add(Tensor(name: place == 0 ? "t\(number)" : "t\(number)_\(place)", type: type))
    }
    last = outputs[0]
    graph.nodes.append(Node(name: "n\(number)", op: op, inputs: inputs, outputs: outputs))
  }

  private var channels: Int { graph[last].type.shape.last ?? 1 }

  mutating func conv(_ filters: Int, kernel: Int = 3, stride: Int = 1, pad: Bool = true, group: Int = 1) throws {
    let inputs = channels
    let number = graph.nodes.count
    let shape = [kernel, kernel, inputs / group, filters]
    let scale = (2 / Float(kernel * kernel * inputs / group)).squareRoot()
    let weight = constant(random.normals(shape.reduce(1, *), scale), shape, "w\(number)")
    let bias = constant(random.normals(filters, 0.1), [filters], "b\(number)")
    let reach = pad ? kernel / 2 : 0
    try add(
      Conv2d(stride: [stride, stride], padAmount: [reach, reach, reach, reach], group: group), weight, bias)
  }

  mutating func depthwise(stride: Int = 1, pad: Int = 1) throws {
    let number = graph.nodes.count
    let weight = constant(random.normals(9 * channels, 0.45), [3, 3, 1, channels], "w\(number)")
    let bias = constant(random.normals(channels, 0.1), [channels], "b\(number)")
    try add(DepthWiseConv2d(stride: [stride, stride], padAmount: [pad, pad, pad, pad]), weight, bias)
  }

  mutating func dense(_ outputs: Int) throws {
    let number = graph.nodes.count
    let (rows, columns) = (outputs, channels)
    let weight = constant(
      random.normals(rows * columns, (1 / Float(columns)).squareRoot()), [rows, columns], "w\(number)")
    let bias = constant(random.normals(outputs, 0.1), [outputs], "b\(number)")
    try add(FullyConnected(), weight, bias)
  }

  mutating func finish() -> Graph {
    graph.outputs = [last]
    return graph
  }

  /// Separable convolutions as mobile networks have them.
  static func separable(seed: UInt64 = 1, clamp: (any Operator)? = nil) throws -> Graph {
    let activation = clamp ?? Relu()
    var maker = NetworkMaker(seed: seed, input: [1, 12, 12, 3])
    try maker.conv(8, stride: 2)
    try maker.add(activation)
    for filters in [12, 16] {
      try maker.depthwise()
      try maker.add(activation)
      try maker.conv(filters, kernel: 1, pad: false)
      try maker.add(activation)
    }
    try maker.add(ReduceMean(axes: [1, 2], keepDims: false))
    try maker.dense(10)
    return maker.finish()
  }
}

/// Samples for a graph with one input, drawn from a seed.
func samples(
  _ graph: Graph, count: Int = 8, jobs: Int = 1, order: [Int]? = nil,
  backend: any Backend = ReferenceBackend()
) throws -> (set: SampleSet, load: SampleLoader) {
  let size = graph[graph.inputs[0]].type.count
  let places = order ?? Array(0..<count)
  let load: SampleLoader = { index throws(Diagnostic) in
    var random = Random(seed: 77, places[index])
    return [Bytes(random.normals(size))]
  }
  return (try SampleSet(count: count, jobs: jobs, backend: backend, load: load), load)
}

/// What calibration sees of a graph.
func statistics(
  _ graph: Graph, _ load: @escaping SampleLoader, count: Int = 8, _ options: QuantizerOptions = .init()
) throws -> Statistics {
  try observe(
    graph, backend: ReferenceBackend(), sampleCount: count, load: load, jobs: 1,
    options: ObservationOptions(options))
}

/// SQNR in dB of the outputs of a quantized graph against a float one over samples that calibration did not
/// see.
func quality(_ graph: Graph, against float: Graph, count: Int = 16) throws -> Double {
  let mine = try ReferenceBackend().prepare(graph, options: PlanOptions(simulate: true)).makeWorker()
  let theirs = try ReferenceBackend().prepare(float, options: PlanOptions(simulate: false)).makeWorker()
  let size = float[float.inputs[0]].type.count
  var (signal, noise) = (0.0, 0.0)
  for index in 0..<count {
    var random = Random(seed: 99, index)
    let input = [Bytes(random.normals(size))]
    let (a, b) = (try mine.run(input)[0], try theirs.run(input)[0])
    for (p, q) in zip(a.array(of: Float.self), b.array(of: Float.self)) {
      signal += Double(q) * Double(q)
      noise += Double(p - q) * Double(p - q)
    }
  }
  return 10 * log10(signal / max(noise, 1e-30))
}
