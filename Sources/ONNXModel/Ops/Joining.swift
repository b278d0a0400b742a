import IR
import Operators

extension ONNXTranslation {
  /// Concat and Split.
  static let joins = [ONNXTranslation("Concat", concat), ONNXTranslation("Split", split)]

  @Sendable private static func concat(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var parts: [Value] = []
    for index in context.inputs.indices { parts.append(try context.input(index)) }
    guard let first = parts.first else { throw context.invalid("there is nothing to join") }
    guard let given = try context.int("axis") ?? (context.opset < 4 ? 1 : nil) else {
      throw context.invalid("attribute axis is missing")
    }
    let axis = try context.axis(given, rank: first.rank)
    if parts.count == 1 { return [first] }
    return [try context.emit(Concat(axis: axis), parts)]
  }

  /// Sizes are an attribute up to opset 12 (in opset 1 also an operand), an operand later; without
  /// them the parts are equal, from opset 18 on but for the last.
  @Sendable private static func split(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axis = try context.axis(try context.int("axis") ?? 0, rank: x.rank)
    var sizes = context.opset < 13 ? try context.ints("split") : nil
    if sizes == nil, context.opset >= 13 || context.opset < 2 {
      sizes = try context.integers(1, "split")
    }
    let outputs = context.node.outputs.count
    let parts = try context.int("num_outputs") ?? outputs
    guard parts > 0, parts <= 1 << 16, outputs <= parts else {
      throw context.invalid("\(outputs) outputs of \(parts) parts")
    }
    let length = x.shape[axis]
    let list: [Int]
    if let sizes {
      list = sizes
    } else {
      let size = (length + parts - 1) / parts
      guard context.opset >= 18 || length % parts == 0, size * (parts - 1) <= length else {
        throw context.invalid("\(length) does not split into \(parts) parts")
      }
      list = [Int](repeating: size, count: parts - 1) + [length - size * (parts - 1)]
    }
    guard list.count >= outputs else {
      throw context.invalid("\(outputs) outputs for \(list.count) sizes")
    }
    if list.count == 1 && list[0] == length { return [x] }
    let names = list.indices.map { index in
      let wanted = index < outputs ? context.node.outputs[index] : ""
      return "\(wanted.isEmpty ? "\(context.name).part\(index)" : wanted).value"
    }
    let op = Split(axis: axis, sizes: list)
    let values = try context.builder.emit(op, [x], node: context.name, tensors: names)
    return Array(values.prefix(outputs))
  }
}
