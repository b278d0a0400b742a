import Glibc
import IR

/// exp(beta * x) over its sum along one axis. Source: QNN operator definition Softmax.
public struct Softmax: Operator {
  public static let typeName = "Softmax"
  public var axis: Int
  public var beta: Float

  /// Makes the operator over a non-negative axis.
  public init(axis: Int, beta: Float = 1) {
    self.axis = axis
    self.beta = beta
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    beta = try attributes.float("beta", default: 1)
  }
  public var attributes: [Attribute] {
    [Attribute("axis", .int(axis)), Attribute("beta", .float(beta))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    return [x]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(outputs: [.fixedUnit(signed: false)])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? Softmax(axis: permutation[axis], beta: beta) : nil
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let factor = beta
    try forEachLine(inputs, outputs, axis) { x, y, count, step in
      var top = -Float.infinity
      for index in 0..<count { top = max(top, x[index * step]) }
      var sum: Double = 0
      for index in 0..<count {
        let value = expf(factor * (x[index * step] - top))
        y[index * step] = value
        sum += Double(value)
      }
      for index in 0..<count { y[index * step] = Float(Double(y[index * step]) / sum) }
    }
  }
}

/// Logarithm of ``Softmax``. Source: QNN operator definition LogSoftmax.
public struct LogSoftmax: Operator {
  public static let typeName = "LogSoftmax"
  public var axis: Int

  /// Makes the operator over a non-negative axis.
  public init(axis: Int) { self.axis = axis }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
  }
  public var attributes: [Attribute] { [Attribute("axis", .int(axis))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    return [x]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? LogSoftmax(axis: permutation[axis]) : nil
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    try forEachLine(inputs, outputs, axis) { x, y, count, step in
      var top = -Float.infinity
      for index in 0..<count { top = max(top, x[index * step]) }
      var sum: Double = 0
      for index in 0..<count { sum += exp(Double(x[index * step] - top)) }
      let shift = log(sum)
      for index in 0..<count { y[index * step] = Float(Double(x[index * step] - top) - shift) }
    }
  }
}

/// Calls `body` for every line along `axis`: (input, output, elements, step between them).
func forEachLine(
  _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ axis: Int,
  _ body: (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int) -> Void
) throws(Diagnostic) {
  let x = try required(inputs, 0)
  guard let from = x.elements(as: Float.self).baseAddress,
    let to = outputs[0].elements(as: Float.self).baseAddress
  else { return }
  let shape = x.type.shape
  let inner = shape[(axis + 1)...].reduce(1, *)
  let outer = shape[..<axis].reduce(1, *)
  for o in 0..<outer {
    for i in 0..<inner {
      let start = o * shape[axis] * inner + i
      body(from + start, to + start, shape[axis], inner)
    }
  }
}
