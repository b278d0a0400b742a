import IR

/// What happens to names of an encodings file that the graph does not have (`--overrides_policy`).
public enum OverridePolicy: String, Sendable, Hashable, CaseIterable {
  /// Each is an error.
  case strict
  /// Each is a warning; an error where no name matched.
  case warn
}

/// What happens to tensors that an encodings file does not name (`--missing_encodings`).
public enum MissingEncodings: String, Sendable, Hashable, CaseIterable {
  /// They are calibrated.
  case calibrate
  /// They stay float: what 2.0.0 means by leaving them out.
  case float
}

/// What became of every name of an encodings file.
public struct OverrideReport: Sendable, Hashable {
  /// What became of one name.
  public enum Outcome: Sendable, Hashable {
    /// A tensor has this name.
    case matched
    /// The tensor stands for what the source called so.
    case alias(of: String)
    /// A pattern, and the tensors it reached.
    case pattern([String])
    /// The name is known, but what is given for it has no effect.
    case withoutEffect(reason: String)
    /// It stands in the section of the other kind of tensor.
    case wrongSection(expected: String)
    /// Nothing has this name; the names most like it.
    case unmatched(nearest: [String])
  }

  /// A name of the file.
  public struct Name: Sendable, Hashable {
    public var name: String
    /// Where it stands in the file.
    public var path: String
    public var outcome: Outcome
  }

  /// In the order of the file.
  public var names: [Name] = []
  /// Warnings and notes: those of the file, then those of the graph.
  public var diagnostics: [Diagnostic] = []
  /// Widths of tensors whose range is to be calibrated or computed, by name.
  public var precisions: [String: Int] = [:]
  /// Widths of tensors that are float by override, by name, where one is given.
  public var floatBitwidths: [String: Int] = [:]
  /// Names of the nodes that are to compute in 32-bit integers.
  public var int32Nodes: [String] = []
  /// Names of tensors that stay float because the file does not name them.
  public var missingFloat: [String] = []
  /// How many float tensors have their encoding from each source, stay float or are open.
  public var coverage = EncodingCoverage()
}

/// How many of the tensors that can carry an encoding have one, by source.
public struct EncodingCoverage: Sendable, Hashable {
  /// Tensors with an encoding, by where it came from.
  public var encoded: [EncodingSource: Int] = [:]
  /// Tensors that stay float.
  public var float = 0
  /// Tensors of which nothing is decided.
  public var open = 0

  /// Nothing counted.
  public init() {}

  /// Counts the float tensors of a graph.
  public init(_ graph: Graph) {
    let following = graph.weightsOfFloatOperators
    for (index, tensor) in graph.tensors.enumerated() where tensor.type.logical.element == .float32 {
      if tensor.encoding != nil, let source = tensor.encodingSource {
        encoded[source, default: 0] += 1
      } else if tensor.state == .float || following.contains(TensorID(index)) {
        float += 1
      } else {
        open += 1
      }
    }
  }

  /// `override 12, calibrated 3, float 1, open 2`; what does not occur is left out.
  public var summary: String {
    var parts: [(String, Int)] = EncodingSource.allCases.map {
      ($0 == .source ? "QAT" : $0.rawValue, encoded[$0] ?? 0)
    }
    parts += [("float", float), ("open", open)]
    return parts.filter { $0.1 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
  }
}
