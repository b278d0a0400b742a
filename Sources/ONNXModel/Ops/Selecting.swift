import IR
import Operators

extension ONNXTranslation {
  /// TopK, OneHot, Range, and blocks of pixels moved between channels and space.
  static let selections = [
    ONNXTranslation("TopK", topK), ONNXTranslation("OneHot", oneHot),
    ONNXTranslation("Range", range), ONNXTranslation("DepthToSpace", depthToSpace),
    ONNXTranslation("SpaceToDepth", spaceToDepth),
  ]

  /// k is an attribute up to opset 9, an operand later.
  @Sendable private static func topK(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    context.ignore("sorted")
    let x = try context.input(0)
    let axis = try context.axis(try context.int("axis") ?? -1, rank: x.rank)
    let isLargest = try context.flag("largest", default: true)
    let given = context.opset < 10 ? try context.int("k") : try context.integers(1, "k")?.first
    guard let count = given, (0...x.shape[axis]).contains(count) else {
      throw context.invalid("k is missing or does not fit axis \(axis) of \(x.type)")
    }
    let output = context.node.outputs.first ?? context.name
    let names = ["\(output).value", "\(output).indices"]
    let op = TopK(k: count, axis: axis, largest: isLargest)
    return try context.builder.emit(op, [x], node: context.name, tensors: names)
  }

  /// Depth and values must be known.
  @Sendable private static func oneHot(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var indices = try context.input(0)
    if indices.type.element == .float32 {
      indices = try context.cast(indices, to: .int64, suffix: "indices")
    }
    guard let depth = try context.number(1, "depth").flatMap({ Int(exactly: $0) }), depth > 0,
      depth < TensorDecoder.sizeLimit
    else {
      throw context.invalid("depth is missing or not valid")
    }
    let values = try context.input(2)
    guard let numbers = values.constant?.floats() else {
      throw context.unsupported("values that are computed from an input")
    }
    guard numbers.count == 2 else { throw context.invalid("values are \(values.type)") }
    let axis = try context.axis(try context.int("axis") ?? -1, rank: indices.rank + 1)
    let op = OneHot(
      depth: depth, axis: axis, onValue: numbers[1], offValue: numbers[0], to: values.type.element)
    return [try context.emit(op, [indices])]
  }

  /// Start, limit and step must be known; the result is a constant.
  @Sendable private static func range(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    try context.requireOneElementType()
    let operands = [try context.input(0), try context.input(1), try context.input(2)]
    let constants = operands.compactMap(\.constant)
    guard constants.count == 3 else {
      throw context.unsupported("a bound that is computed from an input")
    }
    guard operands.allSatisfy({ $0.type.count == 1 }) else {
      throw context.invalid("a bound is not one number")
    }
    if operands[0].type.element.isFloat {
      let numbers = constants.compactMap { $0.floats().first.map { Double($0) } }
      let count = max(0, ((numbers[1] - numbers[0]) / numbers[2]).rounded(.up))
      guard count < 0x1p26 else { throw context.invalid("the range has no or too many elements") }
      let list = (0..<Int(count)).map { Float(numbers[0] + Double($0) * numbers[2]) }
      let value = context.constant(Constant(list, shape: [list.count]), suffix: "range")
      return [try context.cast(value, to: operands[0].type.element)]
    }
    let numbers = constants.compactMap { $0.integers()?.first }
    guard numbers.count == 3, numbers[2] != 0, numbers.allSatisfy({ $0.magnitude < 1 << 60 })
    else {
      throw context.invalid("the step is 0 or a bound is too large")
    }
    let list = stride(from: numbers[0], to: numbers[1], by: numbers[2])
    guard abs((numbers[1] - numbers[0]) / numbers[2]) < 1 << 26 else {
      throw context.invalid("the range has too many elements")
    }
    let values = list.map { Int64($0) }
    let value = context.constant(Constant(values, shape: [values.count]), suffix: "range")
    return [try context.cast(value, to: operands[0].type.element)]
  }

  private static func blockSize(_ context: NodeContext) throws(Diagnostic) -> Int {
    guard let size = try context.int("blocksize"), size > 0, size < 1 << 15 else {
      throw context.invalid("blocksize is missing or not valid")
    }
    return size
  }

  @Sendable private static func depthToSpace(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 4...4)
    let block = try blockSize(context)
    let mode = try context.string("mode") ?? "DCR"
    guard x.shape[1] % (block * block) == 0 else {
      throw context.invalid("blocks of \(block) do not fit \(x.type)")
    }
    guard let known = BlockMode(rawValue: mode) else { throw context.invalid("mode is \(mode)") }
    let op = DepthToSpace(blockSize: [block, block], mode: known)
    let result = try context.emit(op, [try context.channelLast(x)], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  @Sendable private static func spaceToDepth(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 4...4)
    let block = try blockSize(context)
    guard x.shape[2] % block == 0, x.shape[3] % block == 0 else {
      throw context.invalid("blocks of \(block) do not fit \(x.type)")
    }
    let op = SpaceToDepth(blockSize: [block, block])
    let result = try context.emit(op, [try context.channelLast(x)], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }
}
