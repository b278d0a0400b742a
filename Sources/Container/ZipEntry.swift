/// One member of an archive, as its directory describes it; positions are checked.
struct ZipEntry: Sendable {
  /// Name, with folders separated by `/`.
  let name: String
  /// Whether the data is compressed with deflate; stored otherwise.
  let isDeflated: Bool
  /// CRC-32 of the content.
  let checksum: UInt32
  /// Bytes in the file.
  let storedSize: Int
  /// Bytes of the content.
  let size: Int
  /// First byte of the local header in the file.
  let headerOffset: Int
  /// First byte of the data in the file.
  let dataOffset: Int
}
