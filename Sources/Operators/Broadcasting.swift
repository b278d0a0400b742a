import IR

/// The shape two operands broadcast to, numpy's rule; throws where they do not fit.
public func broadcastShape(_ left: [Int], _ right: [Int]) throws(Diagnostic) -> [Int] {
  let rank = max(left.count, right.count)
  var result = [Int](repeating: 1, count: rank)
  for axis in 0..<rank {
    let a = axis - (rank - left.count) >= 0 ? left[axis - (rank - left.count)] : 1
    let b = axis - (rank - right.count) >= 0 ? right[axis - (rank - right.count)] : 1
    guard a == b || a == 1 || b == 1 else {
      throw Diagnostic("shape-broadcast", "shapes \(left) and \(right) do not broadcast")
    }
    result[axis] = a == 1 ? b : a
  }
  return result
}

/// Strides, in elements, that walk a dense array of `shape` as if it had been broadcast to `target`;
/// 0 along every repeated axis.
public func broadcastStrides(_ shape: [Int], to target: [Int]) -> [Int] {
  let dense = denseStrides(shape)
  let lead = target.count - shape.count
  return target.indices.map { axis in
    guard axis >= lead, shape[axis - lead] != 1 else { return 0 }
    return dense[axis - lead]
  }
}

/// Walks the rows (last axis) of a shape: calls `body` with the first element of the row in the dense
/// result and in each operand that has the given strides.
@inlinable
public func forEachRow(
  _ shape: [Int], _ first: [Int], _ second: [Int], _ body: (_ out: Int, _ a: Int, _ b: Int) -> Void
) {
  let total = shape.reduce(1, *)
  guard total > 0 else { return }
  let row = shape.last ?? 1
  var index = [Int](repeating: 0, count: max(shape.count - 1, 0))
  var (a, b) = (0, 0)
  var out = 0
  while out < total {
    body(out, a, b)
    out += row
    var axis = shape.count - 2
    while axis >= 0 {
      index[axis] += 1
      a += first[axis]
      b += second[axis]
      if index[axis] < shape[axis] { break }
      a -= first[axis] * shape[axis]
      b -= second[axis] * shape[axis]
      index[axis] = 0
      axis -= 1
    }
  }
}

/// Reads and writes single elements of any integer type (and bool) as `Int`, for kernels where
/// clearness counts more than speed.
struct IntegerAccess {
  let element: DataType

  func load(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> Int {
    switch element {
    case .int8, .int4: Int(bytes.load(fromByteOffset: index, as: Int8.self))
    case .uint8, .uint4, .bool: Int(bytes.load(fromByteOffset: index, as: UInt8.self))
    case .int16: Int(bytes.load(fromByteOffset: index * 2, as: Int16.self))
    case .uint16: Int(bytes.load(fromByteOffset: index * 2, as: UInt16.self))
    case .int32: Int(bytes.load(fromByteOffset: index * 4, as: Int32.self))
    case .uint32: Int(bytes.load(fromByteOffset: index * 4, as: UInt32.self))
    default: bytes.load(fromByteOffset: index * 8, as: Int.self)
    }
  }

  func store(_ value: Int, _ bytes: UnsafeMutableRawBufferPointer, _ index: Int) {
    switch element.byteWidth {
    case 1:
      bytes.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: index, as: UInt8.self)
    case 2:
      bytes.storeBytes(
        of: UInt16(truncatingIfNeeded: value), toByteOffset: index * 2, as: UInt16.self)
    case 4:
      bytes.storeBytes(
        of: UInt32(truncatingIfNeeded: value), toByteOffset: index * 4, as: UInt32.self)
    default: bytes.storeBytes(of: value, toByteOffset: index * 8, as: Int.self)
    }
  }
}

/// The operand `index` or an error that names what is missing.
func required(_ inputs: [TensorType?], _ index: Int, _ what: String) throws(Diagnostic) -> TensorType {
  guard index < inputs.count, let type = inputs[index] else {
    throw Diagnostic("missing-operand", "operand \(index) (\(what)) is missing")
  }
  return type
}

/// The view `index` or an error; kernels call it after inference has proved that the operand exists.
func required(_ inputs: [TensorView?], _ index: Int) throws(Diagnostic) -> TensorView {
  guard index < inputs.count, let view = inputs[index] else {
    throw Diagnostic("missing-operand", "operand \(index) is missing")
  }
  return view
}

/// Throws unless the operand is `float32`.
func requireFloat(_ type: TensorType, _ name: String) throws(Diagnostic) {
  guard type.element == .float32 else {
    throw Diagnostic(
      "unsupported-element", "\(name) is not available for \(type.element.rawValue)",
      hint: "float32 is supported")
  }
}

/// Throws with `message` unless the condition holds.
func check(_ condition: Bool, _ message: @autoclosure () -> String) throws(Diagnostic) {
  if !condition { throw Diagnostic("bad-shape", message()) }
}

/// Throws unless every operand that is there is `float32`.
func requireFloats(_ inputs: [TensorType?], _ name: String) throws(Diagnostic) {
  for case let type? in inputs { try requireFloat(type, name) }
}
