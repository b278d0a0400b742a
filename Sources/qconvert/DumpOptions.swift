import ArgumentParser
import IR
import Passes
import ToolKit

/// Showing the graph between the passes.
struct DumpOptions: ParsableArguments {
  @Option(
    name: .customLong("dump_ir"),
    help: ArgumentHelp("Write the graph as text, - for standard output.", valueName: "file"))
  var dumpIR: String?
  @Option(
    name: .customLong("dump_ir_after"),
    help: ArgumentHelp(
      "Dump the graph as it is after this pass (import: before the first; default: after the last).",
      valueName: "pass"))
  var after: String?
  @Flag(name: .customLong("list_passes"), help: "List the passes and end.")
  var listPasses = false

  /// The passes in their order, with a line about each.
  static var passTable: String {
    var table = TextTable(["pass", "what it does"])
    for pass in Pipeline.standard.passes { table.add([pass.name, pass.summary]) }
    return table.text
  }

  /// Throws where the named pass does not exist.
  func check() throws(Diagnostic) {
    guard let after, after != "import" else { return }
    if !Pipeline.standard.passes.contains(where: { $0.name == after }) {
      throw Diagnostic(
        "unknown-pass", "no pass is called \(after)", hint: "--list_passes names them", kind: .usage)
    }
  }

  /// Whether the graph after a pass (nil: after all) is to be dumped.
  func isWanted(after pass: String?) -> Bool {
    (dumpIR != nil || after != nil) && after == pass
  }

  /// Writes the text to where it is wanted.
  func write(_ text: String, _ session: ToolSession) throws(Diagnostic) {
    if let dumpIR, dumpIR != "-" {
      try AtomicFile.write(text, to: dumpIR)
    } else {
      try session.printResult(text)
    }
  }
}
