/// Element type and static shape of a tensor. Rank 0 (a scalar) has an empty shape.
public struct TensorType: Sendable, Hashable, CustomStringConvertible {
  /// Type of one element.
  public var element: DataType
  /// Sizes of the axes, outermost first; all are known and not negative.
  public var shape: [Int]

  /// Makes a type from its element type and sizes.
  public init(_ element: DataType, _ shape: [Int]) {
    self.element = element
    self.shape = shape
  }

  /// Number of axes.
  public var rank: Int { shape.count }
  /// Number of elements (1 for a scalar). Shapes from outside are checked by ``checkedCount()`` first.
  public var count: Int { shape.reduce(1, &*) }
  /// Bytes of the dense tensor in memory.
  public var byteCount: Int { count &* element.byteWidth }
  /// The same shape with fixed point and `float16` read as `float32`.
  public var logical: TensorType { TensorType(element.logical, shape) }

  /// Most that the sizes other than 0 of a tensor without elements may multiply to: what walks along its
  /// axes shall end.
  private static let emptyLimit = 1 << 27

  /// The number of elements, or nil where a size is negative, the bytes overflow, or the other sizes of a
  /// tensor without elements multiply to more than 2^27. The order of sizes does not matter.
  public func checkedCount() -> Int? {
    var total = 1
    for size in shape {
      guard size >= 0 else { return nil }
      let (product, overflow) = total.multipliedReportingOverflow(by: max(size, 1))
      if overflow { return nil }
      total = product
    }
    if shape.contains(0) { return total <= Self.emptyLimit ? 0 : nil }
    let (bytes, overflow) = total.multipliedReportingOverflow(by: 8)
    return overflow || bytes < 0 ? nil : total
  }

  /// For example `float32[1, 224, 224, 3]`.
  public var description: String {
    "\(element.rawValue)[\(shape.map(String.init).joined(separator: ", "))]"
  }
}

/// Row-major strides, in elements, of a dense tensor.
public func denseStrides(_ shape: [Int]) -> [Int] {
  var strides = [Int](repeating: 1, count: shape.count)
  var step = 1
  for axis in stride(from: shape.count - 1, through: 0, by: -1) {
    strides[axis] = step
    step &*= max(shape[axis], 1)
  }
  return strides
}

/// The permutation that undoes `permutation`.
public func inversePermutation(_ permutation: [Int]) -> [Int] {
  var inverse = [Int](repeating: 0, count: permutation.count)
  for (axis, source) in permutation.enumerated() { inverse[source] = axis }
  return inverse
}
