import IR

/// Reads the records of a central directory and the local headers they point to.
struct ZipDirectoryParser {
  let buffer: UnsafeRawBufferPointer
  let directory: ZipReader.Directory
  private var names = Set<String>()

  init(buffer: UnsafeRawBufferPointer, directory: ZipReader.Directory) {
    self.buffer = buffer
    self.directory = directory
  }

  /// One record before its sizes are known to be sound.
  private struct Record {
    var flags: UInt16
    var method: UInt16
    var checksum: UInt32
    var storedSize: UInt64
    var size: UInt64
    var headerOffset: UInt64
    var name: String
    var nameBytes: UnsafeRawBufferPointer
  }

  /// All entries, in directory order.
  mutating func parse() throws(Diagnostic) -> [ZipEntry] {
    var entries: [ZipEntry] = []
    entries.reserveCapacity(directory.count)
    var offset = directory.offset
    let end = directory.offset + directory.size
    for _ in 0..<directory.count {
      let record = try readRecord(&offset, end: end)
      guard names.insert(record.name).inserted else {
        throw ContainerFailure.input(
          "duplicate-member", "two members have this name", member: record.name, byte: offset)
      }
      entries.append(try locate(record))
    }
    guard offset == end else {
      throw ContainerFailure.input(
        "bad-directory", "\(end - offset) bytes are left after the last member", byte: offset)
    }
    return entries
  }

  private func readRecord(_ offset: inout Int, end: Int) throws(Diagnostic) -> Record {
    let start = offset
    let bytes = LittleEndian(buffer: UnsafeRawBufferPointer(rebasing: buffer[..<end]))
    guard bytes.load(start, UInt32.self) == ZipFormat.centralSignature,
      let flags = bytes.load(start + 8, UInt16.self),
      let method = bytes.load(start + 10, UInt16.self),
      let checksum = bytes.load(start + 16, UInt32.self),
      let storedSize = bytes.load(start + 20, UInt32.self),
      let size = bytes.load(start + 24, UInt32.self),
      let nameLength = bytes.load(start + 28, UInt16.self),
      let extraLength = bytes.load(start + 30, UInt16.self),
      let commentLength = bytes.load(start + 32, UInt16.self),
      let disk = bytes.load(start + 34, UInt16.self),
      let header = bytes.load(start + 42, UInt32.self)
    else {
      throw ContainerFailure.input("bad-directory", "a directory record is damaged", byte: start)
    }
    let nameStart = start + ZipFormat.centralSize
    let extraStart = nameStart + Int(nameLength)
    let next = extraStart + Int(extraLength) + Int(commentLength)
    guard next <= end else {
      throw ContainerFailure.input("bad-directory", "a directory record is damaged", byte: start)
    }
    let nameBytes = UnsafeRawBufferPointer(rebasing: buffer[nameStart..<extraStart])
    guard let name = String(validating: nameBytes, as: UTF8.self), !name.isEmpty,
      !name.utf8.contains(0)
    else {
      throw ContainerFailure.input("bad-name", "a member's name is not UTF-8 text", byte: nameStart)
    }
    var record = Record(
      flags: flags, method: method, checksum: checksum, storedSize: UInt64(storedSize),
      size: UInt64(size), headerOffset: UInt64(header), name: name, nameBytes: nameBytes)
    try readExtra(extraStart..<(extraStart + Int(extraLength)), disk: disk, into: &record)
    try checkMethod(record, byte: start)
    offset = next
    return record
  }

  /// Replaces the sizes that the 32-bit fields leave to the ZIP64 extra field.
  private func readExtra(_ range: Range<Int>, disk: UInt16, into record: inout Record)
    throws(Diagnostic)
  {
    let bytes = LittleEndian(buffer: UnsafeRawBufferPointer(rebasing: buffer[..<range.upperBound]))
    let broken = ContainerFailure.input(
      "bad-directory", "the extra field is damaged", member: record.name, byte: range.lowerBound)
    var offset = range.lowerBound
    var needs64 =
      record.size == 0xFFFF_FFFF || record.storedSize == 0xFFFF_FFFF
      || record.headerOffset == 0xFFFF_FFFF
    while offset < range.upperBound {
      guard let id = bytes.load(offset, UInt16.self), let size = bytes.load(offset + 2, UInt16.self),
        offset + 4 + Int(size) <= range.upperBound
      else { throw broken }
      if id == ZipFormat.zip64Extra, needs64 {
        var field = offset + 4
        let fieldEnd = field + Int(size)
        func next() throws(Diagnostic) -> UInt64 {
          guard field + 8 <= fieldEnd, let value = bytes.load(field, UInt64.self) else { throw broken }
          field += 8
          return value
        }
        if record.size == 0xFFFF_FFFF { record.size = try next() }
        if record.storedSize == 0xFFFF_FFFF { record.storedSize = try next() }
        if record.headerOffset == 0xFFFF_FFFF { record.headerOffset = try next() }
        needs64 = false
      }
      offset += 4 + Int(size)
    }
    guard !needs64, disk == 0 else { throw broken }
  }

  private func checkMethod(_ record: Record, byte: Int) throws(Diagnostic) {
    let encrypted = ZipFormat.encryptedFlag | ZipFormat.strongFlag | ZipFormat.maskedFlag
    if record.flags & encrypted != 0 {
      throw ContainerFailure.input(
        "encrypted", "the member is encrypted", member: record.name, byte: byte,
        hint: "decrypt the archive first")
    }
    switch record.method {
    case ZipFormat.stored:
      guard record.size == record.storedSize else {
        throw ContainerFailure.input(
          "bad-directory", "a stored member has two different sizes", member: record.name, byte: byte)
      }
    case ZipFormat.deflated:
      // Deflate never shrinks data by more than a factor of 1032.
      let (most, overflow) = record.storedSize.multipliedReportingOverflow(by: 1032)
      guard overflow || record.size <= most else {
        throw ContainerFailure.input(
          "deflate-bomb", "\(record.storedSize) bytes cannot inflate to \(record.size)",
          member: record.name, byte: byte)
      }
    default:
      throw ContainerFailure.input(
        "method", "compression method \(record.method) is not supported", member: record.name,
        byte: byte, hint: "repack the archive with stored or deflated members")
    }
  }

  /// Checks the local header of a record against it and finds the data.
  private func locate(_ record: Record) throws(Diagnostic) -> ZipEntry {
    let bytes = LittleEndian(
      buffer: UnsafeRawBufferPointer(rebasing: buffer[..<directory.offset]))
    guard let start = Int(exactly: record.headerOffset),
      let size = Int(exactly: record.size), let storedSize = Int(exactly: record.storedSize),
      start <= directory.offset
    else {
      throw ContainerFailure.input(
        "bad-directory", "the member lies outside the file", member: record.name,
        byte: directory.offset)
    }
    func broken(_ what: String) -> Diagnostic {
      ContainerFailure.input(
        "bad-header", "the local header \(what)", member: record.name, byte: start)
    }
    guard bytes.load(start, UInt32.self) == ZipFormat.localSignature,
      let flags = bytes.load(start + 6, UInt16.self),
      let method = bytes.load(start + 8, UInt16.self),
      let checksum = bytes.load(start + 14, UInt32.self),
      let localStored = bytes.load(start + 18, UInt32.self),
      let localSize = bytes.load(start + 22, UInt32.self),
      let nameLength = bytes.load(start + 26, UInt16.self),
      let extraLength = bytes.load(start + 28, UInt16.self)
    else { throw broken("is missing") }
    let nameStart = start + ZipFormat.localSize
    let data = nameStart + Int(nameLength) + Int(extraLength)
    guard data <= directory.offset, storedSize <= directory.offset - data else {
      throw broken("announces more data than the file has")
    }
    guard buffer[nameStart..<(nameStart + Int(nameLength))].elementsEqual(record.nameBytes) else {
      throw broken("has another name than the directory")
    }
    guard flags == record.flags, method == record.method else {
      throw broken("has other flags or another method than the directory")
    }
    if flags & ZipFormat.descriptorFlag == 0 {
      guard checksum == record.checksum,
        localStored == 0xFFFF_FFFF || UInt64(localStored) == record.storedSize,
        localSize == 0xFFFF_FFFF || UInt64(localSize) == record.size
      else { throw broken("has another size or checksum than the directory") }
    }
    return ZipEntry(
      name: record.name, isDeflated: record.method == ZipFormat.deflated, checksum: record.checksum,
      storedSize: storedSize, size: size, headerOffset: start, dataOffset: data)
  }
}
