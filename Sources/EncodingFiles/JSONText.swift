/// A JSON document to be written: keys sorted, four spaces a level, lists of plain values on one line.
enum JSONText {
  case int(Int)
  case float(Double)
  case bool(Bool)
  case string(String)
  case list([JSONText])
  case object([String: JSONText])

  /// The text, with a line end.
  var document: [UInt8] {
    var text = ""
    write(into: &text, indent: "")
    return Array(text.utf8) + [UInt8(ascii: "\n")]
  }

  private var isPlain: Bool {
    switch self {
    case .object: false
    case .list(let items): items.allSatisfy(\.isPlain)
    default: true
    }
  }

  private func write(into text: inout String, indent: String) {
    switch self {
    case .int(let value): text += "\(value)"
    case .float(let value): text += "\(value)"
    case .bool(let value): text += value ? "true" : "false"
    case .string(let value): Self.quote(value, into: &text)
    case .list(let items):
      let inner = indent + "    "
      let lines = !isPlain
      text += "["
      for (index, item) in items.enumerated() {
        text += index == 0 ? "" : lines ? "," : ", "
        if lines { text += "\n\(inner)" }
        item.write(into: &text, indent: inner)
      }
      text += lines ? "\n\(indent)]" : "]"
    case .object(let members):
      let inner = indent + "    "
      text += "{"
      for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
        text += index == 0 ? "\n\(inner)" : ",\n\(inner)"
        Self.quote(member.key, into: &text)
        text += ": "
        member.value.write(into: &text, indent: inner)
      }
      text += members.isEmpty ? "}" : "\n\(indent)}"
    }
  }

  private static func quote(_ value: String, into text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}
