import IR
import Operators

/// Turns `layer(x, W) + constant`, a value a channel or one for all, into a layer with that bias (a difference
/// likewise), and products with a constant matrix into FullyConnected.
public struct FuseBias: Pass {
  public let name = "fuse-bias"
  public let summary = "MatMul (or another layer) + Add of a constant becomes a layer with bias"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    toFullyConnected(&graph)
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    var dropped = Set<Int>()
    var names = NameTable(graph)
    for (index, node) in graph.nodes.enumerated()
    where node.op is ElementWiseAdd || node.op is ElementWiseSubtract {
      let isSum = node.op is ElementWiseAdd
      for (layerSlot, constantSlot) in isSum ? [(0, 1), (1, 0)] : [(0, 1)] {
        guard let input = node.inputs[layerSlot], let added = node.inputs[constantSlot],
          !border.contains(input), readers[input.index].count == 1,
          let layerID = producers[input.index],
          let value = graph[added].constant, value.type.element == .float32,
          graph[layerID].op.quantization.input(2) == .bias,
          case .weight = graph[layerID].op.quantization.input(1), !(graph[layerID].op is Batchnorm),
          let channels = graph[input].type.shape.last, value.type.rank <= graph[input].type.rank,
          value.type.count == 1 || (value.type.count == channels && value.type.shape.last == channels)
        else { continue }
        let given = value.floats().map { isSum ? $0 : -$0 }
        let addend = given.count == channels ? given : Array(repeating: given[0], count: channels)
        let layer = graph[layerID]
        let old = layer.inputs.count > 2 ? layer.inputs[2] : nil
        // A bias of the source with a grid of its own stays what it is.
        if let old, graph[old].constant == nil || graph[old].state != .open { continue }
        let base = old.flatMap { graph[$0].constant?.floats() }
        let sum = base.map { zip($0, addend).map { $0 + $1 } } ?? addend
        let constant = Constant(sum, shape: [channels])
        let reuse = old == nil && readers[added.index].count == 1 && isSum && given.count == channels
        let bias: TensorID
        if reuse {
          bias = added
          if let flat = graph[added].reshaped([channels], named: graph[added].name) {
            graph[added] = flat
          }
          graph[added].constant = constant
        } else {
          bias = graph.add(
            Tensor(
              name: names.unique(layer.name + ".bias"), type: constant.type, constant: constant))
        }
        graph[layerID].inputs = [layer.inputs[0], layer.inputs[1], bias]
        graph[layerID].outputs = node.outputs
        if let old = graph.batchNorms.removeValue(forKey: graph[input].name), let output = node.outputs.first {
          graph.batchNorms[graph[output].name] = BatchNormStatistics(
            beta: zip(old.beta, addend).map { $0 + $1 }, gamma: old.gamma)
        }
        graph.folded[graph[input].name] = "inside \(layer.name), before its bias"
        dropped.insert(index)
        break
      }
    }
    graph.nodes = graph.nodes.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
    return graph.compacted()
  }

  /// MatMul of a rank-2 activation with a constant matrix becomes FullyConnected, weight [M, K].
  private func toFullyConnected(_ graph: inout Graph) {
    var names = NameTable(graph)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard let product = node.op as? MatMul, !product.transposeIn0, let x = node.inputs[0],
        let w = node.inputs[1], graph[x].type.rank == 2, graph[x].constant == nil,
        let weight = graph[w].constant, weight.type.rank == 2
      else { continue }
      var target = w
      if !product.transposeIn1 {
        let turned = weight.permuted([1, 0])
        let alone = graph.consumers()[w.index].count == 1
        if alone {
          graph[w].constant = turned
          graph[w].type = turned.type
          graph[w].encoding = graph[w].encoding?.permuted([1, 0])
          graph[w].sourceOrder = Tensor.permuted(graph[w].sourceOrder, [1, 0])
        } else {
          var copy = graph[w]
          copy.name = names.unique(copy.name)
          copy.constant = turned
          copy.type = turned.type
          copy.encoding = copy.encoding?.permuted([1, 0])
          copy.sourceOrder = Tensor.permuted(copy.sourceOrder, [1, 0])
          target = graph.add(copy)
        }
      }
      graph.nodes[index].op = FullyConnected()
      graph.nodes[index].inputs[1] = target
    }
  }
}

/// ``FuseBias`` once more, for sums behind a factor that went into the weights.
public struct FuseBiasAgain: Pass {
  public let name = "fuse-bias-again"
  public let summary = "fuse-bias for sums behind a factor that went into the weights"
  /// Makes the pass.
  public init() {}
  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph { try FuseBias().run(graph) }
}
