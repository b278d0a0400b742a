import IR

/// output[i, j] = data[index[i, j], j] for axis 0, and so on. Source: QNN operator definition GatherElements.
public struct GatherElements: Operator {
  public static let typeName = "GatherElements"
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
    try checkElementIndices(x, indices, axis)
    return [TensorType(x.element, indices.shape)]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, indices) = (try required(inputs, 0), try required(inputs, 1))
    let width = x.type.element.byteWidth
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    try forEachElementIndex(x.type, indices, axis) { position, source in
      (to + position * width).copyMemory(from: from + source * width, byteCount: width)
    }
  }
}

/// How scattered values meet what is there.
public enum ScatterReduction: String, Sendable { case none, add, mul, min, max }

/// data with data[index[i, j], j] = updates[i, j] for axis 0, and so on.
/// Source: QNN operator definition ScatterElements.
public struct ScatterElements: Operator {
  public static let typeName = "ScatterElements"
  public var axis: Int
  public var reduction: ScatterReduction

  /// Makes a scatter along a non-negative axis.
  public init(axis: Int, reduction: ScatterReduction = .none) {
    self.axis = axis
    self.reduction = reduction
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    reduction = try scatterReduction(&attributes)
  }
  public var attributes: [Attribute] {
    [Attribute("axis", .int(axis)), Attribute("reduction", .string(reduction.rawValue))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "data")
    let indices = try required(inputs, 1, "indices")
    let updates = try required(inputs, 2, "updates")
    try checkElementIndices(x, indices, axis)
    try check(updates == TensorType(x.element, indices.shape), "updates \(updates) do not fit \(indices)")
    try checkReducible(x, reduction, Self.typeName)
    return [x]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.activation, .unquantized, .activation])
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, indices) = (try required(inputs, 0), try required(inputs, 1))
    let updates = try required(inputs, 2)
    outputs[0].bytes.copyMemory(from: x.bytes)
    let method = reduction
    try forEachElementIndex(x.type, indices, axis) { position, target in
      combine(updates, position, outputs[0], target, 1, method)
    }
  }
}

/// Picks slices by tuples of indices: the last axis of input 1 holds a tuple.
/// Source: QNN operator definition GatherNd.
public struct GatherNd: Operator {
  public static let typeName = "GatherNd"
  /// Leading axes that both inputs share.
  public var batchDims: Int

  /// Makes the operator.
  public init(batchDims: Int = 0) { self.batchDims = batchDims }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    batchDims = try attributes.int("batch_dims", default: 0)
  }
  public var attributes: [Attribute] { [Attribute("batch_dims", .int(batchDims))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "data")
    let indices = try required(inputs, 1, "indices")
    let tuple = indices.shape.last ?? 0
    try check(indices.element.isInteger, "indices must be integers, are \(indices)")
    try check(
      batchDims >= 0 && batchDims < indices.rank && batchDims + tuple <= x.rank
        && indices.shape.prefix(batchDims) == x.shape.prefix(batchDims),
      "indices \(indices) do not fit \(x)")
    return [TensorType(x.element, indices.shape.dropLast() + x.shape[(batchDims + tuple)...])]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, indices) = (try required(inputs, 0), try required(inputs, 1))
    let width = x.type.element.byteWidth
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    try forEachTuple(x.type, indices, batchDims) { position, source, run in
      (to + position * run * width).copyMemory(from: from + source * width, byteCount: run * width)
    }
  }
}

/// data with the slices that tuples of indices name replaced by, or combined with, updates.
/// Source: QNN operator definition ScatterNd.
public struct ScatterNd: Operator {
  public static let typeName = "ScatterNd"
  public var reduction: ScatterReduction

  /// Makes the operator.
  public init(reduction: ScatterReduction = .none) { self.reduction = reduction }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    reduction = try scatterReduction(&attributes)
  }
  public var attributes: [Attribute] { [Attribute("reduction", .string(reduction.rawValue))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "data")
    let indices = try required(inputs, 1, "indices")
    let updates = try required(inputs, 2, "updates")
    let tuple = indices.shape.last ?? 0
    try check(
      indices.element.isInteger && indices.rank > 0 && tuple <= x.rank,
      "indices \(indices) do not fit \(x)")
    let expected = TensorType(x.element, indices.shape.dropLast() + x.shape[tuple...])
    try check(updates == expected, "updates \(updates) must be \(expected)")
    try checkReducible(x, reduction, Self.typeName)
    return [x]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.activation, .unquantized, .activation])
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, indices) = (try required(inputs, 0), try required(inputs, 1))
    let updates = try required(inputs, 2)
    outputs[0].bytes.copyMemory(from: x.bytes)
    let method = reduction
    try forEachTuple(x.type, indices, 0) { position, target, run in
      combine(updates, position * run, outputs[0], target, run, method)
    }
  }
}

private func scatterReduction(_ attributes: inout AttributeReader) throws(Diagnostic) -> ScatterReduction {
  let name = try attributes.string("reduction", default: "none")
  guard let known = ScatterReduction(rawValue: name) else {
    throw Diagnostic("bad-parameter", "there is no reduction \(name)")
  }
  return known
}

private func checkReducible(
  _ x: TensorType, _ reduction: ScatterReduction, _ name: String
) throws(Diagnostic) {
  if reduction != .none && !x.element.isInteger { try requireFloat(x, name) }
}

private func checkElementIndices(
  _ x: TensorType, _ indices: TensorType, _ axis: Int
) throws(Diagnostic) {
  try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
  try check(indices.element.isInteger, "indices must be integers, are \(indices)")
  try check(
    indices.rank == x.rank && x.shape.indices.allSatisfy { $0 == axis || indices.shape[$0] <= x.shape[$0] },
    "indices \(indices) do not fit \(x)")
}

private func outside(_ index: Int, _ size: Int) -> Diagnostic {
  Diagnostic("index-range", "index \(index) is outside an axis of size \(size)")
}

/// Calls `body` with each position of the indices and the element of `x` that it names.
private func forEachElementIndex(
  _ x: TensorType, _ indices: TensorView, _ axis: Int, _ body: (Int, Int) -> Void
) throws(Diagnostic) {
  let access = IntegerAccess(element: indices.type.element)
  let (strides, steps) = (denseStrides(x.shape), denseStrides(indices.type.shape))
  let size = x.shape[axis]
  for position in 0..<indices.type.count {
    let given = access.load(indices.bytes, position)
    let index = given < 0 ? given &+ size : given
    guard index >= 0, index < size else { throw outside(given, size) }
    var place = index * strides[axis]
    for other in x.shape.indices where other != axis {
      place += position / steps[other] % indices.type.shape[other] * strides[other]
    }
    body(position, place)
  }
}

/// Calls `body` with each tuple's number, the first element of `x` that it names, and how many.
private func forEachTuple(
  _ x: TensorType, _ indices: TensorView, _ batchDims: Int, _ body: (Int, Int, Int) -> Void
) throws(Diagnostic) {
  let access = IntegerAccess(element: indices.type.element)
  let tuple = indices.type.shape.last ?? 0
  let strides = denseStrides(x.shape)
  let run = x.shape[(batchDims + tuple)...].reduce(1, *)
  let count = indices.type.shape.dropLast().reduce(1, *)
  let batch = x.shape[..<batchDims].reduce(1, *)
  guard run > 0, count > 0 else { return }
  let image = x.count / max(batch, 1)
  for position in 0..<count {
    var place = position / (count / batch) * image
    for part in 0..<tuple {
      let size = x.shape[batchDims + part]
      let given = access.load(indices.bytes, position * tuple + part)
      let index = given < 0 ? given &+ size : given
      guard index >= 0, index < size else { throw outside(given, size) }
      place += index * strides[batchDims + part]
    }
    body(position, place, run)
  }
}

/// Combines `count` elements of the updates into the output.
private func combine(
  _ updates: TensorView, _ source: Int, _ output: MutableTensorView, _ target: Int, _ count: Int,
  _ reduction: ScatterReduction
) {
  let width = output.type.element.byteWidth
  guard reduction != .none else {
    if let from = updates.bytes.baseAddress, let to = output.bytes.baseAddress {
      (to + target * width).copyMemory(from: from + source * width, byteCount: count * width)
    }
    return
  }
  for offset in 0..<count {
    if output.type.element == .float32 {
      let (x, y) = (updates.elements(as: Float.self), output.elements(as: Float.self))
      let (new, old) = (x[source + offset], y[target + offset])
      switch reduction {
      case .add: y[target + offset] = old + new
      case .mul: y[target + offset] = old * new
      case .min: y[target + offset] = MinimumFunction.apply(old, new)
      default: y[target + offset] = MaximumFunction.apply(old, new)
      }
    } else {
      let access = IntegerAccess(element: output.type.element)
      let new = access.load(updates.bytes, source + offset)
      let old = access.load(UnsafeRawBufferPointer(output.bytes), target + offset)
      let value: Int
      switch reduction {
      case .add: value = old &+ new
      case .mul: value = old &* new
      case .min: value = min(old, new)
      default: value = max(old, new)
      }
      access.store(value, output.bytes, target + offset)
    }
  }
}
