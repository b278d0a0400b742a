import IR

/// Signatures and field values of the ZIP format (PKWARE APPNOTE 6.3) that reader and writer share.
enum ZipFormat {
  static let localSignature: UInt32 = 0x0403_4B50
  static let centralSignature: UInt32 = 0x0201_4B50
  static let endSignature: UInt32 = 0x0605_4B50
  static let end64Signature: UInt32 = 0x0606_4B50
  static let locator64Signature: UInt32 = 0x0706_4B50

  static let localSize = 30
  static let centralSize = 46
  static let endSize = 22
  static let end64Size = 56
  static let locator64Size = 20

  static let stored: UInt16 = 0
  static let deflated: UInt16 = 8

  /// Extra field of ZIP64 sizes.
  static let zip64Extra: UInt16 = 0x0001
  /// Extra field whose content is the alignment (u16) and zeros, registered by Android's zipalign.
  static let alignmentExtra: UInt16 = 0xD935

  /// Flag bits: encrypted, sizes in a descriptor behind the data, strong encryption, UTF-8 names,
  /// masked headers.
  static let encryptedFlag: UInt16 = 1 << 0
  static let descriptorFlag: UInt16 = 1 << 3
  static let strongFlag: UInt16 = 1 << 6
  static let utf8Flag: UInt16 = 1 << 11
  static let maskedFlag: UInt16 = 1 << 13

  /// 1980-01-01, the earliest date the format has; the time is 0.
  static let date: UInt16 = 0x0021
}

/// Little-endian numbers of a buffer, with every access checked.
struct LittleEndian {
  let buffer: UnsafeRawBufferPointer

  /// The number at `offset`, or nil where it does not lie inside.
  func load<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: Number.Type) -> Number? {
    let width = MemoryLayout<Number>.size
    guard offset >= 0, buffer.count >= width, offset <= buffer.count - width else { return nil }
    return Number(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: Number.self))
  }
}

extension Array where Element == UInt8 {
  /// Appends a number in little-endian order.
  mutating func appendLittle<Number: FixedWidthInteger>(_ number: Number) {
    Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
  }
}

extension Bytes {
  /// Lends the bytes and keeps their owner alive meanwhile.
  func withBuffer<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(self) {} }
    return try body(buffer)
  }
}
