import ArgumentParser
import Container
import EncodingTool
import IR
import ONNXModel
import Passes
import QuantizeTool
import Quantizer
import ToolKit

/// ONNX to container.
@main
struct QConvert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "qconvert", abstract: "Converts an ONNX model to a container.",
    usage: """
      qconvert --input_network model.onnx --output_path model.dlc [options]
      qconvert --input_network model.onnx --input_list calibration.txt --output_path model_q.dlc [options]
      """,
    discussion: """
      With --input_list, --load_stats or --enable_float_fallback the container is quantized too, as qquantize \
      would do it.
      """,
    version: ToolIdentity.version)

  @Option(
    name: [.customShort("i"), .customLong("input_network")],
    help: ArgumentHelp("The ONNX model.", valueName: "model.onnx"))
  var inputNetwork: String?
  @Option(
    name: [.customShort("o"), .customLong("output_path")],
    help: ArgumentHelp(
      "The container (default: the model's name with .dlc, none with --save_stats).", valueName: "model.dlc"))
  var outputPath: String?
  @OptionGroup(title: "Inputs and outputs of the model") var shapes: ShapeOptions
  @OptionGroup(title: "Inputs and outputs of the model") var model: ModelOptions
  @OptionGroup(title: "Inputs and outputs of the model") var colors: ColorOptions
  @Option(
    name: .customLong("dump_config_template"),
    help: ArgumentHelp("Write a file for --config about the model's inputs and outputs, and end.", valueName: "file"))
  var configTemplate: String?
  @OptionGroup(title: "Looking at the model") var onnx: ONNXOptions
  @Option(
    name: .customLong("export_format"),
    help: "With or without encodings of overrides and of the source (default: DLC_DEFAULT).")
  var exportFormat = ExportFormat.complete
  @OptionGroup(title: "Passes") var dump: DumpOptions
  @OptionGroup var quantize: QuantizeOptions
  @Flag(
    name: .customLong("dry_run"),
    help: "Do all checks, list the operators, unused inputs and what would be quantized, write nothing.")
  var dryRun = false
  @OptionGroup var depfile: DepfileOption
  @OptionGroup var common: CommonOptions

  private var overrides: OverrideOptions { quantize.overrides }
  private var encodings: EncodingDumpOptions { quantize.encodings }
  private var float: FloatOptions { quantize.float }
  private var preserve: PreserveOptions { quantize.preserve }

  static func main() { ToolProgram.main(QConvert.self) }

  func validate() throws {
    if inputNetwork == nil, !dump.listPasses {
      throw ValidationError("Missing expected argument '--input_network <model.onnx>'")
    }
    if dryRun, dump.dumpIR != nil || dump.after != nil {
      throw ValidationError("--dry_run writes nothing and excludes --dump_ir and --dump_ir_after")
    }
    if !quantize.hasSource, let option = quantize.given.first(where: { !["skip_nonfinite", "config"].contains($0) }) {
      throw ValidationError(Self.needsSource("--\(option)").message)
    }
  }

  private static func needsSource(_ option: String) -> Diagnostic {
    Diagnostic(
      "usage",
      "\(option) is about quantizing, which needs one of --input_list, --load_stats and --enable_float_fallback",
      kind: .usage)
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    if dump.listPasses {
      try session.printResult(DumpOptions.passTable)
      return .done
    }
    guard let input = inputNetwork else { return .usage }
    guard let file = quantize.configurationFile else { return try convert(input, IOConfiguration(), session) }
    let io = try IOConfiguration(path: file)
    session.noteInputs([file])
    if !quantize.hasSource, io.isEmpty, io.isAboutQuantizing { throw Self.needsSource("--config") }
    if io.isEmpty || io.isAboutQuantizing, !quantize.hasSource {
      session.printer.report(
        Diagnostic(
          "option-without-effect",
          io.isEmpty
            ? "--config changed nothing: it says nothing"
            : "calibration of --config changed nothing: nothing is quantized",
          severity: .warning))
    }
    var (shapes, model, colors) = (shapes, model, colors)
    io.merge(into: &shapes, &model, &colors, session)
    var command = self
    command.shapes = shapes
    command.model = model
    command.colors = colors
    if quantize.hasSource, !io.preserved.isEmpty { command.quantize.preserve.keep(io.preserved) }
    return try command.convert(input, io, session)
  }

  /// Converts with the options as they are with the configuration file.
  private func convert(
    _ input: String, _ io: IOConfiguration, _ session: ToolSession
  ) throws(Diagnostic) -> ExitStatus {
    let output = outputPath ?? FileReading.withoutExtension(input) + ".dlc"
    try dump.check()
    let quantizing = try quantize.hasSource ? quantize.quantizerOptions(session, besideIO: true) : nil

    let imported = try session.phase("import") { () throws(Diagnostic) in
      try shapes.load(input, outputs: model.outputs)
    }
    let hash = BackgroundHash(of: imported.files)
    session.noteInputs(imported.files + model.files)
    overrides.noteInputs(session)
    session.printer.report(quantize.target.notes)
    var source = imported.graph
    session.printer.report(onnx.notes)
    if let configTemplate {
      try session.checkOutputs(main: nil, others: [configTemplate])
      try AtomicFile.write(IOConfiguration.template(source), to: configTemplate)
      return .done
    }
    if onnx.summary { try session.printResult(ONNXOptions.text(imported)) }
    try colors.apply(to: &source, layouts: model.sourceLayouts, session)
    try model.apply(to: &source, colored: colors.inputs, session)
    session.printer.report(imported.diagnostics)
    var place = QuantizePlace(
      input: input, output: quantizing != nil && quantize.savesStatistics ? outputPath : output,
      outputOption: "--output_path", depfile: depfile.depfile, dryRun: dryRun)
    place.isConverted = true
    place.furtherOutput = dump.dumpIR == "-" ? nil : dump.dumpIR
    try session.checkOutputs(main: place.output, others: quantize.furtherOutputs(place))
    let rule = try (quantizing == nil ? depfile.depfile : nil).map { (_) throws(Diagnostic) in
      try session.dependencies(of: output)
    }
    var texts = dump.isWanted(after: "import") ? source.text() : nil
    let prepared = source
    var graph = try session.phase("passes") { () throws(Diagnostic) in
      try Pipeline.standard.run(prepared) { (pass, graph) throws(Diagnostic) in
        if dump.isWanted(after: pass.name) { texts = graph.text() }
      }
    }
    if onnx.validates {
      try session.phase("validate") { () throws(Diagnostic) in try ONNXOptions.compare(prepared, graph, session) }
    }
    model.removeUnused(&graph, session)
    try checkNumbers(graph, session)
    try io.apply(to: &graph)
    let overridden = try overrides.apply(to: &graph, session)
    strip(&graph, session)
    let floats = try settleFloats(&graph, session)
    let annotated = try session.phase("encodings") { () throws(Diagnostic) in
      try complete(&graph, session)
    }
    if quantizing == nil { graph = try preserve.apply(to: graph, session) }
    if dump.isWanted(after: nil) { texts = graph.text() }
    if dryRun {
      try session.printResult(Summary.support(of: graph))
      if quantizing == nil { return .done }
    }
    let options = shapes.effective.merging(overridden ?? OverrideOptions.none) { $1 }
      .merging(model.effective) { $1 }.merging(colors.effective) { $1 }.merging(io.effective) { $1 }.merging(floats) {
        $1
      }
      .merging(quantizing == nil ? preserve.effective : PreserveOptions.none) { $1 }
      .merging(["export_format": exportFormat.rawValue]) { $1 }
    let encodingsText =
      try encodings.isGiven && quantizing == nil
      ? encodings.text(annotated, names: Set(annotated.tensors.map(\.name)), session) : nil
    let (version, copyright) = try model.metadata()
    var file = ContainerFile(
      graph: graph,
      metadata: ContainerMetadata(
        modelVersion: version, converterCommand: EffectiveOptions.command(options),
        converterVersion: "qtools \(ToolIdentity.version)", modelCopyright: copyright),
      annotations: ContainerAnnotations(options: options))
    if let quantizing {
      file.annotations.modelHash = try session.phase("hash") { () throws(Diagnostic) in try hash.value() }
      place.write = { () throws(Diagnostic) in
        if let texts { try dump.write(texts, session) }
      }
      try quantize.quantize(file, quantizing, place, session)
      return .done
    }
    try session.printer.checkWarnings()
    try session.phase("write") { () throws(Diagnostic) in
      if let texts { try dump.write(texts, session) }
      if let encodingsText, let path = encodings.path(beside: output) {
        try AtomicFile.write(encodingsText, to: path)
      }
      if let rule, let path = depfile.depfile { try AtomicFile.write(rule, to: path) }
      // The last: where it is, all is.
      TemporaryFiles.announce(output)
      try ContainerWriter.write(file, to: output) { (annotations) throws(Diagnostic) in
        annotations.modelHash = try hash.value()
      }
    }
    try session.printSummary("\(output): \(Summary.line(graph))")
    return .done
  }

  /// Weights without numbers are errors, or warnings where these are asked for.
  private func checkNumbers(_ graph: Graph, _ session: ToolSession) throws(Diagnostic) {
    do throws(Diagnostic) {
      try requireNumbers(graph)
      guard quantize.skipsNonfinite, !quantize.hasSource else { return }
      session.printer.report(
        Diagnostic(
          "option-without-effect", "--skip_nonfinite changed nothing: no weight holds a NaN", severity: .warning))
    } catch {
      guard quantize.skipsNonfinite else { throw error }
      session.printer.report(
        error.all.map {
          var warning = $0
          (warning.severity, warning.hint) = (.warning, nil)
          return warning
        })
    }
  }

  /// Makes fixed point of a graph whose encodings are all given, and leaves any other as it is. Gives the
  /// graph with its annotations.
  private func complete(_ graph: inout Graph, _ session: ToolSession) throws(Diagnostic) -> Graph {
    let isAnnotated = graph.tensors.contains { $0.state != .open || $0.bitwidth != nil }
    let isLast = !quantize.hasSource
    if isLast, encodings.isGiven, !graph.tensors.contains(where: { $0.encoding != nil }) {
      session.printer.report(
        Diagnostic(
          "option-without-effect", "--dump_encoding_json writes 0 encodings: no tensor has one",
          severity: .warning))
    }
    guard isAnnotated, !graph.isMaterialized else {
      if isLast { try overrides.checkCoverage(EncodingCoverage.gaps(of: graph)) }
      return graph
    }
    switch try completeOverrides(graph) {
    case .complete(let result, let fixed):
      session.printer.report(result.notes)
      session.printer.report(
        Diagnostic(
          "complete-encodings", "every encoding is given: the container is quantized", severity: .note))
      graph = fixed
      return result.graph
    case .open(let names):
      guard isLast else { return graph }
      try overrides.checkCoverage(names)
      try session.printSummary(
        "\(counted(names.count, "tensor is", "tensors are")) open: the weights stay float until qquantize gives the rest"
      )
      return graph
    }
  }

  /// Takes encodings of overrides and of the source out where they are not wanted.
  private func strip(_ graph: inout Graph, _ session: ToolSession) {
    guard exportFormat == .stripped else { return }
    if !graph.hasDecisions {
      session.printer.report(
        Diagnostic(
          "option-without-effect", "--export_format DLC_STRIP_QUANT removed 0 encodings: there are none",
          severity: .warning))
    }
    graph = graph.strippedOfEncodings()
  }

  /// Decides the widths of float tensors: all of them become float16 where nothing else is decided and
  /// nothing is quantized. Gives what a container records of it.
  private func settleFloats(
    _ graph: inout Graph, _ session: ToolSession
  ) throws(Diagnostic) -> [String: String] {
    if graph.hasDecisions {
      let before = graph.tensors.map(\.bitwidth)
      graph = graph.settlingFloatWidths(float.bitwidth ?? 32, bias: float.biasBitwidth)
      if !quantize.hasSource, graph.tensors.map(\.bitwidth) == before {
        for (name, width) in [("float_bitwidth", float.bitwidth), ("float_bias_bitwidth", float.biasBitwidth)]
        where width == 16 {
          session.printer.report(
            Diagnostic(
              "option-without-effect", "--\(name) 16 changed 0 tensors: none is float and without a width of its own",
              severity: .warning))
        }
      }
    } else if quantize.hasSource {
      return FloatOptions.none
    } else {
      let half = try convertedToHalf(
        graph, floatBitwidth: float.bitwidth ?? 32, floatBiasBitwidth: float.biasBitwidth)
      graph = half.graph
      session.printer.report(half.notes)
    }
    return float.effective
  }

  /// With or without the encodings of overrides and of the source.
  enum ExportFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
    case complete = "DLC_DEFAULT"
    case stripped = "DLC_STRIP_QUANT"
  }
}
