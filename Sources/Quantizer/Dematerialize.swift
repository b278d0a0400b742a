import IR
import Operators

extension Graph {
  /// The float graph of a materialised one: weights dequantized, operators between precisions
  /// removed. Encodings from overrides and from the source stay as annotations, so do float tensors
  /// with their width and the nodes that compute in integers; all other encodings are open again.
  /// A graph that is float already is given back as it is.
  public func dematerialized() -> Graph {
    guard isMaterialized else { return self }
    var result = self
    result.widenTypes()
    let merged = result.mergeBorders()
    result.forgetEncodings()
    result.nodes = merged
    result.isMaterialized = false
    return result.compacted()
  }

  /// Fixed point, float16 and the integers of integer nodes become float32.
  private mutating func widenTypes() {
    for index in tensors.indices {
      let tensor = tensors[index]
      let shape = tensor.type.shape
      if tensor.type.element.isFixedPoint {
        if let constant = tensor.constant, let encoding = tensor.encoding {
          let values = encoding.dequantized(constant)
          tensors[index].constant = Constant(values, shape: shape)
        }
        tensors[index].type = tensor.type.logical
      } else if tensor.type.element == .float16 {
        tensors[index].constant = tensor.constant.map { Constant($0.floats(), shape: shape) }
        tensors[index].type = tensor.type.logical
      }
    }
    for node in nodes where integerNodes.contains(node.name) {
      let operands = node.inputs.enumerated().filter {
        node.op.quantization.input($0.offset) != .unquantized
      }.compactMap(\.element)
      for id in operands + node.outputs where self[id].type.element == .int32 {
        let shape = self[id].type.shape
        self[id].constant = self[id].constant.map { Constant($0.floats(), shape: shape) }
        self[id].type = TensorType(.float32, shape)
      }
    }
  }

  /// Encodings that were not given from outside are forgotten.
  private mutating func forgetEncodings() {
    for index in tensors.indices {
      switch tensors[index].encodingSource {
      case .override, .source: continue
      case .spread, .fixed, .calibrated, .computed, nil:
        tensors[index].encoding = nil
        tensors[index].encodingSource = nil
        if tensors[index].state == .given { tensors[index].state = .open }
      }
    }
  }

  /// The nodes without those that only change precision. The tensors on both sides of such a node are
  /// one: that from which the other got its name.
  private mutating func mergeBorders() -> [Node] {
    var parent: [TensorID: TensorID] = [:]
    func root(_ id: TensorID) -> TensorID {
      var id = id
      while let next = parent[id] { id = next }
      return id
    }
    // Inputs and outputs that kept their types first: what is inside of them has their annotations.
    for node in nodes where node.isBorder {
      guard let first = node.inputs.first, let input = first, let output = node.outputs.first else {
        continue
      }
      let (from, to) = (self[input].name, self[output].name)
      if BorderName.isInner(from, of: to) {
        moveAnnotations(from: input, to: output)
        parent[input] = output
      } else if BorderName.isInner(to, of: from) {
        moveAnnotations(from: output, to: input)
        parent[output] = input
      }
    }
    let border = Set(outputs)
    let readers = consumers()
    var kept: [Node] = []
    for node in nodes {
      guard let first = node.inputs.first, let input = first, node.outputs.count == 1,
        node.isBorder || isIntegerCast(node, readers)
      else {
        kept.append(node)
        continue
      }
      let (source, result) = (root(input), root(node.outputs[0]))
      guard source != result else { continue }
      let (from, to) = (self[source].name, self[result].name)
      if BorderName.isMade(from, from: to) {
        parent[source] = result
      } else if BorderName.isMade(to, from: from)
        || !border.contains(result) && !isDecided(result)
      {
        parent[result] = source
      } else {
        var node = node
        if node.isBorder { node.op = Convert() }
        kept.append(node)
      }
    }
    return kept.map { node in
      var node = node
      node.inputs = node.inputs.map { $0.map(root) }
      node.outputs = node.outputs.map(root)
      return node
    }
  }

  /// Whether an override or the source gave a tensor its encoding.
  private func isDecided(_ id: TensorID) -> Bool {
    self[id].encodingSource == .override || self[id].encodingSource == .source
  }

  /// Whether a node is one of the Casts around integer nodes.
  private func isIntegerCast(_ node: Node, _ readers: [[NodeID]]) -> Bool {
    guard !integerNodes.isEmpty, let cast = node.op as? Cast, let first = node.inputs.first,
      let input = first
    else { return false }
    let (from, to) = (self[input].name, self[node.outputs[0]].name)
    switch cast.to {
    case .int32:
      let makes = BorderName.of("", BorderName.int32)
      return to.contains(makes) && !readers[node.outputs[0].index].isEmpty
        && readers[node.outputs[0].index].allSatisfy { integerNodes.contains(self[$0].name) }
    case .float32:
      return from.contains(BorderName.of("", BorderName.int32))
        && nodes.contains { integerNodes.contains($0.name) && $0.outputs.contains(input) }
    default: return false
    }
  }

  /// An inner tensor's annotations go back to the input or output that got its name.
  private mutating func moveAnnotations(from inner: TensorID, to border: TensorID) {
    self[border].encoding = self[inner].encoding
    self[border].encodingSource = self[inner].encodingSource
    self[border].state = self[inner].state
    self[border].bitwidth = self[inner].bitwidth
  }
}
