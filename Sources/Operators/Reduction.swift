import IR

/// How ``Reduce`` combines the elements of its axes.
public protocol ReductionFunction: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Value of an empty reduction.
  static var start: Double { get }
  /// Takes one more element in.
  static func combine(_ sum: Double, _ x: Double) -> Double
  /// Value from what was combined and the number of elements.
  static func finish(_ sum: Double, count: Int) -> Double
  /// Encoding of the output.
  static var output: QuantizationRule.Output { get }
}

extension ReductionFunction {
  public static func finish(_ sum: Double, count: Int) -> Double { sum }
  public static var output: QuantizationRule.Output { .own }
}

/// Reduces the given axes to one element each, accumulating in Double; float32 and integers up to 32
/// bits. Source: QNN operator definitions ReduceMean, ReduceSum, ReduceMax, ReduceMin.
public struct Reduce<Function: ReductionFunction>: Operator {
  public static var typeName: String { Function.typeName }
  /// Axes, not negative.
  public var axes: [Int]
  /// Whether reduced axes stay with size 1.
  public var keepDims: Bool

  /// Makes a reduction.
  public init(axes: [Int], keepDims: Bool) {
    self.axes = axes.sorted()
    self.keepDims = keepDims
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axes = try attributes.ints("axes").sorted()
    keepDims = try attributes.bool("keep_dims", default: false)
  }
  public var attributes: [Attribute] {
    [Attribute("axes", .ints(axes)), Attribute("keep_dims", .bool(keepDims))]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    if !x.element.isInteger { try requireFloat(x, Self.typeName) }
    try check(
      axes.allSatisfy { x.shape.indices.contains($0) } && Set(axes).count == axes.count,
      "axes \(axes) are not distinct axes of \(x)")
    var shape: [Int] = []
    for (axis, size) in x.shape.enumerated() {
      if !axes.contains(axis) { shape.append(size) } else if keepDims { shape.append(1) }
    }
    return [TensorType(x.element, shape)]
  }

  public var quantization: QuantizationRule { QuantizationRule(outputs: [Function.output]) }

  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard keepDims, axes.allSatisfy({ permutation.indices.contains($0) }) else { return nil }
    return Reduce(axes: axes.map { permutation[$0] }, keepDims: true)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let total = outputs[0].type.count
    guard total > 0 else { return }
    let kept = x.type.shape.enumerated().map { axes.contains($0.offset) ? 1 : $0.element }
    let steps = broadcastStrides(kept, to: x.type.shape)
    var sums = [Double](repeating: Function.start, count: total)
    let isInteger = x.type.element.isInteger
    let access = IntegerAccess(element: x.type.element)
    let floats = isInteger ? nil : x.elements(as: Float.self)
    let row = x.type.shape.last ?? 1
    let inner = steps.last ?? 0
    forEachRow(x.type.shape, denseStrides(x.type.shape), steps) { start, _, out in
      for index in 0..<row {
        let value = floats.map { Double($0[start + index]) } ?? Double(access.load(x.bytes, start + index))
        sums[out + index * inner] = Function.combine(sums[out + index * inner], value)
      }
    }
    let size = x.type.count / total
    for index in 0..<total {
      let value = Function.finish(sums[index], count: size)
      if isInteger {
        access.store(Int(exactly: value.rounded(.towardZero)) ?? 0, outputs[0].bytes, index)
      } else {
        outputs[0].elements(as: Float.self)[index] = Float(value)
      }
    }
  }
}

/// Arithmetic mean.
public enum MeanReduction: ReductionFunction {
  public static let typeName = "ReduceMean"
  public static let start = 0.0
  public static func combine(_ sum: Double, _ x: Double) -> Double { sum + x }
  public static func finish(_ sum: Double, count: Int) -> Double { sum / Double(count) }
}
/// Sum.
public enum SumReduction: ReductionFunction {
  public static let typeName = "ReduceSum"
  public static let start = 0.0
  public static func combine(_ sum: Double, _ x: Double) -> Double { sum + x }
}
/// Product.
public enum ProdReduction: ReductionFunction {
  public static let typeName = "ReduceProd"
  public static let start = 1.0
  public static func combine(_ sum: Double, _ x: Double) -> Double { sum * x }
}
/// Largest element.
public enum MaxReduction: ReductionFunction {
  public static let typeName = "ReduceMax"
  public static let start = -Double.infinity
  public static func combine(_ sum: Double, _ x: Double) -> Double { x.isNaN ? x : max(sum, x) }
  public static var output: QuantizationRule.Output { .sameAsInput(0) }
}
/// Smallest element.
public enum MinReduction: ReductionFunction {
  public static let typeName = "ReduceMin"
  public static let start = Double.infinity
  public static func combine(_ sum: Double, _ x: Double) -> Double { x.isNaN ? x : min(sum, x) }
  public static var output: QuantizationRule.Output { .sameAsInput(0) }
}

public typealias ReduceMean = Reduce<MeanReduction>
public typealias ReduceSum = Reduce<SumReduction>
public typealias ReduceProd = Reduce<ProdReduction>
public typealias ReduceMax = Reduce<MaxReduction>
public typealias ReduceMin = Reduce<MinReduction>
