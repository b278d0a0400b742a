import IR

/// A comparison of two numbers that ``Comparison`` applies with broadcasting.
public protocol ComparisonFunction: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether the relation holds.
  static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool
}

/// Compares two operands of one type element by element; float32, integers and bool give bool.
public struct Comparison<Function: ComparisonFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let a = try required(inputs, 0, "in0")
    let b = try required(inputs, 1, "in1")
    try check(a.element == b.element, "operands differ in type: \(a) and \(b)")
    if !a.element.isInteger && a.element != .bool { try requireFloat(a, Self.typeName) }
    return [TensorType(.bool, try broadcastShape(a.shape, b.shape))]
  }
  public var quantization: QuantizationRule { QuantizationRule(outputs: [.unquantized]) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (a, b) = (try required(inputs, 0), try required(inputs, 1))
    let y = outputs[0].elements(as: UInt8.self)
    if a.type.element == .float32 {
      let (x, z) = (a.elements(as: Float.self), b.elements(as: Float.self))
      forEachPair(a.type, b.type, outputs[0].type) { out, i, j in
        y[out] = Function.apply(x[i], z[j]) ? 1 : 0
      }
    } else if a.type.element == .uint64 {
      let (x, z) = (a.elements(as: UInt64.self), b.elements(as: UInt64.self))
      forEachPair(a.type, b.type, outputs[0].type) { out, i, j in
        y[out] = Function.apply(x[i], z[j]) ? 1 : 0
      }
    } else {
      let access = IntegerAccess(element: a.type.element)
      forEachPair(a.type, b.type, outputs[0].type) { out, i, j in
        y[out] = Function.apply(access.load(a.bytes, i), access.load(b.bytes, j)) ? 1 : 0
      }
    }
  }
}

/// Calls `body` with the index of every element of the result and of the operands it comes from.
private func forEachPair(
  _ a: TensorType, _ b: TensorType, _ result: TensorType, _ body: (Int, Int, Int) -> Void
) {
  let shape = result.shape
  let (aSteps, bSteps) = (broadcastStrides(a.shape, to: shape), broadcastStrides(b.shape, to: shape))
  let (row, aInner, bInner) = (shape.last ?? 1, aSteps.last ?? 0, bSteps.last ?? 0)
  forEachRow(shape, aSteps, bSteps) { out, first, second in
    for index in 0..<row { body(out + index, first + index * aInner, second + index * bInner) }
  }
}

/// a == b.
public enum EqualFunction: ComparisonFunction {
  public static let typeName = "ElementWiseEqual"
  public static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool { a == b }
}
/// a < b.
public enum LessFunction: ComparisonFunction {
  public static let typeName = "ElementWiseLess"
  public static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool { a < b }
}
/// a <= b.
public enum LessEqualFunction: ComparisonFunction {
  public static let typeName = "ElementWiseLessEqual"
  public static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool { a <= b }
}
/// a > b.
public enum GreaterFunction: ComparisonFunction {
  public static let typeName = "ElementWiseGreater"
  public static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool { a > b }
}
/// a >= b.
public enum GreaterEqualFunction: ComparisonFunction {
  public static let typeName = "ElementWiseGreaterEqual"
  public static func apply<Number: Comparable>(_ a: Number, _ b: Number) -> Bool { a >= b }
}

public typealias ElementWiseEqual = Comparison<EqualFunction>
public typealias ElementWiseLess = Comparison<LessFunction>
public typealias ElementWiseLessEqual = Comparison<LessEqualFunction>
public typealias ElementWiseGreater = Comparison<GreaterFunction>
public typealias ElementWiseGreaterEqual = Comparison<GreaterEqualFunction>

/// A function of two truth values that ``Logical`` applies with broadcasting.
public protocol LogicalFunction: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// The value for a pair.
  static func apply(_ a: Bool, _ b: Bool) -> Bool
}

/// Joins two bool operands element by element.
public struct Logical<Function: LogicalFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let a = try boolInput(inputs, 0, Self.typeName)
    let b = try boolInput(inputs, 1, Self.typeName)
    return [TensorType(.bool, try broadcastShape(a.shape, b.shape))]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.unquantized], outputs: [.unquantized])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (a, b) = (try required(inputs, 0), try required(inputs, 1))
    let (x, z) = (a.elements(as: UInt8.self), b.elements(as: UInt8.self))
    let y = outputs[0].elements(as: UInt8.self)
    forEachPair(a.type, b.type, outputs[0].type) { out, i, j in
      y[out] = Function.apply(x[i] != 0, z[j] != 0) ? 1 : 0
    }
  }
}

/// a and b.
public enum AndFunction: LogicalFunction {
  public static let typeName = "ElementWiseAnd"
  public static func apply(_ a: Bool, _ b: Bool) -> Bool { a && b }
}
/// a or b.
public enum OrFunction: LogicalFunction {
  public static let typeName = "ElementWiseOr"
  public static func apply(_ a: Bool, _ b: Bool) -> Bool { a || b }
}
/// Either a or b.
public enum XorFunction: LogicalFunction {
  public static let typeName = "ElementWiseXor"
  public static func apply(_ a: Bool, _ b: Bool) -> Bool { a != b }
}

public typealias ElementWiseAnd = Logical<AndFunction>
public typealias ElementWiseOr = Logical<OrFunction>
public typealias ElementWiseXor = Logical<XorFunction>

/// Not a. Source: QNN operator definition ElementWiseNot.
public struct ElementWiseNot: Operator {
  public static let typeName = "ElementWiseNot"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try boolInput(inputs, 0, Self.typeName)]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.unquantized], outputs: [.unquantized])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0).elements(as: UInt8.self)
    let y = outputs[0].elements(as: UInt8.self)
    for index in 0..<x.count { y[index] = x[index] == 0 ? 1 : 0 }
  }
}

/// Input 1 where input 0 (bool) holds, input 2 elsewhere; all three broadcast.
/// Source: QNN operator definition ElementWiseSelect.
public struct ElementWiseSelect: Operator {
  public static let typeName = "ElementWiseSelect"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let condition = try boolInput(inputs, 0, Self.typeName)
    let a = try required(inputs, 1, "in1")
    let b = try required(inputs, 2, "in2")
    try check(a.element == b.element, "operands differ in type: \(a) and \(b)")
    return [
      TensorType(
        a.element, try broadcastShape(condition.shape, try broadcastShape(a.shape, b.shape)))
    ]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.unquantized, .activation])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let condition = try required(inputs, 0)
    let (a, b) = (try required(inputs, 1), try required(inputs, 2))
    let truth = condition.elements(as: UInt8.self)
    let (type, width) = (outputs[0].type, outputs[0].type.element.byteWidth)
    guard let to = outputs[0].bytes.baseAddress, let first = a.bytes.baseAddress,
      let second = b.bytes.baseAddress
    else { return }
    let steps = broadcastStrides(condition.type.shape, to: type.shape)
    // Both operands are walked together; the condition is found again by a walk of its own.
    var holds = [Bool](repeating: false, count: type.count)
    let (row, inner) = (type.shape.last ?? 1, steps.last ?? 0)
    forEachRow(type.shape, steps, steps) { out, start, _ in
      for index in 0..<row { holds[out + index] = truth[start + index * inner] != 0 }
    }
    forEachPair(a.type, b.type, type) { out, i, j in
      let from = holds[out] ? first + i * width : second + j * width
      (to + out * width).copyMemory(from: from, byteCount: width)
    }
  }
}

/// A property of one number that ``Predicate`` tests.
public protocol PredicateFunction: Sendable {
  /// Operator name.
  static var typeName: String { get }
  /// Whether the property holds.
  static func apply(_ x: Float) -> Bool
}

/// Tests every float element; gives bool.
public struct Predicate<Function: PredicateFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [TensorType(.bool, try floatInput(inputs, Self.typeName).shape)]
  }
  public var quantization: QuantizationRule { QuantizationRule(outputs: [.unquantized]) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0).elements(as: Float.self)
    let y = outputs[0].elements(as: UInt8.self)
    for index in 0..<x.count { y[index] = Function.apply(x[index]) ? 1 : 0 }
  }
}

/// Whether x is not a number.
public enum IsNaNFunction: PredicateFunction {
  public static let typeName = "ElementWiseIsNaN"
  public static func apply(_ x: Float) -> Bool { x.isNaN }
}
public typealias ElementWiseIsNaN = Predicate<IsNaNFunction>

/// The operand `index`, which must be bool.
func boolInput(_ inputs: [TensorType?], _ index: Int, _ name: String) throws(Diagnostic) -> TensorType {
  let x = try required(inputs, index, "in\(index)")
  try check(x.element == .bool, "\(name) takes bool, not \(x)")
  return x
}
