import IR

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The wording of what reader and writer report, in one place.
enum ContainerFailure {
  /// A finding in a container that was read; `byte` counts from the file's first byte, or from the
  /// member's where one is named.
  static func input(
    _ code: String, _ message: String, member: String? = nil, byte: Int? = nil,
    node: String? = nil, tensor: String? = nil, hint: String? = nil
  ) -> Diagnostic {
    Diagnostic(
      "container-\(code)", message,
      at: Diagnostic.Location(member: member, byte: byte, node: node, tensor: tensor), hint: hint)
  }

  /// The archive ends before something it announces.
  static func truncated(_ what: String, byte: Int) -> Diagnostic {
    input(
      "truncated", "the file ends inside \(what)", byte: byte,
      hint: "the file is incomplete; copy or convert it again")
  }

  /// Output that could not be written.
  static func output(_ action: String, path: String, error: Int32) -> Diagnostic {
    Diagnostic(
      "output-failed", "cannot \(action): \(reason(error))", at: Diagnostic.Location(file: path),
      hint: error == ENOSPC ? "free some space or choose another folder" : nil, kind: .output)
  }

  /// A mistake of the calling code.
  static func bug(_ message: String, tensor: String? = nil) -> Diagnostic {
    Diagnostic(
      "container-internal", message, at: Diagnostic.Location(tensor: tensor), kind: .internal)
  }

  /// The system's words for an error number.
  static func reason(_ error: Int32) -> String {
    guard let text = strerror(error) else { return "error \(error)" }
    return String(cString: text)
  }
}
