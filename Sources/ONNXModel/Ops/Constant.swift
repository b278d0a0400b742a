import IR
import Operators

extension ONNXTranslation {
  /// Constant and ConstantOfShape.
  static let constants = [
    ONNXTranslation("Constant", constant), ONNXTranslation("ConstantOfShape", constantOfShape),
  ]

  @Sendable private static func constant(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let names = [
      "value", "sparse_value", "value_float", "value_floats", "value_int", "value_ints",
      "value_string", "value_strings",
    ]
    let given = names.compactMap { name in context.any(name).map { (name, $0) } }
    guard given.count == 1, let (name, value) = given.first else {
      throw context.invalid("it needs one value, has \(given.count)")
    }
    let made: Constant
    switch value {
    case .tensor, .sparse: made = try context.constant(value)
    case .float(let number): made = Constant([number], shape: [])
    case .floats(let list): made = Constant(list, shape: [list.count])
    case .int(let number): made = Constant([number], shape: [])
    case .ints(let list): made = Constant(list, shape: [list.count])
    default: throw context.unsupported("attribute \(name)")
    }
    return [context.constant(made, suffix: "value")]
  }

  /// Every element has one value, the number 0 if none is given.
  @Sendable private static func constantOfShape(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    guard let shape = try context.integers(0, "the shape"), shape.count <= 8,
      let checked = TensorDecoder.shape(shape.map { Int64($0) })
    else {
      throw context.invalid("the shape is missing or not valid")
    }
    let one: Constant
    if let value = context.any("value") {
      guard case .tensor = value else { throw context.invalid("value is not a tensor") }
      one = try context.constant(value)
    } else {
      one = Constant([Float(0)], shape: [1])
    }
    guard one.type.count == 1 else { throw context.invalid("value has \(one.type.count) elements") }
    let type = TensorType(one.type.element, checked)
    guard type.count <= 1 << 26 else {
      throw context.unsupported("a result of \(type)")
    }
    let width = type.element.byteWidth
    let bytes = Bytes(count: type.byteCount) { target in
      for position in 0..<type.count {
        for byte in 0..<width { target[position * width + byte] = one.stored.buffer[byte] }
      }
    }
    return [context.constant(Constant(type: type, bytes: bytes), suffix: "value")]
  }
}
