import IR

/// Determinants of square matrices: input [..., M, M], output [...]. Source: ONNX operator Det.
public struct Determinant: Operator {
  public static let typeName = "Det"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public var attributes: [Attribute] { [] }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try requireFloat(x, Self.typeName)
    try check(
      x.rank >= 2 && x.shape[x.rank - 1] == x.shape[x.rank - 2] && x.shape[x.rank - 1] < 1 << 12,
      "\(x) holds no square matrices")
    return [TensorType(x.element, x.shape.dropLast(2))]
  }

  /// Products of as many factors as a matrix has rows: on a grid of 8 bits nothing would be left of them.
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.unquantized]) }

  /// The largest entry of a column is its pivot; in Double.
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let size = x.type.shape[x.type.rank - 1]
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    for matrix in to.indices {
      var rows = (0..<size).map { row in
        (0..<size).map { Double(from[(matrix * size + row) * size + $0]) }
      }
      var product = 1.0
      for column in 0..<size {
        let pivot = (column..<size).max { abs(rows[$0][column]) < abs(rows[$1][column]) } ?? column
        if pivot != column {
          rows.swapAt(pivot, column)
          product = -product
        }
        let head = rows[column][column]
        product *= head
        guard head != 0 else { break }
        for row in (column + 1)..<max(size, column + 1) {
          let factor = rows[row][column] / head
          for index in column..<size { rows[row][index] -= factor * rows[column][index] }
        }
      }
      to[matrix] = Float(product)
    }
  }
}
