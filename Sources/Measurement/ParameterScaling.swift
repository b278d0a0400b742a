import IR

/// What equalization multiplied the values of a constant by, found from the scales of the activations
/// around it, and what absorption of high biases took away.
struct ParameterScaling: Sendable {
  /// Factor of each element along an axis.
  private var factors: [(axis: Int, values: [Double])] = []
  /// Taken away from each element along the last axis, after the factors.
  private var shifts: [Float] = []

  /// The scaling of a constant of `container`. A weight grew with its output's channels and shrank with
  /// its input's, a bias grew with its output's.
  init(of id: TensorID, in container: Graph, users: [(node: Node, slot: Int)]) {
    guard let (node, slot) = users.first else { return }
    let shape = container[id].type.shape
    if let taken = container.channelShifts[container[id].name], taken.count == shape.last { shifts = taken }
    let output = node.outputs.first.flatMap { container.scales(behind: $0) }
    switch node.op.quantization.input(slot) {
    case .weight(let given, _):
      let axis = given < 0 ? given + shape.count : given
      add(output, axis: axis, shape, inverted: false)
      guard let first = node.inputs.first, let input = first,
        let before = container.channelScales[container[input].name]
      else { return }
      let along = shape.count > 1 ? Encoding.inputAxis(channelAxis: axis, rank: shape.count) : axis
      let isDepthwise = shape.indices.contains(along) && shape[along] != before.count
      add(before, axis: isDepthwise ? axis : along, shape, inverted: true)
    case .bias: add(output, axis: shape.count - 1, shape, inverted: false)
    case .activation, .unquantized: break
    }
  }

  /// Whether it changes nothing.
  var isIdentity: Bool { factors.isEmpty && shifts.isEmpty }

  /// The container's values from the reference's.
  func applied(_ values: [Float], shape: [Int]) -> [Float] { scaled(values, shape) { $0 * $1 - $2 } }

  /// The reference's values from the container's.
  func removed(_ values: [Float], shape: [Int]) -> [Float] { scaled(values, shape) { ($0 + $2) / $1 } }

  private mutating func add(_ scales: [Float]?, axis: Int, _ shape: [Int], inverted: Bool) {
    guard let scales, shape.indices.contains(axis), shape[axis] == scales.count else { return }
    factors.append((axis, scales.map { inverted ? 1 / Double($0) : Double($0) }))
  }

  private func scaled(
    _ values: [Float], _ shape: [Int], _ operation: (_ value: Double, _ factor: Double, _ shift: Double) -> Double
  ) -> [Float] {
    guard !isIdentity else { return values }
    let strides = denseStrides(shape)
    return values.enumerated().map { index, value in
      var factor = 1.0
      for (axis, scales) in factors { factor *= scales[index / strides[axis] % shape[axis]] }
      return Float(operation(Double(value), factor, shifts.isEmpty ? 0 : Double(shifts[index % shifts.count])))
    }
  }
}

extension Graph {
  /// The channel scales of a tensor; inside a fused pair those of the activation's output.
  fileprivate func scales(behind id: TensorID) -> [Float]? {
    if let own = channelScales[self[id].name] { return own }
    guard let activation = fusedIntermediates()[id], let outer = self[activation].outputs.first else { return nil }
    return scales(behind: outer)
  }

  /// The nodes that read each constant, in order.
  func constantUsers() -> [TensorID: [(node: Node, slot: Int)]] {
    var result: [TensorID: [(node: Node, slot: Int)]] = [:]
    for node in nodes {
      for (slot, id) in node.inputs.enumerated() {
        if let id, self[id].constant != nil { result[id, default: []].append((node, slot)) }
      }
    }
    return result
  }

  /// The real values of a constant.
  func realValues(of id: TensorID) -> [Float] {
    guard let constant = self[id].constant else { return [] }
    if let encoding = self[id].encoding, constant.type.element.isFixedPoint {
      return encoding.dequantized(constant)
    }
    return constant.floats()
  }
}
