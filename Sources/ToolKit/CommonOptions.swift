import ArgumentParser

/// Options every program has.
public struct CommonOptions: ParsableArguments {
  /// No notes and no progress.
  @Flag(name: .long, help: "Show no notes and no progress.")
  public var quiet = false
  /// Every finding, with its code.
  @Flag(name: .long, help: "Show every finding, with its code.")
  public var verbose = false
  /// Warnings fail the program before it writes.
  @Flag(name: .customLong("warnings-as-errors"), help: "Fail before writing where there are warnings.")
  public var warningsAsErrors = false
  /// A table of phases at the end.
  @Flag(name: .long, help: "Print the seconds of every phase and the peak memory.")
  public var timing = false

  /// For the parser.
  public init() {}

  var policy: DiagnosticPrinter.Policy {
    DiagnosticPrinter.Policy(
      quiet: quiet, verbose: verbose && !quiet, warningsAreErrors: warningsAsErrors)
  }
}

/// The option of programs that work on samples side by side.
public struct JobsOption: ParsableArguments {
  /// Workers wanted, nil for all that make sense.
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Samples worked on at a time (default: all cores, fewer where memory would not do).",
      valueName: "n"))
  public var jobs: Int?

  /// Threads for work that needs no arena.
  public var threads: Int { Jobs.resolve(requested: jobs, arenaBytes: 0) }

  /// For the parser.
  public init() {}

  public func validate() throws {
    if let jobs, jobs < 1 { throw ValidationError("--jobs must be at least 1, not \(jobs)") }
  }
}

/// The option of programs that write one output.
public struct DepfileOption: ParsableArguments {
  /// Where the dependency rule goes, nil for nowhere.
  @Option(
    name: .long,
    help: ArgumentHelp("Write the files that were read as a rule for Make and Ninja.", valueName: "file"))
  public var depfile: String?

  /// For the parser.
  public init() {}
}
