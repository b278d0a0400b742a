import IR
import Operators

extension ONNXTranslation {
  /// BatchNormalization in its inference form.
  static let normalizations = [ONNXTranslation("BatchNormalization", batchNormalization)]

  @Sendable private static func batchNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("momentum", "consumed_inputs", "is_test")
    let epsilon = try context.float("epsilon") ?? 1e-5
    let isSpatial = try context.flag("spatial", default: true)
    if try context.flag("training_mode") {
      throw context.unsupported(
        "training_mode", hint: "export the model in evaluation mode (model.eval() in PyTorch)")
    }
    try context.requireOnlyFirstOutput("an output of training")
    let x = try context.input(0, ranks: 2...8)
    var parameters: [Value] = []
    for index in 1...4 { parameters.append(try context.input(index)) }
    let expected = isSpatial ? [x.shape[1]] : Array(x.shape[1...])
    for parameter in parameters where parameter.shape != expected {
      throw context.invalid("a parameter is \(parameter.type), its shape must be \(expected)")
    }
    let (weight, bias) = try scaleAndShift(context, parameters, epsilon: epsilon)
    guard isSpatial else {
      let scaled = try context.emit(ElementWiseMultiply(), [x, weight], suffix: "scaled")
      return [try context.emit(ElementWiseAdd(), [scaled, bias])]
    }
    if let scale = parameters[0].constant, let shift = parameters[1].constant,
      let output = context.node.outputs.first
    {
      let statistics = BatchNormStatistics(beta: shift.floats(), gamma: scale.floats())
      context.builder.record(statistics, of: output)
    }
    let result = try context.emit(
      Batchnorm(), [try context.channelLast(x), weight, bias], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  /// scale / sqrt(variance + epsilon) and shift - mean * that, in double precision where all four
  /// are constants.
  private static func scaleAndShift(
    _ context: NodeContext, _ parameters: [Value], epsilon: Float
  ) throws(Diagnostic) -> (Value, Value) {
    let lists = parameters.compactMap { $0.constant?.floats() }
    let shape = parameters[0].shape
    if lists.count == 4 {
      var (weights, biases): ([Float], [Float]) = ([], [])
      for index in lists[0].indices {
        let deviation = (Double(lists[3][index]) + Double(epsilon)).squareRoot()
        let factor = Double(lists[0][index]) / deviation
        guard factor.isFinite else {
          throw context.invalid("channel \(index) has variance \(lists[3][index])")
        }
        weights.append(Float(factor))
        biases.append(Float(Double(lists[1][index]) - Double(lists[2][index]) * factor))
      }
      return (
        context.constant(Constant(weights, shape: shape), suffix: "weight"),
        context.constant(Constant(biases, shape: shape), suffix: "bias")
      )
    }
    let small = try context.scalar(epsilon, like: parameters[3].type, suffix: "epsilon")
    let shifted = try context.emit(ElementWiseAdd(), [parameters[3], small], suffix: "variance")
    let deviation = try context.emit(ElementWiseSquareRoot(), [shifted], suffix: "deviation")
    let weight = try context.emit(
      ElementWiseDivide(), [parameters[0], deviation], suffix: "weight")
    let moved = try context.emit(ElementWiseMultiply(), [parameters[2], weight], suffix: "moved")
    let bias = try context.emit(ElementWiseSubtract(), [parameters[1], moved], suffix: "bias")
    return (weight, bias)
  }
}
