import Glibc
import IR

/// A function of two numbers that ``ElementWiseBinary`` applies with broadcasting.
public protocol BinaryFunction: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// The value for a pair of elements.
  static func apply(_ a: Float, _ b: Float) -> Float
  /// The value for a pair of float64; nil where the function has no such form.
  static func apply(wide a: Double, _ b: Double) -> Double?
  /// The value for a pair of integers (wrapping); nil where it is undefined.
  static func apply(integer a: Int, _ b: Int) -> Int?
  /// Whether floats are taken; where not, only integers are.
  static var takesFloats: Bool { get }
  /// Role in fused pairs.
  static var fusion: QuantizationRule.Fusion { get }
  /// Role of input 1.
  static var second: QuantizationRule.Input { get }
}

extension BinaryFunction {
  public static func apply(wide a: Double, _ b: Double) -> Double? { nil }
  public static var takesFloats: Bool { true }
  public static var fusion: QuantizationRule.Fusion { .none }
  public static var second: QuantizationRule.Input { .activation }
}

/// Applies a function of two operands element by element, numpy broadcasting; both have one type: float32,
/// integers, and for the four rules of arithmetic float64.
public struct ElementWiseBinary<Function: BinaryFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let a = try required(inputs, 0, "in0")
    let b = try required(inputs, 1, "in1")
    try check(a.element == b.element, "operands differ in type: \(a) and \(b)")
    let isWide = a.element == .float64 && Function.apply(wide: 1, 1) != nil
    if !a.element.isInteger && !isWide {
      try requireFloat(a, Self.typeName)
      try check(Function.takesFloats, "\(Self.typeName) takes integers, not \(a)")
    }
    return [TensorType(a.element, try broadcastShape(a.shape, b.shape))]
  }

  public var quantization: QuantizationRule {
    guard Function.takesFloats else {
      return QuantizationRule(inputs: [.unquantized], outputs: [.unquantized])
    }
    return QuantizationRule(inputs: [.activation, Function.second], fusion: Function.fusion)
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (a, b) = (try required(inputs, 0), try required(inputs, 1))
    let shape = outputs[0].type.shape
    let aSteps = broadcastStrides(a.type.shape, to: shape)
    let bSteps = broadcastStrides(b.type.shape, to: shape)
    let row = shape.last ?? 1
    let (aInner, bInner) = (aSteps.last ?? 0, bSteps.last ?? 0)
    if a.type.element.isInteger {
      let access = IntegerAccess(element: a.type.element)
      var failed = false
      forEachRow(shape, aSteps, bSteps) { out, aStart, bStart in
        for index in 0..<row {
          let x = access.load(a.bytes, aStart + index * aInner)
          let y = access.load(b.bytes, bStart + index * bInner)
          guard let value = Function.apply(integer: x, y) else {
            failed = true
            return
          }
          access.store(value, outputs[0].bytes, out + index)
        }
      }
      if failed { throw Diagnostic("integer-undefined", "\(Self.typeName) is undefined here") }
      return
    }
    if a.type.element == .float64 {
      let (x, y) = (a.elements(as: Double.self), b.elements(as: Double.self))
      let target = outputs[0].elements(as: Double.self)
      forEachRow(shape, aSteps, bSteps) { out, aStart, bStart in
        for index in 0..<row {
          target[out + index] =
            Function.apply(wide: x[aStart + index * aInner], y[bStart + index * bInner]) ?? .nan
        }
      }
      return
    }
    guard let ap = a.elements(as: Float.self).baseAddress,
      let bp = b.elements(as: Float.self).baseAddress,
      let yp = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    forEachRow(shape, aSteps, bSteps) { out, aStart, bStart in
      let (x, y, target) = (ap + aStart, bp + bStart, yp + out)
      switch (aInner, bInner) {
      case (0, 0):
        let value = Function.apply(x[0], y[0])
        for index in 0..<row { target[index] = value }
      case (0, _): for index in 0..<row { target[index] = Function.apply(x[0], y[index]) }
      case (_, 0): for index in 0..<row { target[index] = Function.apply(x[index], y[0]) }
      default: for index in 0..<row { target[index] = Function.apply(x[index], y[index]) }
      }
    }
  }
}

/// a + b.
public enum AddFunction: BinaryFunction {
  public static let typeName = "ElementWiseAdd"
  public static func apply(_ a: Float, _ b: Float) -> Float { a + b }
  public static func apply(wide a: Double, _ b: Double) -> Double? { a + b }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a &+ b }
  public static var fusion: QuantizationRule.Fusion { .arithmetic }
}
/// a - b.
public enum SubtractFunction: BinaryFunction {
  public static let typeName = "ElementWiseSubtract"
  public static func apply(_ a: Float, _ b: Float) -> Float { a - b }
  public static func apply(wide a: Double, _ b: Double) -> Double? { a - b }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a &- b }
}
/// a * b.
public enum MultiplyFunction: BinaryFunction {
  public static let typeName = "ElementWiseMultiply"
  public static func apply(_ a: Float, _ b: Float) -> Float { a * b }
  public static func apply(wide a: Double, _ b: Double) -> Double? { a * b }
  public static func apply(integer a: Int, _ b: Int) -> Int? { a &* b }
}
/// a / b; integers truncate towards zero.
public enum DivideFunction: BinaryFunction {
  public static let typeName = "ElementWiseDivide"
  public static func apply(_ a: Float, _ b: Float) -> Float { a / b }
  public static func apply(wide a: Double, _ b: Double) -> Double? { a / b }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    b == 0 ? nil : a.dividedReportingOverflow(by: b).partialValue
  }
}
/// The larger one; NaN if either is.
public enum MaximumFunction: BinaryFunction {
  public static let typeName = "ElementWiseMaximum"
  public static func apply(_ a: Float, _ b: Float) -> Float { a.isNaN ? a : b > a || b.isNaN ? b : a }
  public static func apply(integer a: Int, _ b: Int) -> Int? { max(a, b) }
}
/// The smaller one; NaN if either is.
public enum MinimumFunction: BinaryFunction {
  public static let typeName = "ElementWiseMinimum"
  public static var fusion: QuantizationRule.Fusion { .bound }
  public static func apply(_ a: Float, _ b: Float) -> Float { a.isNaN ? a : b < a || b.isNaN ? b : a }
  public static func apply(integer a: Int, _ b: Int) -> Int? { min(a, b) }
}
/// a to the power b; integer powers wrap.
public enum PowerFunction: BinaryFunction {
  public static let typeName = "ElementWisePower"
  /// An exponent keeps its value: a power of a negative number is NaN for 2.0000002.
  public static var second: QuantizationRule.Input { .unquantized }
  public static func apply(_ a: Float, _ b: Float) -> Float { powf(a, b) }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    if b < 0 { return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : a == 0 ? nil : 0 }
    var (result, base, left) = (1, a, b)
    while left > 0 {
      if left & 1 == 1 { result = result &* base }
      base = base &* base
      left >>= 1
    }
    return result
  }
}
/// Remainder with the sign of the divisor, as Python has it.
public enum ModFunction: BinaryFunction {
  public static let typeName = "ElementWiseMod"
  public static func apply(_ a: Float, _ b: Float) -> Float {
    let rest = fmodf(a, b)
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest
  }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    guard b != 0 else { return nil }
    let rest = a.remainderReportingOverflow(dividingBy: b).partialValue
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest
  }
}
/// Remainder with the sign of the dividend, as C has it.
public enum FmodFunction: BinaryFunction {
  public static let typeName = "ElementWiseFmod"
  public static func apply(_ a: Float, _ b: Float) -> Float { fmodf(a, b) }
  public static func apply(integer a: Int, _ b: Int) -> Int? {
    b == 0 ? nil : a.remainderReportingOverflow(dividingBy: b).partialValue
  }
}

public typealias ElementWiseAdd = ElementWiseBinary<AddFunction>
public typealias ElementWiseSubtract = ElementWiseBinary<SubtractFunction>
public typealias ElementWiseMultiply = ElementWiseBinary<MultiplyFunction>
public typealias ElementWiseDivide = ElementWiseBinary<DivideFunction>
public typealias ElementWiseMaximum = ElementWiseBinary<MaximumFunction>
public typealias ElementWiseMinimum = ElementWiseBinary<MinimumFunction>
public typealias ElementWisePower = ElementWiseBinary<PowerFunction>
public typealias ElementWiseMod = ElementWiseBinary<ModFunction>
public typealias ElementWiseFmod = ElementWiseBinary<FmodFunction>
