import IR

/// Channels that a container computes nothing for: dead or constant ones that equalization removed, their
/// constant in the bias or folded into the next layer. They differ from the reference without being noise.
extension Graph {
  /// By name of every computed tensor the channels that the float graph computes nothing for.
  func removedChannels() -> [String: [Int]] {
    let (producers, inner) = (producers(), Set(fusedIntermediates().keys))
    var result: [String: [Int]] = [:]
    for id in computedFloats() where !inner.contains(id) {
      let found = emptyChannels(of: id, producers: producers, inner: inner)
      if !found.isEmpty { result[self[id].name] = found }
    }
    return result
  }

  /// The channels (last axis) of a computed tensor whose weights are all zero: their bias is all there is.
  func emptyChannels(of id: TensorID, producers: [NodeID?], inner: Set<TensorID>) -> [Int] {
    var id = id
    while let node = producers[id.index].map({ self[$0] }) {
      for (slot, operand) in node.inputs.enumerated() {
        guard case .weight(let given, _) = node.op.quantization.input(slot), let weight = operand,
          self[weight].constant != nil
        else { continue }
        return emptyChannels(node, weight, given)
      }
      guard let first = node.inputs.first, let input = first, inner.contains(input) else { return [] }
      id = input
    }
    return []
  }

  private func emptyChannels(_ node: Node, _ weight: TensorID, _ givenAxis: Int) -> [Int] {
    let shape = self[weight].type.shape
    let axis = givenAxis < 0 ? givenAxis + shape.count : givenAxis
    guard shape.indices.contains(axis), let output = node.outputs.first,
      self[output].type.shape.last == shape[axis]
    else { return [] }
    var isEmpty = [Bool](repeating: true, count: shape[axis])
    let inner = denseStrides(shape)[axis]
    for (index, value) in realValues(of: weight).enumerated() where value != 0 {
      isEmpty[index / inner % shape[axis]] = false
    }
    return isEmpty.indices.filter { isEmpty[$0] }
  }
}

/// What was seen of channels that the container computes nothing for.
struct EmptyChannels: Sendable {
  /// Range of each in the reference.
  private var low: [Float]
  private var high: [Float]

  /// Nothing seen of `count` channels.
  init(count: Int) {
    low = [Float](repeating: .infinity, count: count)
    high = [Float](repeating: -.infinity, count: count)
  }

  /// Adds a value of a channel of the reference.
  mutating func see(_ value: Float, place: Int) {
    low[place] = min(low[place], value)
    high[place] = max(high[place], value)
  }

  mutating func merge(_ other: EmptyChannels) {
    for place in low.indices {
      low[place] = min(low[place], other.low[place])
      high[place] = max(high[place], other.high[place])
    }
  }

  /// Whether each is constant in the reference: removed on purpose, not lost by quantization.
  var areConstant: Bool { zip(low, high).allSatisfy { $1 - $0 <= 1e-3 } }
}

extension ParameterComparison {
  /// The elements of a weight that belong to no removed channel; nil for all of them.
  static func kept(
    _ shape: [Int], channelAxis: Int, output: Set<Int>, input: Set<Int>, inputCount: Int
  ) -> [Bool]? {
    guard !output.isEmpty || !input.isEmpty, shape.indices.contains(channelAxis) else { return nil }
    let along = shape.count > 1 ? Encoding.inputAxis(channelAxis: channelAxis, rank: shape.count) : channelAxis
    let inputAxis = shape.indices.contains(along) && shape[along] == inputCount ? along : channelAxis
    let strides = denseStrides(shape)
    return (0..<shape.reduce(1, *)).map { index in
      !output.contains(index / strides[channelAxis] % shape[channelAxis])
        && !(shape[inputAxis] == inputCount && input.contains(index / strides[inputAxis] % shape[inputAxis]))
    }
  }
}
