import IR
import Operators

extension ONNXTranslation {
  /// Gemm and MatMul.
  static let matrices = [ONNXTranslation("Gemm", gemm), ONNXTranslation("MatMul", matMul)]

  /// alpha * A' * B' + beta * C: a fully connected layer where B is constant.
  @Sendable private static func gemm(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    if context.opset < 7 { context.ignore("broadcast") }
    try context.requireOneElementType()
    let alpha = try context.float("alpha") ?? 1
    let beta = try context.float("beta") ?? 1
    let transposesA = try context.flag("transA")
    let transposesB = try context.flag("transB")
    var a = try context.input(0, ranks: 2...2)
    let b = try context.input(1, ranks: 2...2)
    if transposesA { a = try context.transpose(a, [1, 0], suffix: "transA") }
    let columns = b.shape[transposesB ? 0 : 1]
    let rows = a.shape[0]

    var bias: Value?
    var addend: Value?
    if let c = context.optional(2), beta != 0 {
      try checkAddend(context, c, rows: rows, columns: columns)
      let scaled = try scaled(context, c, by: beta, suffix: "C")
      if let constant = scaled.constant, c.rank < 2 || c.shape[0] == 1, rows != 0 {
        bias = try row(context, scaled, constant, columns: columns)
      } else {
        addend = scaled
      }
    }
    let isAlone = addend == nil
    var result: Value
    if b.constant != nil {
      let weight = transposesB ? b : try context.transpose(b, [1, 0], suffix: "weight")
      var operands: [Value?] = [a, try scaled(context, weight, by: alpha, suffix: "B")]
      if let bias { operands.append(bias) }
      result = try context.emit(FullyConnected(), operands, suffix: isAlone ? "" : "product")
    } else {
      let op = MatMul(transposeIn1: transposesB)
      let first = try scaled(context, a, by: alpha, suffix: "A")
      result = try context.emit(
        op, bias.map { [first, b, $0] } ?? [first, b], suffix: isAlone ? "" : "product")
    }
    if let addend { result = try context.emit(ElementWiseAdd(), [result, addend]) }
    return [result]
  }

  private static func checkAddend(
    _ context: NodeContext, _ c: Value, rows: Int, columns: Int
  ) throws(Diagnostic) {
    let target = [rows, columns]
    guard c.rank <= 2,
      zip(c.shape.reversed(), target.reversed()).allSatisfy({ $0 == 1 || $0 == $1 })
    else {
      throw context.invalid("C is \(c.type), which does not broadcast to \(target)")
    }
  }

  /// C as a bias of one number a column.
  private static func row(
    _ context: NodeContext, _ c: Value, _ constant: Constant, columns: Int
  ) throws(Diagnostic) -> Value {
    if c.type.count == columns { return try context.reshape(c, [columns], suffix: "bias") }
    let number = constant.floats().first ?? 0
    let list = [Float](repeating: number, count: columns)
    return context.constant(Constant(list, shape: [columns]), suffix: "bias")
  }

  /// The value times a number; constants of any size at once.
  private static func scaled(
    _ context: NodeContext, _ value: Value, by factor: Float, suffix: String
  ) throws(Diagnostic) -> Value {
    if factor == 1 { return value }
    if let constant = value.constant, value.type.element == .float32 {
      let numbers = constant.floats().map { $0 * factor }
      return context.constant(Constant(numbers, shape: value.shape), suffix: suffix)
    }
    let number = try context.scalar(factor, like: value.type, suffix: "\(suffix).factor")
    return try context.emit(ElementWiseMultiply(), [value, number], suffix: "\(suffix).scaled")
  }

  /// numpy.matmul: vectors count as matrices of one row or column, which the result loses again.
  @Sendable private static func matMul(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    try context.requireOneElementType()
    let (left, right) = (try context.input(0), try context.input(1))
    guard left.rank > 0, right.rank > 0 else {
      throw context.invalid("\(left.type) times \(right.type)")
    }
    let a = left.rank == 1 ? try context.reshape(left, [1, left.shape[0]], suffix: "row") : left
    let b =
      right.rank == 1 ? try context.reshape(right, [right.shape[0], 1], suffix: "column") : right
    var result: Value
    if a.rank == 2, b.rank == 2, b.constant != nil, a.constant == nil {
      let weight = try context.transpose(b, [1, 0], suffix: "weight")
      result = try context.emit(FullyConnected(), [a, weight])
    } else {
      result = try context.emit(MatMul(), [a, b])
    }
    var shape = result.shape
    if right.rank == 1 { shape.removeLast() }
    if left.rank == 1 { shape.remove(at: right.rank == 1 ? shape.count - 1 : shape.count - 2) }
    result = try context.reshape(result, shape, suffix: "vector")
    return [result]
  }
}
