import Calibration
import IR

/// What an operand of a node must be turned into before the node reads it.
enum OperandNeed: Hashable {
  /// Nothing: the node reads the tensor as it is.
  case asIs
  /// Float values: a Dequantize.
  case float
  /// This encoding: a Quantize from float, a Convert from fixed point.
  case fixed(Encoding)
  /// An encoding for a float tensor that nothing tells.
  case unknown
}

/// Decides what happens where neighbours differ in precision or encoding. An operator's precision
/// is its output's; data-invariant operators and Concat read the encoding they write.
struct BorderRules {
  let graph: Graph
  /// Encodings by which integer operators read tensors that stay float.
  let borders: [TensorID: Encoding]
  /// Whether data-invariant operators have encodings of their own and requantize.
  let requantizes: Bool
  /// Whether float operators read fixed-point weights (dequantized once, when they are loaded).
  var keepsWeights = false

  /// Whether a node works on fixed point.
  func isQuantized(_ node: Node) -> Bool {
    let results = floatOutputs(node)
    if results.isEmpty {
      return node.inputs.contains { $0.flatMap { graph[$0].encoding } != nil }
    }
    return results.contains { graph[$0].encoding != nil }
  }

  /// What input `slot` of a node must be turned into.
  func need(_ node: Node, _ slot: Int) -> OperandNeed {
    guard let id = node.inputs[slot], !node.isBorder,
      graph[id].type.logical.element == .float32
    else { return .asIs }
    let rule = node.op.quantization
    let tensor = graph[id]
    let results = floatOutputs(node)
    let made = results.lazy.compactMap { graph[$0].encoding }.first
    guard let encoding = tensor.encoding else {
      guard let made, rule.input(slot) != .unquantized else { return .asIs }
      if let tied = tiedEncoding(node, slot) { return .fixed(tied) }
      guard let border = borders[id] else { return .unknown }
      return .fixed(
        border.bitwidth == made.bitwidth
          ? border : RangeToEncoding.rewidened(border, bitwidth: made.bitwidth))
    }
    if keepsWeights, tensor.constant != nil, made == nil, case .weight = rule.input(slot) { return .asIs }
    if rule.input(slot) == .unquantized || (made == nil && !results.isEmpty) { return .float }
    if tensor.constant != nil {
      switch rule.input(slot) {
      case .weight, .bias: return .asIs
      case .activation, .unquantized: break
      }
    }
    if let tied = tiedEncoding(node, slot) { return tied == encoding ? .asIs : .fixed(tied) }
    guard let made, made.bitwidth != encoding.bitwidth, encoding.axis == nil else { return .asIs }
    return .fixed(RangeToEncoding.rewidened(encoding, bitwidth: made.bitwidth))
  }

  /// The encoding by which a node reads an operand; nil where it reads float.
  func effectiveEncoding(_ node: Node, _ slot: Int) -> Encoding? {
    switch need(node, slot) {
    case .asIs: node.inputs[slot].flatMap { graph[$0].encoding }
    case .fixed(let encoding): encoding
    case .float, .unknown: nil
    }
  }

  private func floatOutputs(_ node: Node) -> [TensorID] {
    node.outputs.filter { graph[$0].type.logical.element == .float32 }
  }

  /// The encoding of an output that shares it with this input.
  private func tiedEncoding(_ node: Node, _ slot: Int) -> Encoding? {
    guard !requantizes else { return nil }
    for (index, output) in node.outputs.enumerated()
    where node.op.quantization.ties(input: slot, output: index) {
      if let encoding = graph[output].encoding { return encoding }
    }
    return nil
  }
}

extension Node {
  /// Whether the node itself changes precision.
  var isBorder: Bool { ["Convert", "Quantize", "Dequantize"].contains(op.typeName) }
}
