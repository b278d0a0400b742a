import IR
import Operators

/// Folds a Batchnorm into the weights and bias of the convolution or fully connected layer before it,
/// in Double, and keeps beta and gamma as statistics of the layer's output.
/// Source: Jacob et al. 1712.05877, section 3.2.
public struct FoldBatchNorm: Pass {
  public let name = "fold-batchnorm"
  public let summary = "folds BatchNorm into the weights of the layer before it"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    var dropped = Set<Int>()
    var names = NameTable(graph)
    for (index, node) in graph.nodes.enumerated() where node.op is Batchnorm {
      guard let input = node.inputs[0], !border.contains(input), readers[input.index].count == 1,
        let layerID = producers[input.index],
        let scale = node.inputs[1].flatMap({ graph[$0].constant }),
        let shift = node.inputs[2].flatMap({ graph[$0].constant })
      else { continue }
      let layer = graph[layerID]
      guard Self.isLayer(layer.op),
        case .weight(let axis, _) = layer.op.quantization.input(1), let weightID = layer.inputs[1],
        let weight = graph[weightID].constant, weight.type.element == .float32,
        graph[weightID].state == .open
      else { continue }
      let biasID = layer.inputs.count > 2 ? layer.inputs[2] : nil
      if let biasID, graph[biasID].constant == nil { continue }
      let (s, t) = (scale.floats(), shift.floats())
      let newWeight = Self.scaled(weight, axis: axis, by: s)
      let old = biasID.flatMap { graph[$0].constant?.floats() } ?? s.map { _ in 0 }
      let newBias = zip(old, zip(s, t)).map { Float(Double($0) * Double($1.0) + Double($1.1)) }

      graph[layerID].inputs[1] = replace(
        &graph, weightID, newWeight, alone: readers[weightID.index].count == 1, &names)
      let biasConstant = Constant(newBias, shape: [newBias.count])
      let newBiasID: TensorID
      if let biasID {
        newBiasID = replace(
          &graph, biasID, biasConstant, alone: readers[biasID.index].count == 1, &names)
      } else {
        newBiasID = graph.add(
          Tensor(
            name: names.unique(layer.name + ".bias"), type: biasConstant.type,
            constant: biasConstant))
      }
      graph[layerID].inputs = [layer.inputs[0], graph[layerID].inputs[1], newBiasID]
      graph[layerID].outputs = node.outputs
      let reason = "folded into \(layer.name) with its BatchNormalization"
      graph.folded[graph[input].name] = reason
      for operand in node.inputs.dropFirst() {
        if let operand, readers[operand.index].count == 1 {
          graph.folded[graph[operand].name] = reason
        }
      }
      graph.batchNorms[graph[node.outputs[0]].name] = BatchNormStatistics(
        beta: t, gamma: s)
      dropped.insert(index)
    }
    graph.nodes = graph.nodes.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
    return graph.compacted()
  }

  /// Puts a new value in place of a constant: under its own name when nobody else reads it.
  private func replace(
    _ graph: inout Graph, _ id: TensorID, _ value: Constant, alone: Bool, _ names: inout NameTable
  ) -> TensorID {
    if alone {
      graph[id].constant = value
      return id
    }
    return graph.add(
      Tensor(name: names.unique(graph[id].name), type: value.type, constant: value))
  }

  /// Whether an operator is linear, with a weight and a bias for each channel of its last axis.
  static func isLayer(_ op: any Operator) -> Bool {
    switch op {
    case is Conv2d, is Conv3d, is DepthWiseConv2d, is TransposeConv2d, is TransposeConv3d,
      is FullyConnected:
      true
    default: false
    }
  }

  /// The weight with every channel along `axis` multiplied by its factor.
  static func scaled(_ weight: Constant, axis: Int, by factors: [Float]) -> Constant {
    let shape = weight.type.shape
    var values = weight.floats()
    let inner = shape[(axis + 1)...].reduce(1, *)
    let size = shape[axis]
    guard !values.isEmpty else { return weight }
    values.withUnsafeMutableBufferPointer { values in
      factors.withUnsafeBufferPointer { factors in
        for start in stride(from: 0, to: values.count, by: size * inner) {
          if inner == 1 {
            for channel in 0..<size {
              values[start + channel] = Float(Double(values[start + channel]) * Double(factors[channel]))
            }
          } else {
            for channel in 0..<size {
              let (first, factor) = (start + channel * inner, Double(factors[channel]))
              for index in first..<(first + inner) { values[index] = Float(Double(values[index]) * factor) }
            }
          }
        }
      }
    }
    return Constant(values, shape: shape)
  }
}
