import IR

/// Which keys the objects of a JSON document may have. Decoders of values leave unknown keys out and take the last of
/// two; here both are errors.
public indirect enum JSONKeys: Sendable {
  /// The keys and what their values hold; nil: anything.
  case object([String: JSONKeys?])
  /// What every element holds.
  case list(JSONKeys)

  /// Throws `json-syntax`, `json-duplicate-key` and `json-unknown-key`, with the JSON path. A value of another kind
  /// passes.
  public func check(_ bytes: [UInt8]) throws(Diagnostic) {
    try check(try JSONParser.parse(bytes), JSONPath())
  }

  private func check(_ value: JSONValue, _ path: JSONPath) throws(Diagnostic) {
    switch (self, value) {
    case (.object(let keys), .object(let members)):
      for member in members {
        guard let inner = keys[member.key] else {
          throw Diagnostic(
            "json-unknown-key", "\(member.key.debugDescription) is no key of this object",
            at: path.member(member.key).location,
            hint: "the keys here are \(keys.keys.sorted().joined(separator: ", "))")
        }
        try inner?.check(member.value, path.member(member.key))
      }
    case (.list(let inner), .array(let items)):
      for (index, item) in items.enumerated() { try inner.check(item, path.element(index)) }
    default: break
    }
  }
}
