import IR

/// max(x, 0). Source: QNN operator definition Relu.
public struct Relu: Operator {
  public static let typeName = "Relu"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public var quantization: QuantizationRule { QuantizationRule(fusion: .clamp) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    try mapFloats(inputs, outputs) { $0 > 0 || $0.isNaN ? $0 : 0 }
  }
}

/// Clamps to [minValue, maxValue]; Relu6 is (0, 6). Source: QNN operator definition ReluMinMax.
public struct ReluMinMax: Operator {
  public static let typeName = "ReluMinMax"
  public var minValue: Float
  public var maxValue: Float

  /// Makes a clamp; infinite bounds are allowed.
  public init(minValue: Float, maxValue: Float) {
    self.minValue = minValue
    self.maxValue = maxValue
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    minValue = try attributes.float("min_value")
    maxValue = try attributes.float("max_value")
  }

  public var attributes: [Attribute] {
    [Attribute("min_value", .float(minValue)), Attribute("max_value", .float(maxValue))]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    try check(!minValue.isNaN && !maxValue.isNaN, "bounds must be numbers")
    return [try floatInput(inputs, Self.typeName)]
  }
  public var quantization: QuantizationRule { QuantizationRule(fusion: .clamp) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (low, high) = (minValue, maxValue)
    try mapFloats(inputs, outputs) { value in
      let raised = value < low ? low : value
      return raised > high ? high : raised
    }
  }
}

/// x where x > 0, alpha * x elsewhere.
public struct LeakyRelu: Operator {
  public static let typeName = "LeakyRelu"
  public var alpha: Float
  /// Makes the operator with its slope for negative values.
  public init(alpha: Float) { self.alpha = alpha }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    alpha = try attributes.float("alpha")
  }
  public var attributes: [Attribute] { [Attribute("alpha", .float(alpha))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public var quantization: QuantizationRule { QuantizationRule(fusion: .curve) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let slope = alpha
    try mapFloats(inputs, outputs) { $0 < 0 ? slope * $0 : $0 }
  }
}

/// Leaky Relu with a learned slope, broadcast against the input: x < 0 ? slope * x : x.
/// Source: QNN operator definition Prelu.
public struct Prelu: Operator {
  public static let typeName = "Prelu"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    let slope = try required(inputs, 1, "slope")
    try requireFloat(slope, Self.typeName)
    try check(
      try broadcastShape(x.shape, slope.shape) == x.shape, "slope \(slope) does not fit \(x)")
    return [x]
  }
  public var quantization: QuantizationRule { QuantizationRule(fusion: .curve) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, slope) = (try required(inputs, 0), try required(inputs, 1))
    let shape = outputs[0].type.shape
    let steps = broadcastStrides(slope.type.shape, to: shape)
    let (xe, se) = (x.elements(as: Float.self), slope.elements(as: Float.self))
    let y = outputs[0].elements(as: Float.self)
    let inner = steps.last ?? 0
    forEachRow(shape, denseStrides(shape), steps) { out, _, start in
      for index in 0..<(shape.last ?? 1) {
        let value = xe[out + index]
        y[out + index] = value < 0 ? se[start + index * inner] * value : value
      }
    }
  }
}

/// x * clip(x / 6 + 0.5, 0, 1). Source: QNN operator definition HardSwish.
public struct HardSwish: Operator {
  public static let typeName = "HardSwish"
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public var quantization: QuantizationRule { QuantizationRule(fusion: .curve) }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    try mapFloats(inputs, outputs) { $0 * min(max($0 / 6 + 0.5, 0), 1) }
  }
}

/// Type of a single float input.
func floatInput(_ inputs: [TensorType?], _ name: String) throws(Diagnostic) -> TensorType {
  let x = try required(inputs, 0, "input")
  try requireFloat(x, name)
  return x
}

/// Applies `body` to every element of input 0.
@inline(__always)
func mapFloats(
  _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ body: (Float) -> Float
) throws(Diagnostic) {
  let x = try required(inputs, 0).elements(as: Float.self)
  let y = outputs[0].elements(as: Float.self)
  guard let from = x.baseAddress, let to = y.baseAddress else { return }
  for index in 0..<x.count { to[index] = body(from[index]) }
}
