import Calibration
import IR

/// What activations are observed on (`--calibration_order`).
public enum CalibrationOrder: String, Sendable, Hashable, CaseIterable {
  /// The float graph, all tensors at once.
  case simultaneous
  /// Each tensor with everything before it quantized.
  case sequential
}

/// What the command line decides about encodings; the defaults are the command line's.
public struct QuantizerOptions: Sendable, Hashable {
  /// Bits of activations: 8 or 16.
  public var actBitwidth = 8
  /// Bits of weights: 4, 8 or 16.
  public var weightsBitwidth = 8
  /// Bits of biases: 8 or 32.
  public var biasBitwidth = 8
  /// From statistics to ranges of activations.
  public var actCalibration = CalibrationMethod.minMax
  /// From values to ranges of weights and of constants among activations; biases keep their range.
  public var paramCalibration = CalibrationMethod.minMax
  /// Parameters of the method of activations.
  public var actParameters = CalibratorParameters()
  /// Parameters of the method of weights.
  public var paramParameters = CalibratorParameters()
  /// A rule that makes grids of activations in place of method and schema: `clip` or none.
  public var actRule = RangeRule.none
  /// A rule that makes grids of weights per tensor in place of method and schema.
  public var paramRule = RangeRule.none
  /// How symmetric grids of weights get their scale from a range.
  public var symmetricRule = SymmetricRule.qnn
  /// Symmetric grids leave the lowest code unused.
  public var strictSymmetric = false
  /// The codes that symmetric grids may use, all where nil.
  public var steps: QuantizationSteps?
  /// What activations are observed on; statistics themselves carry the choice.
  public var calibrationOrder = CalibrationOrder.simultaneous
  /// How far below the largest value of its row a masked position lies in a Softmax's input, at most
  /// ``Masking/distance``; less is finer steps for the scores, at 8 bits above all.
  public var maskDistance = Masking.distance
  /// NaN and infinities in samples and weights are left out.
  public var skipNonfinite = false
  /// How ranges of activations become grids.
  public var actSchema = QuantizerSchema.asymmetric
  /// How ranges of weights, other constants and 8-bit biases become grids; weights per channel are
  /// always symmetric.
  public var paramSchema = QuantizerSchema.asymmetric
  /// Schemas of single tensors in place of the ones above, by name (`--quantsim_config`).
  public var schemas: [String: QuantizerSchema] = [:]
  /// Whether single weights have a grid a channel in place of ``perChannel``, by name.
  public var channelGrids: [String: Bool] = [:]
  /// A grid for each output channel of convolutions.
  public var perChannel = false
  /// A grid for each row (output feature) of the weights of FullyConnected and MatMul.
  public var perRow = false
  /// 8-bit biases of layers with per-row weights get a grid for each row too.
  public var perRowBias = false
  /// 4-bit weights are stored two a byte.
  public var packs4BitWeights = false
  /// Weight grids are widened just enough for 32-bit biases to fit; without it such a bias gets the
  /// grid of its own range.
  public var adjustsBiasEncoding = true
  /// Weights of operators that stay float are stored quantized.
  public var keepsWeightsQuantized = false
  /// Patterns of names of operators that stay float.
  public var keepFloat: [String] = []
  /// Bits of tensors that stay float and have no width of their own: 16 or 32.
  public var floatBitwidth = 32
  /// Bits of float biases; nil: those of their operator.
  public var floatBiasBitwidth: Int?
  /// Data-invariant operators and Concat get encodings of their own instead of sharing.
  public var includeDataInvariantOps = false

  /// The defaults.
  public init() {}

  /// Throws a usage diagnostic where a width is not one the command line takes.
  public func validate() throws(Diagnostic) {
    func check(_ option: String, _ value: Int, _ allowed: [Int]) throws(Diagnostic) {
      guard allowed.contains(value) else {
        let list =
          allowed.dropLast().map(String.init).joined(separator: ", ") + " or \(allowed[allowed.count - 1])"
        throw Diagnostic(
          "bad-bitwidth", "--\(option) must be \(list), not \(value)", kind: .usage)
      }
    }
    try check("act_bitwidth", actBitwidth, [8, 16])
    try check("weights_bitwidth", weightsBitwidth, [4, 8, 16])
    try check("bias_bitwidth", biasBitwidth, [8, 32])
    try check("float_bitwidth", floatBitwidth, [16, 32])
    try check("float_bias_bitwidth", floatBiasBitwidth ?? 32, [16, 32])
    try actParameters.validate()
    try paramParameters.validate()
    guard (15...Masking.distance).contains(maskDistance) else {
      throw Diagnostic(
        "bad-parameter", "mask_distance is \(maskDistance), it must be 15 to \(Masking.distance)",
        hint: "e^-15 = 3e-7 is what a masked position keeps", kind: .usage)
    }
    guard actRule != .adjusted else {
      throw Diagnostic(
        "bad-rule", "the adjusted quantizer is one of weights, not of activations", kind: .usage)
    }
    if paramRule == .adjusted, weightsBitwidth > 8 {
      throw Diagnostic(
        "bad-rule",
        "the adjusted quantizer works with weights of at most 8 bits, not "
          + "\(weightsBitwidth)", hint: "use --param_quantizer_calibration sqnr", kind: .usage)
    }
    guard let steps else { return }
    if actSchema != .asymmetric { try steps.check(bitwidth: actBitwidth) }
    if paramSchema != .asymmetric || perChannel || perRow { try steps.check(bitwidth: weightsBitwidth) }
    if paramSchema != .asymmetric, biasBitwidth == 8 { try steps.check(bitwidth: 8) }
  }

  /// Whether activations cannot be calibrated from extrema alone.
  public var needsHistograms: Bool { actCalibration != .minMax && actRule == .none }

  /// What makes encodings of activations.
  public func actCalibrator(bitwidth: Int? = nil, schema: QuantizerSchema? = nil) -> Calibrator {
    Calibrator(
      method: actCalibration, schema: schema ?? actSchema, bitwidth: bitwidth ?? actBitwidth,
      strict: strictSymmetric, steps: steps, rule: actRule, parameters: actParameters)
  }

  /// What makes encodings of weights.
  public func paramCalibrator(bitwidth: Int? = nil, schema: QuantizerSchema? = nil) -> Calibrator {
    var calibrator = Calibrator(
      method: paramCalibration, schema: schema ?? paramSchema, bitwidth: bitwidth ?? weightsBitwidth,
      strict: strictSymmetric, steps: steps, rule: paramRule, parameters: paramParameters)
    calibrator.symmetricRule = symmetricRule
    return calibrator
  }

  /// What makes encodings of biases with a grid of their own: the parameters' schema, the whole range.
  public func biasCalibrator(bitwidth: Int) -> Calibrator {
    Calibrator(
      method: .minMax, schema: paramSchema, bitwidth: bitwidth, strict: strictSymmetric, steps: steps)
  }

  /// Every option that changes the result, with its value as on the command line, defaults
  /// included.
  public var normalized: [String: String] {
    var result = [
      "act_bitwidth": "\(actBitwidth)",
      "weights_bitwidth": "\(weightsBitwidth)",
      "bias_bitwidth": "\(biasBitwidth)",
      "float_bitwidth": "\(floatBitwidth)",
      "float_bias_bitwidth": floatBiasBitwidth.map(String.init) ?? "none",
      "act_quantizer": actRule.rawValue,
      "param_quantizer": paramRule.rawValue,
      "act_quantizer_calibration": actCalibration.rawValue,
      "param_quantizer_calibration": paramCalibration.rawValue,
      "restrict_quantization_steps": steps?.description ?? "none",
      "symmetric_rule": symmetricRule.rawValue,
      "strict_symmetric": "\(strictSymmetric)",
      "mask_distance": "\(maskDistance)",
      "calibration_order": calibrationOrder.rawValue,
      "skip_nonfinite": "\(skipNonfinite)",
      "act_quantizer_schema": actSchema.rawValue,
      "param_quantizer_schema": paramSchema.rawValue,
      "use_per_channel_quantization": "\(perChannel)",
      "use_per_row_quantization": "\(perRow)",
      "enable_per_row_quantized_bias": "\(perRowBias)",
      "pack_4_bit_weights": "\(packs4BitWeights)",
      "adjust_bias_encoding": "\(adjustsBiasEncoding)",
      "keep_weights_quantized": "\(keepsWeightsQuantized)",
      "keep_float": keepFloat.sorted().joined(separator: " "),
      "include_data_invariant_ops": "\(includeDataInvariantOps)",
    ]
    for (side, parameters) in [("act", actParameters), ("param", paramParameters)] {
      for (name, value) in parameters.normalized { result["\(side).\(name)"] = value }
    }
    return result
  }
}
