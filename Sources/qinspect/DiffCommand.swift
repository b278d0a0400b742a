import ArgumentParser
import Container
import IR
import Inspection
import Operators
import ToolKit

/// `qinspect diff`: in what two containers differ.
struct DiffCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Compares graph, types, encodings and weights of two containers.",
    discussion: """
      Nodes and tensors are matched by name. One line a difference; exit status 0 where there is none \
      (and nothing is printed), 2 where there are some.
      """)

  @Argument(help: "The two containers.")
  var containers: [String] = []
  @Option(
    name: [.customLong("i1", withSingleDash: true), .customLong("input_dlc_one")],
    help: ArgumentHelp("The first container, as an option.", valueName: "a.dlc"))
  var first: String?
  @Option(
    name: [.customLong("i2", withSingleDash: true), .customLong("input_dlc_two")],
    help: ArgumentHelp("The second container, as an option.", valueName: "b.dlc"))
  var second: String?
  @Option(
    help: ArgumentHelp(
      "Differences that do not count: of range ends relative to the range, of weights relative to the "
        + "largest of their tensor.", valueName: "relative"))
  var tolerance = 0.0
  @Flag(help: "Print the differences as JSON.")
  var json = false
  @OptionGroup var common: CommonOptions

  private var paths: [String] { [first, second].compactMap { $0 } + containers }

  func validate() throws {
    guard paths.count == 2, (first == nil) == (second == nil) else {
      throw ValidationError("Two containers are compared, as arguments or by -i1 and -i2")
    }
    guard tolerance >= 0, tolerance.isFinite else {
      throw ValidationError("--tolerance must be a number of at least 0, not \(tolerance)")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    var graphs: [Graph] = []
    for path in paths {
      graphs.append(
        try session.phase("read") { () throws(Diagnostic) in
          try ContainerReader.read(path: path, registry: .standard).graph
        })
    }
    let found = session.phase("compare") {
      GraphComparison(tolerance: tolerance).differences(graphs[0], graphs[1])
    }
    if json {
      try session.printResult(DiffDocument(found))
    } else if !found.isEmpty {
      try session.printResult(found.map(\.line).joined(separator: "\n"))
    }
    return found.isEmpty ? .done : .difference
  }
}

/// Differences as JSON.
struct DiffDocument: JSONDocument {
  struct Difference: Encodable {
    var kind: String
    var name: String
    var what: String
    var first: String
    var second: String
  }

  let version = 1
  var same: Bool
  var differences: [Difference]

  init(_ found: [GraphDifference]) {
    same = found.isEmpty
    differences = found.map {
      Difference(
        kind: $0.kind.rawValue, name: $0.name, what: $0.what, first: $0.first, second: $0.second)
    }
  }
}
