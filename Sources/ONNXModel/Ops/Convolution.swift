import IR
import Operators

extension ONNXTranslation {
  /// Conv and ConvTranspose.
  static let convolutions = [
    ONNXTranslation("Conv", convolution), ONNXTranslation("ConvTranspose", transposedConvolution),
  ]

  /// Weights come as [inputs, outputs / group, height, width].
  @Sendable private static func transposedConvolution(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    try context.requireOneElementType()
    let x = try context.input(0)
    try context.requireSpatial(x)
    let filters = try context.input(1, ranks: x.rank...x.rank)
    let rank = x.rank - 2
    let kernel = Array(filters.shape[2...])
    if let given = try context.ints("kernel_shape"), given != kernel {
      throw context.invalid("kernel_shape \(given) differs from the weights' \(filters.type)")
    }
    let group = try context.int("group") ?? 1
    let channels = x.shape[1]
    guard group > 0, channels > 0, channels % group == 0, filters.shape[0] == channels else {
      throw context.invalid("weights \(filters.type) do not fit \(x.type) in \(group) groups")
    }
    let outputs = filters.shape[1] * group
    if let bias = context.optional(2), bias.shape != [outputs] {
      throw context.invalid("bias \(bias.type) does not fit \(outputs) filters")
    }
    let zeros = [Int](repeating: 0, count: rank)
    let ones = [Int](repeating: 1, count: rank)
    var extra = try context.sizes("output_padding", count: rank, from: 0) ?? zeros
    let wanted = try context.sizes("output_shape", count: rank, from: 1)
    let mode = try context.string("auto_pad") ?? "NOTSET"
    let strides = try context.sizes("strides", count: rank, from: 1) ?? ones
    let dilations = try context.sizes("dilations", count: rank, from: 1) ?? ones
    let pads = try context.sizes("pads", count: 2 * rank, from: 0) ?? zeros + zeros
    guard kernel.allSatisfy({ $0 > 0 }) else { throw context.invalid("the kernel is empty") }
    var (before, after) = (Array(pads[..<rank]), Array(pads[rank...]))
    if mode == "VALID" { (before, after) = (zeros, zeros) }
    if wanted != nil || mode.hasPrefix("SAME") {
      for axis in 0..<rank {
        let size = x.shape[axis + 2]
        let full = strides[axis] * (size - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        let total = full - (wanted?[axis] ?? size * strides[axis])
        extra[axis] += max(0, -total)
        let cut = max(0, total)
        before[axis] = mode == "SAME_UPPER" ? cut / 2 : cut - cut / 2
        after[axis] = cut - before[axis]
      }
    }
    let isLine = rank == 1
    let pairs = (isLine ? [0, 0] : []) + zip(before, after).flatMap { [$0, $1] }
    let op: any Operator
    if rank == 3 {
      op = TransposeConv3d(
        stride: strides, padAmount: pairs, dilation: dilations, outputPadding: extra, group: group)
    } else {
      op = TransposeConv2d(
        stride: isLine ? [1] + strides : strides, padAmount: pairs,
        dilation: isLine ? [1] + dilations : dilations,
        outputPadding: isLine ? [0] + extra : extra, group: group)
    }
    var weight = try context.images(filters)
    let taps = Array(weight.shape[2...])
    if group == 1 {
      weight = try context.transpose(
        weight, Array(2..<weight.rank) + [0, 1], suffix: "weight")
    } else {
      weight = try context.reshape(
        weight, [group, channels / group, outputs / group, taps.reduce(1, *)], suffix: "groups")
      weight = try context.transpose(weight, [3, 1, 0, 2], suffix: "weight")
      weight = try context.reshape(weight, taps + [channels / group, outputs], suffix: "weight")
    }
    var operands: [Value?] = [try context.pixels(x), weight]
    if let bias = context.optional(2) { operands.append(bias) }
    let result = try context.emit(op, operands, tensor: context.channelLastName)
    return [try context.fromPixels(result, rank: x.rank)]
  }

  @Sendable private static func convolution(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    try context.requireOneElementType()
    let x = try context.input(0)
    try context.requireSpatial(x)
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
      try context.images(filters), Array(2..<max(x.rank, 4)) + [1, 0], suffix: "weight")
    let op: any Operator
    if x.rank == 5 {
      op = Conv3d(
        stride: flat.strides, padAmount: flat.padAmount, dilation: flat.dilations, group: group)
    } else if group == channels && group > 1 {
      op = DepthWiseConv2d(
        stride: flat.strides, padAmount: flat.padAmount, dilation: flat.dilations)
    } else {
      op = Conv2d(
        stride: flat.strides, padAmount: flat.padAmount, dilation: flat.dilations, group: group)
    }
    var operands: [Value?] = [try context.pixels(x), weights]
    if let bias = context.optional(2) { operands.append(bias) }
    let result = try context.emit(op, operands, tensor: context.channelLastName)
    return [try context.fromPixels(result, rank: x.rank)]
  }
}
