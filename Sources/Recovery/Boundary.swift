import IR
import Operators

/// Two layers between which channels can be scaled: what the first makes is multiplied, the second's
/// weights are divided.
struct Boundary: Sendable {
  /// Indices among the graph's layers.
  let producer: Int
  let consumer: Int
  /// The tensors that the scales pass through, from the first layer's output to the second's input.
  let tensors: [TensorID]
  /// Nodes between the layers, in order.
  let nodes: [Int]
  /// Channels of the first layer's output.
  let channels: Int
  /// The clamp from above between them: Relu6 and the like.
  let clampNode: Int?
}

/// What stands against scaling behind a layer.
struct SkippedBoundary: Sendable {
  let layer: String
  let reason: String
}

extension Graph {
  /// All places where channels can be scaled, each behind another layer; reasons for the rest. An
  /// override on a tensor that would be scaled is an error.
  func boundaries(
    _ layers: [Layer], relu6: Relu6Handling
  ) throws(Diagnostic) -> (found: [Boundary], skipped: [SkippedBoundary]) {
    let readers = consumers()
    var byNode: [Int: Int] = [:]
    for (index, layer) in layers.enumerated() { byNode[layer.node] = index }
    let outputs = Set(self.outputs)
    var found: [Boundary] = []
    var skipped: [SkippedBoundary] = []
    var given: [Diagnostic] = []
    for index in layers.indices {
      switch behind(index, layers, readers, byNode, outputs, relu6) {
      case .success(let boundary):
        let touched =
          boundary.tensors + [layers[boundary.producer].weight, layers[boundary.consumer].weight]
          + [layers[boundary.producer].bias].compactMap { $0 }
        let decided = touched.filter { self[$0].state == .given }
        given += decided.map {
          Diagnostic(
            "override-on-equalized",
            "an override gives its encoding, and cle would scale its channels",
            at: .init(node: layers[index].name, tensor: self[$0].name),
            hint: "leave it out of the overrides, or run without cle")
        }
        if decided.isEmpty { found.append(boundary) }
      case .failure(let reason):
        skipped.append(SkippedBoundary(layer: layers[index].name, reason: reason.text))
      }
    }
    if let failure = Diagnostic.combining(given) { throw failure }
    return (found, skipped)
  }

  private struct Reason: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  private func behind(
    _ index: Int, _ layers: [Layer], _ readers: [[NodeID]], _ byNode: [Int: Int], _ outputs: Set<TensorID>,
    _ relu6: Relu6Handling
  ) -> Result<Boundary, Reason> {
    func skip(_ text: String) -> Result<Boundary, Reason> { .failure(Reason(text)) }
    let layer = layers[index]
    guard ChannelWeights(layer, of: self) != nil, let channels = self[layer.output].type.shape.last else {
      return skip("its weight is not seen by channels")
    }
    if readers[layer.weight.index].count > 1 { return skip("its weight is shared") }
    if let bias = layer.bias, self[bias].constant == nil || readers[bias.index].count > 1 {
      return skip("its bias is shared or no constant")
    }
    var tensor = layer.output
    var tensors = [tensor]
    var nodes: [Int] = []
    var clamp: Int?
    while true {
      if outputs.contains(tensor) { return skip("\(self[tensor].name) is an output") }
      if self[tensor].state == .float { return skip("\(self[tensor].name) stays float") }
      let next = readers[tensor.index]
      guard next.count == 1, let reader = next.first else {
        return skip("\(next.count) operators read \(self[tensor].name)")
      }
      if let place = byNode[reader.index], layers[place].input == tensor {
        let consumer = layers[place]
        guard let weights = ChannelWeights(consumer, of: self),
          weights.inputChannels % channels == 0
        else { return skip("the weight of \(consumer.name) is not seen by channels") }
        if readers[consumer.weight.index].count > 1 { return skip("the weight of \(consumer.name) is shared") }
        return .success(
          Boundary(
            producer: index, consumer: place, tensors: tensors, nodes: nodes, channels: channels, clampNode: clamp))
      }
      let node = self[reader]
      guard node.inputs.first == tensor, node.outputs.count == 1, let output = node.outputs.first else {
        return skip("\(node.name) reads it otherwise")
      }
      let shape = self[tensor].type.shape
      switch node.op {
      case is Relu, is PoolMax2d: break
      case let op as LeakyRelu: if op.alpha < 0 { return skip("\(node.name) has a negative slope") }
      case is Prelu:
        guard let slope = node.inputs[1], self[slope].constant != nil else {
          return skip("\(node.name) has no constant slope")
        }
      case is PoolAvg2d: break
      case let op as ReduceMean: if op.axes.contains(shape.count - 1) { return skip("\(node.name) adds up channels") }
      case let op as ReluMinMax:
        guard op.minValue == 0 || op.minValue == -.infinity else { return skip("\(node.name) clamps from below") }
        if op.maxValue < .infinity {
          if relu6 == .skip { return skip("\(node.name) clamps from above and --cle_relu6 is skip") }
          if clamp != nil || op.minValue != 0 { return skip("\(node.name) clamps once more") }
          clamp = reader.index
        }
      case is ElementWiseMinimum:
        guard node.inputs.count == 2, let bound = node.inputs[1], let constant = self[bound].constant,
          self[output].type.shape == shape, constant.type.count == 1 || constant.type.count == channels,
          readers[bound.index].count == 1, constant.floats().allSatisfy({ $0 >= 0 })
        else { return skip("\(node.name) is no bound by channels") }
        if relu6 == .skip || clamp != nil { return skip("\(node.name) clamps from above") }
        clamp = reader.index
      case is Reshape:
        guard let last = self[output].type.shape.last, last % channels == 0, shape.last == channels else {
          return skip("\(node.name) mixes channels")
        }
        if last != channels, shape.dropLast().first != 1 || self[output].type.shape.dropLast().reduce(1, *) != 1 {
          return skip("\(node.name) mixes channels")
        }
      default: return skip("\(node.name) (\(node.op.typeName)) stands between layers")
      }
      nodes.append(reader.index)
      tensors.append(output)
      tensor = output
    }
  }
}
