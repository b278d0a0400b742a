import ArgumentParser
import Container
import IR
import Operators
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
  @Flag(
    name: .customLong("dry_run"),
    help: "Do all checks, tell what would be quantized, run and write nothing.")
  var dryRun = false
  @OptionGroup var depfile: DepfileOption
  @OptionGroup var common: CommonOptions

  static func main() { ToolProgram.main(QQuantize.self) }

  /// Where the container goes; nil where only statistics are wanted.
  private var output: String? {
    if let outputDLC { return outputDLC }
    if calibration.saveStats != nil { return nil }
    return FileReading.withoutExtension(inputDLC) + "_quantized.dlc"
  }

  func validate() throws {
    if quantization.calibrationOrder == .sequential, calibration.inputList == nil {
      throw ValidationError("--calibration_order sequential needs --input_list")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let configuration = try quantization.config.map { (path) throws(Diagnostic) in
      try QuantizerConfiguration(path: path)
    }
    let options = try quantization.options(configuration ?? .init())
    if let configuration { session.printer.report(configuration.optionsWithoutEffect(options)) }
    session.noteInputs([quantization.config].compactMap { $0 })
    var file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: inputDLC, registry: .standard)
    }
    session.noteInputs([inputDLC])
    if file.graph.isMaterialized {
      session.printer.report(
        Diagnostic(
          "already-quantized", "the container is quantized already: its weights are dequantized first",
          at: Diagnostic.Location(file: inputDLC), hint: "quantize the float container instead",
          severity: .warning))
      file.graph = file.graph.dematerialized()
    }
    let samples = try session.phase("check samples") { () throws(Diagnostic) in
      try calibration.samples(of: &file.graph, session)
    }
    try session.checkOutputs(main: output, others: [calibration.saveStats, depfile.depfile])
    session.printer.report(try optionsWithoutEffect(options))
    // Made before the work, so that a rule that cannot be written costs no inference.
    let rule = try depfile.depfile.map { (_) throws(Diagnostic) in
      try session.dependencies(of: output ?? calibration.saveStats ?? inputDLC)
    }
    if dryRun, samples != nil {
      try session.printResult(Placement.table(file.graph, options))
      return .done
    }
    let statistics = try calibration.statistics(file.graph, samples, options, session)
    try session.printer.checkWarnings()
    if let path = calibration.saveStats, !dryRun {
      try session.phase("write") { () throws(Diagnostic) in
        try AtomicFile.write(Bytes(try statistics.encoded()), to: path)
      }
    }
    if let output {
      var effective = options.normalized
      effective["output_tensors"] = EffectiveOptions.list(samples?.addedOutputs.sorted() ?? [])
      file.annotations.options.merge(effective) { $1 }
      var used = statistics
      if options.calibrationOrder == .sequential, let samples {
        used = try calibration.sequential(file.graph, statistics, samples, options, session)
      }
      try quantize(&file, used, options, to: output, session)
    }
    if let rule, let path = depfile.depfile, !dryRun { try AtomicFile.write(rule, to: path) }
    return .done
  }

  /// Warnings of options that this run has no use for.
  private func optionsWithoutEffect(_ options: QuantizerOptions) throws(Diagnostic) -> [Diagnostic] {
    var found = calibration.optionsWithoutEffect + (try quantization.optionsWithoutEffect())
    if output == nil {
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

  /// Gives the graph its encodings, turns it into fixed point and writes the container.
  private func quantize(
    _ file: inout ContainerFile, _ statistics: Statistics, _ options: QuantizerOptions,
    to output: String, _ session: ToolSession
  ) throws(Diagnostic) {
    let before = Placement.parameterBytes(file.graph)
    let result = try session.phase("encodings") { () throws(Diagnostic) in
      try assignEncodings(
        file.graph, statistics: statistics, options: options, jobs: calibration.jobs.threads)
    }
    session.printer.report(result.notes)
    file.graph = try session.phase("weights") { () throws(Diagnostic) in
      try result.materialized()
    }
    file.annotations.calibrationHash = statistics.calibrationHash.hex
    file.annotations.calibrationCount = statistics.sampleCount
    file.metadata.converterCommand = EffectiveOptions.command(file.annotations.options)
    file.metadata.converterVersion = "qtools \(ToolIdentity.version)"
    try session.printer.checkWarnings()
    if !dryRun {
      let finished = file
      try session.phase("write") { () throws(Diagnostic) in
        TemporaryFiles.announce(output)
        try ContainerWriter.write(finished, to: output)
      }
    }
    let sources = EncodingSource.allCases.compactMap { source in
      result.coverage[source].map { "\($0) \(source.rawValue)" }
    }
    try session.printSummary(
      """
      \(output): \(statistics.sampleCount) samples; encodings: \
      \(sources.joined(separator: ", ")); parameters \(byteText(before)) -> \
      \(byteText(Placement.parameterBytes(file.graph)))
      """)
  }
}
