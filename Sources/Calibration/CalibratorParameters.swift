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
}
