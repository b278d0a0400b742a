import Calibration
import IR

/// What the command line decides about encodings; the defaults are the command line's.
public struct QuantizerOptions: Sendable, Hashable {
  /// Bits of activations: 8 or 16.
  public var actBitwidth = 8
  /// Bits of weights: 8 or 16.
  public var weightsBitwidth = 8
  /// Bits of biases: 8 or 32.
  public var biasBitwidth = 8
  /// How ranges of activations become grids.
  public var actSchema = QuantizerSchema.asymmetric
  /// How ranges of weights, other constants and 8-bit biases become grids; weights per channel are
  /// always symmetric.
  public var paramSchema = QuantizerSchema.asymmetric
  /// A grid for each output channel of convolutions.
  public var perChannel = false
  /// Data-invariant operators and Concat get encodings of their own instead of sharing.
  public var includeDataInvariantOps = false

  /// The defaults.
  public init() {}

  /// Throws a usage diagnostic where a width is not one the command line takes.
  public func validate() throws(Diagnostic) {
    func check(_ option: String, _ value: Int, _ allowed: [Int]) throws(Diagnostic) {
      guard allowed.contains(value) else {
        let list = allowed.map(String.init).joined(separator: " or ")
        throw Diagnostic(
          "bad-bitwidth", "--\(option) must be \(list), not \(value)", kind: .usage)
      }
    }
    try check("act_bitwidth", actBitwidth, [8, 16])
    try check("weights_bitwidth", weightsBitwidth, [8, 16])
    try check("bias_bitwidth", biasBitwidth, [8, 32])
  }

  /// Every option that changes the result, with its value as on the command line, defaults
  /// included.
  public var normalized: [String: String] {
    [
      "act_bitwidth": "\(actBitwidth)",
      "weights_bitwidth": "\(weightsBitwidth)",
      "bias_bitwidth": "\(biasBitwidth)",
      "act_quantizer_calibration": "min-max",
      "param_quantizer_calibration": "min-max",
      "act_quantizer_schema": actSchema.rawValue,
      "param_quantizer_schema": paramSchema.rawValue,
      "use_per_channel_quantization": "\(perChannel)",
      "include_data_invariant_ops": "\(includeDataInvariantOps)",
    ]
  }
}
