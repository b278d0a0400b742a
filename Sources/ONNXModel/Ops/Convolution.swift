import IR
import Operators

extension ONNXTranslation {
  /// Conv.
  static let convolutions = [ONNXTranslation("Conv", convolution)]

  @Sendable private static func convolution(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    try context.requireOneElementType()
    let x = try context.input(0)
    let images = try context.images(x)
    let filters = try context.input(1, ranks: x.rank...x.rank)
    let window = try Window(
      context, kernel: try context.ints("kernel_shape") ?? Array(filters.shape[2...]),
      sizes: Array(x.shape[2...]))
    guard window.kernel == Array(filters.shape[2...]) else {
      throw context.invalid(
        "kernel_shape \(window.kernel) differs from the weights' \(filters.type)")
    }
    let group = try context.int("group") ?? 1
    let (channels, outputs) = (x.shape[1], filters.shape[0])
    guard group > 0, channels > 0, channels % group == 0, outputs % group == 0,
      filters.shape[1] == channels / group
    else {
      throw context.invalid("weights \(filters.type) do not fit \(x.type) in \(group) groups")
    }
    if let bias = context.optional(2), bias.shape != [outputs] {
      throw context.invalid("bias \(bias.type) does not fit \(outputs) filters")
    }
    let flat = window.inTwoDimensions
    let weights = try context.transpose(
      try context.images(filters), [2, 3, 1, 0], suffix: "weight")
    let op: any Operator
    if group == channels && group > 1 {
      op = DepthWiseConv2d(
        stride: flat.strides, padAmount: flat.padAmount, dilation: flat.dilations)
    } else {
      op = Conv2d(
        stride: flat.strides, padAmount: flat.padAmount, dilation: flat.dilations, group: group)
    }
    var operands: [Value?] = [try context.channelLast(images), weights]
    if let bias = context.optional(2) { operands.append(bias) }
    let result = try context.emit(op, operands, tensor: context.channelLastName)
    return [try context.fromImages(try context.channelFirst(result), rank: x.rank)]
  }
}
