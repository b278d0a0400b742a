import IR
import Operators
import Quantizer

/// Operators that are quantized together: a fused pair, an operator with those behind it that only move
/// data, or a graph input.
public struct Layer: Sendable {
  /// Name of the first operator; of the input.
  public var name: String
  /// QNN names of the operators, joined by `+`; `Input`.
  public var operatorName: String
  /// Name of the tensor that it hands on.
  public var output: String
  /// The computed tensors that share its encoding.
  public var activations: [TensorID]
  /// Its constants.
  public var parameters: [TensorID]
  /// Computed tensors it reads.
  public var inputs: [TensorID]
  /// Multiply-accumulate operations of one run.
  public var macs: Int
  /// Elements of its constants.
  public var parameterCount: Int
}

extension Graph {
  /// The float graph of a materialised one with every encoding kept as an annotation, so that single
  /// ones can be taken out. A float graph is given back as it is.
  func annotatedFloat() -> Graph {
    guard isMaterialized else { return self }
    var marked = self
    var sources: [String: EncodingSource] = [:]
    for index in marked.tensors.indices where marked.tensors[index].encoding != nil {
      sources[marked.tensors[index].name] = marked.tensors[index].encodingSource
      marked.tensors[index].encodingSource = .override
    }
    var result = marked.dematerialized()
    for index in result.tensors.indices where result.tensors[index].encoding != nil {
      result.tensors[index].encodingSource = sources[result.tensors[index].name] ?? .calibrated
      result.tensors[index].state = .given
    }
    return result
  }

  /// The layers of a float graph with annotations, inputs first, then in order of the nodes.
  public func layers() -> [Layer] {
    var layers: [Layer] = []
    var owner: [TensorID: Int] = [:]
    var owned = Set<TensorID>()
    let inner = fusedIntermediates()
    for input in inputs where self[input].type.element.logical == .float32 {
      owner[input] = layers.count
      layers.append(
        Layer(
          name: self[input].name, operatorName: "Input", output: self[input].name, activations: [input],
          parameters: [], inputs: [], macs: 0, parameterCount: 0))
    }
    for node in nodes {
      let outputs = node.outputs.filter { self[$0].type.element.logical == .float32 }
      guard !outputs.isEmpty else { continue }
      let read = node.inputs.compactMap { $0 }.filter { self[$0].constant == nil && owner[$0] != nil }
      let place: Int
      if let joined = joinedLayer(node, owner, inner) {
        place = joined
        layers[place].operatorName += "+\(node.op.typeName)"
      } else {
        place = layers.count
        layers.append(
          Layer(
            name: node.name, operatorName: node.op.typeName, output: "", activations: [], parameters: [],
            inputs: [], macs: 0, parameterCount: 0))
      }
      for id in read where owner[id] != place { layers[place].inputs.append(id) }
      for output in outputs {
        owner[output] = place
        layers[place].activations.append(output)
      }
      // A pair is known by what its activation gives; data movement does not rename a layer.
      if layers[place].output.isEmpty || inner.values.contains(where: { self[$0].name == node.name }) {
        layers[place].output = outputs.first.map { self[$0].name } ?? ""
      }
      layers[place].macs += node.op.macs(inputTypes(node), outputTypes(node))
      for case let id? in node.inputs
      where self[id].constant != nil && self[id].type.element.logical == .float32 && owned.insert(id).inserted {
        layers[place].parameters.append(id)
        layers[place].parameterCount += self[id].type.count
      }
    }
    return layers
  }

  /// The layer that a node belongs to: of the other half of its fused pair, or of what it moves.
  private func joinedLayer(_ node: Node, _ owner: [TensorID: Int], _ inner: [TensorID: NodeID]) -> Int? {
    if let first = node.inputs.first, let input = first, inner[input] != nil { return owner[input] }
    guard let output = node.outputs.first,
      case .sameAsInput(let slot) = node.op.quantization.output(0), node.inputs.indices.contains(slot),
      let input = node.inputs[slot], self[input].encoding == self[output].encoding
    else { return nil }
    return owner[input]
  }

  /// A copy in which computed tensors and constants of other layers have no encodings.
  func withoutEncodings(of ids: some Sequence<TensorID>) -> Graph {
    var result = self
    for id in ids {
      result[id].encoding = nil
      result[id].encodingSource = nil
      result[id].state = .float
      result[id].bitwidth = nil
    }
    return result
  }
}
