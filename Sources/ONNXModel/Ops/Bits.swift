import IR
import Operators

extension ONNXTranslation {
  /// Operators on the bits of integers, and bits read as another type.
  static let bits = [
    pair("BitwiseAnd", BitwiseAnd()), pair("BitwiseOr", BitwiseOr()), pair("BitwiseXor", BitwiseXor()),
    ONNXTranslation("BitwiseNot") { (context) throws(Diagnostic) in
      [try context.emit(BitwiseNot(), [try context.input(0)])]
    },
    ONNXTranslation("BitShift") { (context) throws(Diagnostic) in
      let direction = try context.string("direction") ?? ""
      guard ["LEFT", "RIGHT"].contains(direction) else {
        throw context.invalid("direction is \(direction)")
      }
      let op: any Operator = direction == "LEFT" ? BitShiftLeft() : BitShiftRight()
      return [try context.emit(op, [try context.input(0), try context.input(1)])]
    },
    ONNXTranslation("BitCast", choosesElement: true, bitCast),
  ]

  private static func pair(_ name: String, _ op: any Operator) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      [try context.emit(op, [try context.input(0), try context.input(1)])]
    }
  }

  @Sendable private static func bitCast(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var x = try context.input(0)
    let source = x.sourceElement
    guard let element = try context.elementType("to") else {
      throw context.invalid("attribute to is missing")
    }
    guard source.bits == element.bits, source != .bfloat16, element != .bfloat16 else {
      throw context.unsupported("\(source.rawValue) as \(element.rawValue)")
    }
    if source == .float64 { x = try context.emit(Cast(to: .float64), [x], suffix: "float64") }
    let result = try context.emit(BitCast(from: source, to: element), [x])
    guard element == .float64 || element == .float16 else { return [result] }
    var wide = try context.builder.widen(result)
    wide.narrow = element
    return [wide]
  }
}
