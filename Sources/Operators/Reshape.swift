import IR

/// The same elements under another shape of equal count. Source: QNN operator definition Reshape.
public struct Reshape: Operator {
  public static let typeName = "Reshape"
  public var shape: [Int]

  /// Makes a reshape to a fully known shape.
  public init(shape: [Int]) { self.shape = shape }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    shape = try attributes.ints("shape")
  }
  public var attributes: [Attribute] { [Attribute("shape", .ints(shape))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let result = TensorType(x.element, shape)
    guard let count = result.checkedCount(), count == x.count else {
      throw Diagnostic("bad-shape", "\(x) cannot be reshaped to \(shape)")
    }
    return [result]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    outputs[0].bytes.copyMemory(from: try required(inputs, 0).bytes)
  }
}

/// Axes in another order: axis i of the output is axis perm[i] of the input.
/// Source: QNN operator definition Transpose.
public struct Transpose: Operator {
  public static let typeName = "Transpose"
  public var perm: [Int]

  /// Makes a transpose.
  public init(perm: [Int]) { self.perm = perm }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    perm = try attributes.ints("perm")
  }
  public var attributes: [Attribute] { [Attribute("perm", .ints(perm))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(perm.sorted() == Array(x.shape.indices), "\(perm) does not permute the axes of \(x)")
    return [TensorType(x.element, perm.map { x.shape[$0] })]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    transposeBytes(
      x.bytes, shape: x.type.shape, permutation: perm, width: x.type.element.byteWidth,
      into: outputs[0].bytes)
  }
}

/// Repeats the input along axes of size 1 (numpy broadcast) up to `shape`.
public struct Expand: Operator {
  public static let typeName = "Expand"
  public var shape: [Int]

  /// Makes an expansion to the full output shape.
  public init(shape: [Int]) { self.shape = shape }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    shape = try attributes.ints("shape")
  }
  public var attributes: [Attribute] { [Attribute("shape", .ints(shape))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      try broadcastShape(x.shape, shape) == shape, "\(x) does not broadcast to \(shape)")
    return [TensorType(x.element, shape)]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let width = x.type.element.byteWidth
    let steps = broadcastStrides(x.type.shape, to: shape)
    let inner = steps.last ?? 0
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    forEachRow(shape, steps, steps) { out, start, _ in
      for index in 0..<(shape.last ?? 1) {
        (to + (out + index) * width).copyMemory(
          from: from + (start + index * inner) * width, byteCount: width)
      }
    }
  }
}

/// Repeats the whole input `multiples[i]` times along axis i. Source: QNN operator definition Tile.
public struct Tile: Operator {
  public static let typeName = "Tile"
  public var multiples: [Int]

  /// Makes a tiling, a factor an axis.
  public init(multiples: [Int]) { self.multiples = multiples }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    multiples = try attributes.ints("multiples")
  }
  public var attributes: [Attribute] { [Attribute("multiples", .ints(multiples))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      multiples.count == x.rank && multiples.allSatisfy { (0..<(1 << 31)).contains($0) },
      "factors \(multiples) do not fit \(x)")
    let result = TensorType(x.element, zip(x.shape, multiples).map { $0 &* $1 })
    try check(result.checkedCount() != nil, "\(x) tiled by \(multiples) is too large")
    return [result]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (shape, width) = (outputs[0].type.shape, x.type.element.byteWidth)
    let (steps, strides) = (denseStrides(x.type.shape), denseStrides(shape))
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    for out in 0..<outputs[0].type.count {
      var source = 0
      for axis in shape.indices {
        source += (out / strides[axis] % shape[axis]) % x.type.shape[axis] * steps[axis]
      }
      (to + out * width).copyMemory(from: from + source * width, byteCount: width)
    }
  }
}
