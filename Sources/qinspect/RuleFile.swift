import IR
import Inspection
import ToolKit

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What `--rules FILE` says: how grave each built-in rule is, limits, rules of the user's.
///
///     severity: {symmetric-weights: error, norm-16-bit: "off"}
///     limits: {range: 100}
///     rules:
///       wide-logits: {operators: FullyConnected, place: output, bitwidth: 16}
struct RuleFile {
  var severities: [String: EncodingRule.Severity] = [:]
  var limits = EncodingRule.Limits()
  var rules: [CustomRule] = []

  /// No file: the built-in rules as they are.
  init() {}

  /// Reads a file; unknown keys, rules and words are errors.
  init(path: String) throws(Diagnostic) {
    var top = try ConfigurationMap(file: path)
    let names = EncodingRule.builtIn.map(\.name)
    if var map = try top.map("severity") {
      for name in names {
        if let word = try map.string(name) { severities[name] = try RuleFile.severity(word, map) }
      }
      try map.finish(known: names)
    }
    if var map = try top.map("limits") {
      limits.range = try map.double("range") ?? limits.range
      limits.concatGrowth = try map.double("concat_growth") ?? limits.concatGrowth
      limits.biasScale = try map.double("bias_scale") ?? limits.biasScale
      try map.finish(known: ["range", "concat_growth", "bias_scale"])
    }
    if var map = try top.map("rules") {
      for name in map.keys {
        guard !names.contains(name) else {
          throw map.failure("\(name) is a built-in rule; its severity stands under severity")
        }
        if let entry = try map.map(name) { rules.append(try RuleFile.rule(name, entry)) }
      }
    }
    try top.finish(known: ["severity", "limits", "rules"])
  }

  private static func severity(
    _ word: String, _ map: ConfigurationMap
  ) throws(Diagnostic) -> EncodingRule.Severity {
    // YAML 1.1 reads a bare off as false; both are meant.
    if word.lowercased() == "false" { return .off }
    guard let severity = EncodingRule.Severity(rawValue: word.lowercased()) else {
      throw map.failure("\(word) is no severity: error, warning and off are")
    }
    return severity
  }

  private static func rule(
    _ name: String, _ entry: ConfigurationMap
  ) throws(Diagnostic) -> CustomRule {
    var map = entry
    var rule = CustomRule(name: name)
    if let word = try map.string("severity") { rule.severity = try severity(word, map) }
    if let glob = try map.string("tensors") { rule.tensors = { fnmatch(glob, $0, 0) == 0 } }
    if let glob = try map.string("operators") { rule.operators = { fnmatch(glob, $0, 0) == 0 } }
    if let word = try map.string("place") {
      guard let place = CustomRule.Place(rawValue: word) else {
        throw map.failure(
          "\(word) is no place: \(CustomRule.Place.allCases.map(\.rawValue).joined(separator: ", ")) are")
      }
      rule.place = place
    }
    rule.bitwidth = try map.int("bitwidth")
    rule.symmetric = try map.bool("symmetric")
    rule.perChannel = try map.bool("per_channel")
    rule.least = try map.double("min")
    rule.most = try map.double("max")
    rule.required = try map.bool("required") ?? false
    try map.finish(known: [
      "severity", "tensors", "operators", "place", "bitwidth", "symmetric", "per_channel", "min",
      "max", "required",
    ])
    return rule
  }
}
