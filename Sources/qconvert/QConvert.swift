import ArgumentParser
import Container
import IR
import ONNXModel
import Passes
import Quantizer
import ToolKit

/// ONNX to container.
@main
struct QConvert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "qconvert", abstract: "Converts an ONNX model to a container.",
    usage: "qconvert --input_network model.onnx --output_path model.dlc [options]",
    version: ToolIdentity.version)

  @Option(
    name: [.customShort("i"), .customLong("input_network")],
    help: ArgumentHelp("The ONNX model.", valueName: "model.onnx"))
  var inputNetwork: String?
  @Option(
    name: [.customShort("o"), .customLong("output_path")],
    help: ArgumentHelp("The container (default: the model's name with .dlc).", valueName: "model.dlc"))
  var outputPath: String?
  @OptionGroup var shapes: ShapeOptions
  @OptionGroup var dump: DumpOptions
  @Flag(
    name: .customLong("dry_run"),
    help: "Do all checks, list the operators and unused inputs, write nothing.")
  var dryRun = false
  @OptionGroup var depfile: DepfileOption
  @OptionGroup var common: CommonOptions

  static func main() { ToolProgram.main(QConvert.self) }

  func validate() throws {
    if inputNetwork == nil, !dump.listPasses {
      throw ValidationError("Missing expected argument '--input_network <model.onnx>'")
    }
    if dryRun, dump.dumpIR != nil || dump.after != nil {
      throw ValidationError("--dry_run writes nothing and excludes --dump_ir and --dump_ir_after")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    if dump.listPasses {
      try session.printResult(DumpOptions.passTable)
      return .done
    }
    guard let input = inputNetwork else { return .usage }
    let output = outputPath ?? FileReading.withoutExtension(input) + ".dlc"
    try dump.check()

    let imported = try session.phase("import") { () throws(Diagnostic) in
      try shapes.load(input)
    }
    session.noteInputs(imported.files)
    session.printer.report(imported.diagnostics)
    try session.checkOutputs(main: output, others: [dump.dumpIR, depfile.depfile])
    let rule = try depfile.depfile.map { (_) throws(Diagnostic) in
      try session.dependencies(of: output)
    }
    var texts = dump.isWanted(after: "import") ? imported.graph.text() : nil
    let graph = try session.phase("passes") { () throws(Diagnostic) in
      try Pipeline.standard.run(imported.graph) { (pass, graph) throws(Diagnostic) in
        if dump.isWanted(after: pass.name) { texts = graph.text() }
      }
    }
    if dump.isWanted(after: nil) { texts = graph.text() }
    if dryRun {
      try session.printResult(Summary.support(of: graph))
      return .done
    }
    let finished = try session.phase("encodings") { () throws(Diagnostic) in
      try materializedIfComplete(graph)
    }
    if finished != nil {
      session.printer.report(
        Diagnostic(
          "complete-encodings", "every encoding is given: the container is quantized",
          severity: .note))
    }
    let hash = try session.phase("hash") { () throws(Diagnostic) in
      try FileReading.sha256(of: imported.files)
    }
    let options = shapes.effective
    let file = ContainerFile(
      graph: finished ?? graph,
      metadata: ContainerMetadata(
        converterCommand: EffectiveOptions.command(options),
        converterVersion: "qtools \(ToolIdentity.version)"),
      annotations: ContainerAnnotations(options: options, modelHash: hash))
    try session.printer.checkWarnings()
    try session.phase("write") { () throws(Diagnostic) in
      if let texts { try dump.write(texts, session) }
      TemporaryFiles.announce(output)
      try ContainerWriter.write(file, to: output)
      if let rule, let path = depfile.depfile { try AtomicFile.write(rule, to: path) }
    }
    try session.printSummary("\(output): \(Summary.line(graph))")
    return .done
  }
}
