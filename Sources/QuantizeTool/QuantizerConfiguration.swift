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
  /// Keys that are given, by the side they are for; nil: both.
  private var given: [(key: String, side: Side?)] = []
  /// Whether there is a section at the top and one under `aimet_quantizer`.
  private var isTwice = false

  private enum Side: String { case act, param }

  /// What no file says.
  init() {}

  /// Whether the file says anything about quantizing.
  var isEmpty: Bool { given.isEmpty && maskDistance == nil && recovery.isEmpty }

  /// Reads a file; every key that is not known is an error. The sections about inputs and outputs are qconvert's.
  init(path: String, besideIO: Bool = false) throws(Diagnostic) {
    var top = try ConfigurationMap(file: path)
    if var nested = try top.map("aimet_quantizer") {
      try read(&nested)
      try nested.finish(known: ["calibration"] + RecoveryConfiguration.keys)
      isTwice = top.keys.contains("calibration") && !given.isEmpty
    }
    try read(&top)
    if besideIO { for key in QuantizeOptions.ioSections { top.skip(key) } }
    try top.finish(
      known: QuantizeOptions.quantizerSections + (besideIO ? QuantizeOptions.ioSections : []))
  }

  /// Warnings of what in the file is not used; `isMixed` where single tensors have schemas of their own.
  func optionsWithoutEffect(_ options: QuantizerOptions, isMixed: Bool = false) -> [Diagnostic] {
    var found: [Diagnostic] = []
    if isTwice {
      found.append(
        Diagnostic(
          "config-twice",
          "calibration stands at the top of --config and under aimet_quantizer: what is at the top counts",
          severity: .warning))
    }
    let idle = given.filter { entry in
      let sides = entry.side.map { [$0] } ?? [.act, .param]
      return !sides.contains { isUsed(entry.key, $0, options, isMixed) }
    }
    if idle.count == given.count, maskDistance == nil, recovery.sections.isEmpty {
      let methods = Set([options.actCalibration, options.paramCalibration].map(\.rawValue)).sorted()
      found.append(
        Diagnostic(
          "option-without-effect",
          "--config changed nothing: calibration by \(methods.joined(separator: " and ")) has "
            + (given.isEmpty ? "nothing to read there" : "no such parameters"), severity: .warning))
      return found
    }
    for entry in idle {
      let name = entry.side.map { "\($0.rawValue)." } ?? ""
      found.append(
        Diagnostic(
          "option-without-effect",
          "calibration.\(name)\(entry.key) of --config changed nothing: "
            + "no calibration that it is for has a use for it", severity: .warning))
    }
    return found
  }

  /// Whether the calibration of a side looks at a parameter.
  private func isUsed(_ key: String, _ side: Side, _ options: QuantizerOptions, _ isMixed: Bool) -> Bool {
    let isAct = side == .act
    if isAct, options.actRule != .none { return false }
    let method = isAct ? options.actCalibration : options.paramCalibration
    let schema = isAct ? options.actSchema : options.paramSchema
    let isSearch = method == .sqnr || method == .mse
    switch key {
    case "percentile": return method == .percentile
    case "gamma": return method == .sqnr
    // Weights are searched on their own values.
    case "num_bins": return isAct ? method != .minMax : method == .percentile || method == .entropy
    case "symmetric_delta_candidates":
      let channels = !isAct && (options.perChannel || options.perRow)
      return isSearch && (schema != .asymmetric || channels || isMixed)
    case "delta_candidates", "offset_candidates":
      return isSearch && (schema != .symmetric || isMixed)
    default: return true
    }
  }

  private mutating func read(_ map: inout ConfigurationMap) throws(Diagnostic) {
    try recovery.read(&map)
    guard var calibration = try map.map("calibration") else { return }
    given += Self.parameters(of: calibration).map { ($0, nil) }
    try Self.read(&calibration, into: &act, again: &param)
    maskDistance = try calibration.double("mask_distance") ?? maskDistance
    for side in [\QuantizerConfiguration.act, \QuantizerConfiguration.param] {
      let name = side == \QuantizerConfiguration.act ? "act" : "param"
      guard var own = try calibration.map(name) else { continue }
      given += Self.parameters(of: own).map { ($0, Side(rawValue: name)) }
      var parameters = self[keyPath: side]
      var unused = parameters
      try Self.read(&own, into: &parameters, again: &unused)
      try own.finish(known: Array(parameters.normalized.keys))
      self[keyPath: side] = parameters
    }
    try calibration.finish(known: Array(act.normalized.keys) + ["act", "param", "mask_distance"])
  }

  private static func parameters(of map: ConfigurationMap) -> [String] {
    let known = CalibratorParameters().normalized
    return map.keys.filter { known[$0] != nil }
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
