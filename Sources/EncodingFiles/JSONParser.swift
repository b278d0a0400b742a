import IR

/// A JSON parser that keeps what Foundation's loses: the order of members and keys given twice, which
/// are an error here. Source: RFC 8259.
struct JSONParser {
  /// Deepest nesting that is read; encodings need a dozen.
  static let deepest = 64

  private let bytes: [UInt8]
  private var position = 0

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The document; throws `json-syntax` and `json-duplicate-key` with byte and path.
  static func parse(_ bytes: [UInt8]) throws(Diagnostic) -> JSONValue {
    var parser = JSONParser(bytes)
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.position = 3 }
    let value = try parser.value(JSONPath(), depth: 0)
    parser.skipSpace()
    if parser.position < bytes.count {
      throw parser.failure("there is something behind the document", JSONPath())
    }
    return value
  }

  private func failure(_ message: String, _ path: JSONPath) -> Diagnostic {
    var location = path.location
    location.byte = position
    return Diagnostic("json-syntax", "this is not valid JSON: \(message)", at: location)
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) { position += 1 }
  }

  private mutating func accept(_ character: Character) -> Bool {
    guard position < bytes.count, bytes[position] == character.asciiValue else { return false }
    position += 1
    return true
  }

  private mutating func accept(word: StaticString) -> Bool {
    let wanted = UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
    guard bytes[position...].starts(with: wanted) else { return false }
    position += wanted.count
    return true
  }

  private mutating func value(_ path: JSONPath, depth: Int) throws(Diagnostic) -> JSONValue {
    skipSpace()
    guard depth < Self.deepest else { throw failure("it is nested too deeply", path) }
    guard position < bytes.count else { throw failure("it ends too early", path) }
    switch bytes[position] {
    case UInt8(ascii: "{"): return try object(path, depth: depth)
    case UInt8(ascii: "["): return try array(path, depth: depth)
    case UInt8(ascii: "\""): return .string(try string(path))
    case UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number(path))
    case UInt8(ascii: "-"):
      if accept(word: "-Infinity") { throw failure("-Infinity is no number", path) }
      return .number(try number(path))
    default: break
    }
    if accept(word: "true") { return .bool(true) }
    if accept(word: "false") { return .bool(false) }
    if accept(word: "null") { return .null }
    if accept(word: "NaN") { throw failure("NaN is no number", path) }
    if accept(word: "Infinity") { throw failure("Infinity is no number", path) }
    throw failure("a value is expected", path)
  }

  private mutating func object(_ path: JSONPath, depth: Int) throws(Diagnostic) -> JSONValue {
    position += 1
    var members: [JSONMember] = []
    var keys = Set<String>()
    skipSpace()
    if accept("}") { return .object([]) }
    repeat {
      skipSpace()
      guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
        throw failure("a key in quotes is expected", path)
      }
      let start = position
      let key = try string(path)
      let place = path.member(key)
      guard keys.insert(key).inserted else {
        var location = place.location
        location.byte = start
        throw Diagnostic(
          "json-duplicate-key", "the key \(key.debugDescription) is given twice", at: location,
          hint: "remove one of the two: readers differ in which one they take")
      }
      skipSpace()
      guard accept(":") else { throw failure("':' is expected", place) }
      members.append(JSONMember(key: key, value: try value(place, depth: depth + 1)))
      skipSpace()
    } while accept(",")
    guard accept("}") else { throw failure("',' or '}' is expected", path) }
    return .object(members)
  }

  private mutating func array(_ path: JSONPath, depth: Int) throws(Diagnostic) -> JSONValue {
    position += 1
    var elements: [JSONValue] = []
    skipSpace()
    if accept("]") { return .array([]) }
    repeat {
      elements.append(try value(path.element(elements.count), depth: depth + 1))
      skipSpace()
    } while accept(",")
    guard accept("]") else { throw failure("',' or ']' is expected", path) }
    return .array(elements)
  }

  private mutating func digits() -> Int {
    let start = position
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
    return position - start
  }

  private mutating func number(_ path: JSONPath) throws(Diagnostic) -> Double {
    let start = position
    _ = accept("-")
    let first = position
    let whole = digits()
    if whole == 0 || (whole > 1 && bytes[first] == 0x30) {
      throw failure("a number is malformed", path)
    }
    if accept("."), digits() == 0 { throw failure("a number is malformed", path) }
    if accept("e") || accept("E") {
      if !accept("-") { _ = accept("+") }
      if digits() == 0 { throw failure("a number is malformed", path) }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw failure("the number \(text) is too large", path)
    }
    return value
  }

  private mutating func string(_ path: JSONPath) throws(Diagnostic) -> String {
    position += 1
    var text: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let result = String(validating: text, as: UTF8.self) else {
          throw failure("a text is not UTF-8", path)
        }
        return result
      case UInt8(ascii: "\\"): text += try escape(path)
      case 0..<0x20: throw failure("a control character in a text must be escaped", path)
      default: text.append(byte)
      }
    }
    throw failure("a text does not end", path)
  }

  private mutating func escape(_ path: JSONPath) throws(Diagnostic) -> [UInt8] {
    guard position < bytes.count else { throw failure("a text does not end", path) }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var code = try unit(path)
      if (0xD800..<0xDC00).contains(code), accept(word: "\\u") {
        let low = try unit(path)
        guard (0xDC00..<0xE000).contains(low) else { throw failure("half a character", path) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure("half a character", path) }
      return Array(String(Character(scalar)).utf8)
    default: throw failure("an escape in a text is unknown", path)
    }
  }

  private mutating func unit(_ path: JSONPath) throws(Diagnostic) -> UInt32 {
    guard position + 4 <= bytes.count else { throw failure("a text does not end", path) }
    var code: UInt32 = 0
    for byte in bytes[position..<(position + 4)] {
      guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
        throw failure("an escape in a text is malformed", path)
      }
      code = code << 4 | UInt32(digit)
    }
    position += 4
    return code
  }
}
