import ArgumentParser
import EncodingFiles
import IR
import Quantizer
import ToolKit

/// AIMET's runtime configuration.
public struct QuantsimOptions: ParsableArguments {
  @Option(
    name: .customLong("quantsim_config"),
    help: ArgumentHelp("What is quantized and how, by operator, in AIMET's layout.", valueName: "file"))
  var file: String?

  /// For the parser.
  public init() {}

  /// Whether a file is given.
  public var isGiven: Bool { file != nil }

  /// Applies the configuration to what overrides leave open, and gives what a container records of it: the
  /// hash of the file.
  public func apply(
    to graph: inout Graph, _ options: inout QuantizerOptions, _ session: ToolSession
  ) throws(Diagnostic) -> String {
    guard let file else { return EffectiveOptions.none }
    session.noteInputs([file])
    let plan: QuantsimPlan
    do throws(Diagnostic) {
      let config = try QuantsimConfig(decoding: FileReading.bytes(of: file).array(of: UInt8.self))
      plan = try QuantsimPlan(graph, config, options: options)
    } catch {
      throw error.inFile(file)
    }
    session.printer.report(plan.notes.map { $0.inFile(file) })
    graph = plan.graph
    options = plan.options
    return try FileReading.sha256(of: [file])
  }
}
