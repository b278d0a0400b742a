import IR

/// NumPy's array file, versions 1 to 3: a magic number, a Python dictionary as header, the elements.
public struct NpyFile: Sendable, Hashable {
  /// Type string as written, `<f4` say.
  public var descr: String
  /// Whether the elements are in column-major order.
  public var fortranOrder: Bool
  /// Sizes of the axes, outermost first.
  public var shape: [Int]
  /// Byte where the elements start.
  public var dataOffset: Int

  private static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
  /// Longest header that is read; NumPy's own limit is 10,000.
  private static let headerLimit = 1 << 16

  /// Reads the header of an array file.
  public init(path: String) throws(Diagnostic) {
    let size = try FileReading.size(of: path)
    let start = try FileReading.bytes(
      of: path, count: min(size, NpyFile.headerLimit + 12)
    ).array(of: UInt8.self)
    do throws(Diagnostic) {
      try self.init(start: start)
      guard dataOffset <= size else { throw NpyFile.bad("the file ends inside the header") }
    } catch {
      throw error.inFile(path)
    }
  }

  /// Parses a header from the first bytes of a file.
  public init(start: [UInt8]) throws(Diagnostic) {
    guard start.starts(with: NpyFile.magic) else { throw NpyFile.bad("this is no NumPy array file") }
    guard start.count >= 10 else { throw NpyFile.bad("the file ends inside the header") }
    let major = start[6]
    guard (1...3).contains(major) else {
      throw NpyFile.bad("version \(major) of the array format is not known")
    }
    let wide = major > 1
    guard start.count >= (wide ? 12 : 10) else {
      throw NpyFile.bad("the file ends inside the header")
    }
    var length = Int(start[8]) | Int(start[9]) << 8
    if wide { length |= Int(start[10]) << 16 | Int(start[11]) << 24 }
    let begin = wide ? 12 : 10
    guard length <= NpyFile.headerLimit else {
      throw NpyFile.bad("a header of \(length) bytes is too long")
    }
    guard start.count >= begin + length else { throw NpyFile.bad("the file ends inside the header") }
    var parser = HeaderParser(text: Array(start[begin..<(begin + length)]))
    (descr, fortranOrder, shape) = try parser.dictionary()
    dataOffset = begin + length
  }

  /// The element type in little-endian order, nil for any other.
  public var element: DataType? { NpyFile.elements.first { $0.0 == descr }?.1 }

  private static let elements: [(String, DataType)] = [
    ("<f4", .float32), ("<f8", .float64), ("<f2", .float16), ("|i1", .int8), ("<i2", .int16),
    ("<i4", .int32), ("<i8", .int64), ("|u1", .uint8), ("<u2", .uint16), ("<u4", .uint32),
    ("<u8", .uint64), ("|b1", .bool),
  ]

  /// An array file (version 1) of dense row-major elements; nil for a type NumPy does not have.
  public static func encoded(_ type: TensorType, _ bytes: Bytes) -> Bytes? {
    guard let descr = elements.first(where: { $0.1 == type.element })?.0 else { return nil }
    var dims = type.shape.map(String.init).joined(separator: ", ")
    if type.rank == 1 { dims += "," }
    var header = "{'descr': '\(descr)', 'fortran_order': False, 'shape': (\(dims)), }"
    let total = (magic.count + 4 + header.utf8.count + 1 + 63) / 64 * 64
    header += String(repeating: " ", count: total - magic.count - 4 - header.utf8.count - 1) + "\n"
    let length = header.utf8.count
    let head = magic + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8 & 0xFF)] + Array(header.utf8)
    return Bytes(count: head.count + bytes.count) { target in
      target.copyBytes(from: head)
      UnsafeMutableRawBufferPointer(rebasing: target[head.count...]).copyMemory(from: bytes.buffer)
    }
  }

  fileprivate static func bad(_ message: String) -> Diagnostic {
    Diagnostic("npy-header", message, hint: "write it with numpy.save")
  }
}

/// Parses the dictionary literal of the header: just what NumPy writes, blanks free.
private struct HeaderParser {
  let text: [UInt8]
  var position = 0

  mutating func dictionary() throws(Diagnostic) -> (String, Bool, [Int]) {
    var descr: String?
    var order: Bool?
    var shape: [Int]?
    try expect("{")
    while !take("}") {
      let key = try quoted()
      try expect(":")
      switch key {
      case "descr" where descr == nil:
        skipBlanks()
        guard position < text.count, text[position] != UInt8(ascii: "[") else {
          throw NpyFile.bad("structured arrays are not supported")
        }
        descr = try quoted()
      case "fortran_order" where order == nil: order = try truth()
      case "shape" where shape == nil: shape = try tuple()
      default: throw NpyFile.bad("the header has an unexpected key '\(key)'")
      }
      if take(",") { continue }
      try expect("}")
      break
    }
    skipBlanks()
    guard position == text.count else { throw NpyFile.bad("the header does not end as it should") }
    guard let descr, let order, let shape else {
      throw NpyFile.bad("the header lacks descr, fortran_order or shape")
    }
    return (descr, order, shape)
  }

  private mutating func skipBlanks() {
    while position < text.count, [0x20, 0x0A, 0x09, 0x0D].contains(text[position]) { position += 1 }
  }

  private mutating func take(_ character: Character) -> Bool {
    skipBlanks()
    guard position < text.count, text[position] == character.asciiValue else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ character: Character) throws(Diagnostic) {
    guard take(character) else { throw NpyFile.bad("the header lacks '\(character)'") }
  }

  private mutating func quoted() throws(Diagnostic) -> String {
    skipBlanks()
    guard position < text.count, text[position] == 0x27 || text[position] == 0x22 else {
      throw NpyFile.bad("the header lacks a quoted word")
    }
    let quote = text[position]
    position += 1
    guard let end = text[position...].firstIndex(of: quote) else {
      throw NpyFile.bad("a quoted word in the header does not end")
    }
    defer { position = end + 1 }
    return String(decoding: text[position..<end], as: UTF8.self)
  }

  private mutating func truth() throws(Diagnostic) -> Bool {
    skipBlanks()
    for (word, value) in [("True", true), ("False", false)]
    where text[position...].starts(with: word.utf8) {
      position += word.utf8.count
      return value
    }
    throw NpyFile.bad("fortran_order is neither True nor False")
  }

  private mutating func tuple() throws(Diagnostic) -> [Int] {
    try expect("(")
    var shape: [Int] = []
    while !take(")") {
      skipBlanks()
      let digits = text[position...].prefix { (0x30...0x39).contains($0) }
      guard let size = Int(String(decoding: digits, as: UTF8.self)) else {
        throw NpyFile.bad("the shape in the header is no tuple of whole numbers")
      }
      position = digits.endIndex
      _ = take("L")
      shape.append(size)
      if take(",") { continue }
      try expect(")")
      break
    }
    guard TensorType(.float64, shape).checkedCount() != nil else {
      throw NpyFile.bad("the shape in the header is too large")
    }
    return shape
  }
}
