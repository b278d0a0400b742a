import IR

/// Elements begin, begin + step, ... of every axis, `size` of them; steps may be negative.
/// Source: QNN operator definition StridedSlice (ranges given as begin, size, step).
public struct StridedSlice: Operator {
  public static let typeName = "StridedSlice"
  /// First index per axis.
  public var begin: [Int]
  /// Number of elements per axis.
  public var size: [Int]
  /// Step per axis, not zero.
  public var step: [Int]

  /// Makes a slice; the three lists have an entry an axis.
  public init(begin: [Int], size: [Int], step: [Int]) {
    self.begin = begin
    self.size = size
    self.step = step
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    begin = try attributes.ints("begin")
    size = try attributes.ints("size")
    step = try attributes.ints("step")
  }
  public var attributes: [Attribute] {
    [
      Attribute("begin", .ints(begin)), Attribute("size", .ints(size)),
      Attribute("step", .ints(step)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      begin.count == x.rank && size.count == x.rank && step.count == x.rank,
      "slice lists do not fit \(x)")
    for axis in x.shape.indices {
      try check(size[axis] >= 0 && step[axis] != 0, "sizes must not be negative, steps not zero")
      guard size[axis] > 0 else { continue }
      let (span, overflow) = (size[axis] - 1).multipliedReportingOverflow(by: step[axis])
      let (last, overflow2) = begin[axis].addingReportingOverflow(span)
      try check(
        !overflow && !overflow2 && x.shape[axis] > begin[axis] && begin[axis] >= 0 && last >= 0
          && last < x.shape[axis], "slice of axis \(axis) leaves \(x)")
    }
    return [TensorType(x.element, size)]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard permutation.count == begin.count else { return nil }
    let inverse = inversePermutation(permutation)
    return StridedSlice(
      begin: inverse.map { begin[$0] }, size: inverse.map { size[$0] }, step: inverse.map { step[$0] })
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let width = x.type.element.byteWidth
    let strides = denseStrides(x.type.shape)
    let steps = zip(strides, step).map { $0 * $1 }
    let start = zip(strides, begin).map { $0 * $1 }.reduce(0, +)
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    let row = size.last ?? 1
    let inner = steps.last ?? 1
    forEachRow(size, steps, steps) { out, offset, _ in
      if inner == 1 {
        (to + out * width).copyMemory(from: from + (start + offset) * width, byteCount: row * width)
      } else {
        for index in 0..<row {
          (to + (out + index) * width).copyMemory(
            from: from + (start + offset + index * inner) * width, byteCount: width)
        }
      }
    }
  }
}

/// Picks slices of input 0 along one axis by the indices of input 1 (integers, negative from the end).
/// Source: QNN operator definition Gather.
public struct Gather: Operator {
  public static let typeName = "Gather"
  public var axis: Int

  /// Makes a gather along a non-negative axis.
  public init(axis: Int) { self.axis = axis }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
  }
  public var attributes: [Attribute] { [Attribute("axis", .int(axis))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "data")
    let indices = try required(inputs, 1, "indices")
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    try check(indices.element.isInteger, "indices must be integers, are \(indices)")
    return [TensorType(x.element, x.shape[..<axis] + indices.shape + x.shape[(axis + 1)...])]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, indices) = (try required(inputs, 0), try required(inputs, 1))
    let run = x.type.shape[(axis + 1)...].reduce(1, *) * x.type.element.byteWidth
    let outer = x.type.shape[..<axis].reduce(1, *)
    let size = x.type.shape[axis]
    let access = IntegerAccess(element: indices.type.element)
    guard run > 0, let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    let count = indices.type.count
    for position in 0..<count {
      let given = access.load(indices.bytes, position)
      let index = given < 0 ? given &+ size : given
      guard index >= 0, index < size else {
        throw Diagnostic("index-range", "index \(given) is outside axis \(axis) of size \(size)")
      }
      for block in 0..<outer {
        (to + (block * count + position) * run).copyMemory(
          from: from + (block * size + index) * run, byteCount: run)
      }
    }
  }
}

/// Widens every axis by `padAmount` [before, after]. Source: QNN operator definition Pad.
public struct Pad: Operator {
  public static let typeName = "Pad"
  /// What the border holds.
  public enum Scheme: String, Sendable { case constant, reflect, edge, wrap }
  /// [before, after] of axis 0, then of axis 1, ...
  public var padAmount: [Int]
  public var scheme: Scheme
  /// Value of a constant border.
  public var value: Float

  /// Makes a padding of every axis.
  public init(padAmount: [Int], scheme: Scheme = .constant, value: Float = 0) {
    self.padAmount = padAmount
    self.scheme = scheme
    self.value = value
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    padAmount = try attributes.ints("pad_amount")
    let name = try attributes.string("scheme", default: "constant")
    guard let known = Scheme(rawValue: name) else {
      throw Diagnostic("bad-parameter", "Pad has no scheme \(name)")
    }
    scheme = known
    value = try attributes.float("pad_constant_value", default: 0)
  }
  public var attributes: [Attribute] {
    [
      Attribute("pad_amount", .ints(padAmount)), Attribute("scheme", .string(scheme.rawValue)),
      Attribute("pad_constant_value", .float(value)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(
      padAmount.count == 2 * x.rank && padAmount.allSatisfy { (0..<(1 << 31)).contains($0) },
      "padding \(padAmount) does not fit \(x)")
    var shape = x.shape
    for axis in shape.indices {
      let (before, after) = (padAmount[2 * axis], padAmount[2 * axis + 1])
      if before + after > 0 && scheme != .constant {
        let limit = scheme == .reflect ? shape[axis] - 1 : shape[axis]
        try check(
          shape[axis] > 0 && (scheme != .reflect || (before <= limit && after <= limit)),
          "padding \(before), \(after) is too wide for axis \(axis) of \(x)")
      }
      shape[axis] += before + after
    }
    if scheme == .constant && !x.element.isInteger && x.element != .bool {
      try requireFloat(x, Self.typeName)
    }
    return [TensorType(x.element, shape)]
  }
  public var quantization: QuantizationRule {
    scheme == .constant && value != 0
      ? QuantizationRule(inputs: [.activation, .unquantized]) : .dataInvariant
  }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard permutation.count * 2 == padAmount.count else { return nil }
    var moved = padAmount
    for (axis, source) in permutation.enumerated() {
      moved[2 * source] = padAmount[2 * axis]
      moved[2 * source + 1] = padAmount[2 * axis + 1]
    }
    return Pad(padAmount: moved, scheme: scheme, value: value)
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (shape, width) = (outputs[0].type.shape, x.type.element.byteWidth)
    guard let to = outputs[0].bytes.baseAddress else { return }
    let total = outputs[0].type.count
    if x.type.element == .float32 {
      outputs[0].elements(as: Float.self).update(repeating: value)
    } else {
      let access = IntegerAccess(element: x.type.element)
      // The largest integers are rounded up by Float.
      let number = value >= 0x1p63 ? Int.max : value >= -0x1p63 ? Int(value) : Int.min
      for index in 0..<total { access.store(number, outputs[0].bytes, index) }
    }
    guard let from = x.bytes.baseAddress, x.type.count > 0 else { return }
    let (strides, steps) = (denseStrides(shape), denseStrides(x.type.shape))
    if scheme == .constant {
      let row = x.type.shape.last ?? 1
      let start = zip(strides, stride(from: 0, to: padAmount.count, by: 2)).map {
        $0 * padAmount[$1]
      }.reduce(0, +)
      forEachRow(x.type.shape, strides, strides) { source, out, _ in
        (to + (start + out) * width).copyMemory(from: from + source * width, byteCount: row * width)
      }
      return
    }
    for out in 0..<total {
      var source = 0
      for axis in shape.indices {
        let size = x.type.shape[axis]
        var index = out / strides[axis] % shape[axis] - padAmount[2 * axis]
        if scheme == .edge {
          index = min(max(index, 0), size - 1)
        } else if scheme == .wrap {
          index = (index % size + size) % size
        } else if index < 0 {
          index = -index
        } else if index >= size {
          index = 2 * (size - 1) - index
        }
        source += index * steps[axis]
      }
      (to + out * width).copyMemory(from: from + source * width, byteCount: width)
    }
  }
}
