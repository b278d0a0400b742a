import Calibration
import IR

/// What an operand of a node must be turned into before the node reads it.
enum OperandNeed: Hashable {
  /// Nothing: the node reads the tensor as it is.
  case asIs
  /// Float values of 16 or 32 bits: a Dequantize from fixed point, a Convert from the other width.
  case float(Int)
  /// This encoding: a Quantize from float, a Convert from fixed point.
  case fixed(Encoding)
  /// 32-bit integers: a Cast from float, behind a Dequantize where the tensor is fixed point.
  case int32
  /// An encoding for a float tensor that nothing tells.
  case unknown
}

/// What a node computes in.
enum NodePrecision: Hashable {
  case fixed(Encoding)
  /// Float of 16 or 32 bits.
  case float(Int)
  /// 32-bit integers, by override.
  case int32
  /// Nothing of its own: no output is float, so it goes by its inputs.
  case inputs
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

  /// What a node computes in.
  func precision(_ node: Node) -> NodePrecision {
    if graph.integerNodes.contains(node.name) { return .int32 }
    let results = floatOutputs(node)
    if let made = results.lazy.compactMap({ graph[$0].encoding }).first { return .fixed(made) }
    return results.first.map { .float(graph[$0].floatBitwidth) } ?? .inputs
  }

  /// Whether a node works on fixed point.
  func isQuantized(_ node: Node) -> Bool {
    switch precision(node) {
    case .fixed: true
    case .float, .int32: false
    case .inputs: node.inputs.contains { $0.flatMap { graph[$0].encoding } != nil }
    }
  }

  /// What input `slot` of a node must be turned into.
  func need(_ node: Node, _ slot: Int) -> OperandNeed {
    guard let id = node.inputs[slot], !node.isBorder,
      graph[id].type.logical.element == .float32
    else { return .asIs }
    let role = node.op.quantization.input(slot)
    switch precision(node) {
    case .int32: return role == .unquantized ? .asIs : .int32
    case .float(let width): return floatNeed(graph[id], role, width)
    case .inputs: return inputsNeed(node, graph[id], role)
    case .fixed(let made):
      return fixedNeed(id, role, tied: tiedEncoding(node, slot), made: made)
    }
  }

  private func floatNeed(
    _ tensor: Tensor, _ role: QuantizationRule.Input, _ width: Int
  ) -> OperandNeed {
    if keepsWeights, tensor.constant != nil, case .weight = role { return .asIs }
    if tensor.encoding != nil { return .float(width) }
    // A bias may have a width of its own, an unquantized operand is a parameter.
    return role == .bias || role == .unquantized || tensor.floatBitwidth == width
      ? .asIs : .float(width)
  }

  /// Comparisons and the like: fixed point only where no activation is float.
  private func inputsNeed(
    _ node: Node, _ tensor: Tensor, _ role: QuantizationRule.Input
  ) -> OperandNeed {
    guard tensor.encoding != nil else { return .asIs }
    if role == .unquantized { return .float(32) }
    let hasFloat = node.inputs.contains { id in
      guard let id else { return false }
      return graph[id].type.logical.element == .float32 && graph[id].encoding == nil
    }
    return hasFloat ? .float(32) : .asIs
  }

  private func fixedNeed(
    _ id: TensorID, _ role: QuantizationRule.Input, tied: Encoding?, made: Encoding
  ) -> OperandNeed {
    let tensor = graph[id]
    guard let encoding = tensor.encoding else {
      if role == .unquantized { return .asIs }
      if let tied { return .fixed(tied) }
      guard let border = borders[id] else { return .unknown }
      return .fixed(
        border.bitwidth == made.bitwidth
          ? border : RangeToEncoding.rewidened(border, bitwidth: made.bitwidth))
    }
    if role == .unquantized { return .float(32) }
    if tensor.constant != nil {
      switch role {
      case .weight, .bias: return .asIs
      case .activation, .unquantized: break
      }
    }
    if let tied { return tied == encoding ? .asIs : .fixed(tied) }
    guard made.bitwidth != encoding.bitwidth, encoding.axis == nil else { return .asIs }
    return .fixed(RangeToEncoding.rewidened(encoding, bitwidth: made.bitwidth))
  }

  /// The encoding by which a node reads an operand; nil where it reads float.
  func effectiveEncoding(_ node: Node, _ slot: Int) -> Encoding? {
    switch need(node, slot) {
    case .asIs: node.inputs[slot].flatMap { graph[$0].encoding }
    case .fixed(let encoding): encoding
    case .float, .int32, .unknown: nil
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

extension Tensor {
  /// Bits of its float type: 16 where it is stored so or will be, else 32.
  var floatBitwidth: Int {
    type.element == .float16 || (state == .float && bitwidth == 16) ? 16 : 32
  }
}

extension Node {
  /// Whether the node itself changes precision.
  var isBorder: Bool { ["Convert", "Quantize", "Dequantize"].contains(op.typeName) }
}

/// Names of the tensors that borders add: that of the tensor they stand for and a word. By the name
/// ``IR/Graph/dematerialized()`` finds which of two tensors is the graph's own.
enum BorderName {
  static let dequantized = "dequantized"
  static let quantized = "quantized"
  static let converted = "converted"
  static let int32 = "int32"
  /// A result in float behind which a Quantize makes the tensor.
  static let float = "float"
  /// A tensor that gave its name to an input or output of another type.
  static let inner = "inner"

  static func of(_ base: String, _ word: String) -> String { "\(base)_\(word)" }

  /// Whether the first name was made from the second.
  static func isMade(_ name: String, from base: String) -> Bool {
    name.hasPrefix(base + "_") && name != base
  }

  /// Whether a name is that of an inner tensor of `base`.
  static func isInner(_ name: String, of base: String) -> Bool {
    name.hasPrefix(of(base, inner))
  }
}
