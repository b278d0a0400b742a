import Calibration
import IR
import Quantizer
import ToolKit

/// What a YAML file says about calibration (`-c`, `--config`); for the algorithms see
/// ``RecoveryConfiguration``:
///
/// ```yaml
/// aimet_quantizer:        # may be left out: its keys then stand at the top
///   calibration:          # both sides
///     num_bins: 2048      # most bins of a histogram, 16 to 4096
///     gamma: 3            # weight of clipped values (sqnr)
///     percentile: 99.9    # share inside each end of the range (percentile)
///     delta_candidates: 17             # coarse search, asymmetric grids
///     offset_candidates: 21
///     symmetric_delta_candidates: 101  # coarse search, symmetric grids
///     mask_distance: 40                # of masked positions from a Softmax's largest, 15 to 40
///     act:                # one side; the same keys
///       gamma: 2
///     param:
///       gamma: 4
/// ```
struct QuantizerConfiguration: Sendable {
  var act = CalibratorParameters()
  var param = CalibratorParameters()
  var maskDistance: Double?
  var recovery = RecoveryConfiguration()

  /// What no file says.
  init() {}

  /// Reads a file; every key that is not known is an error.
  init(path: String) throws(Diagnostic) {
    var top = try ConfigurationMap(file: path)
    if var nested = try top.map("aimet_quantizer") {
      try read(&nested)
      try nested.finish(known: ["calibration"] + RecoveryConfiguration.keys)
    }
    try read(&top)
    try top.finish(known: ["aimet_quantizer", "calibration"] + RecoveryConfiguration.keys)
  }

  /// A warning where nothing in the file is used.
  func optionsWithoutEffect(_ options: QuantizerOptions) -> [Diagnostic] {
    guard options.actCalibration == .minMax, options.paramCalibration == .minMax, maskDistance == nil,
      recovery.sections.isEmpty
    else { return [] }
    return [
      Diagnostic(
        "option-without-effect",
        "--config changed nothing: calibration by min-max has no parameters", severity: .warning)
    ]
  }

  private mutating func read(_ map: inout ConfigurationMap) throws(Diagnostic) {
    try recovery.read(&map)
    guard var calibration = try map.map("calibration") else { return }
    try Self.read(&calibration, into: &act, again: &param)
    maskDistance = try calibration.double("mask_distance") ?? maskDistance
    for side in [\QuantizerConfiguration.act, \QuantizerConfiguration.param] {
      let name = side == \QuantizerConfiguration.act ? "act" : "param"
      guard var own = try calibration.map(name) else { continue }
      var parameters = self[keyPath: side]
      var unused = parameters
      try Self.read(&own, into: &parameters, again: &unused)
      try own.finish(known: Array(parameters.normalized.keys))
      self[keyPath: side] = parameters
    }
    try calibration.finish(known: Array(act.normalized.keys) + ["act", "param", "mask_distance"])
  }

  /// Reads the parameters that a map names into two sets of them.
  private static func read(
    _ map: inout ConfigurationMap, into first: inout CalibratorParameters,
    again second: inout CalibratorParameters
  ) throws(Diagnostic) {
    let percentile = try map.double("percentile")
    let gamma = try map.double("gamma")
    let bins = try map.int("num_bins")
    let scales = try map.int("delta_candidates")
    let offsets = try map.int("offset_candidates")
    let symmetric = try map.int("symmetric_delta_candidates")
    func apply(_ parameters: inout CalibratorParameters) {
      parameters.percentile = percentile ?? parameters.percentile
      parameters.gamma = gamma ?? parameters.gamma
      parameters.bins = bins ?? parameters.bins
      parameters.asymmetricScales = scales ?? parameters.asymmetricScales
      parameters.offsets = offsets ?? parameters.offsets
      parameters.symmetricScales = symmetric ?? parameters.symmetricScales
    }
    apply(&first)
    apply(&second)
    do throws(Diagnostic) {
      try first.validate()
    } catch {
      throw map.failure(error.message)
    }
  }
}
