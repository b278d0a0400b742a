/// What a program has to say about an input: what is wrong, where, and what to do about it.
///
/// The one error type of the project. A stage that collects all its errors throws the first with
/// the others in ``related``.
public struct Diagnostic: Error, Sendable, Hashable {
  /// How grave it is.
  public enum Severity: String, Sendable { case error, warning, note }

  /// Where it was found; empty fields are not shown.
  public struct Location: Sendable, Hashable {
    public var file: String?
    public var line: Int?
    public var member: String?
    public var byte: Int?
    public var node: String?
    public var tensor: String?
    /// JSON or YAML path, `activation_encodings[3].scale` say.
    public var path: String?

    /// A location from the parts that are known.
    public init(
      file: String? = nil, line: Int? = nil, member: String? = nil, byte: Int? = nil,
      node: String? = nil, tensor: String? = nil, path: String? = nil
    ) {
      self.file = file
      self.line = line
      self.member = member
      self.byte = byte
      self.node = node
      self.tensor = tensor
      self.path = path
    }

    /// The known parts, from the outermost in: `file model.dlc, member model, byte 17`.
    public var description: String {
      var parts: [String] = []
      if let file { parts.append(line.map { "\(file):\($0)" } ?? file) }
      if let member { parts.append("member \(member)") }
      if let byte { parts.append("byte \(byte)") }
      if let node { parts.append("node \(node)") }
      if let tensor { parts.append("tensor \(tensor)") }
      if let path { parts.append("at \(path)") }
      return parts.joined(separator: ", ")
    }
  }

  /// Which stage found it and so which exit status belongs to it.
  public enum Kind: String, Sendable {
    /// The input (model, data, container, file) is at fault: status 1.
    case input
    /// The command line is: status 64.
    case usage
    /// A bug of ours: status 70.
    case `internal`
    /// Output cannot be written: status 73.
    case output
  }

  public var severity: Severity
  public var kind: Kind
  /// Stable identifier in kebab case, `onnx-unsupported-operator` say.
  public var code: String
  public var message: String
  public var location: Location
  public var hint: String?
  /// Further findings of the same stage.
  public var related: [Diagnostic]

  /// Makes an error of the input unless told otherwise.
  public init(
    _ code: String, _ message: String, at location: Location = Location(), hint: String? = nil,
    severity: Severity = .error, kind: Kind = .input, related: [Diagnostic] = []
  ) {
    self.severity = severity
    self.kind = kind
    self.code = code
    self.message = message
    self.location = location
    self.hint = hint
    self.related = related
  }

  /// This finding and the related ones, flat.
  public var all: [Diagnostic] {
    var first = self
    first.related = []
    return [first] + related.flatMap(\.all)
  }

  /// One diagnostic for a list of errors, nil for an empty list.
  public static func combining(_ list: [Diagnostic]) -> Diagnostic? {
    guard var first = list.first else { return nil }
    first.related += list.dropFirst()
    return first
  }

  /// A copy that names the file where none was named.
  public func inFile(_ file: String) -> Diagnostic {
    var copy = self
    if copy.location.file == nil { copy.location.file = file }
    copy.related = copy.related.map { $0.inFile(file) }
    return copy
  }

  /// A copy that names the node where none was named.
  public func inNode(_ node: String) -> Diagnostic {
    var copy = self
    if copy.location.node == nil { copy.location.node = node }
    return copy
  }

  /// `error: message, location` and the hint on a line of its own.
  public var description: String {
    let place = location.description
    let first = "\(severity.rawValue): \(message)\(place.isEmpty ? "" : ", \(place)")"
    return hint.map { "\(first)\nhint: \($0)" } ?? first
  }
}

extension Diagnostic: CustomStringConvertible {}
