import IR

/// A JSON value as it stands in the file: members in order, each key once.
enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([JSONMember])

  /// What it is, for messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .number(let value): "the number \(value)"
    case .string(let text): "the text \(text.debugDescription)"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

/// A key and its value.
struct JSONMember: Sendable, Hashable {
  var key: String
  var value: JSONValue
}

/// A place in a document, `activation_encodings.x[0].scale` say.
struct JSONPath: Sendable, Hashable {
  private(set) var text = ""

  /// The member `key` of this place.
  func member(_ key: String) -> JSONPath {
    let plain =
      !key.isEmpty && key.unicodeScalars.allSatisfy { !".[]\" \n\t".unicodeScalars.contains($0) }
    let shown = plain ? key : "[\(key.debugDescription)]"
    return JSONPath(text: text.isEmpty || !plain ? text + shown : "\(text).\(shown)")
  }

  /// The element `index` of this place.
  func element(_ index: Int) -> JSONPath { JSONPath(text: "\(text)[\(index)]") }

  init() {}
  private init(text: String) { self.text = text }

  /// The place as a location.
  var location: Diagnostic.Location { .init(path: text.isEmpty ? nil : text) }
}
