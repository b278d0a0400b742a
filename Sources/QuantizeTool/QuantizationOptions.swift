import Calibration
import ArgumentParser
import IR
import Quantizer
import ToolKit

/// How ranges become encodings.
struct QuantizationOptions: ParsableArguments {
  @Option(
    name: [.customLong("weights_bitwidth"), .customLong("weight_bw")],
    help: ArgumentHelp("Bits of weights: 4, 8 or 16 (default: 8).", valueName: "bits"))
  var weightsBitwidth: Int?
  @Option(
    name: [.customLong("act_bitwidth"), .customLong("act_bw")],
    help: ArgumentHelp("Bits of activations: 8 or 16 (default: 8).", valueName: "bits"))
  var actBitwidth: Int?
  @Option(
    name: [.customLong("bias_bitwidth"), .customLong("bias_bw")],
    help: ArgumentHelp("Bits of biases: 8 or 32 (default: 8).", valueName: "bits"))
  var biasBitwidth: Int?
  @Option(
    name: .customLong("act_quantizer_calibration"),
    help: "From observed values to ranges of activations (default: min-max).")
  var actCalibration: CalibrationMethod?
  @Option(
    name: .customLong("param_quantizer_calibration"),
    help: "From values to ranges of weights (default: min-max).")
  var paramCalibration: CalibrationMethod?
  @Option(
    name: .customLong("act_quantizer_schema"),
    help: "Grid of activations (default: asymmetric).")
  var actSchema: QuantizerSchema?
  @Option(
    name: .customLong("param_quantizer_schema"),
    help: "Grid of weights and other parameters (default: asymmetric).")
  var paramSchema: QuantizerSchema?
  @Option(
    name: .customLong("act_quantizer"),
    help: "Older spelling of calibration and schema together; \"enhanced weights\" names its side.")
  var actQuantizer: LegacyQuantizer?
  @Option(name: .customLong("param_quantizer"), help: "The same for weights.")
  var paramQuantizer: LegacyQuantizer?
  @Option(
    name: .customLong("percentile_calibration_value"),
    help: ArgumentHelp(
      "Share of the values inside each end of the range, 90 to 100 (default: 99.99).",
      valueName: "percent"))
  var percentile: Double?
  @Option(
    name: .customLong("restrict_quantization_steps"), parsing: .unconditional,
    help: ArgumentHelp(
      "Least and largest code of symmetric grids, \"-0x80 0x7F\" say.", valueName: "MIN MAX"))
  var restrictSteps: String?
  @Option(
    name: .customLong("calibration_order"),
    help: ArgumentHelp(
      "Observe all tensors on the float graph, or each with everything before it quantized (default: simultaneous)."))
  var calibrationOrder: CalibrationOrder?
  @Flag(
    name: .customLong("skip_nonfinite"),
    help: "Leave NaN and infinities out of samples and weights, and count them.")
  var skipNonfinite = false
  @Flag(
    name: .customLong("use_per_channel_quantization"),
    help: "A grid for each output channel of convolutions, symmetric.")
  var perChannel = false
  @Flag(
    name: .customLong("use_per_row_quantization"),
    help: "A grid for each row (output feature) of the weights of FullyConnected and MatMul, symmetric.")
  var perRow = false
  @Flag(
    name: .customLong("enable_per_row_quantized_bias"),
    help: "8-bit biases of layers with per-row weights get a grid for each row too.")
  var perRowBias = false
  @Flag(name: .customLong("pack_4_bit_weights"), help: "Store 4-bit weights two a byte.")
  var packs4BitWeights = false
  @Flag(help: "Widen weight grids where a 32-bit bias would overflow (default: yes).")
  var biasAdjustment: BiasAdjustment?
  @Flag(
    name: .customLong("keep_weights_quantized"),
    help: "Store the weights of operators that stay float quantized.")
  var keepsWeightsQuantized = false
  @Option(
    name: .customLong("keep_float"),
    help: ArgumentHelp("Leave the operators of these names in float; repeatable.", valueName: "glob"))
  var keepFloat: [String] = []
  @Flag(
    name: .customLong("use_aimet_quantizer"),
    help: "AIMET's defaults: symmetric weights per channel, biases of 32 bits.")
  var useAIMETQuantizer = false
  @Option(
    name: [.customShort("c"), .customLong("config")],
    help: ArgumentHelp("YAML file with parameters of calibration.", valueName: "file"))
  var config: String?
  @Flag(
    name: .customLong("include_data_invariant_ops"),
    help: "Operators that only move data get encodings of their own.")
  var includeDataInvariantOps = false

  func validate() throws {
    try exclude("act", quantizer(of: .activations), actSchema, actCalibration)
    try exclude("param", quantizer(of: .weights), paramSchema, paramCalibration)
    do throws(Diagnostic) {
      _ = try options()
    } catch {
      throw ValidationError(error.message)
    }
  }

  /// The legacy option, and its name, that speaks of a side; `enhanced weights` names its side itself,
  /// `adjusted` for activations is one of weights.
  private func quantizer(of side: LegacyQuantizer.Side) -> String? {
    if let act = actQuantizer {
      let own = act.side ?? (act.kind == .adjusted ? nil : .activations)
      if own == side || (own == nil && (side == .activations || paramQuantizer == nil)) {
        return "act_quantizer"
      }
    }
    if let param = paramQuantizer, (param.side ?? .weights) == side { return "param_quantizer" }
    return nil
  }

  /// A legacy option says all that the newer pair of its side says.
  private func exclude(
    _ side: String, _ legacy: String?, _ schema: QuantizerSchema?, _ method: CalibrationMethod?
  ) throws {
    guard let legacy else { return }
    for (name, isGiven) in [("schema", schema != nil), ("calibration", method != nil)] where isGiven {
      throw ValidationError("--\(legacy) and --\(side)_quantizer_\(name) exclude each other")
    }
  }

  /// Names of the options that are given.
  var given: [String] {
    let all: [(String, Bool)] = [
      ("weights_bitwidth", weightsBitwidth != nil), ("act_bitwidth", actBitwidth != nil),
      ("bias_bitwidth", biasBitwidth != nil), ("act_quantizer_calibration", actCalibration != nil),
      ("param_quantizer_calibration", paramCalibration != nil), ("act_quantizer_schema", actSchema != nil),
      ("param_quantizer_schema", paramSchema != nil), ("act_quantizer", actQuantizer != nil),
      ("param_quantizer", paramQuantizer != nil), ("percentile_calibration_value", percentile != nil),
      ("restrict_quantization_steps", restrictSteps != nil), ("calibration_order", calibrationOrder != nil),
      ("skip_nonfinite", skipNonfinite), ("use_per_channel_quantization", perChannel),
      ("use_per_row_quantization", perRow), ("enable_per_row_quantized_bias", perRowBias),
      ("pack_4_bit_weights", packs4BitWeights), ("adjust_bias_encoding", biasAdjustment != nil),
      ("keep_weights_quantized", keepsWeightsQuantized), ("keep_float", !keepFloat.isEmpty),
      ("use_aimet_quantizer", useAIMETQuantizer), ("config", config != nil),
      ("include_data_invariant_ops", includeDataInvariantOps),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// Warnings of options that the others leave without effect.
  func optionsWithoutEffect() throws(Diagnostic) -> [Diagnostic] {
    var options = QuantizerOptions()
    var found = try LegacyQuantizer.apply(act: actQuantizer, param: paramQuantizer, to: &options)
    if percentile != nil, actCalibration != .percentile, paramCalibration != .percentile {
      found.append(
        Diagnostic(
          "option-without-effect",
          "--percentile_calibration_value changed nothing: no calibration is percentile",
          severity: .warning))
    }
    return found
  }

  /// The quantizer's options; throws where one has a value that it cannot take. What the file says
  /// comes first: options win.
  func options(
    _ configuration: QuantizerConfiguration = .init()
  ) throws(Diagnostic) -> QuantizerOptions {
    var options = QuantizerOptions()
    options.weightsBitwidth = weightsBitwidth ?? 8
    options.actBitwidth = actBitwidth ?? 8
    options.biasBitwidth = biasBitwidth ?? (useAIMETQuantizer ? 32 : 8)
    options.perChannel = perChannel || useAIMETQuantizer
    if useAIMETQuantizer, paramQuantizer == nil {
      options.symmetricRule = .aimet
      options.paramSchema = .symmetric
    }
    options.actSchema = actSchema ?? options.actSchema
    options.paramSchema = paramSchema ?? options.paramSchema
    options.actCalibration = actCalibration ?? .minMax
    options.paramCalibration = paramCalibration ?? .minMax
    _ = try LegacyQuantizer.apply(act: actQuantizer, param: paramQuantizer, to: &options)
    options.actParameters = configuration.act
    options.paramParameters = configuration.param
    options.maskDistance = configuration.maskDistance ?? options.maskDistance
    if let percentile {
      options.actParameters.percentile = percentile
      options.paramParameters.percentile = percentile
    }
    options.steps = try restrictSteps.map { text throws(Diagnostic) in
      try QuantizationSteps(parsing: text)
    }
    options.calibrationOrder = calibrationOrder ?? .simultaneous
    options.skipNonfinite = skipNonfinite
    options.perRow = perRow
    options.perRowBias = perRowBias
    options.packs4BitWeights = packs4BitWeights
    options.adjustsBiasEncoding = biasAdjustment != .off
    options.keepsWeightsQuantized = keepsWeightsQuantized
    options.keepFloat = keepFloat
    options.includeDataInvariantOps = includeDataInvariantOps
    try options.validate()
    return options
  }
}

extension LegacyQuantizer: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
  public static var allValueStrings: [String] { names }
}

extension QuantizerSchema: ExpressibleByArgument {}
extension CalibrationOrder: ExpressibleByArgument {}
extension CalibrationMethod: ExpressibleByArgument {}

/// Whether weight grids give way to 32-bit biases.
enum BiasAdjustment: String, EnumerableFlag {
  case on, off

  static func name(for value: BiasAdjustment) -> NameSpecification {
    switch value {
    case .on: .customLong("adjust_bias_encoding")
    case .off: [.customLong("no-adjust_bias_encoding"), .customLong("no_adjust_bias_encoding")]
    }
  }
}
