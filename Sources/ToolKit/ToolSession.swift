import IR
import Synchronization

/// What one run of a program carries along: messages, timing, the files it read.
public final class ToolSession: Sendable {
  /// Name of the program.
  public let program: String
  /// Shows diagnostics.
  public let printer: DiagnosticPrinter
  /// Seconds of the phases.
  public let timing = Timing()
  private let showsProgress: Bool
  private let read = Mutex<[String]>([])

  /// A session of `program` with the options every program has.
  public init(program: String, options: CommonOptions) {
    self.program = program
    showsProgress = !options.quiet
    printer = DiagnosticPrinter(program: program, policy: options.policy)
  }

  /// Runs and times a phase.
  public func phase<Result, Failure: Error>(
    _ name: String, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try timing.measure(name, body)
  }

  /// Progress of `total` units; silent with `--quiet`.
  public func progress(_ title: String, total: Int, unit: String = "samples") -> Progress {
    Progress(title, total: total, unit: unit, enabled: showsProgress)
  }

  /// Notes files that were read, for `--depfile`.
  public func noteInputs(_ paths: [String]) { read.withLock { $0 += paths } }

  /// Throws a usage error where outputs would destroy each other or a file noted as read; `main` may
  /// replace the file `replaceable`.
  public func checkOutputs(main: String?, others: [String?], replaceable: String? = nil) throws(Diagnostic) {
    try OutputPaths.check(
      main: main, others: others, inputs: read.withLock { $0 }, replaceable: replaceable)
  }

  /// The dependency rule of `output`; throws a usage error where it cannot be written.
  public func dependencies(of output: String) throws(Diagnostic) -> String {
    var depfile = Depfile(target: output)
    for path in read.withLock({ $0 }) { depfile.add(path) }
    return try depfile.text()
  }

  /// Prints a result on standard output.
  public func printResult(_ text: String) throws(Diagnostic) {
    let ended = text.isEmpty || text.hasSuffix("\n") ? text : text + "\n"
    guard writeAll(ended, to: 1) else {
      throw Diagnostic("output-failed", "standard output takes no more", kind: .output)
    }
  }

  /// Prints a result as one JSON document.
  public func printResult(_ document: some JSONDocument) throws(Diagnostic) {
    try printResult(try JSONOutput.text(document))
  }

  /// Prints a line of the summary that `--quiet` leaves out.
  public func printSummary(_ text: String) throws(Diagnostic) {
    if showsProgress { try printResult(text) }
  }
}
