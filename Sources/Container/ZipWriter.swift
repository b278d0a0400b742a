import IR

/// Writes an archive of stored members, front to back, with the same bytes for the same content:
/// fixed date and permissions, no extra field but the alignment padding (and ZIP64's where a size
/// needs it). The CRC-32 is computed while the content passes and put into the header afterwards.
final class ZipWriter {
  private let file: AtomicFile
  private var directory: [UInt8] = []
  private var count = 0
  private var names = Set<String>()

  /// Sizes and offsets from here on go to ZIP64 fields.
  private let threshold: UInt64

  /// Writes into `file`; `threshold` is where ZIP64 begins (lower for tests).
  init(_ file: AtomicFile, threshold: UInt64 = 0xFFFF_FFFF) {
    self.file = file
    self.threshold = threshold
  }

  /// The 32-bit form of a size or offset.
  private func narrow(_ value: UInt64) -> UInt32 {
    value >= threshold ? 0xFFFF_FFFF : UInt32(truncatingIfNeeded: value)
  }

  /// Where a member's first data byte must lie in the file: at `offset` modulo `modulus`.
  struct Alignment {
    let modulus: UInt64
    let offset: UInt64
    /// No demand.
    static let none = Alignment(modulus: 1, offset: 0)
    /// A payload whose FlatBuffer, eight bytes in, starts on a multiple of 64.
    static let payload = Alignment(modulus: 64, offset: 56)
    /// Data on a multiple of 64.
    static let data = Alignment(modulus: 64, offset: 0)
  }

  /// Takes the content of the member being written, piece by piece.
  struct Sink: ~Copyable {
    fileprivate let file: AtomicFile
    fileprivate var sum: UInt32 = 0
    /// Bytes taken so far.
    fileprivate(set) var count: UInt64 = 0

    /// Appends a piece.
    mutating func write(_ bytes: UnsafeRawBufferPointer) throws(Diagnostic) {
      sum = checksum(bytes, continuing: sum)
      count += UInt64(bytes.count)
      try file.write(bytes)
    }

    /// Appends a piece.
    mutating func write(_ bytes: Bytes) throws(Diagnostic) {
      defer { withExtendedLifetime(bytes) {} }
      try write(bytes.buffer)
    }

    /// Appends a piece.
    mutating func write(_ bytes: [UInt8]) throws(Diagnostic) {
      sum = Bytes(bytes).withBuffer { checksum($0, continuing: sum) }
      count += UInt64(bytes.count)
      try file.write(bytes)
    }

    /// Appends zeros up to a position.
    mutating func pad(to position: UInt64) throws(Diagnostic) {
      while count < position {
        try write([UInt8](repeating: 0, count: Int(min(position - count, 4096))))
      }
    }
  }

  /// Adds a member whose content is in memory.
  func add(_ name: String, _ content: Bytes, alignment: Alignment = .none) throws(Diagnostic) {
    try add(name, size: UInt64(content.count), alignment: alignment) { sink throws(Diagnostic) in
      try sink.write(content)
    }
  }

  /// Adds a member of `size` bytes that `body` produces.
  func add(
    _ name: String, size: UInt64, alignment: Alignment,
    _ body: (inout Sink) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    guard names.insert(name).inserted, name.utf8.count <= 0xFFFF, !name.isEmpty else {
      throw ContainerFailure.bug("member \(name) cannot be written")
    }
    let start = file.position
    let header = localHeader(name, size: size, start: start, alignment: alignment)
    try file.write(header)
    var sink = Sink(file: file)
    try body(&sink)
    guard sink.count == size else {
      throw ContainerFailure.bug("member \(name) has \(sink.count) bytes instead of \(size)")
    }
    var sum: [UInt8] = []
    sum.appendLittle(sink.sum)
    try file.patch(sum, at: start + 14)
    appendRecord(name, size: size, start: start, sum: sink.sum)
  }

  /// Writes directory and end record. The file still has to be committed.
  func finish() throws(Diagnostic) {
    let start = file.position
    let size = UInt64(directory.count)
    var end = directory
    if start >= threshold || size >= threshold || count >= 0xFFFF {
      let record = start + size
      end.appendLittle(ZipFormat.end64Signature)
      end.appendLittle(UInt64(ZipFormat.end64Size - 12))
      end.appendLittle(ZipWriter.madeBy)
      end.appendLittle(UInt16(45))
      end.appendLittle(UInt64(0))
      end.appendLittle(UInt64(count))
      end.appendLittle(UInt64(count))
      end.appendLittle(size)
      end.appendLittle(start)
      end.appendLittle(ZipFormat.locator64Signature)
      end.appendLittle(UInt32(0))
      end.appendLittle(record)
      end.appendLittle(UInt32(1))
    }
    end.appendLittle(ZipFormat.endSignature)
    end.appendLittle(UInt32(0))
    end.appendLittle(UInt16(min(count, 0xFFFF)))
    end.appendLittle(UInt16(min(count, 0xFFFF)))
    end.appendLittle(narrow(size))
    end.appendLittle(narrow(start))
    end.appendLittle(UInt16(0))
    try file.write(end)
  }

  /// Unix, format version 4.5.
  private static let madeBy: UInt16 = 3 << 8 | 45

  private static func flags(_ name: String) -> UInt16 {
    name.utf8.allSatisfy { $0 < 0x80 } ? 0 : ZipFormat.utf8Flag
  }

  /// Fields from the version to the sizes that local header and directory share.
  private func common(_ name: String, size: UInt64, wide: Bool, sum: UInt32) -> [UInt8] {
    var fields: [UInt8] = []
    fields.appendLittle(UInt16(wide ? 45 : 10))
    fields.appendLittle(ZipWriter.flags(name))
    fields.appendLittle(ZipFormat.stored)
    fields.appendLittle(UInt16(0))
    fields.appendLittle(ZipFormat.date)
    fields.appendLittle(sum)
    let shown = narrow(size)
    fields.appendLittle(shown)
    fields.appendLittle(shown)
    fields.appendLittle(UInt16(name.utf8.count))
    return fields
  }

  private func localHeader(_ name: String, size: UInt64, start: UInt64, alignment: Alignment)
    -> [UInt8]
  {
    let wide = size >= threshold
    var extra: [UInt8] = []
    if wide {
      extra.appendLittle(ZipFormat.zip64Extra)
      extra.appendLittle(UInt16(16))
      extra.appendLittle(size)
      extra.appendLittle(size)
    }
    let data = start + UInt64(ZipFormat.localSize + name.utf8.count + extra.count)
    var gap = (alignment.modulus + alignment.offset - data % alignment.modulus) % alignment.modulus
    if gap > 0 {
      // The field's own header and the alignment number take six bytes.
      while gap < 6 { gap += alignment.modulus }
      extra.appendLittle(ZipFormat.alignmentExtra)
      extra.appendLittle(UInt16(gap - 4))
      extra.appendLittle(UInt16(alignment.modulus))
      extra += [UInt8](repeating: 0, count: Int(gap - 6))
    }
    var header: [UInt8] = []
    header.appendLittle(ZipFormat.localSignature)
    header += common(name, size: size, wide: wide, sum: 0)
    header.appendLittle(UInt16(extra.count))
    header += Array(name.utf8)
    return header + extra
  }

  private func appendRecord(_ name: String, size: UInt64, start: UInt64, sum: UInt32) {
    var extra: [UInt8] = []
    if size >= threshold {
      extra.appendLittle(size)
      extra.appendLittle(size)
    }
    if start >= threshold { extra.appendLittle(start) }
    let wide = !extra.isEmpty
    if wide {
      var field: [UInt8] = []
      field.appendLittle(ZipFormat.zip64Extra)
      field.appendLittle(UInt16(extra.count))
      extra = field + extra
    }
    directory.appendLittle(ZipFormat.centralSignature)
    directory.appendLittle(ZipWriter.madeBy)
    directory += common(name, size: size, wide: wide, sum: sum)
    directory.appendLittle(UInt16(extra.count))
    directory.appendLittle(UInt16(0))
    directory.appendLittle(UInt16(0))
    directory.appendLittle(UInt16(0))
    directory.appendLittle(UInt32(0o100644) << 16)
    directory.appendLittle(narrow(start))
    directory += Array(name.utf8)
    directory += extra
    count += 1
  }
}
