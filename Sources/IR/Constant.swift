/// The value of a static tensor: a view on bytes with, possibly, a permutation still to be applied.
///
/// Weights stay where they are (in the mapped model, say) until a kernel prepares them or the
/// container is written; ``materialized()`` applies what is pending, ``forEachBlock(of:_:)`` in pieces.
public struct Constant: Sendable {
  /// Type after the pending permutation.
  public let type: TensorType
  /// Elements as stored, dense and little-endian.
  public let stored: Bytes
  /// How the stored elements are still to be put into the order of ``type``; nil when they are in it.
  public let pending: PendingPermutation?

  /// A constant whose bytes are already in the order of `type`.
  public init(type: TensorType, bytes: Bytes) {
    self.init(type: type, bytes: bytes, pending: nil)
  }

  private init(type: TensorType, bytes: Bytes, pending: PendingPermutation?) {
    self.type = type
    self.stored = bytes
    self.pending = pending
  }

  /// A `float32` constant.
  public init(_ values: [Float], shape: [Int]) {
    self.init(type: TensorType(.float32, shape), bytes: Bytes(values))
  }

  /// An `int64` constant.
  public init(_ values: [Int64], shape: [Int]) {
    self.init(type: TensorType(.int64, shape), bytes: Bytes(values))
  }

  /// The same values with another shape of equal count. Copies nothing.
  public func reshaped(_ shape: [Int]) -> Constant {
    Constant(type: TensorType(type.element, shape), bytes: stored, pending: pending)
  }

  /// The constant transposed: axis i of the result is axis `order[i]` of this one. Copies nothing, but
  /// where a reshape has merged axes that an earlier permutation had separated.
  public func permuted(_ order: [Int]) -> Constant {
    let shape = order.map { type.shape[$0] }
    let result = TensorType(type.element, shape)
    guard type.count > 0 else { return Constant(type: result, bytes: stored, pending: nil) }
    if let pending {
      guard let further = pending.permuted(order, of: type.shape) else {
        return Constant(type: type, bytes: materialized()).permuted(order)
      }
      return Constant(type: result, bytes: stored, pending: further.isIdentity ? nil : further)
    }
    let permutation = PendingPermutation(shape: type.shape, order: order)
    return Constant(type: result, bytes: stored, pending: permutation.isIdentity ? nil : permutation)
  }

  /// The dense bytes in the order of ``type``; the stored bytes themselves when nothing is pending.
  public func materialized() -> Bytes {
    guard let pending else { return stored }
    return Bytes(count: type.byteCount) { target in
      transposeBytes(
        stored.buffer, shape: pending.shape, permutation: pending.order, width: type.element.byteWidth, into: target)
    }
  }

  /// Calls `body` with the dense bytes in the order of ``type``, front to back, in pieces of about `size`
  /// bytes that hold whole elements. Memory does not grow with the constant: nothing is copied but a
  /// piece at a time, and pages of a mapped file are given back once they were read.
  public func forEachBlock<Failure: Error>(
    of size: Int = 256 << 10, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    defer { stored.discardPages() }
    let total = min(type.byteCount, stored.count)
    guard let pending, total == type.byteCount else {
      let step = max(size & ~63, 64)
      for start in stride(from: 0, to: total, by: step) {
        let count = min(step, total - start)
        let piece = UnsafeRawBufferPointer(start: stored.base + start, count: count)
        try body(piece)
        stored.discardPages(from: start, count: count)
      }
      return
    }
    // Permuting reads in runs that grow with the piece.
    try pending.forEachBlock(stored, width: type.element.byteWidth, size: 16 * size, body)
  }

  /// Calls `body` with the elements in order, converted, in pieces, and the place of each piece's first;
  /// stops where it gives false.
  private func forEachPiece<Failure: Error>(
    _ body: (Constant, Int) throws(Failure) -> Bool
  ) throws(Failure) {
    var place = 0
    var goesOn = true
    let width = type.element.byteWidth
    try forEachBlock { (block) throws(Failure) in
      guard goesOn else { return }
      let count = block.count / width
      let piece = Constant(
        type: TensorType(type.element, [count]), bytes: Bytes(count: block.count) { $0.copyMemory(from: block) })
      goesOn = try body(piece, place)
      place += count
    }
  }

  /// Place of the first element that is not a number; nil where there is none, and of types without such.
  public var firstNaN: Int? {
    guard type.element.isFloat else { return nil }
    if type.element == .float32 {
      var isClean = true
      Constant(type: type, bytes: stored).forEachBlock { block in if block.hasNaN { isClean = false } }
      if isClean { return nil }
    }
    var found: Int?
    forEachPiece { piece, start in
      found = piece.floats().firstIndex(where: \.isNaN).map { $0 + start }
      return found == nil
    }
    return found
  }

  /// Place of the first element for which a condition holds; nil for types without whole numbers too.
  public func firstInteger(where condition: (Int) -> Bool) -> Int? {
    var found: Int?
    forEachPiece { piece, start in
      found = piece.integers()?.firstIndex(where: condition).map { $0 + start }
      return found == nil
    }
    return found
  }

  /// From how many bytes on mapped memory is given back after it was read.
  private static let large = 1 << 20

  /// Gives mapped memory back that a copy was made of.
  private func discardLargePages() {
    if stored.count >= Self.large { stored.discardPages() }
  }

  /// Elements of a `float32` constant, copied in pieces: memory does not hold them twice.
  private func largeFloats() -> [Float] {
    let size = min(type.byteCount, stored.count)
    return [Float](unsafeUninitializedCapacity: size / 4) { target, filled in
      let bytes = UnsafeMutableRawBufferPointer(target)
      var place = 0
      forEachBlock { block in
        let count = min(block.count, bytes.count - place)
        UnsafeMutableRawBufferPointer(rebasing: bytes[place..<place + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: block[..<count]))
        place += count
      }
      filled = place / 4
    }
  }

  /// Calls `body` with the elements as `Float`, in order and in pieces (see ``forEachBlock(of:_:)``).
  public func forEachFloats<Failure: Error>(
    _ body: (UnsafeBufferPointer<Float>) throws(Failure) -> Void
  ) throws(Failure) {
    try forEachPiece { (piece, _) throws(Failure) in
      if type.element == .float32 {
        let bytes = piece.stored
        try body(UnsafeBufferPointer(start: bytes.base.assumingMemoryBound(to: Float.self), count: piece.type.count))
        withExtendedLifetime(bytes) {}
        return true
      }
      let values = piece.floats()
      var failure: Failure?
      values.withUnsafeBufferPointer { values in
        do throws(Failure) { try body(values) } catch { failure = error }
      }
      if let failure { throw failure }
      return true
    }
  }

  /// All elements as `Float`; any numeric element type. Fixed point is not dequantized here.
  public func floats() -> [Float] {
    if type.element == .float32, stored.count >= Self.large { return largeFloats() }
    let bytes = materialized()
    defer { discardLargePages() }
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
    defer { discardLargePages() }
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

extension UnsafeRawBufferPointer {
  /// Whether one of the `Float` elements is not a number.
  fileprivate var hasNaN: Bool {
    guard let base = baseAddress else { return false }
    // Compared as signed numbers, several at a time.
    var found: Int32 = 0
    for index in 0..<count / 4 {
      let bits = base.loadUnaligned(fromByteOffset: index &* 4, as: Int32.self) & 0x7FFF_FFFF
      found |= 0x7F80_0000 &- bits
    }
    return found < 0
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
