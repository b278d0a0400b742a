import IR
import Operators

extension ONNXTranslation {
  /// Normalizations over axes: of layers, instances and groups.
  static let axisNormalizations = [
    ONNXTranslation("LayerNormalization", layerNormalization),
    ONNXTranslation("RMSNormalization", rmsNormalization),
    ONNXTranslation("InstanceNormalization", instanceNormalization),
    ONNXTranslation("GroupNormalization", groupNormalization),
    ONNXTranslation("LRN", localResponse),
    ONNXTranslation("LpNormalization", lpNormalization),
    ONNXTranslation("MeanVarianceNormalization", meanVariance),
  ]

  /// The normalized axes, from `axis` (the last one by default) to the end.
  private static func trailingAxes(_ context: NodeContext) throws(Diagnostic) -> [Int] {
    let x = try context.input(0)
    let axis = try context.axis(try context.int("axis") ?? -1, rank: x.rank)
    return Array(axis..<x.rank)
  }

  /// Scale or shift of the normalized axes, repeated to their full shape.
  private static func parameter(
    _ context: NodeContext, _ value: Value, _ shape: [Int], _ suffix: String
  ) throws(Diagnostic) -> Value {
    if value.shape == shape { return value }
    var trimmed = value.shape
    while trimmed.count > shape.count && trimmed.first == 1 { trimmed.removeFirst() }
    guard try broadcastShape(trimmed, shape) == shape else {
      throw context.invalid("\(value.type) does not broadcast to \(shape)")
    }
    let plain = try context.reshape(value, trimmed, suffix: "\(suffix).axes")
    if trimmed == shape { return plain }
    return try context.emit(Expand(shape: shape), [plain], suffix: suffix)
  }

  @Sendable private static func layerNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("stash_type")
    try context.requireOneElementType()
    let x = try context.input(0)
    let axes = try trailingAxes(context)
    let epsilon = try context.float("epsilon") ?? 1e-5
    let shape = axes.map { x.shape[$0] }
    var operands: [Value?] = [
      x, try parameter(context, try context.input(1), shape, "gamma"),
    ]
    if let beta = context.optional(2) {
      operands.append(try parameter(context, beta, shape, "beta"))
    }
    let result = try context.emit(LayerNorm(axes: axes, epsilon: epsilon), operands)
    guard context.isOutputUsed.dropFirst().contains(true) else { return [result] }
    let mean = try context.emit(ReduceMean(axes: axes, keepDims: true), [x], suffix: "mean")
    let distance = try context.emit(ElementWiseSubtract(), [x, mean], suffix: "distance")
    let square = try context.emit(ElementWiseMultiply(), [distance, distance], suffix: "square")
    let variance = try context.emit(
      ReduceMean(axes: axes, keepDims: true), [square], suffix: "variance")
    let small = try context.scalar(epsilon, like: x.type, suffix: "epsilon")
    let shifted = try context.emit(ElementWiseAdd(), [variance, small], suffix: "shifted")
    let deviation = try context.emit(ElementWiseRsqrt(), [shifted], suffix: "deviation")
    return [result, mean, deviation]
  }

  @Sendable private static func rmsNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("stash_type")
    let x = try context.input(0)
    let axes = try trailingAxes(context)
    let epsilon = try context.float("epsilon") ?? 1e-5
    let gamma = try parameter(context, try context.input(1), axes.map { x.shape[$0] }, "gamma")
    return [try context.emit(RmsNorm(axes: axes, epsilon: epsilon), [x, gamma])]
  }

  @Sendable private static func instanceNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("consumed_inputs")
    let x = try context.input(0, ranks: 3...8)
    let epsilon = try context.float("epsilon") ?? 1e-5
    let operands: [Value?] = [
      try context.channelLast(x), try context.input(1), try context.input(2),
    ]
    let result = try context.emit(
      InstanceNorm(epsilon: epsilon), operands, tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  /// Scale and shift are one number a group up to opset 20, one a channel later.
  @Sendable private static func groupNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("stash_type")
    let x = try context.input(0, ranks: 3...8)
    let epsilon = try context.float("epsilon") ?? 1e-5
    guard let groups = try context.int("num_groups"), groups > 0, x.shape[1] % groups == 0 else {
      throw context.invalid("num_groups does not fit \(x.type)")
    }
    var operands: [Value?] = [try context.channelLast(x)]
    for (index, name) in [(1, "scale"), (2, "bias")] {
      var value = try context.input(index)
      if context.opset < 21, value.shape == [groups], groups != x.shape[1] {
        let size = x.shape[1] / groups
        value = try context.reshape(value, [groups, 1], suffix: "\(name).group")
        value = try context.emit(
          Expand(shape: [groups, size]), [value], suffix: "\(name).channels")
        value = try context.reshape(value, [x.shape[1]], suffix: name)
      }
      operands.append(value)
    }
    let result = try context.emit(
      GroupNorm(epsilon: epsilon, group: groups), operands, tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  @Sendable private static func localResponse(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 3...8)
    guard let size = try context.int("size"), size > 0, size < TensorDecoder.sizeLimit else {
      throw context.invalid("attribute size is missing or not valid")
    }
    guard size % 2 == 1 else { throw context.unsupported("an even size") }
    let alpha = try context.float("alpha") ?? 0.0001
    let op = Lrn(
      alpha: alpha / Float(size), beta: try context.float("beta") ?? 0.75,
      bias: try context.float("bias") ?? 1, radius: size / 2)
    let result = try context.emit(
      op, [try context.channelLast(x)], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  @Sendable private static func lpNormalization(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axis = try context.axis(try context.int("axis") ?? -1, rank: x.rank)
    let power = try context.int("p") ?? 2
    let norm: Value
    switch power {
    case 1:
      let sizes = try context.emit(ElementWiseAbs(), [x], suffix: "abs")
      norm = try context.emit(ReduceSum(axes: [axis], keepDims: true), [sizes], suffix: "norm")
    case 2:
      let squares = try context.emit(ElementWiseMultiply(), [x, x], suffix: "square")
      let sum = try context.emit(ReduceSum(axes: [axis], keepDims: true), [squares], suffix: "sum")
      norm = try context.emit(ElementWiseSquareRoot(), [sum], suffix: "norm")
    default: throw context.invalid("p is \(power)")
    }
    // A line of zeros stays zero: its norm is replaced by one.
    let zero = try context.scalar(0, like: x.type, suffix: "zero")
    let one = try context.scalar(1, like: x.type, suffix: "one")
    let isZero = try context.emit(ElementWiseEqual(), [norm, zero], suffix: "isZero")
    let divisor = try context.emit(ElementWiseSelect(), [isZero, one, norm], suffix: "divisor")
    return [try context.emit(ElementWiseDivide(), [x, divisor])]
  }

  /// (x - mean) / (deviation + 1e-9), as the function body of the operator has it.
  @Sendable private static func meanVariance(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axes = try context.axes(try context.ints("axes") ?? [0, 2, 3], rank: x.rank)
    let mean = try context.emit(ReduceMean(axes: axes, keepDims: true), [x], suffix: "mean")
    let distance = try context.emit(ElementWiseSubtract(), [x, mean], suffix: "distance")
    let square = try context.emit(ElementWiseMultiply(), [distance, distance], suffix: "square")
    let variance = try context.emit(
      ReduceMean(axes: axes, keepDims: true), [square], suffix: "variance")
    let deviation = try context.emit(ElementWiseSquareRoot(), [variance], suffix: "deviation")
    let small = try context.scalar(1e-9, like: x.type, suffix: "epsilon")
    let divisor = try context.emit(ElementWiseAdd(), [deviation, small], suffix: "divisor")
    return [try context.emit(ElementWiseDivide(), [distance, divisor])]
  }
}
