import IR

/// The directory of a ZIP archive, checked as a whole before anything is read through it.
///
/// Refused, each with its own code: encryption, methods other than stored and deflate, several
/// disks, duplicate names, members that overlap each other or the directory, local headers that
/// contradict the directory, a directory that does not end where the end record begins.
struct ZipReader: Sendable {
  /// Members in directory order.
  let entries: [ZipEntry]
  private let file: MappedFile
  /// Names to positions in ``entries``.
  private let index: [String: Int]

  /// Upper bound of members; a container has a handful.
  static let memberLimit = 65_536

  /// Reads the directory of `file`.
  init(_ file: MappedFile) throws(Diagnostic) {
    self.file = file
    let end = try ZipReader.findEnd(file.buffer)
    let directory = try ZipReader.locateDirectory(file.buffer, end: end)
    var parser = ZipDirectoryParser(buffer: file.buffer, directory: directory)
    entries = try parser.parse()
    index = Dictionary(
      entries.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first })
    try ZipReader.checkOverlap(entries, directoryStart: directory.offset)
  }

  /// The member with a name.
  func entry(named name: String) -> ZipEntry? { index[name].map { entries[$0] } }

  /// The member's bytes as they lie in the file; only useful for stored members.
  func rawBytes(of entry: ZipEntry) throws(Diagnostic) -> Bytes {
    guard let bytes = file.bytes(at: entry.dataOffset, count: entry.storedSize) else {
      throw ContainerFailure.truncated("member \(entry.name)", byte: entry.dataOffset)
    }
    return bytes
  }

  /// The member's content, in place for stored members, and its CRC-32 compared if `verify` is set.
  /// `limit` bounds the content's size in bytes.
  func content(of entry: ZipEntry, limit: Int, verify: Bool = true) throws(Diagnostic) -> Bytes {
    guard entry.size <= limit else {
      throw ContainerFailure.input(
        "too-large", "\(entry.size) bytes, more than the \(limit) this member may have",
        member: entry.name, byte: entry.headerOffset)
    }
    let raw = try rawBytes(of: entry)
    let content = entry.isDeflated ? try inflate(raw, entry: entry) : raw
    if verify { try checkChecksum(of: content, entry: entry) }
    return content
  }

  /// Compares the CRC-32 of a member's content with the directory's.
  func checkChecksum(of content: Bytes, entry: ZipEntry) throws(Diagnostic) {
    var actual: UInt32 = 0
    let step = 4 << 20
    for start in stride(from: 0, to: content.count, by: step) {
      guard let piece = content.window(from: start, count: min(step, content.count - start)) else { break }
      actual = piece.withBuffer { checksum($0, continuing: actual) }
      // What is small is read again at once.
      if content.count > ContainerReader.smallMember { piece.discardPages() }
    }
    guard actual == entry.checksum else {
      let values = [actual, entry.checksum].map { String($0, radix: 16) }
      throw ContainerFailure.input(
        "checksum", "the content's CRC-32 is \(values[0]), the directory says \(values[1])",
        member: entry.name, byte: entry.dataOffset,
        hint: "the file was damaged; copy or convert it again")
    }
  }

  // MARK: - End of the archive

  private struct End {
    let offset: Int
    let disk: UInt16
    let directoryDisk: UInt16
    let entriesHere: UInt16
    let entries: UInt16
    let size: UInt32
    let start: UInt32
  }

  /// Place and extent of the central directory.
  struct Directory {
    let offset: Int
    let size: Int
    let count: Int
  }

  private static func findEnd(_ buffer: UnsafeRawBufferPointer) throws(Diagnostic) -> End {
    let bytes = LittleEndian(buffer: buffer)
    guard buffer.count >= 4, bytes.load(0, UInt16.self) == 0x4B50 else {
      throw ContainerFailure.input(
        "not-zip", "this is not a container: it does not begin as a ZIP archive does", byte: 0,
        hint: "pass a .dlc file that qconvert or qquantize wrote")
    }
    var offset = buffer.count - ZipFormat.endSize
    let lowest = max(0, offset - 0xFFFF)
    while offset >= lowest {
      if bytes.load(offset, UInt32.self) == ZipFormat.endSignature,
        let comment = bytes.load(offset + 20, UInt16.self),
        offset + ZipFormat.endSize + Int(comment) == buffer.count,
        let disk = bytes.load(offset + 4, UInt16.self),
        let directoryDisk = bytes.load(offset + 6, UInt16.self),
        let here = bytes.load(offset + 8, UInt16.self),
        let entries = bytes.load(offset + 10, UInt16.self),
        let size = bytes.load(offset + 12, UInt32.self),
        let start = bytes.load(offset + 16, UInt32.self)
      {
        return End(
          offset: offset, disk: disk, directoryDisk: directoryDisk, entriesHere: here,
          entries: entries, size: size, start: start)
      }
      offset -= 1
    }
    throw ContainerFailure.truncated("the archive, whose end record is missing", byte: buffer.count)
  }

  private static func locateDirectory(_ buffer: UnsafeRawBufferPointer, end: End) throws(Diagnostic)
    -> Directory
  {
    let bytes = LittleEndian(buffer: buffer)
    let locator = end.offset - ZipFormat.locator64Size
    if bytes.load(locator, UInt32.self) == ZipFormat.locator64Signature {
      return try locateDirectory64(buffer, locator: locator)
    }
    guard end.disk == 0, end.directoryDisk == 0, end.entriesHere == end.entries else {
      throw ContainerFailure.input(
        "several-disks", "the archive is split over several files", byte: end.offset)
    }
    return try checkedDirectory(
      offset: UInt64(end.start), size: UInt64(end.size), count: UInt64(end.entries), end: end.offset)
  }

  private static func locateDirectory64(_ buffer: UnsafeRawBufferPointer, locator: Int)
    throws(Diagnostic) -> Directory
  {
    let bytes = LittleEndian(buffer: buffer)
    guard let disk = bytes.load(locator + 4, UInt32.self),
      let position = bytes.load(locator + 8, UInt64.self),
      let disks = bytes.load(locator + 16, UInt32.self)
    else { throw ContainerFailure.truncated("the ZIP64 locator", byte: locator) }
    guard let start = Int(exactly: position), start <= locator - ZipFormat.end64Size,
      bytes.load(start, UInt32.self) == ZipFormat.end64Signature,
      let length = bytes.load(start + 4, UInt64.self),
      let here = bytes.load(start + 24, UInt64.self),
      let count = bytes.load(start + 32, UInt64.self),
      let size = bytes.load(start + 40, UInt64.self),
      let offset = bytes.load(start + 48, UInt64.self),
      length >= UInt64(ZipFormat.end64Size - 12), length == UInt64(locator - start - 12)
    else {
      throw ContainerFailure.input(
        "bad-end", "the ZIP64 end record is not where its locator says", byte: locator)
    }
    guard disk == 0, disks <= 1, here == count, bytes.load(start + 16, UInt64.self) == 0 else {
      throw ContainerFailure.input(
        "several-disks", "the archive is split over several files", byte: start)
    }
    return try checkedDirectory(offset: offset, size: size, count: count, end: start)
  }

  private static func checkedDirectory(offset: UInt64, size: UInt64, count: UInt64, end: Int)
    throws(Diagnostic) -> Directory
  {
    guard let offset = Int(exactly: offset), let size = Int(exactly: size),
      let count = Int(exactly: count), offset <= end, size == end - offset
    else {
      throw ContainerFailure.input(
        "bad-directory", "the directory does not end where the end record begins", byte: end,
        hint: "the file is damaged or has data put in front of it")
    }
    guard count <= memberLimit, count <= size / ZipFormat.centralSize else {
      throw ContainerFailure.input(
        "bad-directory", "\(count) members do not fit the directory", byte: offset)
    }
    return Directory(offset: offset, size: size, count: count)
  }

  private static func checkOverlap(_ entries: [ZipEntry], directoryStart: Int) throws(Diagnostic) {
    let sorted = entries.sorted { $0.headerOffset < $1.headerOffset }
    for (entry, next) in zip(sorted, sorted.dropFirst())
    where entry.dataOffset + entry.storedSize > next.headerOffset {
      throw ContainerFailure.input(
        "overlap", "the member overlaps \(next.name)", member: entry.name, byte: entry.headerOffset)
    }
    if let last = sorted.last, last.dataOffset + last.storedSize > directoryStart {
      throw ContainerFailure.input(
        "overlap", "the member overlaps the directory", member: last.name, byte: last.headerOffset)
    }
  }
}
