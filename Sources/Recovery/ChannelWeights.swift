import IR
import Operators

/// Which output and which input channel each element of a layer's weight belongs to.
struct ChannelWeights: Sendable {
  /// Elements, dense, as stored.
  var values: [Float]
  let inputChannels: Int
  let outputChannels: Int
  /// Whether the window reaches zeros around the input.
  let isPadded: Bool
  private let shape: [Int]
  private let kind: Kind

  private enum Kind: Sendable {
    /// [..., inputs of a group, outputs].
    case convolution(groups: Int)
    /// [outputs, inputs] or [inputs, outputs].
    case matrix(outputsFirst: Bool)
  }

  /// The weight of a layer; nil where the operator is none of the Conv family, FullyConnected and MatMul
  /// with a matrix.
  init?(_ layer: Layer, of graph: Graph) {
    guard let constant = graph[layer.weight].constant, let inputs = graph[layer.input].type.shape.last else {
      return nil
    }
    shape = constant.type.shape
    func padded(_ list: [Int]) -> Bool { list.contains { $0 != 0 } }
    switch graph.nodes[layer.node].op {
    case let op as Conv2d:
      kind = .convolution(groups: op.group)
      isPadded = padded(op.padAmount)
    case let op as DepthWiseConv2d:
      kind = .convolution(groups: inputs)
      isPadded = padded(op.padAmount)
    case let op as TransposeConv2d:
      kind = .convolution(groups: op.group)
      // Border outputs are made of fewer taps.
      isPadded = true
    case is FullyConnected:
      kind = .matrix(outputsFirst: true)
      isPadded = false
    case let op as MatMul:
      guard shape.count == 2, !op.transposeIn0 else { return nil }
      kind = .matrix(outputsFirst: op.transposeIn1)
      isPadded = false
    default: return nil
    }
    guard let outputs = graph[layer.output].type.shape.last, constant.type.element == .float32,
      constant.type.count > 0
    else { return nil }
    values = constant.floats()
    inputChannels = inputs
    outputChannels = outputs
  }

  /// Calls `body` with (element, output channel, input channel) for all elements.
  @inline(__always)
  func forEach(_ body: (Int, Int, Int) -> Void) {
    switch kind {
    case .convolution(let groups):
      let outputs = shape[shape.count - 1]
      let perGroup = shape[shape.count - 2]
      let taps = shape.dropLast(2).reduce(1, *)
      let each = max(1, outputs / max(groups, 1))
      var index = 0
      for _ in 0..<taps {
        for i in 0..<perGroup {
          for o in 0..<outputs {
            body(index, o, o / each * perGroup + i)
            index += 1
          }
        }
      }
    case .matrix(let outputsFirst):
      let (rows, columns) = (shape[0], shape[1])
      var index = 0
      for row in 0..<rows {
        for column in 0..<columns {
          if outputsFirst { body(index, row, column) } else { body(index, column, row) }
          index += 1
        }
      }
    }
  }

  /// Largest magnitude over the taps, and the number of these.
  func magnitudes() -> (ChannelMagnitudes, taps: Int) {
    let (depth, each): (Int, Int)
    switch kind {
    case .convolution(let groups): (depth, each) = (shape[shape.count - 2], max(1, outputChannels / max(groups, 1)))
    case .matrix: (depth, each) = (inputChannels, outputChannels)
    }
    var result = [Float](repeating: 0, count: depth * outputChannels)
    forEach { index, o, c in
      let place = (c - o / each * depth) * outputChannels + o
      result[place] = max(result[place], abs(values[index]))
    }
    return (
      ChannelMagnitudes(result, depth: depth, outputs: outputChannels, outputsOfGroup: each),
      values.count / max(result.count, 1)
    )
  }

  /// Multiplies all elements of each output channel.
  mutating func scaleOutputs(by factors: [Double]) {
    var result = values
    result.withUnsafeMutableBufferPointer { result in
      forEach { index, o, _ in result[index] = Float(Double(result[index]) * factors[o]) }
    }
    values = result
  }

  /// Divides all elements of each input channel; channel c has factor number c modulo their count.
  mutating func divideInputs(by factors: [Double]) {
    var result = values
    result.withUnsafeMutableBufferPointer { result in
      forEach { index, _, c in result[index] = Float(Double(result[index]) / factors[c % factors.count]) }
    }
    values = result
  }

  /// Largest magnitude of each output channel.
  func outputRanges() -> [Double] {
    var result = [Double](repeating: 0, count: outputChannels)
    forEach { index, o, _ in result[o] = max(result[o], Double(abs(values[index]))) }
    return result
  }

  /// Largest magnitude of what reads each of `channels` input channels (channel c modulo their count).
  func inputRanges(_ channels: Int) -> [Double] {
    var result = [Double](repeating: 0, count: channels)
    forEach { index, _, c in
      result[c % channels] = max(result[c % channels], Double(abs(values[index])))
    }
    return result
  }
}

/// Largest magnitude of the weights between each output channel and each input channel that it reads.
struct ChannelMagnitudes: Sendable {
  /// [input of a group][output]
  let values: [Float]
  /// Inputs of a group.
  let depth: Int
  let outputs: Int
  let outputsOfGroup: Int

  /// Magnitudes of `depth` inputs by `outputs` outputs in groups of `outputsOfGroup`.
  init(_ values: [Float], depth: Int, outputs: Int, outputsOfGroup: Int) {
    self.values = values
    self.depth = depth
    self.outputs = outputs
    self.outputsOfGroup = outputsOfGroup
  }

  /// For each output the input (counted over all groups) whose magnitude divided by `scale` is largest,
  /// the first of equal ones.
  func largest(_ scale: (Int) -> Double) -> [Int] {
    var (best, at) = ([Float](repeating: -1, count: outputs), [Int32](repeating: 0, count: outputs))
    values.withUnsafeBufferPointer { values in
      best.withUnsafeMutableBufferPointer { best in
        at.withUnsafeMutableBufferPointer { at in
          for first in stride(from: 0, to: outputs, by: outputsOfGroup) {
            let start = first / outputsOfGroup * depth
            for i in 0..<depth {
              let factor = Float(1 / scale(start + i))
              let row = i * outputs
              for o in first..<min(first + outputsOfGroup, outputs) {
                let value = values[row + o] * factor
                let isLarger = value > best[o]
                best[o] = isLarger ? value : best[o]
                at[o] = isLarger ? Int32(truncatingIfNeeded: start + i) : at[o]
              }
            }
          }
        }
      }
    }
    return at.map(Int.init)
  }
}

extension Graph {
  /// Puts values into a layer's weight; its type stays.
  mutating func setWeight(_ layer: Layer, _ values: [Float]) {
    self[layer.weight].constant = Constant(values, shape: self[layer.weight].type.shape)
  }

  /// Values of a layer's bias, zeros where it has none; nil where it is no constant.
  func biasValues(_ layer: Layer) -> [Float]? {
    guard let bias = layer.bias else {
      return self[layer.output].type.shape.last.map { [Float](repeating: 0, count: $0) }
    }
    return self[bias].constant?.floats()
  }

  /// Puts values into a layer's bias.
  mutating func setBias(_ layer: Layer, _ values: [Float]) {
    guard let bias = layer.bias else { return }
    self[bias].constant = Constant(values, shape: self[bias].type.shape)
  }
}

/// What an activation lets through: a lower bound and upper bounds, one for all channels or one a
/// channel; nil where it is none that clamps.
func activationBounds(_ node: Node, in graph: Graph) -> (low: Float, high: [Float])? {
  switch node.op {
  case is Relu: return (0, [.infinity])
  case let op as ReluMinMax: return (op.minValue, [op.maxValue])
  case is ElementWiseMinimum:
    guard node.inputs.count == 2, let id = node.inputs[1], let constant = graph[id].constant else { return nil }
    return (-.infinity, constant.floats())
  default: return nil
  }
}
