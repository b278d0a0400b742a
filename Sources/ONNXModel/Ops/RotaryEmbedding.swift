import IR
import Operators

extension ONNXTranslation {
  /// Rotary positions, spelled out.
  static let positions = [ONNXTranslation("RotaryEmbedding", rotaryEmbedding)]

  /// Turns pairs of features by an angle that depends on the position: x is [batch, heads, positions,
  /// features] or [batch, positions, heads * features].
  @Sendable private static func rotaryEmbedding(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 3...4)
    let isInterleaved = try context.flag("interleaved")
    let heads = try context.int("num_heads") ?? 0
    let given = try context.int("rotary_embedding_dim") ?? 0
    var value = x
    if x.rank == 3 {
      guard heads > 0, x.shape[2] % heads == 0 else {
        throw context.invalid("num_heads is missing or does not fit \(x.type)")
      }
      value = try context.reshape(
        x, [x.shape[0], x.shape[1], heads, x.shape[2] / heads], suffix: "heads")
    }
    let headAxis = x.rank == 3 ? 2 : 1
    let width = value.shape[3]
    let turned = given == 0 ? width : given
    guard turned > 0, turned <= width, turned % 2 == 0 else {
      throw context.invalid("rotary_embedding_dim \(given) does not fit \(x.type)")
    }
    let angles = try [(1, "cosine"), (2, "sine")].map { (index, suffix) throws(Diagnostic) in
      let table = try angleTable(context, index, suffix)
      guard table.rank == 3, table.shape[2] == turned / 2 else {
        throw context.invalid("\(table.type) does not fit \(turned) features of \(x.type)")
      }
      var shape = table.shape
      shape.insert(1, at: headAxis)
      if isInterleaved { shape.append(1) }
      return try context.reshape(table, shape, suffix: "\(suffix).wide")
    }

    var (moving, rest) = (value, Value?.none)
    if turned < width {
      let parts = try split(context, value, axis: 3, [turned, width - turned], "part")
      (moving, rest) = (parts[0], parts[1])
    }
    let pairShape = Array(moving.shape[..<3]) + [turned / 2, 2]
    if isInterleaved { moving = try context.reshape(moving, pairShape, suffix: "pairs") }
    let axis = moving.rank - 1
    let half = isInterleaved ? 1 : turned / 2
    let pair = try split(context, moving, axis: axis, [half, half], "half")
    func product(_ part: Int, _ angle: Int, _ suffix: String) throws(Diagnostic) -> Value {
      try context.emit(ElementWiseMultiply(), [pair[part], angles[angle]], suffix: suffix)
    }
    let real = try context.emit(
      ElementWiseSubtract(), [try product(0, 0, "rc"), try product(1, 1, "is")], suffix: "real")
    let imaginary = try context.emit(
      ElementWiseAdd(), [try product(0, 1, "rs"), try product(1, 0, "ic")], suffix: "imaginary")
    var result = try context.emit(Concat(axis: axis), [real, imaginary], suffix: "joined")
    if isInterleaved {
      result = try context.reshape(result, Array(value.shape[..<3]) + [turned], suffix: "flat")
    }
    if let rest { result = try context.emit(Concat(axis: 3), [result, rest], suffix: "whole") }
    return [try context.reshape(result, x.shape, suffix: "")]
  }

  /// A table of cosines or sines, [batch, positions, pairs]: picked by the positions where they are given.
  private static func angleTable(
    _ context: NodeContext, _ index: Int, _ suffix: String
  ) throws(Diagnostic) -> Value {
    let table = try context.input(index)
    guard let positions = context.optional(3) else { return table }
    return try context.emit(Gather(axis: 0), [table, positions], suffix: suffix)
  }

  private static func split(
    _ context: NodeContext, _ value: Value, axis: Int, _ sizes: [Int], _ suffix: String
  ) throws(Diagnostic) -> [Value] {
    let output = context.node.outputs.first ?? context.name
    return try context.builder.emit(
      Split(axis: axis, sizes: sizes), [value], node: "\(context.name).\(suffix)s",
      tensors: sizes.indices.map { "\(output).\(suffix)\($0)" })
  }
}
