internal import CZlib
import IR

/// CRC-32 of a run of bytes, continuing from `start`.
func checksum(_ bytes: UnsafeRawBufferPointer, continuing start: UInt32 = 0) -> UInt32 {
  guard let base = bytes.baseAddress else { return start }
  return UInt32(
    truncatingIfNeeded: crc32_z(
      uLong(start), base.assumingMemoryBound(to: Bytef.self), bytes.count))
}

/// The content of a deflated member: exactly the declared number of bytes, with the compressed
/// stream ending exactly where the member does. Never more memory than the declared size, which the
/// directory parser has bounded.
func inflate(_ source: Bytes, entry: ZipEntry) throws(Diagnostic) -> Bytes {
  func broken(_ what: String) -> Diagnostic {
    ContainerFailure.input(
      "deflate", "the compressed data \(what)", member: entry.name, byte: entry.dataOffset,
      hint: "the file was damaged; copy or convert it again")
  }
  defer { withExtendedLifetime(source) {} }
  return try Bytes(count: entry.size) { target throws(Diagnostic) in
    var stream = z_stream()
    guard qtools_inflate_init(&stream, -15) == Z_OK else { throw broken("needs more memory") }
    defer { inflateEnd(&stream) }
    // One byte more than declared, to notice a stream that goes on.
    var surplus: UInt8 = 0
    var read = 0
    var written = 0
    while true {
      let input = min(source.count - read, Int(UInt32.max))
      let output = min(target.count - written, Int(UInt32.max))
      stream.next_in = UnsafeMutablePointer(
        mutating: (source.base + read).assumingMemoryBound(to: Bytef.self))
      stream.avail_in = uInt(input)
      let status = withUnsafeMutablePointer(to: &surplus) { spare in
        if output > 0, let base = target.baseAddress {
          stream.next_out = (base + written).assumingMemoryBound(to: Bytef.self)
          stream.avail_out = uInt(output)
        } else {
          stream.next_out = spare
          stream.avail_out = 1
        }
        return CZlib.inflate(&stream, Z_NO_FLUSH)
      }
      read += input - Int(stream.avail_in)
      if output > 0 {
        written += output - Int(stream.avail_out)
      } else if stream.avail_out == 0 {
        throw broken("is longer than the directory says")
      }
      if status == Z_STREAM_END { break }
      guard status == Z_OK else { throw broken("is damaged") }
    }
    guard written == target.count else { throw broken("is shorter than the directory says") }
    guard read == source.count else { throw broken("ends before the member does") }
  }
}
