import Glibc
import IR

/// A function of one number that ``ElementWiseUnary`` applies to every element.
public protocol UnaryFunction: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// The value for one element.
  static func apply(_ x: Float) -> Float
  /// The value for an integer element; nil where the function has no integer form.
  static func apply(integer x: Int) -> Int?
  /// Whether floats are taken; where not, only integers are.
  static var takesFloats: Bool { get }
  /// What the output's encoding is.
  static var output: QuantizationRule.Output { get }
}

extension UnaryFunction {
  public static var takesFloats: Bool { true }
  public static func apply(integer x: Int) -> Int? { nil }
  public static var output: QuantizationRule.Output { .own }
}

/// Applies a function to every element; type and shape stay.
public struct ElementWiseUnary<Function: UnaryFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    if x.element.isInteger && Function.apply(integer: 1) != nil { return [x] }
    try requireFloat(x, Self.typeName)
    try check(Function.takesFloats, "\(Self.typeName) takes integers, not \(x)")
    return [x]
  }
  public var quantization: QuantizationRule { QuantizationRule(outputs: [Function.output]) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    guard x.type.element.isInteger else {
      return try mapFloats(inputs, outputs) { Function.apply($0) }
    }
    let access = IntegerAccess(element: x.type.element)
    for index in 0..<x.type.count {
      access.store(
        Function.apply(integer: access.load(x.bytes, index)) ?? 0, outputs[0].bytes, index)
    }
  }
}

/// e^x.
public enum ExpFunction: UnaryFunction {
  public static let typeName = "ElementWiseExp"
  public static func apply(_ x: Float) -> Float { expf(x) }
}
/// Natural logarithm.
public enum LogFunction: UnaryFunction {
  public static let typeName = "ElementWiseLog"
  public static func apply(_ x: Float) -> Float { logf(x) }
}
/// -x.
public enum NegFunction: UnaryFunction {
  public static let typeName = "ElementWiseNeg"
  public static func apply(_ x: Float) -> Float { -x }
  public static func apply(integer x: Int) -> Int? { 0 &- x }
}
/// |x|.
public enum AbsFunction: UnaryFunction {
  public static let typeName = "ElementWiseAbs"
  public static func apply(_ x: Float) -> Float { abs(x) }
  public static func apply(integer x: Int) -> Int? { x < 0 ? 0 &- x : x }
}
/// Square root.
public enum SquareRootFunction: UnaryFunction {
  public static let typeName = "ElementWiseSquareRoot"
  public static func apply(_ x: Float) -> Float { x.squareRoot() }
}
/// 1 / sqrt(x).
public enum RsqrtFunction: UnaryFunction {
  public static let typeName = "ElementWiseRsqrt"
  public static func apply(_ x: Float) -> Float { 1 / x.squareRoot() }
}
/// 1 / x.
public enum ReciprocalFunction: UnaryFunction {
  public static let typeName = "ElementWiseReciprocal"
  public static func apply(_ x: Float) -> Float { 1 / x }
}
/// Largest whole number not above x.
public enum FloorFunction: UnaryFunction {
  public static let typeName = "ElementWiseFloor"
  public static func apply(_ x: Float) -> Float { x.rounded(.down) }
}
/// Smallest whole number not below x.
public enum CeilFunction: UnaryFunction {
  public static let typeName = "ElementWiseCeil"
  public static func apply(_ x: Float) -> Float { x.rounded(.up) }
}
/// Nearest whole number, ties to even.
public enum RoundFunction: UnaryFunction {
  public static let typeName = "ElementWiseRound"
  public static func apply(_ x: Float) -> Float { x.rounded(.toNearestOrEven) }
}
/// Sine.
public enum SinFunction: UnaryFunction {
  public static let typeName = "ElementWiseSin"
  public static func apply(_ x: Float) -> Float { sinf(x) }
}
/// Cosine.
public enum CosFunction: UnaryFunction {
  public static let typeName = "ElementWiseCos"
  public static func apply(_ x: Float) -> Float { cosf(x) }
}
/// 1 / (1 + e^-x).
public enum SigmoidFunction: UnaryFunction {
  public static let typeName = "Sigmoid"
  public static func apply(_ x: Float) -> Float { 1 / (1 + expf(-x)) }
  public static var output: QuantizationRule.Output { .fixedUnit(signed: false) }
}
/// Hyperbolic tangent.
public enum TanhFunction: UnaryFunction {
  public static let typeName = "Tanh"
  public static func apply(_ x: Float) -> Float { tanhf(x) }
  public static var output: QuantizationRule.Output { .fixedUnit(signed: true) }
}

public typealias ElementWiseExp = ElementWiseUnary<ExpFunction>
public typealias ElementWiseLog = ElementWiseUnary<LogFunction>
public typealias ElementWiseNeg = ElementWiseUnary<NegFunction>
public typealias ElementWiseAbs = ElementWiseUnary<AbsFunction>
public typealias ElementWiseSquareRoot = ElementWiseUnary<SquareRootFunction>
public typealias ElementWiseRsqrt = ElementWiseUnary<RsqrtFunction>
public typealias ElementWiseReciprocal = ElementWiseUnary<ReciprocalFunction>
public typealias ElementWiseFloor = ElementWiseUnary<FloorFunction>
public typealias ElementWiseCeil = ElementWiseUnary<CeilFunction>
public typealias ElementWiseRound = ElementWiseUnary<RoundFunction>
public typealias ElementWiseSin = ElementWiseUnary<SinFunction>
public typealias ElementWiseCos = ElementWiseUnary<CosFunction>
public typealias Sigmoid = ElementWiseUnary<SigmoidFunction>
public typealias Tanh = ElementWiseUnary<TanhFunction>

/// x where x > 0, alpha * (e^x - 1) elsewhere.
public struct Elu: Operator {
  public static let typeName = "Elu"
  public var alpha: Float
  /// Makes the operator.
  public init(alpha: Float) { self.alpha = alpha }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    alpha = try attributes.float("alpha")
  }
  public var attributes: [Attribute] { [Attribute("alpha", .float(alpha))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let factor = alpha
    try mapFloats(inputs, outputs) { $0 > 0 ? $0 : factor * expm1f($0) }
  }
}

/// clip(alpha * x + beta, 0, 1).
public struct HardSigmoid: Operator {
  public static let typeName = "HardSigmoid"
  public var alpha: Float
  public var beta: Float
  /// Makes the operator.
  public init(alpha: Float, beta: Float) {
    self.alpha = alpha
    self.beta = beta
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    alpha = try attributes.float("alpha")
    beta = try attributes.float("beta")
  }
  public var attributes: [Attribute] {
    [Attribute("alpha", .float(alpha)), Attribute("beta", .float(beta))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (slope, shift) = (alpha, beta)
    try mapFloats(inputs, outputs) { min(max(slope * $0 + shift, 0), 1) }
  }
}
