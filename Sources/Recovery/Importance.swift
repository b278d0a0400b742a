import IR
import Operators

/// How much noise in each channel of each tensor weighs in the graph's outputs: variance of the outputs,
/// relative to what they vary by, for a unit of variance in every position of the channel, to first order and
/// as if positions and channels were independent.
///
/// Followed backwards through the weights and the shares of activations that let changes through; where an
/// operator mixes channels in another way the mean over its channels is passed on.
struct Importance {
  private var values: [TensorID: [Double]] = [:]

  /// `moments` tell the power of tensors, and behind layers the share strictly inside the clamp.
  init(_ graph: Graph, _ layers: [Layer], _ moments: [TensorID: ChannelMoments]) {
    var byNode: [Int: Layer] = [:]
    for layer in layers { byNode[layer.node] = layer }
    let producers = graph.producers()
    for output in graph.outputs {
      var tensor = output
      // Functions that saturate tell little of what noise does to the decision before them.
      while let node = producers[tensor.index].map({ graph[$0] }),
        node.op is Softmax || node.op is LogSoftmax || node.op is Sigmoid || node.op is Reshape
          || node.op is Transpose, let input = node.inputs[0]
      {
        tensor = input
      }
      let channels = graph[tensor].type.shape.last ?? 1
      let power = moments[tensor].map { moments in
        let count = Double(max(1, moments.count))
        let variances = zip(moments.sum, moments.squares).map { max(0, $1 / count - ($0 / count) * ($0 / count)) }
        return variances.reduce(0, +) / Double(max(1, variances.count))
      }
      add([Double](repeating: 1 / max(power ?? 1, 1e-30), count: channels), to: tensor)
    }
    for index in graph.nodes.indices.reversed() {
      let node = graph.nodes[index]
      guard let output = node.outputs.first, let above = values[output] else { continue }
      if let layer = byNode[index], let weights = ChannelWeights(layer, of: graph),
        weights.outputChannels == above.count
      {
        var below = [Double](repeating: 0, count: weights.inputChannels)
        weights.forEach { place, o, c in
          let w = Double(weights.values[place])
          below[c] += w * w * above[o]
        }
        add(below, to: layer.input)
        continue
      }
      pass(node, above, graph, moments)
    }
  }

  /// Importance of each channel of a tensor; ones where nothing is known.
  func channels(_ id: TensorID, count: Int) -> [Double] {
    let found = values[id] ?? []
    return found.count == count ? found : [Double](repeating: mean(found) ?? 1, count: count)
  }

  private func mean(_ list: [Double]) -> Double? { list.isEmpty ? nil : list.reduce(0, +) / Double(list.count) }

  private mutating func add(_ more: [Double], to id: TensorID) {
    guard let old = values[id], old.count == more.count else {
      values[id] = values[id] ?? more
      return
    }
    values[id] = zip(old, more).map(+)
  }

  private mutating func pass(
    _ node: Node, _ above: [Double], _ graph: Graph, _ moments: [TensorID: ChannelMoments]
  ) {
    for (slot, id) in node.inputs.enumerated() {
      guard let id, graph[id].constant == nil, graph[id].type.element.logical == .float32 else { continue }
      let count = graph[id].type.shape.last ?? 1
      var own = above
      switch node.op {
      case is Relu, is ReluMinMax:
        if let share = moments[id]?.shareInside, share.count == own.count { own = zip(own, share).map(*) }
      case let op as PoolAvg2d:
        let window = Double(op.filterSize.reduce(1, *))
        own = own.map { $0 / window }
      case let op as ReduceMean:
        let positions = op.axes.reduce(1.0) { $0 * Double(graph[id].type.shape[$1]) }
        own = own.map { $0 / max(positions, 1) }
      case is ElementWiseMultiply:
        if let other = node.inputs[1 - min(slot, 1)] {
          let squares: [Double]?
          if let constant = graph[other].constant {
            squares = constant.floats().map { Double($0) * Double($0) }
          } else {
            squares = moments[other].map { moments in
              moments.squares.map { $0 / Double(max(moments.count, 1)) }
            }
          }
          if let squares, let factor = mean(squares) {
            own = squares.count == own.count ? zip(own, squares).map(*) : own.map { $0 * factor }
          }
        }
      case let op as Concat where op.axis == graph[id].type.rank - 1:
        let before = node.inputs[..<slot].compactMap { $0 }.reduce(0) { $0 + (graph[$1].type.shape.last ?? 0) }
        if before + count <= above.count { own = Array(above[before..<(before + count)]) }
      case is Reshape:
        // A flattened image: channel c is every count-th element.
        if above.count > count, above.count % count == 0 {
          own = (0..<count).map { c in
            stride(from: c, to: above.count, by: count).reduce(0) { $0 + above[$1] }
              / Double(above.count / count)
          }
        }
      default: break
      }
      if own.count != count { own = [Double](repeating: mean(own) ?? 1, count: count) }
      add(own, to: id)
    }
  }
}
