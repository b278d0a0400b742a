@testable import Calibration
import IR
import Operators
import Quantizer
import Runtime
import Testing

/// A small generator with a seed, so that failures repeat.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

func graph(_ text: String) throws -> Graph {
  let graph = try Graph(text: text, registry: .standard)
  #expect(graph.verify().isEmpty)
  return graph
}

extension Graph {
  /// The tensor with a name; a test fails where there is none.
  func find(_ name: String) throws -> Tensor {
    self[try #require(tensor(named: name))]
  }
}

/// Statistics as if calibration had seen the given extrema; others are 0...1.
func statistics(_ graph: Graph, _ ranges: [String: (Float, Float)]) -> Statistics {
  var result = Statistics(observing: graph)
  result.sampleCount = 1
  for index in result.tensors.indices {
    let range = ranges[result.tensors[index].name] ?? (0, 1)
    result.tensors[index].observe([range.0, range.1])
  }
  return result
}

func annotated(
  _ graph: Graph, _ ranges: [String: (Float, Float)] = [:],
  _ change: (inout QuantizerOptions) -> Void = { _ in }
) throws -> QuantizationResult {
  var options = QuantizerOptions()
  change(&options)
  return try assignEncodings(graph, statistics: statistics(graph, ranges), options: options)
}

/// Parameters of a 1x1 convolution in the text form.
let pointwise = "{stride: [1, 1], pad_amount: [0, 0, 0, 0], dilation: [1, 1], group: 1}"

/// Convolution 1x1 with three filters, a Relu behind it, then a second convolution.
let convolutions = """
  graph "c" {
    input %x: float32[1, 2, 2, 2]
    const %w: float32[1, 1, 2, 3] = [0.5, -2, 0, 1, 0.25, 0]
    const %b: float32[3] = [0.5, -1, 0.25]
    const %w2: float32[1, 1, 3, 1] = [1, -1, 0.5]
    %c: float32[1, 2, 2, 3] = Conv2d(%x, %w, %b) \(pointwise) "conv"
    %r: float32[1, 2, 2, 3] = Relu(%c) "relu"
    %y: float32[1, 2, 2, 1] = Conv2d(%r, %w2) \(pointwise) "conv2"
    output %y
  }
  """
