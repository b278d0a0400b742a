import IR
import Quantizer

/// A tensor of the reference and its partner in the container.
public struct TensorPair: Sendable {
  /// The reference's name of it.
  public var name: String
  public var reference: TensorID
  public var container: TensorID
  /// What equalization multiplied each channel (last axis) of the partner by; nil where by nothing.
  public var scales: [Float]?
  /// What absorption of high biases then took away from each channel; nil where nothing.
  public var shifts: [Float]?
  /// Where only a Softmax reads the tensor, what is masked is below this.
  public var floor: Double = -.infinity
  /// Channels (last axis) that the container computes nothing for: their weights are zero.
  public var emptyChannels: [Int] = []
}

/// Which tensors of two graphs are the same, by name.
public struct GraphMatch: Sendable {
  /// Float tensors that are computed, in the order of the reference's nodes.
  public var activations: [TensorPair] = []
  /// Float constants, in the order of the reference.
  public var parameters: [TensorPair] = []
  /// Outputs of the reference (``IR/Graph/scoreOutputs()``) that have a partner, by place among the activations.
  public var outputs: [Int] = []
  /// Computed tensors of the reference without a partner.
  public var onlyInReference: [String] = []
  /// Computed tensors of the container without a partner, but for those that quantization added.
  public var onlyInContainer: [String] = []
  /// Names that both have, with other shapes.
  public var otherShapes: [String] = []
  /// Tensors inside fused pairs, which are not quantized and not compared.
  public var insideFusedPairs: [String] = []

  /// How far below the grid of a tensor that only a Softmax reads a value is masked: e^-15 = 3e-7.
  private static let maskDistance = 15.0

  /// Finds the tensors that have the same name, or a name that is an alias of the other's, and the same
  /// shape. Throws `no-common-tensor` where there is none.
  public init(reference: Graph, container: Graph) throws(Diagnostic) {
    let partners = Partners(reference: reference, container: container)
    let hidden = Set(container.fusedIntermediates().keys.map { container[$0].name })
    var taken = Set<TensorID>()
    let scores = Set(reference.scoreOutputs())
    let annotated = container.annotatedFloat()
    let masked = Set(annotated.tensorsOnlySoftmaxReads().map { annotated[$0].name })
    let producers = container.producers()
    let innerIDs = Set(container.fusedIntermediates().keys)
    for id in reference.computedFloats() {
      let name = reference[id].name
      guard let other = partners[id], container[other].constant == nil else {
        if hidden.isEmpty || !hidden.contains(name) { onlyInReference.append(name) }
        continue
      }
      taken.insert(other)
      if hidden.contains(container[other].name) {
        insideFusedPairs.append(name)
        continue
      }
      guard var pair = pair(id, other, reference, container) else { continue }
      if masked.contains(container[other].name), let encoding = container[other].encoding, encoding.axis == nil {
        pair.floor = encoding.minimum() - Self.maskDistance
      }
      pair.emptyChannels = container.emptyChannels(of: other, producers: producers, inner: innerIDs)
      if scores.contains(id) { outputs.append(activations.count) }
      activations.append(pair)
    }
    for (index, tensor) in reference.tensors.enumerated()
    where tensor.constant != nil && tensor.type.element.logical == .float32 {
      let id = TensorID(index)
      guard let other = partners[id], container[other].constant != nil else { continue }
      if let pair = pair(id, other, reference, container) { parameters.append(pair) }
    }
    let made = container.madeByQuantization()
    onlyInContainer = container.computedFloats().filter { id in
      !taken.contains(id) && !made.contains(id) && !hidden.contains(container[id].name)
    }.map { container[$0].name }
    guard !activations.isEmpty else {
      throw Diagnostic(
        "no-common-tensor", "the container and the reference have no tensor in common",
        hint: "the reference must be the model that the container was made from")
    }
  }

  private mutating func pair(
    _ id: TensorID, _ other: TensorID, _ reference: Graph, _ container: Graph
  ) -> TensorPair? {
    let name = reference[id].name
    guard reference[id].type.shape == container[other].type.shape else {
      otherShapes.append(
        "\(name): \(reference[id].type.shape) in the reference, \(container[other].type.shape) in the container")
      return nil
    }
    let scales = container.channelScales[container[other].name]
    guard scales == nil || scales?.count == container[other].type.shape.last else {
      otherShapes.append("\(name): \(scales?.count ?? 0) channel scales for shape \(container[other].type.shape)")
      return nil
    }
    let shifts = container.channelShifts[container[other].name]
    guard shifts == nil || shifts?.count == container[other].type.shape.last else {
      otherShapes.append("\(name): \(shifts?.count ?? 0) channel shifts for shape \(container[other].type.shape)")
      return nil
    }
    return TensorPair(name: name, reference: id, container: other, scales: scales, shifts: shifts)
  }

  /// Warnings about tensors that are not compared.
  public var diagnostics: [Diagnostic] {
    func warning(_ names: [String], _ what: String, hint: String?) -> Diagnostic? {
      guard let first = names.first else { return nil }
      let shown = names.prefix(10).joined(separator: ", ") + (names.count > 10 ? ", ..." : "")
      return Diagnostic(
        "not-compared", "\(names.count) \(names.count == 1 ? "tensor" : "tensors") \(what): \(shown)",
        at: .init(tensor: names.count == 1 ? first : nil), hint: hint, severity: .warning)
    }
    return [
      warning(
        onlyInReference, "of the reference have no partner of that name in the container",
        hint: "--json lists all of them"),
      warning(
        onlyInContainer, "of the container have no partner of that name in the reference",
        hint: "--json lists all of them"),
      warning(otherShapes, "differ in shape", hint: "convert both with the same layouts and shapes"),
    ].compactMap { $0 }
  }
}

/// Names of both graphs with their aliases.
private struct Partners {
  private let reference: Graph
  private var byName: [String: TensorID] = [:]
  /// Aliases of the reference by the tensor that they stand for.
  private var aliases: [String: [String]] = [:]

  init(reference: Graph, container: Graph) {
    self.reference = reference
    for (index, tensor) in container.tensors.enumerated() { byName[tensor.name] = TensorID(index) }
    for (alias, name) in container.aliases where byName[alias] == nil {
      byName[alias] = byName[name]
    }
    for (alias, name) in reference.aliases { aliases[name, default: []].append(alias) }
  }

  subscript(id: TensorID) -> TensorID? {
    let name = reference[id].name
    if let found = byName[name] { return found }
    return (aliases[name] ?? []).sorted().lazy.compactMap { byName[$0] }.first
  }
}

extension Graph {
  /// Float inputs, then float results of nodes, in order.
  func computedFloats() -> [TensorID] {
    (inputs + nodes.flatMap(\.outputs)).filter { self[$0].type.element.logical == .float32 }
  }

  /// Results of operators that only change precision.
  fileprivate func madeByQuantization() -> Set<TensorID> {
    var found = Set<TensorID>()
    for node in nodes where ["Convert", "Quantize", "Dequantize", "Cast"].contains(node.op.typeName) {
      found.formUnion(node.outputs)
      for input in node.inputs { if let input { found.insert(input) } }
    }
    return found
  }
}
