import IR
import Operators

extension ONNXTranslation {
  /// Constant and ConstantOfShape.
  static let constants = [
    ONNXTranslation("Constant", choosesElement: true, constant),
    ONNXTranslation("ConstantOfShape", choosesElement: true, constantOfShape),
    ONNXTranslation("EyeLike", choosesElement: true, eyeLike),
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

  /// Ones on a diagonal, of the sizes of the operand; in its element type if none is given.
  @Sendable private static func eyeLike(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 2...2)
    let offset = min(max(try context.int("k") ?? 0, -TensorDecoder.sizeLimit), TensorDecoder.sizeLimit)
    let element = try context.elementType("dtype") ?? x.sourceElement
    guard x.type.count <= 1 << 26 else { throw context.unsupported("a result of \(x.type)") }
    let columns = x.shape[1]
    let ones = (0..<x.type.count).map { Float($0 % columns - $0 / columns == offset ? 1 : 0) }
    var result = context.constant(Constant(ones, shape: x.shape), suffix: "value")
    guard element.isFloat else { return [try context.cast(result, to: element)] }
    result.narrow = element == .float32 ? nil : element
    return [result]
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
    guard type.count <= 1 << 27 else {
      throw context.unsupported("a result of \(type)")
    }
    let width = type.element.byteWidth
    let bytes = Bytes(count: type.byteCount) { target in
      if width == 4 {
        let word = one.stored.buffer.loadUnaligned(as: UInt32.self)
        target.initializeMemory(as: UInt32.self, repeating: word)
        return
      }
      for position in 0..<type.count {
        for byte in 0..<width { target[position * width + byte] = one.stored.buffer[byte] }
      }
    }
    return [context.constant(Constant(type: type, bytes: bytes), suffix: "value")]
  }
}
