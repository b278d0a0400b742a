import IR
import Operators

extension ONNXTranslation {
  /// MaxPool, AveragePool, LpPool and their global forms.
  static let pools = [
    ONNXTranslation("MaxPool", maxPool),
    ONNXTranslation("AveragePool", averagePool), ONNXTranslation("LpPool", lpPool),
    ONNXTranslation("GlobalLpPool") { (context) throws(Diagnostic) in
      let x = try context.input(0, ranks: 3...8)
      let power = try norm(context)
      let powers = try raised(context, x, power)
      let axes = Array(2..<x.rank)
      let sum = try context.emit(ReduceSum(axes: axes, keepDims: true), [powers], suffix: "sum")
      return [try root(context, sum, power)]
    },
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
    let isColumnMajor = try context.flag("storage_order")
    let x = try context.input(0)
    try context.requireSpatial(x)
    var (window, extra) = try window(context, x)
    window.after = zip(window.after, extra).map { $0 + $1 }
    let flat = window.inTwoDimensions
    let element = x.type.element
    let values = element.isInteger ? try context.cast(x, to: .float32, suffix: "numbers") : x
    let (op, places): (any Operator, any Operator)
    if x.rank == 5 {
      let pool = PoolMax3d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
        dilation: flat.dilations)
      (op, places) = (pool, PoolMaxIndices3d(pool, isColumnMajor: isColumnMajor))
    } else {
      let pool = PoolMax2d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
        dilation: flat.dilations)
      (op, places) = (pool, PoolMaxIndices2d(pool, isColumnMajor: isColumnMajor))
    }
    var result = try apply(op, context, values)
    if element.isInteger { result = try context.cast(result, to: element, suffix: "codes") }
    guard context.isOutputUsed.count > 1, context.isOutputUsed[1] else { return [result] }
    let indices = try context.emit(places, [try context.pixels(values)], suffix: "indices")
    return [result, try context.fromPixels(indices, rank: x.rank)]
  }

  private static func norm(_ context: NodeContext) throws(Diagnostic) -> Float {
    let power: Float
    if context.opset < 2 {
      power = try context.float("p") ?? 2
    } else {
      power = Float(try context.int("p") ?? 2)
    }
    guard power > 0 else { throw context.invalid("p is \(power)") }
    return power
  }

  /// |x|^p.
  private static func raised(
    _ context: NodeContext, _ x: Value, _ power: Float
  ) throws(Diagnostic) -> Value {
    if power == 2 { return try context.emit(ElementWiseMultiply(), [x, x], suffix: "square") }
    let size = try context.emit(ElementWiseAbs(), [x], suffix: "abs")
    if power == 1 { return size }
    let exponent = try context.scalar(power, like: x.type, suffix: "power")
    return try context.emit(ElementWisePower(), [size, exponent], suffix: "raised")
  }

  /// The p-th root of sums.
  private static func root(
    _ context: NodeContext, _ sum: Value, _ power: Float
  ) throws(Diagnostic) -> Value {
    if power == 1 { return sum }
    if power == 2 { return try context.emit(ElementWiseSquareRoot(), [sum]) }
    let exponent = try context.scalar(1 / power, like: sum.type, suffix: "root")
    return try context.emit(ElementWisePower(), [sum, exponent])
  }

  /// The p-norm of each window: means of powers times the size of the window; padding counts nothing.
  @Sendable private static func lpPool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    try context.requireSpatial(x)
    let power = try norm(context)
    var (window, extra) = try window(context, x)
    window.after = zip(window.after, extra).map { $0 + $1 }
    let flat = window.inTwoDimensions
    var powers = try raised(context, x, power)
    if flat.padAmount.contains(where: { $0 > 0 }) {
      powers = try context.emit(
        Pad(padAmount: [0, 0, 0, 0] + window.padAmount), [powers], suffix: "pad")
    }
    let nothing = flat.padAmount.map { _ in 0 }
    let op: any Operator
    if x.rank == 5 {
      op = PoolAvg3d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: nothing, dilation: flat.dilations)
    } else {
      op = PoolAvg2d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: nothing, dilation: flat.dilations)
    }
    let pixels = try context.pixels(powers)
    let means = try context.emit(op, [pixels], suffix: "means")
    let size = try context.scalar(
      Float(flat.kernel.reduce(1, &*)), like: means.type, suffix: "size")
    let sum = try context.emit(ElementWiseMultiply(), [means, size], suffix: "sum")
    let result = try root(context, sum, power)
    return [try context.fromPixels(result, rank: x.rank)]
  }

  @Sendable private static func averagePool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    try context.requireSpatial(x)
    var values = x
    var (window, extra) = try window(context, x)
    var countsPads = try context.flag("count_include_pad")
    if countsPads && extra.contains(where: { $0 > 0 }) {
      // The padding that ceil_mode adds never counts, the padding that is asked for does.
      values = try context.emit(
        Pad(padAmount: [0, 0, 0, 0] + window.padAmount), [values], suffix: "pad")
      window.before = window.before.map { _ in 0 }
      window.after = window.before
      countsPads = false
    }
    window.after = zip(window.after, extra).map { $0 + $1 }
    let flat = window.inTwoDimensions
    let op: any Operator
    if x.rank == 5 {
      op = PoolAvg3d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
        dilation: flat.dilations, countPadForEdges: countsPads)
    } else {
      op = PoolAvg2d(
        filterSize: flat.kernel, stride: flat.strides, padAmount: flat.padAmount,
        dilation: flat.dilations, countPadForEdges: countsPads)
    }
    return [try apply(op, context, values)]
  }

  private static func apply(
    _ op: any Operator, _ context: NodeContext, _ value: Value
  ) throws(Diagnostic) -> Value {
    let result = try context.emit(
      op, [try context.pixels(value)], tensor: context.channelLastName)
    return try context.fromPixels(result, rank: value.rank)
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
    let op: any Operator
    switch kind(x.rank == 3 ? [1, x.shape[2]] : Array(x.shape[2...])) {
    case .max(let size):
      op = PoolMax2d(filterSize: size, stride: [1, 1], padAmount: [0, 0, 0, 0])
    case .average(let size):
      op = PoolAvg2d(filterSize: size, stride: [1, 1], padAmount: [0, 0, 0, 0])
    }
    return [try apply(op, context, x)]
  }
}
