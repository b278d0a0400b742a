import IR

/// Fully connected layer: input [N, K], weight [M, K], optional bias [M], output [N, M].
/// Source: QNN operator definition FullyConnected.
public struct FullyConnected: Operator {
  public static let typeName = "FullyConnected"

  /// Makes a fully connected layer.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let w = try required(inputs, 1, "weight")
    try requireFloats(inputs, Self.typeName)
    try check(
      x.rank == 2 && w.rank == 2 && x.shape[1] == w.shape[1], "weight \(w) does not fit input \(x)")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [w.shape[0]], "bias \(bias) does not fit weight \(w)")
    }
    return [TensorType(x.element, [x.shape[0], w.shape[0]])]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    outputs[0].count * (inputs[0]?.shape[1] ?? 0)
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: 0, perRow: true), .bias], outputs: [.own],
      fusion: .arithmetic)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, w) = (try required(inputs, 0), try required(inputs, 1))
    let bias = inputs.count > 2 ? inputs[2]?.elements(as: Float.self) : nil
    let (rows, depth, columns) = (x.type.shape[0], x.type.shape[1], w.type.shape[0])
    let (xe, we) = (x.elements(as: Float.self), w.elements(as: Float.self))
    let y = outputs[0].elements(as: Float.self)
    for row in 0..<rows {
      for column in 0..<columns {
        var sum: Double = 0
        for k in 0..<depth { sum += Double(xe[row * depth + k]) * Double(we[column * depth + k]) }
        y[row * columns + column] = Float(sum) + (bias?[column] ?? 0)
      }
    }
  }
}

/// Matrix product over the last two axes, the others broadcast; optional bias along the last axis.
/// Both inputs have rank 2 or more. Source: QNN operator definition MatMul.
public struct MatMul: Operator {
  public static let typeName = "MatMul"
  public var transposeIn0: Bool
  public var transposeIn1: Bool

  /// Makes a product of in0 (transposed if said so) and in1 (likewise).
  public init(transposeIn0: Bool = false, transposeIn1: Bool = false) {
    self.transposeIn0 = transposeIn0
    self.transposeIn1 = transposeIn1
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    transposeIn0 = try attributes.bool("transpose_in0", default: false)
    transposeIn1 = try attributes.bool("transpose_in1", default: false)
  }

  public var attributes: [Attribute] {
    [
      Attribute("transpose_in0", .bool(transposeIn0)),
      Attribute("transpose_in1", .bool(transposeIn1)),
    ]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let a = try required(inputs, 0, "in0")
    let b = try required(inputs, 1, "in1")
    try requireFloats(inputs, Self.typeName)
    try check(a.rank >= 2 && b.rank >= 2, "MatMul needs rank 2 or more, has \(a) and \(b)")
    let (m, k) = dimensions(a.shape, transposeIn0)
    let (depth, n) = dimensions(b.shape, transposeIn1)
    try check(k == depth, "\(a) and \(b) do not multiply: \(k) columns, \(depth) rows")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [n], "bias \(bias) does not fit \(n) columns")
    }
    let batch = try broadcastShape(Array(a.shape.dropLast(2)), Array(b.shape.dropLast(2)))
    return [TensorType(a.element, batch + [m, n])]
  }

  private func dimensions(_ shape: [Int], _ transposed: Bool) -> (Int, Int) {
    let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
    return transposed ? (columns, rows) : (rows, columns)
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let a = inputs[0] else { return 0 }
    return outputs[0].count * dimensions(a.shape, transposeIn0).1
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: transposeIn1 ? -2 : -1, perRow: true), .bias],
      outputs: [.own], fusion: .arithmetic)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (a, b) = (try required(inputs, 0), try required(inputs, 1))
    let bias = inputs.count > 2 ? inputs[2]?.elements(as: Float.self) : nil
    let shape = outputs[0].type.shape
    let (m, n) = (shape[shape.count - 2], shape[shape.count - 1])
    let k = dimensions(a.type.shape, transposeIn0).1
    let batch = Array(shape.dropLast(2))
    let aSteps = broadcastStrides(Array(a.type.shape.dropLast(2)), to: batch)
    let bSteps = broadcastStrides(Array(b.type.shape.dropLast(2)), to: batch)
    let (ae, be) = (a.elements(as: Float.self), b.elements(as: Float.self))
    let y = outputs[0].elements(as: Float.self)
    let (aRow, aColumn) = transposeIn0 ? (1, m) : (k, 1)
    let (bRow, bColumn) = transposeIn1 ? (1, k) : (n, 1)
    forEachRow(batch + [1], aSteps + [0], bSteps + [0]) { out, aBatch, bBatch in
      let (aStart, bStart, yStart) = (aBatch * m * k, bBatch * k * n, out * m * n)
      for row in 0..<m {
        for column in 0..<n {
          var sum: Double = 0
          for step in 0..<k {
            sum +=
              Double(ae[aStart + row * aRow + step * aColumn])
              * Double(be[bStart + step * bRow + column * bColumn])
          }
          y[yStart + row * n + column] = Float(sum) + (bias?[column] ?? 0)
        }
      }
    }
  }
}
