import ArgumentParser
import Container
import IR
import Inspection
import Operators
import ToolKit

/// `qinspect info`: what a container holds, without reading its weights.
struct InfoCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Shows identity, inputs, outputs, operators and totals.")

  @OptionGroup var container: ContainerArgument
  @Option(
    name: [.customShort("s"), .customLong("save")],
    help: ArgumentHelp("Write the table of operators as CSV.", valueName: "csv"))
  var csv: String?
  @Flag(
    name: [.customShort("m"), .customLong("display_memory")],
    help: "Show the memory of every operator, and where activations need most.")
  var memory = false
  @Flag(
    name: [.customShort("d"), .customLong("display_all_encodings")],
    help: "Show every grid of encodings that have one a channel (--json always has them).")
  var encodings = false
  @Flag(
    name: [.customShort("t"), .customLong("dump_framework_trace")],
    help: "Show what became of the names of the source model.")
  var trace = false
  @Flag(help: "Print everything as JSON.")
  var json = false
  @OptionGroup var common: CommonOptions

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let path = container.path
    session.noteInputs([path])
    try session.checkOutputs(main: nil, others: [csv])
    let summary = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.openInfo(path: path, registry: .standard)
    }
    var info = InfoDocument(summary)
    if memory { info.memory = MemoryDocument(summary.graph, statics: summary.staticTensors) }
    let names = trace ? NameTrace(summary.graph).all : []
    if trace { info.trace = TraceDocument(names).entries }
    let operators = InfoCommand.operatorTable(info, summary.graph)
    if let csv { try AtomicFile.write(operators.csv, to: csv) }
    if json {
      try session.printResult(info)
    } else {
      var parts = [
        identity(info, path: path), InfoCommand.borderTable(info).text, operators.text,
        InfoCommand.totals(info), InfoCommand.options(info),
      ]
      if let memory = info.memory { parts.append(memory.text) }
      if encodings {
        let table = axisEncodingTable(summary.graph)
        parts.append(table.isEmpty ? "no encoding has a grid a channel" : table.text)
      }
      if trace { parts.append(names.isEmpty ? "all names are those of the source" : traceTable(names).text) }
      try session.printResult(parts.joined(separator: "\n\n"))
    }
    return .done
  }

  private func identity(_ info: InfoDocument, path: String) -> String {
    var lines = ["container   \(path)", "graph       \(info.graph)"]
    lines.append("precision   \(info.quantized ? "quantized" : "float")")
    if !info.model_version.isEmpty { lines.append("version     \(info.model_version)") }
    if !info.converter_version.isEmpty { lines.append("written by  \(info.converter_version)") }
    if let hash = info.model_hash { lines.append("model       sha256 \(hash)") }
    if let hash = info.calibration_hash, let count = info.calibration_count {
      lines.append("calibrated  \(count) samples, sha256 sum \(hash)")
    }
    if !info.copyright.isEmpty { lines.append("copyright   \(info.copyright)") }
    for member in info.members {
      lines.append(
        "member      \(member.name), \(byteText(member.size))\(member.known ? "" : " (foreign)")")
    }
    return lines.joined(separator: "\n")
  }

  private static func borderTable(_ info: InfoDocument) -> TextTable {
    var table = TextTable(["border", "name", "type", "scale", "offset"])
    let byName = Dictionary(info.tensors.map { ($0.name, $0) }, uniquingKeysWith: { one, _ in one })
    for (role, names) in [("input", info.inputs), ("output", info.outputs)] {
      for name in names {
        guard let tensor = byName[name] else { continue }
        table.add([
          role, name, "\(tensor.type)\(tensor.shape)",
          tensor.encoding?.scale.first.map { "\($0)" } ?? "",
          tensor.encoding?.offset.first.map { "\($0)" } ?? "",
        ])
      }
    }
    return table
  }

  private static func operatorTable(_ info: InfoDocument, _ graph: Graph) -> TextTable {
    var table = TextTable(
      ["id", "name", "type", "inputs", "outputs", "shape", "out type", "params", "MACs", "attributes"],
      alignment: [.right, .left, .left, .left, .left, .left, .left, .right, .right])
    for (entry, node) in zip(info.operators, graph.nodes) {
      let outputs = node.outputs.map { graph[$0].type }
      let attributes = node.op.attributes.map { "\($0.name)=\(text($0.value))" }
      table.add([
        "\(entry.id)", entry.name, entry.type,
        entry.inputs.map { $0 ?? "-" }.joined(separator: " "),
        entry.outputs.joined(separator: " "),
        outputs.map { $0.shape.map(String.init).joined(separator: "x") }.joined(separator: " "),
        outputs.map(\.element.rawValue).joined(separator: " "), grouped(entry.parameters),
        grouped(entry.macs), attributes.joined(separator: " "),
      ])
    }
    return table
  }

  private static func text(_ value: AttributeValue) -> String {
    switch value {
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .float(let value): "\(value)"
    case .string(let value): value
    case .ints(let values): values.map { "\($0)" }.joined(separator: ",")
    case .floats(let values): values.map { "\($0)" }.joined(separator: ",")
    }
  }

  private static func totals(_ info: InfoDocument) -> String {
    let totals = info.totals
    let types = totals.bytes_by_type.sorted { $0.key < $1.key }
      .map { "\($0.key) \(byteText($0.value))" }
    return """
      operators        \(totals.operators)
      parameters       \(grouped(totals.parameters))
      parameter bytes  \(grouped(totals.parameter_bytes)) (\(types.joined(separator: ", ")))
      bits per weight  \(fixed(totals.bits_per_weight, digits: 2))
      MACs             \(grouped(totals.macs))
      """
  }

  private static func options(_ info: InfoDocument) -> String {
    var table = TextTable(["option", "value"])
    for (name, value) in info.options.sorted(by: { $0.key < $1.key }) { table.add([name, value]) }
    return table.isEmpty ? "no options recorded" : table.text
  }
}
