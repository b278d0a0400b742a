import IR

/// From statistics to a range (`--act_quantizer_calibration`, `--param_quantizer_calibration`).
public enum CalibrationMethod: String, Sendable, Hashable, CaseIterable {
  /// The observed range.
  case minMax = "min-max"
  /// The grid of least squared error, clipped values counting gamma times (QNN's `enhanced`).
  case sqnr
  /// A share of the values clipped at each end.
  case percentile
  /// The grid of least squared error.
  case mse
  /// The range whose quantized histogram tells most of the histogram (least Kullback-Leibler
  /// divergence).
  case entropy
}

/// Rules of older tools that make a grid in place of a method and a schema (`--act_quantizer`,
/// `--param_quantizer`).
public enum RangeRule: String, Sendable, Hashable, CaseIterable {
  /// No rule: method and schema decide.
  case none
  /// The range widened by at most a tenth where that lowers the squared error; whole weights only.
  case adjusted
  /// Half the range, twice as fine (the lab's second method).
  case clip
}

/// What calibration methods can be told; the defaults are the command line's.
public struct CalibratorParameters: Sendable, Hashable {
  /// Share of the values, in percent, that is not beyond an end of the range (percentile).
  public var percentile = 99.99
  /// Most bins of a histogram that are looked at.
  public var bins = HistogramObserver.maximumBins
  /// Scales of the coarse asymmetric search; AIMET's number.
  public var asymmetricScales = 17
  /// Offsets of the coarse asymmetric search; AIMET's number.
  public var offsets = 21
  /// Scales of the coarse symmetric search; AIMET's number.
  public var symmetricScales = 101
  /// Weight of the squared error of a clipped value (sqnr).
  public var gamma = 3.0

  /// The defaults.
  public init() {}

  /// Throws a usage diagnostic that names the parameter which is out of range.
  public func validate() throws(Diagnostic) {
    func check(_ name: String, _ isGood: Bool, _ need: String) throws(Diagnostic) {
      guard isGood else {
        throw Diagnostic(
          "bad-parameter", "\(name) is \(normalized[name] ?? ""), it must be \(need)", kind: .usage)
      }
    }
    try check("percentile", (90...100).contains(percentile), "90 to 100")
    try check(
      "num_bins", (16...HistogramObserver.maximumBins).contains(bins),
      "16 to \(HistogramObserver.maximumBins)")
    try check("delta_candidates", (2...1000).contains(asymmetricScales), "2 to 1000")
    try check("offset_candidates", (2...1000).contains(offsets), "2 to 1000")
    try check("symmetric_delta_candidates", (2...10_000).contains(symmetricScales), "2 to 10000")
    try check("gamma", gamma.isFinite && (1...1000).contains(gamma), "1 to 1000")
  }

  /// Names and values as a configuration file has them.
  public var normalized: [String: String] {
    [
      "percentile": "\(percentile)", "num_bins": "\(bins)",
      "delta_candidates": "\(asymmetricScales)", "offset_candidates": "\(offsets)",
      "symmetric_delta_candidates": "\(symmetricScales)", "gamma": "\(gamma)",
    ]
  }
}
