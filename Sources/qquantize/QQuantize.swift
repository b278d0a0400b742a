import ArgumentParser
import Container
import IR
import Operators
import QuantizeTool
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
  @OptionGroup var quantize: QuantizeOptions
  @Flag(
    name: .customLong("dry_run"),
    help: "Do all checks, tell what would be quantized, run and write nothing.")
  var dryRun = false
  @OptionGroup var depfile: DepfileOption
  @OptionGroup var common: CommonOptions

  static func main() { ToolProgram.main(QQuantize.self) }

  func validate() throws {
    if !quantize.hasSource {
      throw ValidationError(
        "One of --input_list, --load_stats and --enable_float_fallback is required")
    }
  }

  /// Where the container goes; nil where only statistics are wanted.
  private var output: String? {
    if let outputDLC { return outputDLC }
    return quantize.savesStatistics ? nil : FileReading.withoutExtension(inputDLC) + "_quantized.dlc"
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let options = try quantize.quantizerOptions(session)
    session.printer.report(quantize.target.notes)
    let file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: inputDLC, registry: .standard)
    }
    session.noteInputs([inputDLC])
    try quantize.quantize(
      file, options,
      QuantizePlace(
        input: inputDLC, output: output, outputOption: "--output_dlc", depfile: depfile.depfile, dryRun: dryRun),
      session)
    return .done
  }
}
