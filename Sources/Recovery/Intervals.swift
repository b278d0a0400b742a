import IR
import Operators

/// What each channel (last axis) of each tensor can hold, by interval arithmetic from the ranges of the
/// inputs; tensors that are missing can hold anything.
struct Intervals {
  private var ranges: [TensorID: [ClosedRange<Double>]] = [:]

  subscript(id: TensorID) -> [ClosedRange<Double>]? {
    get { ranges[id] }
    set { ranges[id] = newValue }
  }

  /// Follows one node whose layer, if it is one, has a weight.
  mutating func follow(_ node: Node, _ layer: Layer?, in graph: Graph) {
    guard let output = node.outputs.first, node.outputs.count == 1, let first = node.inputs.first,
      let input = first, let channels = graph[output].type.shape.last
    else { return }
    if let layer {
      ranges[output] = layerRange(layer, graph)
      return
    }
    guard let x = ranges[input] else { return }
    switch node.op {
    case is Relu, is ReluMinMax, is ElementWiseMinimum:
      guard let bounds = activationBounds(node, in: graph), x.count == channels else { return }
      ranges[output] = x.indices.map { c in
        let low = Double(bounds.low)
        let high = Double(bounds.high.count == channels ? bounds.high[c] : bounds.high[0])
        return min(max(x[c].lowerBound, low), high)...min(max(x[c].upperBound, low), high)
      }
    case let op as LeakyRelu where op.alpha >= 0:
      ranges[output] = x.map { range in
        func value(_ number: Double) -> Double { number < 0 ? number * Double(op.alpha) : number }
        return value(range.lowerBound)...value(range.upperBound)
      }
    case is PoolMax2d: ranges[output] = x
    case is PoolAvg2d: ranges[output] = x.map { min($0.lowerBound, 0)...max($0.upperBound, 0) }
    case let op as ReduceMean:
      let rank = graph[input].type.rank
      if !op.axes.contains(rank - 1) { ranges[output] = x }
    case is Reshape: if x.count == channels { ranges[output] = x }
    case is ElementWiseAdd:
      guard node.inputs.count == 2, let other = node.inputs[1], let y = ranges[other], x.count == y.count,
        graph[input].type.shape == graph[other].type.shape
      else { return }
      ranges[output] = zip(x, y).map {
        ($0.lowerBound + $1.lowerBound)...($0.upperBound + $1.upperBound)
      }
    case let op as Concat:
      guard op.axis == graph[output].type.rank - 1 else { return }
      var joined: [ClosedRange<Double>] = []
      for id in node.inputs {
        guard let id, let part = ranges[id] else { return }
        joined += part
      }
      ranges[output] = joined
    default: break
    }
  }

  private func layerRange(_ layer: Layer, _ graph: Graph) -> [ClosedRange<Double>]? {
    guard let weights = ChannelWeights(layer, of: graph), let bias = graph.biasValues(layer),
      bias.count == weights.outputChannels
    else { return nil }
    let input = ranges[layer.input]
    var low = bias.map { Double($0) }
    var high = low
    weights.forEach { index, o, c in
      let w = Double(weights.values[index])
      guard w != 0 else { return }
      guard let input else {
        low[o] = -.infinity
        high[o] = .infinity
        return
      }
      var range = input[c % input.count]
      if weights.isPadded { range = min(range.lowerBound, 0)...max(range.upperBound, 0) }
      low[o] += w * (w > 0 ? range.lowerBound : range.upperBound)
      high[o] += w * (w > 0 ? range.upperBound : range.lowerBound)
    }
    return zip(low, high).map { $0.isNaN || $1.isNaN ? -Double.infinity...Double.infinity : $0...$1 }
  }
}
