import IR
import Operators

extension ONNXTranslation {
  /// Functions of one operand without attributes, and those that change nothing.
  static let unaries = [
    unary("Exp", ElementWiseExp()), unary("Log", ElementWiseLog()),
    unary("Neg", ElementWiseNeg()), unary("Abs", ElementWiseAbs()),
    unary("Sqrt", ElementWiseSquareRoot()), unary("Reciprocal", ElementWiseReciprocal()),
    unary("Floor", ElementWiseFloor()), unary("Ceil", ElementWiseCeil()),
    unary("Round", ElementWiseRound()), unary("Sin", ElementWiseSin()),
    unary("Cos", ElementWiseCos()), unary("Sigmoid", Sigmoid()), unary("Tanh", Tanh()),
    unary("Erf", ElementWiseErf()), unary("Sign", ElementWiseSign()),
    unary("Tan", ElementWiseTan()), unary("Asin", ElementWiseAsin()),
    unary("Acos", ElementWiseAcos()), unary("Atan", ElementWiseAtan()),
    unary("Sinh", ElementWiseSinh()), unary("Cosh", ElementWiseCosh()),
    unary("Asinh", ElementWiseAsinh()), unary("Acosh", ElementWiseAcosh()),
    unary("Atanh", ElementWiseAtanh()), unary("Softplus", ElementWiseSoftplus()),
    unary("Softsign", ElementWiseSoftsign()), unary("Mish", Mish()),
    ONNXTranslation("Identity") { (context) throws(Diagnostic) in [try context.input(0)] },
    ONNXTranslation("Dropout", dropout),
    ONNXTranslation("Cast", choosesElement: true) { (context) throws(Diagnostic) in
      context.ignore("saturate", "round_mode")
      let x = try context.input(0)
      let element: DataType
      if context.opset < 6, case .string(let name)? = context.any("to") {
        element = try castTarget(context, named: name)
      } else {
        guard let code = try context.int("to") else {
          throw context.invalid("attribute to is missing")
        }
        guard let code = Int32(exactly: code), let known = TensorDecoder.element(code) else {
          let name = Int32(exactly: code).map(TensorDecoder.typeName) ?? "type \(code)"
          throw context.unsupported("a cast to \(name)")
        }
        element = known
      }
      return [try context.convert(x, to: element)]
    },
    ONNXTranslation("CastLike", choosesElement: true) { (context) throws(Diagnostic) in
      context.ignore("saturate", "round_mode")
      return [try context.convert(try context.input(0), to: try context.input(1).sourceElement)]
    },
  ]

  private static func unary(_ name: String, _ op: any Operator) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      return [try context.emit(op, [try context.input(0)])]
    }
  }

  private static func castTarget(
    _ context: NodeContext, named name: String
  ) throws(Diagnostic) -> DataType {
    let names: [String: DataType] = ["FLOAT": .float32, "DOUBLE": .float64, "BOOL": .bool]
    guard let type = names[name] ?? DataType(rawValue: name.lowercased()) else {
      throw context.unsupported("a cast to \(name)")
    }
    return type
  }

  /// Does nothing in inference. The mask keeps everything; before opset 12 the format leaves it
  /// open, and it is what ONNX Runtime gives, zeros.
  @Sendable private static func dropout(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    context.ignore("ratio", "seed", "is_test", "consumed_inputs")
    if let training = try context.number(2, "training_mode"), training != 0 {
      throw context.unsupported(
        "training_mode", hint: "export the model in evaluation mode (model.eval() in PyTorch)")
    }
    let x = try context.input(0)
    guard context.isOutputUsed.count > 1, context.isOutputUsed[1] else { return [x] }
    guard x.type.count <= 1 << 28 else { throw context.unsupported("a mask of \(x.type)") }
    let element = context.opset < 10 ? x.type.element : .bool
    let kept = [UInt8](repeating: context.opset < 12 ? 0 : 1, count: x.type.count)
    let mask = Constant(type: TensorType(.bool, x.shape), bytes: Bytes(kept))
    return [x, try context.cast(context.constant(mask, suffix: "mask"), to: element)]
  }
}

extension NodeContext {
  /// The value in another element type of the source: float64 and float16 stay float32, which holds the
  /// numbers of float16 after rounding.
  func convert(_ value: Value, to element: DataType) throws(Diagnostic) -> Value {
    guard element == .float64 || element == .float16 else {
      var result = try cast(value, to: element)
      result.narrow = nil
      return result
    }
    var result = try cast(value, to: .float32, suffix: element == .float64 ? "" : "float32")
    if element == .float16, value.sourceElement != .float16 {
      if let constant = result.constant {
        let numbers = constant.floats().map { Half.rounded($0) }
        result = self.constant(Constant(numbers, shape: value.shape), suffix: "float16")
      } else {
        result = try emit(Cast(to: .float32), [result])
        if case .tensor(let id) = result.source { builder.makeHalf(id) }
      }
    }
    result.narrow = element
    return result
  }

  /// The value in another element type. Constants of the types that kernels do not know (floating
  /// point other than float32, uint64) are converted here whatever their size.
  func cast(_ value: Value, to element: DataType, suffix: String = "") throws(Diagnostic) -> Value {
    if value.type.element == element { return value }
    var value = value
    let isWide = value.type.element == .uint64 && element.isFloat
    if let constant = value.constant,
      isWide || (value.type.element.isFloat && value.type.element != .float32)
    {
      let numbers =
        isWide
        ? constant.materialized().array(of: UInt64.self).map { Float($0) } : constant.floats()
      let wide = Constant(numbers, shape: value.shape)
      value = builder.constant(
        wide, named: "\(name).float32", encoding: value.encoding)
      if element == .float32 { return value }
    }
    if value.type.element == .float32, let constant = value.constant, element.isFloat {
      let numbers = constant.floats()
      let type = TensorType(element, value.shape)
      let bytes: Bytes
      switch element {
      case .float16: bytes = Bytes(numbers.map { halfBits($0) })
      case .bfloat16: bytes = Bytes(numbers.map { bfloatBits($0) })
      default: bytes = Bytes(numbers.map { Double($0) })
      }
      return self.constant(Constant(type: type, bytes: bytes), suffix: element.rawValue)
    }
    return try emit(Cast(to: element), [value], suffix: suffix)
  }

  /// The bits of the bfloat16 number nearest to `value`, ties to even.
  private func bfloatBits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }
}
