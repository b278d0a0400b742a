import IR
import Operators

extension ONNXTranslation {
  /// QLinearConv, QLinearMatMul, ConvInteger and MatMulInteger: float operators between their grids.
  /// Products of 8-bit codes are summed in float32, exactly below 2^24.
  static let integerProducts = [
    ONNXTranslation("QLinearConv", quantizedConvolution),
    ONNXTranslation("QLinearMatMul", quantizedProduct),
    ONNXTranslation("ConvInteger") { (context) throws(Diagnostic) in
      try integerProduct(context, "Conv", weightAxis: 0)
    },
    ONNXTranslation("MatMulInteger") { (context) throws(Diagnostic) in
      try integerProduct(context, "MatMul", weightAxis: -1)
    },
  ]

  /// x, its scale and zero point, weights with theirs, the output's, an int32 bias.
  @Sendable private static func quantizedConvolution(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.real(0, axis: nil)
    let weights = try context.real(3, axis: 0)
    var operands: [Value?] = [x, weights]
    if let bias = context.optional(8) {
      operands.append(
        try context.bias(bias, scales: [try context.input(1), try context.input(4)]))
    }
    return [try context.requantized("Conv", operands, scale: 6)]
  }

  /// Scales may be lists: of the rows of the first operand, of the columns of the second.
  @Sendable private static func quantizedProduct(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let a = try context.real(0, axis: -2)
    let b = try context.real(3, axis: -1)
    return [try context.requantized("MatMul", [a, b], scale: 6)]
  }

  /// Codes less their zero points, multiplied and summed.
  private static func integerProduct(
    _ context: NodeContext, _ opType: String, weightAxis: Int
  ) throws(Diagnostic) -> [Value?] {
    let a = try context.number(0, zero: 2, axis: opType == "MatMul" ? -2 : nil)
    let b = try context.number(1, zero: 3, axis: weightAxis)
    let output = context.node.outputs.first ?? context.name
    let sum = try context.nested(opType, [a, b], output: "\(output).float")
    return [try context.emit(Cast(to: .int32), [sum], suffix: "sum")]
  }
}

extension NodeContext {
  private func layout(_ value: Value, _ scale: Value, _ axis: Int?) throws(Diagnostic) -> GridLayout {
    guard scale.rank <= 1 || scale.type.count == 1 else {
      throw unsupported("a scale or zero point of \(scale.type)")
    }
    if scale.type.count == 1 { return GridLayout(axis: nil, blockSize: nil) }
    guard let axis, value.rank >= (axis < 0 ? -axis : axis + 1) else {
      throw invalid("\(scale.type) is no scale or zero point for \(value.type)")
    }
    let own = axis < 0 ? axis + value.rank : axis
    guard scale.shape == [value.shape[own]] else {
      throw invalid("\(scale.type) is no scale or zero point for \(value.type)")
    }
    return GridLayout(axis: own, blockSize: nil)
  }

  /// The real values of the codes at operand `index`, which scale and zero point follow.
  func real(_ index: Int, axis: Int?) throws(Diagnostic) -> Value {
    let q = try input(index)
    let scale = try input(index + 1)
    let zero = optional(index + 2)
    guard scale.type.element.isFloat else { throw invalid("the scale is \(scale.type)") }
    if let zero, zero.type.element != q.type.element {
      throw invalid("the codes are \(q.type), the zero point \(zero.type)")
    }
    return try dequantizeOperand(q, scale, zero, try layout(q, scale, axis))
  }

  /// The codes at operand `index` less the zero point at operand `zero`.
  func number(_ index: Int, zero: Int, axis: Int?) throws(Diagnostic) -> Value {
    let q = try input(index)
    let zero = optional(zero)
    if let zero, zero.type.element != q.type.element {
      throw invalid("the codes are \(q.type), the zero point \(zero.type)")
    }
    let layout = try zero.map { (value) throws(Diagnostic) in try self.layout(q, value, axis) }
    let ones = [Float](repeating: 1, count: zero?.type.count ?? 1)
    let scale = constant(Constant(ones, shape: zero?.shape ?? []), suffix: "one")
    return try dequantizeOperand(
      q, scale, zero, layout ?? GridLayout(axis: nil, blockSize: nil))
  }

  /// As ``dequantize(_:_:_:_:)``, with one node for all readers of a tensor's codes.
  private func dequantizeOperand(
    _ q: Value, _ scale: Value, _ zero: Value?, _ layout: GridLayout
  ) throws(Diagnostic) -> Value {
    if q.constant == nil, let grid = try grid(scale, zero, q.type.element, layout), q.codes == grid {
      return try builder.dequantize(q, grid)
    }
    if let grid = try grid(scale, zero, q.type.element, layout) {
      return try dequantize(q, grid, suffix: "\(q.name).float")
    }
    return try dequantize(q, scale, zero, layout)
  }

  /// An int32 bias: its grid is the product of the scales of input and weights.
  func bias(_ codes: Value, scales: [Value], factor: Float = 1) throws(Diagnostic) -> Value {
    guard codes.type.element == .int32 else { throw invalid("the bias is \(codes.type)") }
    var product = [factor]
    for scale in scales {
      guard let numbers = scale.constant?.floats() else {
        throw unsupported("a bias whose scale is computed from an input")
      }
      guard product.count == 1 || numbers.count == 1 else {
        throw invalid("two lists of scales for one bias")
      }
      product =
        numbers.count == 1
        ? product.map { $0 * numbers[0] } : numbers.map { $0 * product[0] }
    }
    guard product.count == 1 || codes.shape == [product.count] else {
      throw invalid("the bias is \(codes.type), the scales are \(product.count)")
    }
    return try dequantize(
      codes, try makeGrid(product, nil, .int32, axis: product.count == 1 ? nil : 0))
  }

  /// Applies another operator's translation and makes codes of its result by the scale and zero point
  /// at operand `scale` and after.
  func requantized(
    _ opType: String, _ operands: [Value?], scale index: Int
  ) throws(Diagnostic) -> Value {
    let scale = try input(index)
    let zero = optional(index + 1)
    guard scale.type.element.isFloat, scale.type.count == 1, zero?.type.count ?? 1 == 1 else {
      throw invalid("scale and zero point of the output must be single numbers")
    }
    let output = node.outputs.first ?? name
    let result = try nested(opType, operands, output: CodeMovers.floatName(output))
    return try quantize(
      result, scale, zero, to: zero?.type.element ?? .uint8,
      GridLayout(axis: nil, blockSize: nil))
  }
}
