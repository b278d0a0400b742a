import IR

/// How a program ends; a signal n ends it with 128+n.
public enum ExitStatus: Int32, Sendable {
  /// Done.
  case done = 0
  /// The input is at fault: model, data, container, file.
  case inputFault = 1
  /// A difference or violation was found.
  case difference = 2
  /// The command line is at fault.
  case usage = 64
  /// A bug of ours.
  case internalError = 70
  /// Output cannot be written.
  case outputFault = 73

  /// The status that belongs to a kind of error.
  public init(_ kind: Diagnostic.Kind) {
    switch kind {
    case .input: self = .inputFault
    case .usage: self = .usage
    case .internal: self = .internalError
    case .output: self = .outputFault
    }
  }
}
