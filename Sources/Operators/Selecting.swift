import IR

/// Which element ``ExtremeIndex`` looks for.
public protocol ExtremeKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether the largest element is wanted.
  static var isLargest: Bool { get }
}

/// Index of the largest or smallest element along an axis, as int64; of equal ones the first, or the last.
/// Source: QNN operator definitions Argmax, Argmin.
public struct ExtremeIndex<Kind: ExtremeKind>: Operator {
  public static var typeName: String { Kind.typeName }
  public var axis: Int
  public var keepDims: Bool
  /// Whether of equal elements the last one counts.
  public var selectLastIndex: Bool

  /// Makes the operator over a non-negative axis.
  public init(axis: Int, keepDims: Bool, selectLastIndex: Bool = false) {
    self.axis = axis
    self.keepDims = keepDims
    self.selectLastIndex = selectLastIndex
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axis = try attributes.int("axis")
    keepDims = try attributes.bool("keep_dims", default: false)
    selectLastIndex = try attributes.bool("select_last_index", default: false)
  }
  public var attributes: [Attribute] {
    [
      Attribute("axis", .int(axis)), Attribute("keep_dims", .bool(keepDims)),
      Attribute("select_last_index", .bool(selectLastIndex)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    if !x.element.isInteger { try requireFloat(x, Self.typeName) }
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    try check(x.shape[axis] > 0, "axis \(axis) of \(x) is empty")
    var shape = x.shape
    if keepDims { shape[axis] = 1 } else { shape.remove(at: axis) }
    return [TensorType(.int64, shape)]
  }
  public var quantization: QuantizationRule { QuantizationRule(outputs: [.unquantized]) }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard keepDims, permutation.indices.contains(axis) else { return nil }
    return ExtremeIndex(axis: permutation[axis], keepDims: true, selectLastIndex: selectLastIndex)
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let y = outputs[0].elements(as: Int.self)
    let count = x.type.shape[axis]
    let inner = x.type.shape[(axis + 1)...].reduce(1, *)
    let access = IntegerAccess(element: x.type.element)
    let floats = x.type.element == .float32 ? x.elements(as: Float.self) : nil
    for line in y.indices {
      let start = line / inner * inner * count + line % inner
      var best = 0
      for index in 1..<max(count, 1) {
        let (a, b) = (start + index * inner, start + best * inner)
        let order =
          floats.map { wins($0[a], $0[b]) } ?? wins(access.load(x.bytes, a), access.load(x.bytes, b))
        if order { best = index }
      }
      y[line] = best
    }
  }

  private func wins<Number: Comparable>(_ new: Number, _ old: Number) -> Bool {
    if selectLastIndex { return Kind.isLargest ? new >= old : new <= old }
    return Kind.isLargest ? new > old : new < old
  }
}

/// The largest.
public enum ArgmaxKind: ExtremeKind {
  public static let typeName = "Argmax"
  public static let isLargest = true
}
/// The smallest.
public enum ArgminKind: ExtremeKind {
  public static let typeName = "Argmin"
  public static let isLargest = false
}

public typealias Argmax = ExtremeIndex<ArgmaxKind>
public typealias Argmin = ExtremeIndex<ArgminKind>

/// The k largest or smallest elements along an axis in order, and their indices (int64); of equal elements
/// the one with the lower index comes first. Source: QNN operator definition TopK (there: the last axis).
public struct TopK: Operator {
  public static let typeName = "TopK"
  public var k: Int
  public var axis: Int
  public var largest: Bool

  /// Makes the operator over a non-negative axis.
  public init(k: Int, axis: Int, largest: Bool = true) {
    self.k = k
    self.axis = axis
    self.largest = largest
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    k = try attributes.int("k")
    axis = try attributes.int("axis")
    largest = try attributes.bool("largest", default: true)
  }
  public var attributes: [Attribute] {
    [Attribute("k", .int(k)), Attribute("axis", .int(axis)), Attribute("largest", .bool(largest))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    if !x.element.isInteger { try requireFloat(x, Self.typeName) }
    try check(x.shape.indices.contains(axis), "axis \(axis) is outside \(x)")
    try check((0...x.shape[axis]).contains(k), "\(k) elements are not along axis \(axis) of \(x)")
    var shape = x.shape
    shape[axis] = k
    return [TensorType(x.element, shape), TensorType(.int64, shape)]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(outputs: [.sameAsInput(0), .unquantized])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    permutation.indices.contains(axis) ? TopK(k: k, axis: permutation[axis], largest: largest) : nil
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (size, width) = (x.type.shape[axis], x.type.element.byteWidth)
    let inner = x.type.shape[(axis + 1)...].reduce(1, *)
    let outer = x.type.shape[..<axis].reduce(1, *)
    let access = IntegerAccess(element: x.type.element)
    let floats = x.type.element == .float32 ? x.elements(as: Float.self) : nil
    let indices = outputs[1].elements(as: Int.self)
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    for line in 0..<(outer * inner) {
      let start = line / inner * inner * size + line % inner
      let order: [Int]
      if let floats {
        order = ranked((0..<size).map { floats[start + $0 * inner] })
      } else {
        order = ranked((0..<size).map { access.load(x.bytes, start + $0 * inner) })
      }
      for (place, index) in order.prefix(k).enumerated() {
        let target = line / inner * inner * k + line % inner + place * inner
        (to + target * width).copyMemory(
          from: from + (start + index * inner) * width, byteCount: width)
        indices[target] = index
      }
    }
  }

  private func ranked<Number: Comparable>(_ values: [Number]) -> [Int] {
    values.indices.sorted {
      if values[$0] == values[$1] { return $0 < $1 }
      return largest ? values[$0] > values[$1] : values[$0] < values[$1]
    }
  }
}

/// `onValue` where the position along the new axis is the index, `offValue` elsewhere; negative indices
/// count from the end, others outside give no `onValue`. Source: QNN operator definition OneHot.
public struct OneHot: Operator {
  public static let typeName = "OneHot"
  public var depth: Int
  /// Place of the new axis in the output.
  public var axis: Int
  public var onValue: Float
  public var offValue: Float
  /// Element type of the output.
  public var to: DataType

  /// Makes the operator.
  public init(depth: Int, axis: Int, onValue: Float, offValue: Float, to: DataType) {
    self.depth = depth
    self.axis = axis
    self.onValue = onValue
    self.offValue = offValue
    self.to = to
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    depth = try attributes.int("depth")
    axis = try attributes.int("axis")
    onValue = try attributes.float("on_value", default: 1)
    offValue = try attributes.float("off_value", default: 0)
    let name = try attributes.string("to", default: "float32")
    guard let type = DataType(rawValue: name) else {
      throw Diagnostic("bad-parameter", "there is no element type \(name)")
    }
    to = type
  }
  public var attributes: [Attribute] {
    [
      Attribute("depth", .int(depth)), Attribute("axis", .int(axis)),
      Attribute("on_value", .float(onValue)), Attribute("off_value", .float(offValue)),
      Attribute("to", .string(to.rawValue)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "indices")
    try check(x.element.isInteger, "indices must be integers, are \(x)")
    try check((0...x.rank).contains(axis), "axis \(axis) does not fit \(x)")
    try check((0..<(1 << 31)).contains(depth), "depth \(depth) is not valid")
    try check(to == .float32 || to.isInteger || to == .bool, "OneHot gives no \(to.rawValue)")
    for value in [onValue, offValue] where to != .float32 {
      try check(abs(value) < 0x1p31, "\(value) is not a value of \(to.rawValue)")
    }
    var shape = x.shape
    shape.insert(depth, at: axis)
    return [TensorType(to, shape)]
  }
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.unquantized]) }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let inner = x.type.shape[axis...].reduce(1, *)
    let load = IntegerAccess(element: x.type.element)
    let store = IntegerAccess(element: to)
    for out in 0..<outputs[0].type.count {
      let position = out / inner % depth
      let given = load.load(x.bytes, out / inner / depth * inner + out % inner)
      let value = (given < 0 ? given &+ depth : given) == position ? onValue : offValue
      if to == .float32 {
        outputs[0].elements(as: Float.self)[out] = value
      } else {
        store.store(Int(value), outputs[0].bytes, out)
      }
    }
  }
}
