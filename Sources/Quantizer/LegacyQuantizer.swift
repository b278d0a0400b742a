import Calibration
import IR

/// A quantizer by its name in older tools (`--act_quantizer`, `--param_quantizer`); `enhanced weights`
/// and `enhanced activations` name their side themselves, whichever option they are given to.
///
/// Source: Qualcomm's public QNN quantization page.
public struct LegacyQuantizer: Sendable, Hashable {
  /// What a name stands for.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// Min-max, asymmetric.
    case tf
    /// Min-max, symmetric.
    case symmetric
    /// sqnr, asymmetric.
    case enhanced
    /// Min-max, asymmetric; weights in a range widened where that helps.
    case adjusted
    /// Half the range, twice as fine.
    case clip
  }
  /// Activations or weights.
  public enum Side: String, Sendable, Hashable, CaseIterable {
    case activations, weights
  }

  /// What it stands for.
  public var kind: Kind
  /// The side that the name itself says.
  public var side: Side?

  /// Every name.
  public static let names =
    Kind.allCases.map(\.rawValue) + Side.allCases.map { "\(Kind.enhanced.rawValue) \($0.rawValue)" }

  /// Reads a name; nil where it is none.
  public init?(_ name: String) {
    let words = name.split(separator: " ").map(String.init)
    guard let first = words.first, let kind = Kind(rawValue: first), words.count <= 2 else { return nil }
    self.kind = kind
    guard words.count == 2 else { return }
    guard kind == .enhanced, let side = Side(rawValue: words[1]) else { return nil }
    self.side = side
  }

  /// Puts what the two options say into `options`; both sides may be nil. Returns warnings; throws a
  /// usage diagnostic where both say something about one side.
  public static func apply(
    act: LegacyQuantizer?, param: LegacyQuantizer?, to options: inout QuantizerOptions
  ) throws(Diagnostic) -> [Diagnostic] {
    var chosen: [Side: Kind] = [:]
    for (option, own) in [(act, Side.activations), (param, .weights)] {
      guard let option else { continue }
      guard chosen.updateValue(option.kind, forKey: option.side ?? own) == nil else {
        throw Diagnostic(
          "quantizer-twice",
          "--act_quantizer and --param_quantizer both name a quantizer of the "
            + (option.side ?? own).rawValue, kind: .usage)
      }
    }
    var notes: [Diagnostic] = []
    if chosen[.activations] == .adjusted {
      chosen[.activations] = .tf
      let isFree = chosen[.weights] == nil
      if isFree { chosen[.weights] = .adjusted }
      notes.append(
        Diagnostic(
          "option-without-effect",
          "--act_quantizer adjusted is a rule of weights: activations stay tf"
            + (isFree ? ", weights become adjusted" : ""), severity: .warning))
    }
    if let kind = chosen[.activations] {
      (options.actCalibration, options.actSchema, options.actRule) = kind.meaning
    }
    if let kind = chosen[.weights] {
      (options.paramCalibration, options.paramSchema, options.paramRule) = kind.meaning
    }
    return notes
  }
}

extension LegacyQuantizer.Kind {
  fileprivate var meaning: (CalibrationMethod, QuantizerSchema, RangeRule) {
    switch self {
    case .tf: (.minMax, .asymmetric, .none)
    case .symmetric: (.minMax, .symmetric, .none)
    case .enhanced: (.sqnr, .asymmetric, .none)
    case .adjusted: (.minMax, .asymmetric, .adjusted)
    case .clip: (.minMax, .asymmetric, .clip)
    }
  }
}
