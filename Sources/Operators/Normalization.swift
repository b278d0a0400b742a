import IR

/// Per-channel scale and shift over the last axis: y = x * weight + bias, both [C].
/// Source: QNN operator definition Batchnorm.
public struct Batchnorm: Operator {
  public static let typeName = "Batchnorm"

  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try requireFloats(inputs, Self.typeName)
    for (index, name) in [(1, "weight"), (2, "bias")] {
      let parameter = try required(inputs, index, name)
      try check(x.rank > 0 && parameter.shape == [x.shape.last ?? 1], "\(name) \(parameter) does not fit \(x)")
    }
    return [x]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int { outputs[0].count }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: 0, perRow: false), .bias], outputs: [.own],
      fusion: .arithmetic)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0).elements(as: Float.self)
    let weight = try required(inputs, 1).elements(as: Float.self)
    let bias = try required(inputs, 2).elements(as: Float.self)
    let y = outputs[0].elements(as: Float.self)
    let channels = weight.count
    guard channels > 0 else { return }
    for start in stride(from: 0, to: x.count, by: channels) {
      for c in 0..<channels { y[start + c] = x[start + c] * weight[c] + bias[c] }
    }
  }
}
