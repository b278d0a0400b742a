import IR

/// Which widths the operands of an integer operator can have together.
enum OperandWidths {
  /// Widths of weights by that of the operator's output; its inputs are converted to that.
  static let weights = [8: [4, 8], 16: [4, 8, 16]]
  /// Widths of activations: the outputs above.
  static let activations = weights.keys.sorted()
  /// Widths of weights beside any output.
  static let allWeights = Set(weights.values.joined()).sorted()
  /// Widths of biases, beside any of the above.
  static let biases = [8, 32]
}

extension Graph {
  /// Names of tensors whose encoding or width an override decided.
  public var decidedByOverride: Set<String> {
    Set(tensors.filter { $0.encodingSource == .override || $0.bitwidth != nil }.map(\.name))
  }

  /// Operators whose weight has a width that they cannot compute with beside that of their output, where
  /// an override decided one of the two: `override-combination`, naming node and weight. `decided` are
  /// the tensors of ``decidedByOverride`` before calibration, which forgets where a width came from.
  public func operandWidthProblems(decided: Set<String> = []) -> [Diagnostic] {
    let inner = innerTensorsOfFusedPairs()
    func width(_ id: TensorID) -> Int? {
      self[id].encoding?.bitwidth ?? (self[id].state == .open ? self[id].bitwidth : nil)
    }
    func isOverride(_ id: TensorID) -> Bool {
      self[id].encodingSource == .override || self[id].bitwidth != nil || decided.contains(self[id].name)
    }
    var found: [Diagnostic] = []
    for node in nodes {
      guard let output = node.outputs.first.map({ inner[$0] ?? $0 }), let made = width(output) else { continue }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, case .weight = node.op.quantization.input(slot), let own = width(id),
          isOverride(id) || isOverride(output), let allowed = OperandWidths.weights[made],
          !allowed.contains(own)
        else { continue }
        let list = allowed.map(String.init).joined(separator: " or ")
        found.append(
          Diagnostic(
            "override-combination",
            "a weight of \(own) bits is not supported beside an output of \(made) bits (\(self[output].name)): "
              + "only \(list)", at: .init(node: node.name, tensor: self[id].name),
            hint: "give the output 16 bits, or the weight \(list)"))
      }
    }
    return found
  }
}
