import IR

/// Joins its inputs along one axis. Source: QNN operator definition Concat.
public struct Concat: Operator {
  public static let typeName = "Concat"
  public var axis: Int

  /// Makes a concatenation along a non-negative axis.
  public init(axis: Int) { self.axis = axis }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
  }
  public var attributes: [Attribute] { [Attribute("axis", .int(axis))] }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    var result = try required(inputs, 0, "in0")
    try check(result.shape.indices.contains(axis), "axis \(axis) is outside \(result)")
    for index in inputs.indices.dropFirst() {
      let next = try required(inputs, index, "in\(index)")
      var expected = result
      guard next.rank == result.rank else {
        throw Diagnostic("bad-shape", "\(next) does not join \(result)")
      }
      expected.shape[axis] = next.shape[axis]
      try check(expected == next, "\(next) does not join \(result) along axis \(axis)")
      result.shape[axis] += next.shape[axis]
    }
    return [result]
  }

  public var quantization: QuantizationRule { QuantizationRule(outputs: [.tiedToInputs]) }

  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? Concat(axis: permutation[axis]) : nil
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let type = outputs[0].type
    let inner = type.shape[(axis + 1)...].reduce(1, *) * type.element.byteWidth
    let outer = type.shape[..<axis].reduce(1, *)
    guard let to = outputs[0].bytes.baseAddress else { return }
    var start = 0
    for case let input? in inputs {
      let run = input.type.shape[axis] * inner
      guard run > 0, let from = input.bytes.baseAddress else { continue }
      for block in 0..<outer {
        (to + block * type.shape[axis] * inner + start).copyMemory(
          from: from + block * run, byteCount: run)
      }
      start += run
    }
  }
}

/// Cuts the input along one axis into parts of the given sizes.
/// Source: QNN operator definition Split.
public struct Split: Operator {
  public static let typeName = "Split"
  public var axis: Int
  /// Sizes of the parts along the axis.
  public var sizes: [Int]

  /// Makes a split along a non-negative axis.
  public init(axis: Int, sizes: [Int]) {
    self.axis = axis
    self.sizes = sizes
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    sizes = try attributes.ints("sizes")
  }
  public var attributes: [Attribute] {
    [Attribute("axis", .int(axis)), Attribute("sizes", .ints(sizes))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    var left = x.shape[axis]
    for size in sizes {
      try check(size >= 0 && size <= left, "parts \(sizes) do not add up to \(x.shape[axis])")
      left -= size
    }
    try check(left == 0, "parts \(sizes) do not add up to \(x.shape[axis])")
    return sizes.map { size in
      var part = x
      part.shape[axis] = size
      return part
    }
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? Split(axis: permutation[axis], sizes: sizes) : nil
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let inner = x.type.shape[(axis + 1)...].reduce(1, *) * x.type.element.byteWidth
    let outer = x.type.shape[..<axis].reduce(1, *)
    guard let from = x.bytes.baseAddress else { return }
    var start = 0
    for (output, size) in zip(outputs, sizes) {
      let run = size * inner
      if run > 0, let to = output.bytes.baseAddress {
        for block in 0..<outer {
          (to + block * run).copyMemory(
            from: from + block * x.type.shape[axis] * inner + start, byteCount: run)
        }
      }
      start += run
    }
  }
}
