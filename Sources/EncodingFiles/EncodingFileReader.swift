import IR

extension EncodingFile {
  /// Most errors that are told at once.
  private static let mostErrors = 20

  /// Reads a file of any generation, told apart by version and shape. Throws `json-syntax`,
  /// `json-duplicate-key`, `encodings-version`, `encodings-format`, `encodings-duplicate` and
  /// `encodings-unsupported`, each with its JSON path.
  public init(decoding bytes: [UInt8]) throws(Diagnostic) {
    let document = try JSONParser.parse(bytes)
    let root = JSONPath()
    let fields = try JSONFields(document, root)
    let version = fields.has("version") ? try fields.string("version") : nil
    let generation = try Self.generation(version, fields)
    let sections = generation == .onnx ? ["encodings"] : ["activation_encodings", "param_encodings"]
    self.init(generation: generation, version: version ?? "0.4.0", entries: [])
    for key in fields.keys
    where !(sections + ["version", "producer", "quantizer_args"]).contains(key) {
      if ["encodings", "activation_encodings", "param_encodings"].contains(key) {
        throw fields.failure("version \(self.version) has no section \(key)", key)
      }
      notes.append(
        Diagnostic(
          "encodings-unknown-key", "the key \(key.debugDescription) is unknown and not read",
          at: root.member(key).location, severity: .note))
    }
    var errors: [Diagnostic] = []
    switch generation {
    case .keyed:
      var reader = KeyedReader(isTyped: version.map { !$0.hasPrefix("0.4") } ?? false)
      for (section, key) in [(EncodingEntry.Section.activation, sections[0]), (.param, sections[1])] {
        let place = root.member(key)
        guard case .object(let members) = try fields.require(key) else {
          throw fields.failure("an object by tensor name is expected", key)
        }
        for member in members {
          collect(&errors) { () throws(Diagnostic) in
            try reader.entry(member.key, member.value, section, place.member(member.key))
          }
        }
      }
      notes += reader.notes
    case .listed:
      for (section, key) in [(EncodingEntry.Section.activation, sections[0]), (.param, sections[1])] {
        for (index, value) in try fields.array(key).enumerated() {
          collect(&errors) { () throws(Diagnostic) in
            try ListedReader().entry(value, section, root.member(key).element(index))
          }
        }
      }
    case .onnx:
      for (index, value) in try fields.array(sections[0]).enumerated() {
        collect(&errors) { () throws(Diagnostic) in
          try ONNXReader().entry(value, root.member(sections[0]).element(index))
        }
      }
    }
    errors += duplicates()
    if let failure = Diagnostic.combining(Array(errors.prefix(Self.mostErrors))) { throw failure }
  }

  private mutating func collect(
    _ errors: inout [Diagnostic], _ read: () throws(Diagnostic) -> EncodingEntry
  ) {
    do throws(Diagnostic) {
      let entry = try read()
      if entry.name.isEmpty {
        errors.append(
          Diagnostic("encodings-format", "the name of a tensor is empty", at: .init(path: entry.path)))
      }
      entries.append(entry)
    } catch {
      errors.append(error)
    }
  }

  /// Names given twice, in one section or in both.
  private func duplicates() -> [Diagnostic] {
    var seen: [String: EncodingEntry] = [:]
    var found: [Diagnostic] = []
    for entry in entries {
      guard let first = seen.updateValue(entry, forKey: entry.name) else { continue }
      let message =
        first.section == entry.section
        ? "the tensor has an encoding already at \(first.path)"
        : "the tensor stands in both sections: also at \(first.path)"
      found.append(
        Diagnostic(
          "encodings-duplicate", message, at: .init(tensor: entry.name, path: entry.path),
          hint: "keep one of the two"))
    }
    return found
  }

  /// The layout of a version, confirmed by the shape of the document.
  private static func generation(
    _ version: String?, _ fields: JSONFields
  ) throws(Diagnostic) -> EncodingGeneration {
    guard let version else {
      for key in ["encodings", "activation_encodings"] where fields.has(key) {
        guard case .object = try fields.require(key), key != "encodings" else {
          throw fields.failure(
            "the key \"version\" is missing: without one this must be version 0.4", key,
            code: "encodings-version")
        }
      }
      return .keyed
    }
    switch version {
    case "0.4", "0.4.0", "0.5", "0.5.0", "0.6.1": return .keyed
    case "1.0.0": return .listed
    case "2.0.0", "2.1.0": return .onnx
    default:
      throw fields.failure(
        "the version \(version.debugDescription) is unknown: 0.4.0, 0.5.0, 0.6.1, 1.0.0, 2.0.0 and 2.1.0 can be read",
        "version", code: "encodings-version")
    }
  }
}
