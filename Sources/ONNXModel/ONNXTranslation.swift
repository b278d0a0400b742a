import IR

/// How one ONNX operator becomes operators of the IR.
struct ONNXTranslation: Sendable {
  /// Builds the operator's results, in ONNX's order; nil for an output that nobody reads.
  typealias Translate = @Sendable (NodeContext) throws(Diagnostic) -> [Value?]

  /// ONNX's name of the operator; with the domain in front where that is not the standard one.
  let opType: String
  let translate: Translate
  /// Whether the results have element types of their own, not that of the first float operand.
  let choosesElement: Bool
  /// Whether operands that are all float64 stay so.
  let takesDoubles: Bool

  /// A translation of `opType`.
  init(_ opType: String, choosesElement: Bool = false, takesDoubles: Bool = false, _ translate: @escaping Translate) {
    self.opType = opType
    self.choosesElement = choosesElement
    self.takesDoubles = takesDoubles
    self.translate = translate
  }

  /// Every translation, by operator. To add one: its file under Ops, and its list here.
  static let all: [String: ONNXTranslation] = {
    let lists = [
      convolutions, pools, normalizations, activations, binaries, unaries, matrices, reductions,
      shapes, slices, joins, constants, truths, axisNormalizations, selections, indexings, positions,
      quantizations, integerProducts, operatorsOnCodes, resizings, recurrences, attentions, bits,
      contractions, dataDependent, branches, samplings, functions,
      visions,
    ]
    return Dictionary(
      lists.joined().map { ($0.opType, $0) }, uniquingKeysWith: { first, _ in first })
  }()
}
