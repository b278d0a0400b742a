import IR
import Operators

extension ONNXTranslation {
  /// Arithmetic on two operands, and on any number of them.
  static let binaries = [
    binary("Add", ElementWiseAdd()), binary("Sub", ElementWiseSubtract()),
    binary("Mul", ElementWiseMultiply()), binary("Div", ElementWiseDivide()),
    ONNXTranslation("Pow") { (context) throws(Diagnostic) in
      let base = try context.input(0)
      var exponent = try alignedOperand(context)
      if exponent.type.element != base.type.element {
        exponent = try castExponent(context, exponent, to: base.type.element)
      }
      return [try context.emit(ElementWisePower(), [base, exponent])]
    },
    variadic("Min", ElementWiseMinimum()), variadic("Max", ElementWiseMaximum()),
    variadic("Sum", ElementWiseAdd()),
    ONNXTranslation("Mean") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      var sum = try context.input(0)
      for index in context.inputs.indices.dropFirst() {
        sum = try context.emit(
          ElementWiseAdd(), [sum, try context.input(index)], suffix: "part\(index)")
      }
      let count = try context.scalar(Float(context.inputs.count), like: sum.type, suffix: "count")
      return [try context.emit(ElementWiseDivide(), [sum, count])]
    },
    ONNXTranslation("Mod") { (context) throws(Diagnostic) in
      let isRemainder = try context.flag("fmod")
      let operands = [try context.input(0), try context.input(1)]
      let op: any Operator = isRemainder ? ElementWiseFmod() : ElementWiseMod()
      return [try context.emit(op, operands)]
    },
  ]

  private static func binary(_ name: String, _ op: any Operator) -> ONNXTranslation {
    ONNXTranslation(name, takesDoubles: true) { (context) throws(Diagnostic) in
      let right = try alignedOperand(context)
      return [try context.emit(op, [try context.input(0), right])]
    }
  }

  /// The second operand; up to opset 6 its axes are those of the first from `axis` on, and only
  /// `broadcast` lets the shapes differ.
  static func alignedOperand(_ context: NodeContext) throws(Diagnostic) -> Value {
    let (left, right) = (try context.input(0), try context.input(1))
    guard context.opset < 7 else { return right }
    context.ignore("consumed_inputs")
    let isBroadcast = try context.flag("broadcast")
    let given = try context.int("axis")
    guard isBroadcast else {
      guard left.shape == right.shape else {
        throw context.invalid("\(left.type) and \(right.type) differ without broadcast")
      }
      return right
    }
    guard right.rank <= left.rank else {
      throw context.invalid("\(right.type) does not broadcast to \(left.type)")
    }
    guard let given else { return right }
    let axis = given < 0 ? given &+ left.rank : given
    guard axis >= 0, axis <= left.rank - right.rank else {
      throw context.invalid("axis \(given) does not fit \(left.type) and \(right.type)")
    }
    let tail = [Int](repeating: 1, count: left.rank - right.rank - axis)
    return try context.reshape(right, right.shape + tail, suffix: "aligned")
  }

  private static func castExponent(
    _ context: NodeContext, _ exponent: Value, to element: DataType
  ) throws(Diagnostic) -> Value {
    guard element.isInteger, exponent.type.element.isFloat else {
      return try context.cast(exponent, to: element, suffix: "exponent")
    }
    guard let numbers = exponent.constant?.floats(),
      numbers.allSatisfy({ $0.rounded() == $0 && abs($0) < 0x1p31 })
    else {
      throw context.unsupported("an integer to the power of a fraction")
    }
    return try context.cast(exponent, to: element, suffix: "exponent")
  }

  private static func variadic(_ name: String, _ op: any Operator) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      var result = try context.input(0)
      for index in context.inputs.indices.dropFirst() {
        let isLast = index == context.inputs.count - 1
        result = try context.emit(
          op, [result, try context.input(index)], suffix: isLast ? "" : "part\(index)")
      }
      return [result]
    }
  }
}
