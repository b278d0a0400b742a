import ArgumentParser
import Container
import IR
import Operators
import Runtime
import ToolKit

/// Runs containers.
@main
struct QRun: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "qrun", abstract: "Runs containers and measures them.",
    version: ToolIdentity.version,
    subcommands: [ExecuteCommand.self, CompareCommand.self, EvaluateCommand.self, BenchCommand.self])

  static func main() { ToolProgram.main(QRun.self) }
}

/// How containers are run.
struct RunOptions: ParsableArguments {
  @Option(help: RunBackend.help)
  var backend = RunBackend.onednn
  @Flag(name: .customLong("float"), help: "Ignore encodings.")
  var ignoresEncodings = false
  @OptionGroup var jobs: JobsOption

  /// The chosen backend.
  var chosen: any Backend { backend.made }

  func validate() throws {
    if ignoresEncodings, backend.isInteger {
      throw ValidationError("--float ignores the encodings that --backend \(backend.rawValue) needs")
    }
  }

  /// Warnings of options that change nothing for these graphs.
  func optionsWithoutEffect(_ graphs: [Graph]) -> [Diagnostic] {
    let hasEncodings = graphs.contains { $0.tensors.contains { $0.encoding != nil } }
    if backend.isInteger, !hasEncodings {
      return [
        Diagnostic(
          "option-without-effect",
          "--backend \(backend.rawValue) changed nothing: there are no encodings, all operators run in float",
          severity: .warning)
      ]
    }
    guard ignoresEncodings, !hasEncodings else { return [] }
    return [
      Diagnostic(
        "option-without-effect", "--float changed nothing: there are no encodings to ignore",
        severity: .warning)
    ]
  }

  /// A plan of a graph, with tensors to look at.
  func prepare(_ graph: Graph, taps: Set<TensorID> = []) throws(Diagnostic) -> any Plan {
    try chosen.prepare(graph, options: PlanOptions(simulate: !ignoresEncodings, taps: taps))
  }

  /// Workers for a plan and an amount of work.
  func workers(_ plan: any Plan, work: Int = .max) -> Int {
    Jobs.resolve(requested: jobs.jobs, arenaBytes: plan.arenaBytes, work: work)
  }
}

/// What runs a graph, as `--backend` of `qrun` spells it.
enum RunBackend: String, ExpressibleByArgument, CaseIterable, Sendable {
  case onednn, reference, integer
  case integerReference = "integer-reference"

  static let help: ArgumentHelp =
    "What runs the graph: float kernels that simulate encodings (onednn, reference), or 8-bit integers."

  /// Whether it computes in integers.
  var isInteger: Bool { self == .integer || self == .integerReference }

  /// The backend.
  var made: any Backend {
    switch self {
    case .onednn: OneDNNBackend()
    case .reference: ReferenceBackend()
    case .integer: IntegerBackend()
    case .integerReference: IntegerReferenceBackend()
    }
  }

  /// What to say about operators of a plan that have no integer kernel, nil where there are none.
  func note(_ plan: any Plan) -> Diagnostic? {
    let without = plan.steps.filter(\.isDequantized)
    guard isInteger, !without.isEmpty else { return nil }
    var counts: [String: Int] = [:]
    for step in without { counts[step.operatorName, default: 0] += 1 }
    let names = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    return Diagnostic(
      "dequantized-operators",
      "\(counted(without.count, "operator")) without an integer kernel \(without.count == 1 ? "runs" : "run") dequantized: "
        + names.prefix(6).map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        + (names.count > 6 ? ", ..." : ""),
      hint: "qrun bench --backend \(rawValue) --explain tells why", severity: .note)
  }
}

/// Bytes of all constants as the container stores them.
func parameterBytes(_ graph: Graph) -> Int {
  graph.tensors.lazy.filter { $0.constant != nil }.reduce(0) { $0 + $1.storedByteCount }
}
