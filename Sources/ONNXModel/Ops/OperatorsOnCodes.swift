import IR
import Operators

extension ONNXTranslation {
  /// Operators of ONNX Runtime's own domain that its quantizer writes in the QOperator format: float
  /// operators between the grids of their operands.
  static let operatorsOnCodes: [ONNXTranslation] =
    [
      ("QLinearAdd", "Add"), ("QLinearMul", "Mul"),
    ].map { name, opType in
      ONNXTranslation("com.microsoft.\(name)") { (context) throws(Diagnostic) in
        let a = try context.real(0, axis: nil)
        let b = try context.real(3, axis: nil)
        return [try context.requantized(opType, [a, b], scale: 6)]
      }
    }
    + [
      ("QLinearSigmoid", "Sigmoid"), ("QLinearLeakyRelu", "LeakyRelu"), ("QLinearSoftmax", "Softmax"),
      ("QLinearGlobalAveragePool", "GlobalAveragePool"), ("QLinearAveragePool", "AveragePool"),
      ("QLinearReduceMean", "ReduceMean"),
    ].map { name, opType in
      ONNXTranslation("com.microsoft.\(name)") { (context) throws(Diagnostic) in
        context.ignore("opset")
        if try context.flag("channels_last") { throw context.unsupported("channels_last") }
        let x = try context.real(0, axis: nil)
        return [try context.requantized(opType, [x], scale: 3)]
      }
    }
    + [
      ONNXTranslation("com.microsoft.QLinearConcat", concat),
      ONNXTranslation("com.microsoft.QGemm", gemm),
    ]

  /// Scale and zero point of the output, then codes, scale, zero point of each operand.
  @Sendable private static func concat(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    guard context.inputs.count >= 5, context.inputs.count % 3 == 2 else {
      throw context.invalid("\(context.inputs.count) inputs")
    }
    var operands: [Value?] = []
    for index in stride(from: 2, to: context.inputs.count, by: 3) {
      operands.append(try context.real(index, axis: nil))
    }
    return [try context.requantized("Concat", operands, scale: 0)]
  }

  /// alpha * A' * B' + C; without a scale of the output the result is float.
  @Sendable private static func gemm(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let transposes = try context.flag("transB", peek: true)
    let alpha = try context.float("alpha") ?? 1
    let a = try context.real(0, axis: nil)
    let b = try context.real(3, axis: transposes ? 0 : 1)
    var operands: [Value?] = [a, b]
    guard alpha == 1 else { throw context.unsupported("alpha \(alpha)") }
    if let bias = context.optional(6) {
      operands.append(
        try context.bias(bias, scales: [try context.input(1), try context.input(4)]))
    }
    if context.optional(7) != nil {
      return [try context.requantized("Gemm", operands, scale: 7)]
    }
    let output = context.node.outputs.first ?? context.name
    return [try context.nested("Gemm", operands, output: "\(output).float")]
  }
}
