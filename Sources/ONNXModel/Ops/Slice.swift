import IR
import Operators

extension ONNXTranslation {
  /// Operators that pick parts of a tensor or widen it.
  static let slices = [
    ONNXTranslation("Slice", slice), ONNXTranslation("Gather", gather),
    ONNXTranslation("Pad", pad),
  ]

  /// Attributes up to opset 9, operands later; bounds beyond the axis are clamped.
  @Sendable private static func slice(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let (starts, ends, given, steps): ([Int]?, [Int]?, [Int]?, [Int]?)
    if context.opset < 10 {
      (starts, ends) = (try context.ints("starts"), try context.ints("ends"))
      (given, steps) = (try context.ints("axes"), nil)
    } else {
      (starts, ends) = (try context.integers(1, "starts"), try context.integers(2, "ends"))
      (given, steps) = (try context.integers(3, "axes"), try context.integers(4, "steps"))
    }
    guard let starts, let ends, starts.count == ends.count,
      steps.map({ $0.count == starts.count }) ?? true
    else {
      throw context.invalid("starts, ends and steps differ in length")
    }
    let axes = try context.axes(given ?? Array(0..<starts.count), rank: x.rank)
    guard axes.count == starts.count else { throw context.invalid("axes do not fit the starts") }
    var begin = [Int](repeating: 0, count: x.rank)
    var size = x.shape
    var step = [Int](repeating: 1, count: x.rank)
    for (index, axis) in axes.enumerated() {
      let stride = steps?[index] ?? 1
      guard stride != 0 else { throw context.invalid("a step is 0") }
      let length = x.shape[axis]
      // Larger steps than the axis is long all pick one element.
      step[axis] = min(max(stride, -max(length, 1)), max(length, 1))
      let range = stride > 0 ? (0, length) : (-1, length - 1)
      func bound(_ value: Int) -> Int {
        let position = value < 0 ? value &+ length : value
        return min(max(position, range.0), range.1)
      }
      let first = min(max(starts[index] < 0 ? starts[index] &+ length : starts[index], 0), range.1)
      let span = stride > 0 ? bound(ends[index]) - first : first - bound(ends[index])
      begin[axis] = first
      size[axis] = span > 0 ? (span - 1) / abs(step[axis]) + 1 : 0
    }
    if begin.allSatisfy({ $0 == 0 }), size == x.shape, step.allSatisfy({ $0 == 1 }) { return [x] }
    return [try context.emit(StridedSlice(begin: begin, size: size, step: step), [x])]
  }

  /// Constant indices are made positive and 32 bits wide, as QNN has them.
  @Sendable private static func gather(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    var indices = try context.input(1)
    let axis = try context.axis(try context.int("axis") ?? 0, rank: x.rank)
    guard indices.type.element.isInteger else {
      throw context.invalid("indices are \(indices.type)")
    }
    if let list = indices.constant?.integers() {
      let size = x.shape[axis]
      var positive: [Int32] = []
      positive.reserveCapacity(list.count)
      for index in list {
        guard index >= -size, index < size else {
          throw context.invalid("index \(index) lies outside axis \(axis) of \(x.type)")
        }
        positive.append(Int32(index < 0 ? index + size : index))
      }
      if indices.type.element != .int32 || positive.map({ Int($0) }) != list {
        let type = TensorType(.int32, indices.shape)
        indices = context.constant(Constant(type: type, bytes: Bytes(positive)), suffix: "indices")
      }
    }
    return [try context.emit(Gather(axis: axis), [x, indices])]
  }

  /// Attributes up to opset 10, operands later; negative padding cuts away.
  @Sendable private static func pad(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let mode = try context.string("mode") ?? "constant"
    var number: Float = 0
    var given: [Int]?
    var axes = Array(x.shape.indices)
    if context.opset < 11 {
      given = try context.ints(context.opset < 2 ? "paddings" : "pads")
      number = try context.float("value") ?? 0
    } else {
      given = try context.integers(1, "pads")
      number = try context.number(2, "constant_value") ?? 0
      if let list = try context.integers(3, "axes") {
        axes = try context.axes(list, rank: x.rank)
      }
    }
    guard let given, given.count == 2 * axes.count,
      given.allSatisfy({ abs($0 == .min ? .max : $0) <= TensorDecoder.sizeLimit })
    else {
      throw context.invalid("pads \(given ?? []) do not fit \(x.type)")
    }
    guard let scheme = Pad.Scheme(rawValue: mode) else {
      throw context.unsupported("mode \(mode)", hint: "constant, reflect, edge and wrap are supported")
    }
    var amount = [Int](repeating: 0, count: 2 * x.rank)
    for (index, axis) in axes.enumerated() {
      amount[2 * axis] = given[index]
      amount[2 * axis + 1] = given[axes.count + index]
    }
    let isCut = amount.contains { $0 < 0 }
    let isWidened = amount.contains { $0 > 0 }
    var result = x
    if isCut {
      let begin = x.shape.indices.map { max(0, -amount[2 * $0]) }
      let size = x.shape.indices.map {
        x.shape[$0] - begin[$0] - max(0, -amount[2 * $0 + 1])
      }
      guard size.allSatisfy({ $0 >= 0 }) else {
        throw context.invalid("pads \(given) cut more than there is of \(x.type)")
      }
      let op = StridedSlice(begin: begin, size: size, step: x.shape.map { _ in 1 })
      result = try context.emit(op, [result], suffix: isWidened ? "cut" : "")
    }
    if isWidened {
      let op = Pad(padAmount: amount.map { max(0, $0) }, scheme: scheme, value: number)
      result = try context.emit(op, [result])
    }
    return [result]
  }
}
