import ArgumentParser
import Container
import EncodingTool
import IR
import Operators
import QuantizeTool
import Quantizer
import Runtime
import ToolKit

/// Float container to fixed-point container.
@main
struct QQuantize: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "qquantize", abstract: "Calibrates a container and quantizes it.",
    usage: """
      qquantize --input_dlc model.dlc --input_list calibration.txt --output_dlc model_q.dlc [options]
      """,
    version: ToolIdentity.version)

  @Option(
    name: [.customShort("i"), .customLong("input_dlc")],
    help: ArgumentHelp("The container to quantize.", valueName: "model.dlc"))
  var inputDLC: String
  @Option(
    name: [.customShort("o"), .customLong("output_dlc")],
    help: ArgumentHelp(
      "The quantized container (default: NAME_quantized.dlc, none with --save_stats).",
      valueName: "model_q.dlc"))
  var outputDLC: String?
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var quantization: QuantizationOptions
  @OptionGroup var overrides: OverrideOptions
  @Flag(
    name: [.customLong("ignore_quantization_overrides"), .customLong("ignore_encodings")],
    help: "Calibrate all tensors: leave out encodings of overrides and of the source.")
  var ignoresOverrides = false
  @OptionGroup var encodings: EncodingDumpOptions
  @OptionGroup var quantsim: QuantsimOptions
  @OptionGroup var float: FloatOptions
  @OptionGroup var preserve: PreserveOptions
  @OptionGroup var target: TargetOptions
  @Option(
    name: .customLong("export_stripped_dlc"), defaultAsFlag: "",
    help: ArgumentHelp(
      "Write the float container without encodings too (default name: NAME_stripped.dlc).",
      valueName: "file"))
  var strippedDLC: String?
  @Flag(
    name: .customLong("use_native_output_files"),
    help: "Accepted: qquantize writes no outputs of samples.")
  var nativeOutputs = false
  @Flag(
    name: .customLong("dry_run"),
    help: "Do all checks, tell what would be quantized, run and write nothing.")
  var dryRun = false
  @OptionGroup var depfile: DepfileOption
  @OptionGroup var common: CommonOptions

  static func main() { ToolProgram.main(QQuantize.self) }

  func validate() throws {
    if ignoresOverrides, overrides.isGiven {
      throw ValidationError("--ignore_quantization_overrides and --quantization_overrides exclude each other")
    }
    if ignoresOverrides, calibration.floatFallback {
      throw ValidationError("--ignore_quantization_overrides and --enable_float_fallback exclude each other")
    }
    if quantization.calibrationOrder == .sequential, calibration.inputList == nil {
      throw ValidationError("--calibration_order sequential needs --input_list")
    }
    let others = [
      ("--act_quantizer_schema", quantization.actSchema != nil),
      ("--param_quantizer_schema", quantization.paramSchema != nil),
      ("--act_quantizer", quantization.actQuantizer != nil), ("--param_quantizer", quantization.paramQuantizer != nil),
      ("--use_per_row_quantization", quantization.perRow), ("--use_per_channel_quantization", quantization.perChannel),
    ]
    if quantsim.isGiven, let other = others.first(where: \.1) {
      throw ValidationError("--quantsim_config and \(other.0) exclude each other")
    }
  }

  /// Where the container goes; nil where only statistics are wanted.
  private var output: String? {
    if let outputDLC { return outputDLC }
    if calibration.saveStats != nil { return nil }
    return FileReading.withoutExtension(inputDLC) + "_quantized.dlc"
  }

  /// Where the stripped container goes, nil where none is wanted.
  private var stripped: String? {
    strippedDLC.map { $0.isEmpty ? FileReading.withoutExtension(inputDLC) + "_stripped.dlc" : $0 }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let configuration = try quantization.config.map { (path) throws(Diagnostic) in
      try QuantizerConfiguration(path: path)
    }
    var options = try quantization.options(configuration ?? .init())
    float.apply(to: &options)
    session.printer.report(target.notes)
    if let configuration { session.printer.report(configuration.optionsWithoutEffect(options)) }
    session.noteInputs([quantization.config].compactMap { $0 })
    var file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: inputDLC, registry: .standard)
    }
    session.noteInputs([inputDLC])
    let inputs = SampleInput.inputs(of: file.graph, native: calibration.nativeInputs)
    if file.graph.isMaterialized {
      session.printer.report(
        Diagnostic(
          "already-quantized", "the container is quantized already: its weights are dequantized first",
          at: Diagnostic.Location(file: inputDLC), hint: "quantize the float container instead",
          severity: .warning))
      file.graph = file.graph.dematerialized()
    }
    overrides.noteInputs(session)
    try applyOverrides(to: &file, session)
    let source = file
    let quantsimHash = try quantsim.apply(to: &file.graph, &options, session)
    let samples = try session.phase("check samples") { () throws(Diagnostic) in
      try calibration.samples(of: &file.graph, inputs: inputs, session)
    }
    try session.checkOutputs(
      main: output,
      others: [calibration.saveStats, stripped, output.flatMap(encodings.path(beside:)), depfile.depfile])
    session.printer.report(try optionsWithoutEffect(options))
    // Made before the work, so that a rule that cannot be written costs no inference.
    let rule = try depfile.depfile.map { (_) throws(Diagnostic) in
      try session.dependencies(of: output ?? calibration.saveStats ?? inputDLC)
    }
    if dryRun, samples != nil {
      try session.printResult(
        Placement.table(
          try keepingFloat(file.graph, options.keepFloat).graph, options))
      return .done
    }
    let statistics: Statistics? =
      calibration.floatFallback
      ? nil : try calibration.statistics(file.graph, samples, options, session)
    try session.printer.checkWarnings()
    if let path = stripped, !dryRun { try writeStripped(source, to: path, session) }
    if let path = calibration.saveStats, let statistics, !dryRun {
      try session.phase("write") { () throws(Diagnostic) in
        try AtomicFile.write(Bytes(try statistics.encoded()), to: path)
      }
    }
    if let output {
      var effective = options.normalized
      effective["quantsim_config"] = quantsimHash
      effective["ignore_quantization_overrides"] = "\(ignoresOverrides)"
      effective["enable_float_fallback"] = "\(calibration.floatFallback)"
      effective.merge(preserve.effective) { $1 }
      effective["output_tensors"] = EffectiveOptions.list(samples?.addedOutputs.sorted() ?? [])
      file.annotations.options.merge(effective) { $1 }
      var used = statistics
      if options.calibrationOrder == .sequential, let samples, let statistics {
        used = try calibration.sequential(file.graph, statistics, samples, options, session)
      }
      try quantize(&file, used, options, to: output, session)
    }
    if let rule, let path = depfile.depfile, !dryRun { try AtomicFile.write(rule, to: path) }
    return .done
  }

  /// Leaves out the encodings that the container was given, or adds those of a file.
  private func applyOverrides(
    to file: inout ContainerFile, _ session: ToolSession
  ) throws(Diagnostic) {
    if ignoresOverrides {
      if !file.graph.tensors.contains(where: { $0.state != .open || $0.bitwidth != nil }) {
        session.printer.report(
          Diagnostic(
            "option-without-effect", "--ignore_quantization_overrides changed 0 tensors: none has an encoding",
            severity: .warning))
      }
      file.graph = file.graph.withoutGivenEncodings()
      file.annotations.options.merge(OverrideOptions.none) { $1 }
    } else if let record = try overrides.apply(to: &file.graph, session) {
      file.annotations.options.merge(record) { $1 }
    }
  }

  /// Warnings of options that this run has no use for.
  private func optionsWithoutEffect(_ options: QuantizerOptions) throws(Diagnostic) -> [Diagnostic] {
    var found = calibration.optionsWithoutEffect + (try quantization.optionsWithoutEffect())
    if nativeOutputs {
      found.append(
        Diagnostic(
          "option-without-effect",
          "--use_native_output_files changed nothing: qquantize writes no outputs of samples",
          severity: .warning))
    }
    if output == nil {
      if encodings.isGiven {
        found.append(
          Diagnostic(
            "option-without-effect",
            "--dump_encoding_json changed nothing: without --output_dlc only statistics are written",
            severity: .warning))
      }
      let defaults = QuantizerOptions().normalized
      for (name, value) in options.normalized.sorted(by: { $0.key < $1.key })
      where defaults[name] != value && name != "skip_nonfinite" {
        found.append(
          Diagnostic(
            "option-without-effect",
            "--\(name) changed nothing: without --output_dlc only statistics are written",
            severity: .warning))
      }
    }
    return found
  }

  /// Writes the float container without encodings.
  private func writeStripped(
    _ file: ContainerFile, to path: String, _ session: ToolSession
  ) throws(Diagnostic) {
    var file = file
    file.graph = file.graph.strippedOfEncodings()
    file.annotations.options.merge(OverrideOptions.none) { $1 }
    file.metadata.converterCommand = EffectiveOptions.command(file.annotations.options)
    let finished = file
    try session.phase("write") { () throws(Diagnostic) in
      TemporaryFiles.announce(path)
      try ContainerWriter.write(finished, to: path)
    }
  }

  /// Gives the graph its encodings, turns it into fixed point and writes the container.
  private func quantize(
    _ file: inout ContainerFile, _ statistics: Statistics?, _ options: QuantizerOptions,
    to output: String, _ session: ToolSession
  ) throws(Diagnostic) {
    let before = Placement.parameterBytes(file.graph)
    let names = Set(file.graph.tensors.map(\.name))
    let decided = file.graph.decidedByOverride
    let result = try session.phase("encodings") { () throws(Diagnostic) in
      calibration.floatFallback
        ? try assignFloatFallback(file.graph, options: options)
        : try assignEncodings(
          file.graph, statistics: statistics, options: options, jobs: calibration.jobs.threads)
    }
    session.printer.report(result.notes)
    if let failure = Diagnostic.combining(result.graph.operandWidthProblems(decided: decided)) { throw failure }
    try overrides.checkCoverage(EncodingCoverage.gaps(of: result.graph))
    let dump = try encodings.isGiven ? encodings.text(result.graph, names: names) : nil
    file.graph = try session.phase("weights") { () throws(Diagnostic) in
      try preserve.apply(to: try result.materialized(), session)
    }
    file.annotations.calibrationHash = statistics?.calibrationHash.hex
    file.annotations.calibrationCount = statistics?.sampleCount
    file.metadata.converterCommand = EffectiveOptions.command(file.annotations.options)
    file.metadata.converterVersion = "qtools \(ToolIdentity.version)"
    try session.printer.checkWarnings()
    if !dryRun {
      let finished = file
      try session.phase("write") { () throws(Diagnostic) in
        TemporaryFiles.announce(output)
        try ContainerWriter.write(finished, to: output)
        if let dump, let path = encodings.path(beside: output) { try AtomicFile.write(dump, to: path) }
      }
    }
    let sources = EncodingSource.allCases.compactMap { source in
      result.coverage[source].map { "\($0) \(source.rawValue)" }
    }
    try session.printSummary(
      """
      \(output): \(statistics?.sampleCount ?? 0) samples; encodings: \
      \(sources.joined(separator: ", ")); parameters \(byteText(before)) -> \
      \(byteText(Placement.parameterBytes(file.graph)))
      """)
  }
}
