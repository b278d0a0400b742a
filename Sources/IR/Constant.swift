/// The value of a static tensor: a view on bytes with, possibly, a permutation still to be applied.
///
/// Weights stay where they are (in the mapped model, say) until a kernel prepares them or the
/// container is written; ``materialized()`` applies what is pending.
public struct Constant: Sendable {
  /// Type after the pending permutation.
  public let type: TensorType
  /// Elements as stored, dense and little-endian.
  public let stored: Bytes
  /// Axis i of ``type`` is axis `permutation[i]` of the stored array; nil when nothing is pending.
  public let permutation: [Int]?

  /// A constant whose bytes are already in the order of `type`.
  public init(type: TensorType, bytes: Bytes) {
    self.type = type
    self.stored = bytes
    self.permutation = nil
  }

  private init(type: TensorType, bytes: Bytes, permutation: [Int]?) {
    self.type = type
    self.stored = bytes
    self.permutation = permutation
  }

  /// A `float32` constant.
  public init(_ values: [Float], shape: [Int]) {
    self.init(type: TensorType(.float32, shape), bytes: Bytes(values))
  }

  /// An `int64` constant.
  public init(_ values: [Int64], shape: [Int]) {
    self.init(type: TensorType(.int64, shape), bytes: Bytes(values))
  }

  /// The same values with another shape of equal count.
  public func reshaped(_ shape: [Int]) -> Constant {
    Constant(type: TensorType(type.element, shape), bytes: materialized())
  }

  /// The constant transposed: axis i of the result is axis `order[i]` of this one. Copies nothing.
  public func permuted(_ order: [Int]) -> Constant {
    let shape = order.map { type.shape[$0] }
    let composed = order.map { permutation?[$0] ?? $0 }
    let identity = composed.enumerated().allSatisfy { $0.offset == $0.element }
    return Constant(
      type: TensorType(type.element, shape), bytes: stored, permutation: identity ? nil : composed)
  }

  /// The dense bytes in the order of ``type``; the stored bytes themselves when nothing is pending.
  public func materialized() -> Bytes {
    guard let permutation else { return stored }
    var sourceShape = [Int](repeating: 0, count: type.rank)
    for (axis, source) in permutation.enumerated() { sourceShape[source] = type.shape[axis] }
    return Bytes(count: type.byteCount) { target in
      transposeBytes(
        stored.buffer, shape: sourceShape, permutation: permutation, width: type.element.byteWidth,
        into: target)
    }
  }

  /// All elements as `Float`; any numeric element type. Fixed point is not dequantized here.
  public func floats() -> [Float] {
    let bytes = materialized()
    switch type.element {
    case .float32: return bytes.array(of: Float.self)
    case .float64: return bytes.array(of: Double.self).map { Float($0) }
    case .float16: return bytes.array(of: UInt16.self).map { floatFromHalfBits($0) }
    case .bfloat16:
      return bytes.array(of: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
    default: return (integers() ?? []).map { Float($0) }
    }
  }

  /// All elements as `Int`, or nil where the element type is neither integer, fixed point nor bool.
  public func integers() -> [Int]? {
    let bytes = materialized()
    switch type.element {
    case .int8, .int4, .sfixed8, .sfixed4: return bytes.array(of: Int8.self).map { Int($0) }
    case .uint8, .uint4, .bool, .ufixed8, .ufixed4:
      return bytes.array(of: UInt8.self).map { Int($0) }
    case .int16, .sfixed16: return bytes.array(of: Int16.self).map { Int($0) }
    case .uint16, .ufixed16: return bytes.array(of: UInt16.self).map { Int($0) }
    case .int32, .sfixed32: return bytes.array(of: Int32.self).map { Int($0) }
    case .uint32, .ufixed32: return bytes.array(of: UInt32.self).map { Int($0) }
    case .int64: return bytes.array(of: Int64.self).map { Int($0) }
    case .uint64: return bytes.array(of: UInt64.self).map { Int(truncatingIfNeeded: $0) }
    default: return nil
    }
  }
}

/// The value of a half-precision number given by its bits (IEEE 754 binary16), exactly.
public func floatFromHalfBits(_ bits: UInt16) -> Float {
  let sign = UInt32(bits & 0x8000) << 16
  let exponent = UInt32(bits >> 10) & 0x1F
  let fraction = UInt32(bits) & 0x3FF
  if exponent == 0x1F { return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13) }
  if exponent == 0 {
    let magnitude = Float(fraction) * 0x1p-24
    return Float(bitPattern: sign | magnitude.bitPattern)
  }
  return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
}

/// The bits of the half-precision number nearest to `value`, ties to even (IEEE 754 binary16).
public func halfBits(_ value: Float) -> UInt16 {
  let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
  let magnitude = value.bitPattern & 0x7FFF_FFFF
  if magnitude > 0x7F80_0000 { return sign | 0x7E00 }
  if magnitude >= 0x4780_0000 { return sign | 0x7C00 }
  if magnitude < 0x3880_0000 {
    let scaled = (Float(bitPattern: magnitude) * 0x1p24).rounded(.toNearestOrEven)
    return sign | UInt16(scaled)
  }
  let rebased = magnitude - 0x3800_0000
  let rounded = rebased + 0xFFF + (rebased >> 13 & 1)
  return sign | UInt16(truncatingIfNeeded: rounded >> 13)
}

/// Copies a dense array with its axes permuted: axis i of the target is axis `permutation[i]` of the
/// source, whose sizes are `shape`; `width` is the bytes of an element.
public func transposeBytes(
  _ source: UnsafeRawBufferPointer, shape: [Int], permutation: [Int], width: Int,
  into target: UnsafeMutableRawBufferPointer
) {
  let targetShape = permutation.map { shape[$0] }
  let total = targetShape.reduce(1, *)
  guard total > 0, let from = source.baseAddress, let to = target.baseAddress else { return }
  let sourceStrides = denseStrides(shape)
  let strides = permutation.map { sourceStrides[$0] }
  let rank = targetShape.count
  if rank == 0 {
    to.copyMemory(from: from, byteCount: width)
    return
  }
  let inner = targetShape[rank - 1]
  let innerStride = strides[rank - 1]
  var index = [Int](repeating: 0, count: rank)
  var offset = 0
  var written = 0
  while written < total {
    if innerStride == 1 {
      (to + written * width).copyMemory(from: from + offset * width, byteCount: inner * width)
    } else if width == 4 {
      for step in 0..<inner {
        let word = from.loadUnaligned(
          fromByteOffset: (offset + step * innerStride) * 4, as: UInt32.self)
        to.storeBytes(of: word, toByteOffset: (written + step) * 4, as: UInt32.self)
      }
    } else {
      for step in 0..<inner {
        (to + (written + step) * width).copyMemory(
          from: from + (offset + step * innerStride) * width, byteCount: width)
      }
    }
    written += inner
    var axis = rank - 2
    while axis >= 0 {
      index[axis] += 1
      offset += strides[axis]
      if index[axis] < targetShape[axis] { break }
      offset -= strides[axis] * targetShape[axis]
      index[axis] = 0
      axis -= 1
    }
  }
}
