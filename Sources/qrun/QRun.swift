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
  @Option(help: "What runs the graph.")
  var backend = BackendName.onednn
  @Flag(name: .customLong("float"), help: "Ignore encodings.")
  var ignoresEncodings = false
  @OptionGroup var jobs: JobsOption

  /// The chosen backend.
  var chosen: any Backend {
    switch backend {
    case .onednn: OneDNNBackend()
    case .reference: ReferenceBackend()
    }
  }

  /// Warnings of options that change nothing for these graphs.
  func optionsWithoutEffect(_ graphs: [Graph]) -> [Diagnostic] {
    let hasEncodings = graphs.contains { $0.tensors.contains { $0.encoding != nil } }
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

/// Bytes of all constants as the container stores them.
func parameterBytes(_ graph: Graph) -> Int {
  graph.tensors.lazy.filter { $0.constant != nil }.reduce(0) { $0 + $1.storedByteCount }
}
