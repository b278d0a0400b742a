import IR
import Operators

extension ONNXTranslation {
  /// MaxPool, AveragePool and their global forms.
  static let pools = [
    ONNXTranslation("MaxPool", maxPool),
    ONNXTranslation("AveragePool", averagePool),
    ONNXTranslation("GlobalMaxPool") { (context) throws(Diagnostic) in
      try global(context) { .max($0) }
    },
    ONNXTranslation("GlobalAveragePool") { (context) throws(Diagnostic) in
      try global(context) { .average($0) }
    },
  ]

  private enum Kind {
    case max([Int])
    case average([Int])
  }

  /// The input's window with `ceil_mode` turned into padding; the extra padding apart.
  private static func window(
    _ context: NodeContext, _ x: Value
  ) throws(Diagnostic) -> (window: Window, extra: [Int]) {
    guard let kernel = try context.ints("kernel_shape") else {
      throw context.invalid("attribute kernel_shape is missing")
    }
    let sizes = Array(x.shape[2...])
    let window = try Window(context, kernel: kernel, sizes: sizes)
    let isCeiling = try context.flag("ceil_mode")
    return (window, isCeiling ? window.ceilingPads(sizes) : sizes.map { _ in 0 })
  }

  @Sendable private static func maxPool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    try context.requireOnlyFirstOutput("the output Indices")
    context.ignore("storage_order")
    let x = try context.input(0)
    let images = try context.images(x)
    var (window, extra) = try window(context, x)
    window.after = zip(window.after, extra).map { $0 + $1 }
    let flat = window.inTwoDimensions
    let op = PoolMax2d(
      filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
      dilation: flat.dilations)
    return [try apply(op, context, images, rank: x.rank)]
  }

  @Sendable private static func averagePool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    var images = try context.images(x)
    var (window, extra) = try window(context, x)
    var countsPads = try context.flag("count_include_pad")
    if countsPads && extra.contains(where: { $0 > 0 }) {
      // The padding that ceil_mode adds never counts, the padding that is asked for does.
      let flat = window.inTwoDimensions
      images = try context.emit(
        Pad(padAmount: [0, 0, 0, 0] + flat.padAmount), [images], suffix: "pad")
      window.before = window.before.map { _ in 0 }
      window.after = window.before
      countsPads = false
    }
    window.after = zip(window.after, extra).map { $0 + $1 }
    let flat = window.inTwoDimensions
    let op = PoolAvg2d(
      filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
      dilation: flat.dilations, countPadForEdges: countsPads)
    return [try apply(op, context, images, rank: x.rank)]
  }

  private static func apply(
    _ op: any Operator, _ context: NodeContext, _ images: Value, rank: Int
  ) throws(Diagnostic) -> Value {
    let result = try context.emit(
      op, [try context.channelLast(images)], tensor: context.channelLastName)
    return try context.fromImages(try context.channelFirst(result), rank: rank)
  }

  private static func global(
    _ context: NodeContext, _ kind: ([Int]) -> Kind
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 3...8)
    guard x.rank <= 4 else {
      let axes = Array(2..<x.rank)
      switch kind(axes) {
      case .max: return [try context.emit(ReduceMax(axes: axes, keepDims: true), [x])]
      case .average: return [try context.emit(ReduceMean(axes: axes, keepDims: true), [x])]
      }
    }
    let images = try context.images(x)
    let op: any Operator
    switch kind(Array(images.shape[2...])) {
    case .max(let size):
      op = PoolMax2d(filterSize: size, stride: [1, 1], padAmount: [0, 0, 0, 0])
    case .average(let size):
      op = PoolAvg2d(filterSize: size, stride: [1, 1], padAmount: [0, 0, 0, 0])
    }
    return [try apply(op, context, images, rank: x.rank)]
  }
}
