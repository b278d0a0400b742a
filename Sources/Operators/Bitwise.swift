import IR

// Operators on the bits of integers; their names are ours, QNN has none of them.

/// a and b, bit by bit.
public enum BitwiseAndFunction: BinaryFunction {
  public static let typeName = "BitwiseAnd"
  public static var takesFloats: Bool { false }
  public static func apply(_ a: Float, _ b: Float) -> Float { .nan }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a & b }
}
/// a or b, bit by bit.
public enum BitwiseOrFunction: BinaryFunction {
  public static let typeName = "BitwiseOr"
  public static var takesFloats: Bool { false }
  public static func apply(_ a: Float, _ b: Float) -> Float { .nan }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a | b }
}
/// Either a or b, bit by bit.
public enum BitwiseXorFunction: BinaryFunction {
  public static let typeName = "BitwiseXor"
  public static var takesFloats: Bool { false }
  public static func apply(_ a: Float, _ b: Float) -> Float { .nan }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a ^ b }
}
/// The bits of a moved b places up; zeros come in. For unsigned integers.
public enum ShiftLeftFunction: BinaryFunction {
  public static let typeName = "BitShiftLeft"
  public static var takesFloats: Bool { false }
  public static func apply(_ a: Float, _ b: Float) -> Float { .nan }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    Int(bitPattern: UInt(bitPattern: a) << UInt(bitPattern: b))
  }
}
/// The bits of a moved b places down; zeros come in. For unsigned integers.
public enum ShiftRightFunction: BinaryFunction {
  public static let typeName = "BitShiftRight"
  public static var takesFloats: Bool { false }
  public static func apply(_ a: Float, _ b: Float) -> Float { .nan }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    Int(bitPattern: UInt(bitPattern: a) >> UInt(bitPattern: b))
  }
}
/// Every bit turned.
public enum BitwiseNotFunction: UnaryFunction {
  public static let typeName = "BitwiseNot"
  public static var takesFloats: Bool { false }
  public static func apply(_ x: Float) -> Float { .nan }
  public static func apply(integer x: Int) -> Int? { ~x }
  public static var output: QuantizationRule.Output { .unquantized }
}

public typealias BitwiseAnd = ElementWiseBinary<BitwiseAndFunction>
public typealias BitwiseOr = ElementWiseBinary<BitwiseOrFunction>
public typealias BitwiseXor = ElementWiseBinary<BitwiseXorFunction>
public typealias BitShiftLeft = ElementWiseBinary<ShiftLeftFunction>
public typealias BitShiftRight = ElementWiseBinary<ShiftRightFunction>
public typealias BitwiseNot = ElementWiseUnary<BitwiseNotFunction>

/// The same bits read as another element type of the same width.
public struct BitCast: Operator {
  public static let typeName = "BitCast"
  /// Element type of the input: float16 arrives as float32 and is rounded to its own bits.
  public var from: DataType
  /// Element type of the output; float16 leaves as float32.
  public var to: DataType

  /// Makes the operator.
  public init(from: DataType, to: DataType) {
    self.from = from
    self.to = to
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    from = try elementType(try attributes.string("from"))
    to = try elementType(try attributes.string("to"))
  }
  public var attributes: [Attribute] {
    [Attribute("from", .string(from.rawValue)), Attribute("to", .string(to.rawValue))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(x.element == from.logical, "\(x) is not of \(from.rawValue)")
    for type in [from, to] {
      try check(
        !type.isFixedPoint && type != .string && type.bits >= 8,
        "BitCast is not available for \(type.rawValue)")
    }
    try check(from.bits == to.bits, "\(from.rawValue) and \(to.rawValue) differ in width")
    return [TensorType(to.logical, x.shape)]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.unquantized], outputs: [to.logical == .float32 ? .own : .unquantized])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    guard (from == .float16) != (to == .float16) else {
      return outputs[0].bytes.copyMemory(from: x.bytes)
    }
    for index in 0..<x.type.count {
      if from == .float16 {
        outputs[0].bytes.storeBytes(
          of: halfBits(x.elements(as: Float.self)[index]), toByteOffset: 2 * index, as: UInt16.self)
      } else {
        let bits = x.bytes.load(fromByteOffset: 2 * index, as: UInt16.self)
        outputs[0].elements(as: Float.self)[index] = floatFromHalfBits(bits)
      }
    }
  }
}

/// The element type with a name.
func elementType(_ name: String) throws(Diagnostic) -> DataType {
  guard let type = DataType(rawValue: name) else {
    throw Diagnostic("bad-parameter", "there is no element type \(name)")
  }
  return type
}
