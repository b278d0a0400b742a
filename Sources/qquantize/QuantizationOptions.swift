import Calibration
import ArgumentParser
import IR
import Quantizer
import ToolKit

/// How ranges become encodings.
struct QuantizationOptions: ParsableArguments {
  @Option(
    name: [.customLong("weights_bitwidth"), .customLong("weight_bw")],
    help: ArgumentHelp("Bits of weights: 8 or 16.", valueName: "bits"))
  var weightsBitwidth = 8
  @Option(
    name: [.customLong("act_bitwidth"), .customLong("act_bw")],
    help: ArgumentHelp("Bits of activations: 8 or 16.", valueName: "bits"))
  var actBitwidth = 8
  @Option(
    name: [.customLong("bias_bitwidth"), .customLong("bias_bw")],
    help: ArgumentHelp("Bits of biases: 8 or 32.", valueName: "bits"))
  var biasBitwidth = 8
  @Option(
    name: .customLong("act_quantizer_schema"),
    help: "Grid of activations (default: asymmetric).")
  var actSchema: QuantizerSchema?
  @Option(
    name: .customLong("param_quantizer_schema"),
    help: "Grid of weights and other parameters (default: asymmetric).")
  var paramSchema: QuantizerSchema?
  @Option(
    name: .customLong("act_quantizer"), help: "Older spelling of --act_quantizer_schema.")
  var actQuantizer: LegacyQuantizer?
  @Option(
    name: .customLong("param_quantizer"), help: "Older spelling of --param_quantizer_schema.")
  var paramQuantizer: LegacyQuantizer?
  @Flag(
    name: .customLong("use_per_channel_quantization"),
    help: "A grid for each output channel of convolutions, symmetric.")
  var perChannel = false
  @Flag(
    name: .customLong("include_data_invariant_ops"),
    help: "Operators that only move data get encodings of their own.")
  var includeDataInvariantOps = false

  func validate() throws {
    if actQuantizer != nil, actSchema != nil {
      throw ValidationError("--act_quantizer and --act_quantizer_schema exclude each other")
    }
    if paramQuantizer != nil, paramSchema != nil {
      throw ValidationError("--param_quantizer and --param_quantizer_schema exclude each other")
    }
    do throws(Diagnostic) {
      _ = try options()
    } catch {
      throw ValidationError(error.message)
    }
  }

  /// The quantizer's options; throws where a width is none it takes.
  func options() throws(Diagnostic) -> QuantizerOptions {
    var options = QuantizerOptions()
    options.weightsBitwidth = weightsBitwidth
    options.actBitwidth = actBitwidth
    options.biasBitwidth = biasBitwidth
    options.actSchema = actSchema ?? actQuantizer?.schema ?? .asymmetric
    options.paramSchema = paramSchema ?? paramQuantizer?.schema ?? .asymmetric
    options.perChannel = perChannel
    options.includeDataInvariantOps = includeDataInvariantOps
    try options.validate()
    return options
  }
}

/// Quantizers by their names in older tools.
enum LegacyQuantizer: String, ExpressibleByArgument, CaseIterable, Sendable {
  case tf, symmetric

  /// The schema this means.
  var schema: QuantizerSchema { self == .tf ? .asymmetric : .symmetric }
}

extension QuantizerSchema: ExpressibleByArgument {}
