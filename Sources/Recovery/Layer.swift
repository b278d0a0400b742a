import IR
import Operators
import Quantizer

/// An operator with a constant weight, as the algorithms see it.
struct Layer: Sendable {
  /// Place in the graph's nodes.
  let node: Int
  let name: String
  let input: TensorID
  let weight: TensorID
  let bias: TensorID?
  /// What the operator makes.
  let output: TensorID
  /// What a fused activation makes of it; the output where there is none.
  let result: TensorID
  /// The last node of the fused pair.
  let lastNode: Int
  /// Whether `weight` is a recurrence's for its own states: `input` is then what it makes of each step.
  var readsStates = false

  /// The last node that must run before `input` is known, and one more.
  var inputEnd: Int { readsStates ? node + 1 : node }

  /// The layers of a graph in the order of their nodes.
  static func layers(of graph: Graph) -> [Layer] {
    let fused = graph.fusedIntermediates()
    return graph.nodes.indices.compactMap { index in
      let node = graph.nodes[index]
      guard node.inputs.count > 1, let input = node.inputs[0], let weight = node.inputs[1],
        graph[input].constant == nil, graph[weight].constant != nil,
        graph[weight].type.logical.element == .float32, let output = node.outputs.first,
        case .weight = node.op.quantization.input(1)
      else { return nil }
      var (result, last) = (output, index)
      while let next = fused[result], let made = graph[next].outputs.first {
        (result, last) = (made, next.index)
      }
      return Layer(
        node: index, name: node.name, input: input, weight: weight,
        // The third operand of a recurrence is another weight.
        bias: node.op.quantization.input(2) == .bias && node.inputs.count > 2 ? node.inputs[2] : nil, output: output,
        result: result, lastNode: last)
    }
  }
}

extension Layer {
  /// The layers of a graph, and those of recurrences a second time, with the weight that multiplies their states.
  static func layersWithStates(of graph: Graph) -> [Layer] {
    layers(of: graph).flatMap { layer -> [Layer] in
      let node = graph.nodes[layer.node]
      guard node.inputs.count > 2, let weight = node.inputs[2], graph[weight].constant != nil,
        graph[weight].type.logical.element == .float32, case .weight = node.op.quantization.input(2),
        graph[layer.output].type.shape.count == 4
      else { return [layer] }
      let states = Layer(
        node: layer.node, name: layer.name, input: layer.output, weight: weight, bias: nil, output: layer.output,
        result: layer.output, lastNode: layer.node, readsStates: true)
      return [layer, states]
    }
  }
}

extension Graph {
  /// Gives every layer a bias of its own: zeros where it has none, a copy where others read it too.
  /// Layers whose bias an override has decided about keep what they have.
  func withOwnBiases(_ wanted: (Layer) -> Bool) -> Graph {
    var result = self
    var names = NameTable(self)
    var readers = consumers().map(\.count)
    for layer in Layer.layers(of: self) where wanted(layer) {
      let node = nodes[layer.node]
      guard node.op.quantization.input(2) == .bias else { continue }
      if let bias = layer.bias {
        guard self[bias].constant != nil, self[bias].state == .open, readers[bias.index] > 1 else { continue }
        readers[bias.index] -= 1
        var copy = self[bias]
        copy.name = names.unique(copy.name)
        result.nodes[layer.node].inputs[2] = result.add(copy)
        continue
      }
      guard let channels = self[layer.output].type.shape.last else { continue }
      let zeros = Tensor(
        name: names.unique("\(node.name).bias"), type: TensorType(.float32, [channels]),
        constant: Constant([Float](repeating: 0, count: channels), shape: [channels]))
      while result.nodes[layer.node].inputs.count < 3 { result.nodes[layer.node].inputs.append(nil) }
      result.nodes[layer.node].inputs[2] = result.add(zeros)
    }
    return result
  }
}
