import Glibc
import IR

/// A function of one number with up to two parameters that ``ParametricUnary`` applies.
public protocol ParametricFunction: Sendable {
  /// QNN's operator name, ours where QNN has none.
  static var typeName: String { get }
  /// Names of the parameters, at most two.
  static var parameters: [String] { get }
  /// The value for one element.
  static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float
}

/// Applies a function with parameters to every element; type and shape stay. float32.
public struct ParametricUnary<Function: ParametricFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// The parameters; those that the function lacks are 0.
  public var a: Float
  public var b: Float

  /// Makes the operator.
  public init(_ a: Float = 0, _ b: Float = 0) {
    self.a = a
    self.b = b
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    let names = Function.parameters
    a = names.isEmpty ? 0 : try attributes.float(names[0])
    b = names.count < 2 ? 0 : try attributes.float(names[1])
  }
  public var attributes: [Attribute] { zip(Function.parameters, [a, b]).map { Attribute($0, .float($1)) } }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (a, b) = (a, b)
    try mapFloats(inputs, outputs) { Function.apply($0, a, b) }
  }
}

/// x > 0 ? gamma * x : gamma * alpha * (e^x - 1).
public enum SeluFunction: ParametricFunction {
  public static let typeName = "Selu"
  public static let parameters = ["alpha", "gamma"]
  public static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float {
    b * (x > 0 ? x : a * expm1f(x))
  }
}
/// max(0, x) + min(0, alpha * (e^(x / alpha) - 1)).
public enum CeluFunction: ParametricFunction {
  public static let typeName = "Celu"
  public static let parameters = ["alpha"]
  public static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float {
    max(0, x) + min(0, a * expm1f(x / a))
  }
}
/// x where x > alpha, 0 elsewhere.
public enum ThresholdedReluFunction: ParametricFunction {
  public static let typeName = "ThresholdedRelu"
  public static let parameters = ["alpha"]
  public static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float { x > a ? x : 0 }
}
/// x / (1 + e^(-alpha * x)).
public enum SwishFunction: ParametricFunction {
  public static let typeName = "Swish"
  public static let parameters = ["alpha"]
  public static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float { x / (1 + expf(-a * x)) }
}
/// x moved towards 0 by bias where it is further than lambd from 0, else 0.
public enum ShrinkFunction: ParametricFunction {
  public static let typeName = "Shrink"
  public static let parameters = ["lambd", "bias"]
  public static func apply(_ x: Float, _ a: Float, _ b: Float) -> Float {
    x < -a ? x + b : x > a ? x - b : 0
  }
}

public typealias Selu = ParametricUnary<SeluFunction>
public typealias Celu = ParametricUnary<CeluFunction>
public typealias ThresholdedRelu = ParametricUnary<ThresholdedReluFunction>
public typealias Swish = ParametricUnary<SwishFunction>
public typealias Shrink = ParametricUnary<ShrinkFunction>

/// x times the normal distribution function of x. Source: QNN operator definition Gelu; the
/// approximation by tanh is ours.
public struct Gelu: Operator {
  public static let typeName = "Gelu"
  /// How the distribution function is computed.
  public enum Approximation: String, Sendable { case none, tanh }
  public var approximate: Approximation

  /// Makes the operator.
  public init(_ approximate: Approximation = .none) { self.approximate = approximate }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    let name = try attributes.string("approximate", default: "none")
    guard let known = Approximation(rawValue: name) else {
      throw Diagnostic("bad-parameter", "Gelu has no approximation \(name)")
    }
    approximate = known
  }
  public var attributes: [Attribute] { [Attribute("approximate", .string(approximate.rawValue))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    switch approximate {
    case .none: try mapFloats(inputs, outputs) { 0.5 * $0 * (1 + erff($0 * 0.707_106_77)) }
    case .tanh:
      try mapFloats(inputs, outputs) {
        0.5 * $0 * (1 + tanhf(0.797_884_6 * ($0 + 0.044_715 * $0 * $0 * $0)))
      }
    }
  }
}

/// Error function.
public enum ErfFunction: UnaryFunction {
  public static let typeName = "ElementWiseErf"
  public static func apply(_ x: Float) -> Float { erff(x) }
}
/// -1, 0 or 1.
public enum SignFunction: UnaryFunction {
  public static let typeName = "ElementWiseSign"
  public static func apply(_ x: Float) -> Float { x > 0 ? 1 : x < 0 ? -1 : x }
  public static func apply(integer x: Int) -> Int? { x.signum() }
}
/// Tangent.
public enum TanFunction: UnaryFunction {
  public static let typeName = "ElementWiseTan"
  public static func apply(_ x: Float) -> Float { tanf(x) }
}
/// Inverse sine.
public enum AsinFunction: UnaryFunction {
  public static let typeName = "ElementWiseAsin"
  public static func apply(_ x: Float) -> Float { asinf(x) }
}
/// Inverse cosine.
public enum AcosFunction: UnaryFunction {
  public static let typeName = "ElementWiseAcos"
  public static func apply(_ x: Float) -> Float { acosf(x) }
}
/// Inverse tangent.
public enum AtanFunction: UnaryFunction {
  public static let typeName = "ElementWiseAtan"
  public static func apply(_ x: Float) -> Float { atanf(x) }
}
/// Hyperbolic sine.
public enum SinhFunction: UnaryFunction {
  public static let typeName = "ElementWiseSinh"
  public static func apply(_ x: Float) -> Float { sinhf(x) }
}
/// Hyperbolic cosine.
public enum CoshFunction: UnaryFunction {
  public static let typeName = "ElementWiseCosh"
  public static func apply(_ x: Float) -> Float { coshf(x) }
}
/// Inverse hyperbolic sine.
public enum AsinhFunction: UnaryFunction {
  public static let typeName = "ElementWiseAsinh"
  public static func apply(_ x: Float) -> Float { asinhf(x) }
}
/// Inverse hyperbolic cosine.
public enum AcoshFunction: UnaryFunction {
  public static let typeName = "ElementWiseAcosh"
  public static func apply(_ x: Float) -> Float { acoshf(x) }
}
/// Inverse hyperbolic tangent.
public enum AtanhFunction: UnaryFunction {
  public static let typeName = "ElementWiseAtanh"
  public static func apply(_ x: Float) -> Float { atanhf(x) }
}
/// log(1 + e^x).
public enum SoftplusFunction: UnaryFunction {
  public static let typeName = "ElementWiseSoftplus"
  public static func apply(_ x: Float) -> Float { max(x, 0) + log1pf(expf(-abs(x))) }
}
/// x / (1 + |x|).
public enum SoftsignFunction: UnaryFunction {
  public static let typeName = "ElementWiseSoftsign"
  public static func apply(_ x: Float) -> Float { x / (1 + abs(x)) }
}
/// x * tanh(log(1 + e^x)).
public enum MishFunction: UnaryFunction {
  public static let typeName = "Mish"
  public static func apply(_ x: Float) -> Float { x * tanhf(SoftplusFunction.apply(x)) }
}

public typealias ElementWiseErf = ElementWiseUnary<ErfFunction>
public typealias ElementWiseSign = ElementWiseUnary<SignFunction>
public typealias ElementWiseTan = ElementWiseUnary<TanFunction>
public typealias ElementWiseAsin = ElementWiseUnary<AsinFunction>
public typealias ElementWiseAcos = ElementWiseUnary<AcosFunction>
public typealias ElementWiseAtan = ElementWiseUnary<AtanFunction>
public typealias ElementWiseSinh = ElementWiseUnary<SinhFunction>
public typealias ElementWiseCosh = ElementWiseUnary<CoshFunction>
public typealias ElementWiseAsinh = ElementWiseUnary<AsinhFunction>
public typealias ElementWiseAcosh = ElementWiseUnary<AcoshFunction>
public typealias ElementWiseAtanh = ElementWiseUnary<AtanhFunction>
public typealias ElementWiseSoftplus = ElementWiseUnary<SoftplusFunction>
public typealias ElementWiseSoftsign = ElementWiseUnary<SoftsignFunction>
public typealias Mish = ElementWiseUnary<MishFunction>
