import ArgumentParser
import Container
import IR
import Inspection
import Operators
import ToolKit

/// `qinspect trace`: what became of the source's tensors and nodes, and where the container's come from.
struct TraceCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace", abstract: "Follows names from the source model to the container and back.",
    discussion: """
      Without a name all source names that changed are listed. A name may be of the source or of the \
      container, of a tensor or of a node.
      """)

  @Argument(help: "The container.")
  var container: String
  @Argument(help: "A tensor or node of the source or of the container.")
  var name: String?
  @Flag(help: "Print the result as JSON.")
  var json = false
  @OptionGroup var common: CommonOptions

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.openInfo(path: container, registry: .standard).graph
    }
    let trace = NameTrace(graph)
    let entries = name.map(trace.entries(of:)) ?? trace.all
    if let name, entries.isEmpty {
      throw Diagnostic(
        "unknown-name", "the container knows no tensor or node \(name)", at: .init(file: container),
        hint: hint(name, graph), kind: .usage)
    }
    if json {
      try session.printResult(TraceDocument(entries))
      return .done
    }
    try session.printResult(traceTable(entries).text)
    return .done
  }

  /// Names like one that is not known.
  private func hint(_ name: String, _ graph: Graph) -> String {
    let names = graph.tensors.map(\.name) + graph.nodes.map(\.name) + graph.aliases.keys + graph.folded.keys
    let near = TensorSelection.nearest(to: name, in: names.sorted())
    return (near.isEmpty ? "" : "the nearest names are: \(near.joined(separator: ", ")); ")
      + "qinspect trace \(container) lists all that changed"
  }
}

/// Names and what they became, as JSON.
struct TraceDocument: JSONDocument {
  struct Entry: Encodable {
    var name: String
    var kind: String
    var target: String?
    var note: String
  }

  let version = 1
  var entries: [Entry]

  init(_ entries: [NameTrace.Entry]) {
    self.entries = entries.map {
      Entry(name: $0.name, kind: $0.kind.rawValue, target: $0.target, note: $0.note)
    }
  }
}
