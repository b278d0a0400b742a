import IR
import Operators

extension ONNXTranslation {
  /// Comparisons, logic, and what is chosen by them.
  static let truths = [
    comparison("Equal", ElementWiseEqual()), comparison("Less", ElementWiseLess()),
    comparison("LessOrEqual", ElementWiseLessEqual()),
    comparison("Greater", ElementWiseGreater()),
    comparison("GreaterOrEqual", ElementWiseGreaterEqual()),
    comparison("And", ElementWiseAnd()), comparison("Or", ElementWiseOr()),
    comparison("Xor", ElementWiseXor()),
    ONNXTranslation("Not") { (context) throws(Diagnostic) in
      [try context.emit(ElementWiseNot(), [try context.input(0)])]
    },
    ONNXTranslation("Where") { (context) throws(Diagnostic) in
      let operands = [try context.input(0), try context.input(1), try context.input(2)]
      return [try context.emit(ElementWiseSelect(), operands)]
    },
    ONNXTranslation("IsNaN") { (context) throws(Diagnostic) in
      [try context.emit(ElementWiseIsNaN(), [try context.input(0)])]
    },
    ONNXTranslation("IsInf", isInfinite), ONNXTranslation("Trilu", triangle),
  ]

  private static func comparison(_ name: String, _ op: any Operator) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let right = try alignedOperand(context)
      return [try context.emit(op, [try context.input(0), right])]
    }
  }

  @Sendable private static func isInfinite(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let negative = try context.flag("detect_negative", default: true)
    let positive = try context.flag("detect_positive", default: true)
    guard x.type.element == .float32 else { throw context.unsupported("an input of \(x.type)") }
    if negative && positive {
      let size = try context.emit(ElementWiseAbs(), [x], suffix: "abs")
      let limit = try context.scalar(.infinity, like: x.type, suffix: "limit")
      return [try context.emit(ElementWiseEqual(), [size, limit])]
    }
    // With neither sign nothing is equal to NaN.
    let wanted: Float = positive ? .infinity : negative ? -.infinity : .nan
    let limit = try context.scalar(wanted, like: x.type, suffix: "limit")
    return [try context.emit(ElementWiseEqual(), [x, limit])]
  }

  /// Keeps one triangle of the last two axes: a constant mask chooses between the input and 0.
  @Sendable private static func triangle(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 2...8)
    let isUpper = try context.flag("upper", default: true)
    var diagonal = 0
    if context.optional(1) != nil {
      guard let value = context.optional(1)?.constant else {
        throw context.unsupported("a diagonal that is computed from an input")
      }
      guard let list = value.integers(), list.count == 1 else {
        throw context.invalid("k must be one integer, is \(value.type)")
      }
      diagonal = min(max(list[0], -TensorDecoder.sizeLimit), TensorDecoder.sizeLimit)
    }
    let (rows, columns) = (x.shape[x.rank - 2], x.shape[x.rank - 1])
    guard TensorType(.bool, [rows, columns]).count <= 1 << 28 else {
      throw context.unsupported("a mask for \(x.type)")
    }
    var kept: [UInt8] = []
    kept.reserveCapacity(rows * columns)
    for row in 0..<rows {
      for column in 0..<columns {
        let isKept = isUpper ? column - row >= diagonal : column - row <= diagonal
        kept.append(isKept ? 1 : 0)
      }
    }
    let mask = context.constant(
      Constant(type: TensorType(.bool, [rows, columns]), bytes: Bytes(kept)), suffix: "mask")
    let zero = try context.scalar(0, like: x.type, suffix: "zero")
    return [try context.emit(ElementWiseSelect(), [mask, x, zero])]
  }
}
