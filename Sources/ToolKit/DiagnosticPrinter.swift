import IR
import Synchronization

/// Shows diagnostics on standard error and counts them.
public final class DiagnosticPrinter: Sendable {
  /// How much is shown.
  public struct Policy: Sendable {
    /// No notes.
    public var quiet: Bool
    /// Every finding, with its code.
    public var verbose: Bool
    /// A warning makes the program fail before it writes output.
    public var warningsAreErrors: Bool

    /// A policy; by default notes are shown and warnings are only warnings.
    public init(quiet: Bool = false, verbose: Bool = false, warningsAreErrors: Bool = false) {
      self.quiet = quiet
      self.verbose = verbose
      self.warningsAreErrors = warningsAreErrors
    }
  }

  private struct State {
    var errors = 0
    var warnings = 0
    /// Shown so far, by code.
    var shown: [String: Int] = [:]
    var omitted: [String: Int] = [:]
  }

  /// Findings of one code that are shown without `--verbose`; the others are counted.
  public static let limit = 20

  private let program: String
  private let policy: Policy
  private let console: Console
  private let state = Mutex(State())

  /// A printer for the program called `program`.
  public init(program: String, policy: Policy = Policy(), console: Console = .standard) {
    self.program = program
    self.policy = policy
    self.console = console
  }

  /// Number of warnings reported so far.
  public var warnings: Int { state.withLock { $0.warnings } }
  /// Number of errors reported so far.
  public var errors: Int { state.withLock { $0.errors } }

  /// Shows a diagnostic and those related to it.
  public func report(_ diagnostic: Diagnostic) {
    for finding in diagnostic.all { show(finding) }
  }

  /// Shows several diagnostics.
  public func report(_ diagnostics: [Diagnostic]) {
    for diagnostic in diagnostics { report(diagnostic) }
  }

  private func show(_ finding: Diagnostic) {
    let visible = state.withLock { state in
      switch finding.severity {
      case .error: state.errors += 1
      case .warning: state.warnings += 1
      case .note: if policy.quiet { return false }
      }
      if !policy.verbose, state.shown[finding.code, default: 0] >= DiagnosticPrinter.limit {
        state.omitted[finding.code, default: 0] += 1
        return false
      }
      state.shown[finding.code, default: 0] += 1
      return true
    }
    if visible { console.print(text(finding)) }
  }

  /// `qconvert: error: <what>, <where>` and the hint on a line of its own.
  private func text(_ finding: Diagnostic) -> String {
    let color =
      switch finding.severity {
      case .error: 31
      case .warning: 33
      case .note: 36
      }
    let label = console.colored("\(finding.severity.rawValue):", color)
    let place = finding.location.description
    var text = "\(program): \(label) \(finding.message)"
    if !place.isEmpty { text += ", \(place)" }
    if policy.verbose { text += " [\(finding.code)]" }
    if let hint = finding.hint { text += "\n\(console.colored("hint:", 32)) \(hint)" }
    return text
  }

  /// Throws where warnings were reported and count as errors; called before output is written.
  public func checkWarnings() throws(Diagnostic) {
    let count = warnings
    if policy.warningsAreErrors, count > 0 {
      throw Diagnostic(
        "warnings-as-errors", "\(count) \(count == 1 ? "warning" : "warnings") with --warnings-as-errors")
    }
  }

  /// Shows what was left out and the counts, where there is more than one finding to count.
  public func summarize() {
    let end = state.withLock { $0 }
    for (code, count) in end.omitted.sorted(by: { $0.key < $1.key }) {
      console.print("\(program): \(count) more of the kind \(code); --verbose shows all")
    }
    guard end.errors + end.warnings > 1, !(policy.quiet && end.errors == 0) else { return }
    var parts: [String] = []
    if end.errors > 0 { parts.append("\(end.errors) \(end.errors == 1 ? "error" : "errors")") }
    if end.warnings > 0 {
      parts.append("\(end.warnings) \(end.warnings == 1 ? "warning" : "warnings")")
    }
    console.print("\(program): \(parts.joined(separator: ", "))")
  }
}
