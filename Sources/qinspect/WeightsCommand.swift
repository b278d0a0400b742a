import ArgumentParser
import Container
import IR
import Inspection
import Operators
import ToolKit

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// `qinspect weights`: ranges of the weights, a channel a line, and their distribution.
struct WeightsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "weights", abstract: "Shows ranges and distribution of the weights.")

  @OptionGroup var container: ContainerArgument
  @Option(help: ArgumentHelp("Only tensors whose name matches.", valueName: "glob"))
  var tensor: String?
  @Flag(help: "A line a channel, not only a line a tensor.")
  var channels = false
  @Flag(help: "Print the result as JSON (always with channels).")
  var json = false
  @Option(help: ArgumentHelp("Write a page with a drawing of every weight too.", valueName: "file"))
  var html: String?
  @OptionGroup var common: CommonOptions

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    session.noteInputs([container.path])
    try session.checkOutputs(main: nil, others: [html])
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard).graph
    }
    let weights = WeightSummary.weights(of: graph).filter { id in
      tensor.map { fnmatch($0, graph[id.tensor].name, 0) == 0 } ?? true
    }
    if let tensor, weights.isEmpty {
      session.printer.report(
        Diagnostic("no-match", "no weight matches \(tensor)", severity: .warning))
    }
    let summaries = weights.compactMap { WeightSummary(graph, $0.tensor, axis: $0.axis) }
    if let html {
      try session.printer.checkWarnings()
      try AtomicFile.write(WeightsPage.text(summaries, title: graph.name), to: html)
    }
    if json {
      try session.printResult(WeightsDocument(summaries))
      return .done
    }
    var table = TextTable(
      ["weight", "shape", "channel", "min", "max", "mean", "RMS", "distribution"],
      alignment: [.left, .left, .right, .right, .right, .right, .right, .left])
    for summary in summaries {
      let shape = summary.shape.map(String.init).joined(separator: "x")
      table.add([summary.name, shape, ""] + cells(summary.whole) + [bars(summary.histogram)])
      if channels {
        for (index, range) in summary.channels.enumerated() {
          table.add(["", "", "\(index)"] + cells(range))
        }
      }
    }
    try session.printResult(table.text)
    return .done
  }

  private func cells(_ range: WeightSummary.Range) -> [String] {
    [range.min, range.max, range.mean, range.rms].map { fixed($0, digits: 6) }
  }

  /// A histogram as one line; the highest bar is full.
  private func bars(_ counts: [Int]) -> String {
    let levels = Array(" ▁▂▃▄▅▆▇█")
    let top = max(counts.max() ?? 0, 1)
    return String(
      counts.map { count in
        count == 0 ? levels[0] : levels[1 + (count * (levels.count - 2) + top - 1) / top]
      })
  }
}

/// Weights as JSON.
struct WeightsDocument: JSONDocument {
  struct Range: Encodable {
    var min: Double
    var max: Double
    var mean: Double
    var rms: Double

    init(_ range: WeightSummary.Range) {
      (min, max, mean, rms) = (range.min, range.max, range.mean, range.rms)
    }
  }

  struct Weight: Encodable {
    var name: String
    var shape: [Int]
    var axis: Int
    var range: Range
    var channels: [Range]
    /// Counts of equal bins from min to max.
    var histogram: [Int]
  }

  let version = 1
  var weights: [Weight]

  init(_ summaries: [WeightSummary]) {
    weights = summaries.map {
      Weight(
        name: $0.name, shape: $0.shape, axis: $0.axis, range: Range($0.whole),
        channels: $0.channels.map(Range.init), histogram: $0.histogram)
    }
  }
}
