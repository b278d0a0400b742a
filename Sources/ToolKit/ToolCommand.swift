import ArgumentParser
import IR

/// A command of one of the programs: does its work in a session and says how it ended.
public protocol ToolCommand: ParsableCommand {
  /// Options every program has.
  var common: CommonOptions { get }
  /// The work. Errors are shown and become the exit status of their kind.
  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus
}

extension ToolCommand {
  public func run() throws {
    let program = ToolProgram.name
    let session = ToolSession(program: program, options: common)
    session.printer.report(
      RepeatedOptions(Self.self).warnings(Array(CommandLine.arguments.dropFirst())))
    var status: ExitStatus
    do throws(Diagnostic) {
      status = try perform(in: session)
      if status == .done { try session.printer.checkWarnings() }
    } catch {
      SignalWatch.yieldIfEnding()
      session.printer.report(ToolProgram.withReportHint(error))
      status = ExitStatus(error.kind)
    }
    session.printer.summarize()
    if common.timing { Console.standard.print(session.timing.table) }
    if status != .done { throw ExitCode(status.rawValue) }
  }
}

/// The outermost layer of a program: signals, parsing, what parsing has to say.
public enum ToolProgram {
  /// Name the program was called by, without folder.
  public static var name: String { FileReading.name(of: CommandLine.arguments.first ?? "qtools") }

  /// Parses the command line as `root` and runs the command it names; does not return.
  public static func main<Root: ParsableCommand>(_ root: Root.Type) -> Never {
    SignalWatch.start()
    do {
      let arguments = Array(CommandLine.arguments.dropFirst())
      try requireValues(arguments)
      var command = try Root.parseAsRoot(withOptionalLists(arguments))
      try command.run()
    } catch {
      leave(root, error)
    }
    Root.exit()
  }

  /// Options whose value may be an empty text.
  private static let emptyTexts: Set<String> = ["--set_model_version"]

  /// Throws where an argument is empty: mostly a variable of a script that is not set.
  static func requireValues(_ arguments: [String]) throws(ValidationError) {
    for (index, argument) in arguments.enumerated() where argument.isEmpty {
      let before = index > 0 ? arguments[index - 1] : ""
      if emptyTexts.contains(before) || optionalLists.contains(before) { continue }
      let place = before.hasPrefix("-") ? "The value of \(before)" : "Argument \(index + 1)"
      throw ValidationError("\(place) is empty: is a variable not set?")
    }
  }

  /// Options whose list of values may be empty.
  static let optionalLists: Set<String> = ["--preserve_io_datatype"]

  /// The arguments with an empty value behind each option of ``optionalLists`` that has none: the parser
  /// wants at least one.
  static func withOptionalLists(_ arguments: [String]) -> [String] {
    var result: [String] = []
    for (index, argument) in arguments.enumerated() {
      result.append(argument)
      guard optionalLists.contains(argument) else { continue }
      let next = index + 1 < arguments.count ? arguments[index + 1] : "-"
      if next.hasPrefix("-") { result.append("") }
    }
    return result
  }

  private static func leave<Root: ParsableCommand>(_ root: Root.Type, _ error: any Error) -> Never {
    guard !(error is ExitCode), Root.exitCode(for: error) == .validationFailure else {
      Root.exit(withError: error)
    }
    let message = Root.message(for: error)
    let hint =
      message.hasPrefix("Missing value for")
      ? "\(name) --help lists the options; a value that begins with a dash is joined to its option, --name=-1"
      : "\(name) --help lists the options"
    let usage = Diagnostic("usage", message, hint: hint, kind: .usage)
    DiagnosticPrinter(program: name).report(usage)
    Root.exit(withError: ExitCode.validationFailure)
  }

  /// A bug tells how it is reported.
  static func withReportHint(_ error: Diagnostic) -> Diagnostic {
    guard error.kind == .internal, error.hint == nil else { return error }
    var error = error
    error.hint =
      "this is a bug in qtools \(ToolIdentity.version); please report it with the command line, "
      + "the message and, where possible, the input"
    return error
  }
}
