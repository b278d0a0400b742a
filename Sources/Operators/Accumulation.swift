import IR

/// How ``Cumulation`` joins elements.
public protocol CumulationKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// What stands before the first element.
  static var start: Int { get }
  /// Joins one more number.
  static func join(_ total: Double, _ x: Double) -> Double
  /// Joins one more integer, wrapping.
  static func join(_ total: Int, _ x: Int) -> Int
}

/// Running sums or products along an axis: float32 (joined in Double) and integers (wrapping).
/// Source: QNN operator definition CumulativeSum; products are ours.
public struct Cumulation<Kind: CumulationKind>: Operator {
  public static var typeName: String { Kind.typeName }
  public var axis: Int
  /// Whether an element itself is left out of its result.
  public var exclusive: Bool
  /// Whether results run from the end of the axis.
  public var reverse: Bool

  /// Makes the operator over a non-negative axis.
  public init(axis: Int, exclusive: Bool = false, reverse: Bool = false) {
    self.axis = axis
    self.exclusive = exclusive
    self.reverse = reverse
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    exclusive = try attributes.bool("exclusive", default: false)
    reverse = try attributes.bool("reverse", default: false)
  }
  public var attributes: [Attribute] {
    [
      Attribute("axis", .int(axis)), Attribute("exclusive", .bool(exclusive)),
      Attribute("reverse", .bool(reverse)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    if !x.element.isInteger { try requireFloat(x, Self.typeName) }
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    return [x]
  }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard permutation.indices.contains(axis) else { return nil }
    return Cumulation(axis: permutation[axis], exclusive: exclusive, reverse: reverse)
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let count = x.type.shape[axis]
    let inner = x.type.shape[(axis + 1)...].reduce(1, *)
    guard x.type.count > 0 else { return }
    let access = IntegerAccess(element: x.type.element)
    let isFloat = x.type.element == .float32
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    for line in 0..<(x.type.count / count) {
      let start = line / inner * inner * count + line % inner
      var (sum, total) = (Double(Kind.start), Kind.start)
      for step in 0..<count {
        let place = start + (reverse ? count - 1 - step : step) * inner
        if isFloat {
          let next = Kind.join(sum, Double(from[place]))
          to[place] = Float(exclusive ? sum : next)
          sum = next
        } else {
          let next = Kind.join(total, access.load(x.bytes, place))
          access.store(exclusive ? total : next, outputs[0].bytes, place)
          total = next
        }
      }
    }
  }
}

/// Sums.
public enum SumCumulation: CumulationKind {
  public static let typeName = "CumulativeSum"
  public static let start = 0
  public static func join(_ total: Double, _ x: Double) -> Double { total + x }
  public static func join(_ total: Int, _ x: Int) -> Int { total &+ x }
}
/// Products.
public enum ProductCumulation: CumulationKind {
  public static let typeName = "CumulativeProduct"
  public static let start = 1
  public static func join(_ total: Double, _ x: Double) -> Double { total * x }
  public static func join(_ total: Int, _ x: Int) -> Int { total &* x }
}

public typealias CumulativeSum = Cumulation<SumCumulation>
public typealias CumulativeProduct = Cumulation<ProductCumulation>
