import IR
import Operators

/// Moves the Transpose of a flattened image into the columns of the fully connected layer behind it:
/// FullyConnected(Reshape(Transpose(x)), W) reads x directly with W's columns reordered.
public struct FlattenIntoWeights: Pass {
  public let name = "flatten-into-weights"
  public let summary = "reorders fully connected weights so that no transpose precedes flattening"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    var names = NameTable(graph)
    for index in graph.nodes.indices where graph.nodes[index].op is FullyConnected {
      let layer = graph.nodes[index]
      guard let flat = layer.inputs[0], let reshapeID = producers[flat.index],
        graph[reshapeID].op is Reshape, let image = graph[reshapeID].inputs[0],
        let transposeID = producers[image.index],
        let transpose = graph[transposeID].op as? Transpose, transpose.perm.first == 0,
        let source = graph[transposeID].inputs[0],
        graph[flat].type.rank == 2, graph[flat].type.shape[0] == graph[image].type.shape[0],
        readers[flat.index].count == 1, !border.contains(flat),
        let weightID = layer.inputs[1], let weight = graph[weightID].constant,
        graph[weightID].encoding?.axis ?? 0 == 0, graph.canStand(source, for: image)
      else { continue }
      let rows = weight.type.shape[0]
      let imageShape = Array(graph[image].type.shape.dropFirst())
      // Axis i of the image is axis perm[i] of the source; the weight's columns go back the same way.
      let viewed = weight.reshaped([rows] + imageShape)
      let moved = viewed.permuted(inversePermutation(transpose.perm))
      let value = moved.reshaped(weight.type.shape)
      // Blocks of columns stay blocks only where the columns keep their order.
      if let encoding = graph[weightID].encoding, encoding.blocks != nil {
        let after = encoding.reshaped(from: weight.type.shape, to: viewed.type.shape)?
          .permuted(inversePermutation(transpose.perm)).reshaped(from: moved.type.shape, to: value.type.shape)
        guard after == encoding else { continue }
      }
      if readers[weightID.index].count == 1 {
        graph[weightID].constant = value
      } else {
        var copy = graph[weightID]
        copy.name = names.unique(copy.name)
        copy.constant = value
        graph.nodes[index].inputs[1] = graph.add(copy)
      }
      graph[reshapeID].inputs[0] = source
    }
    return graph.compacted()
  }
}

/// Transposes that only move axes of size 1 become Reshapes, Reshapes of Reshapes one, those that
/// change nothing go.
public struct SimplifyReshapes: Pass {
  public let name = "simplify-reshapes"
  public let summary = "merges and removes reshapes"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var origin: [TensorID: TensorID] = [:]
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard let output = node.outputs.first, let input = node.inputs.first ?? nil else { continue }
      let shape = graph[output].type.shape
      if let transpose = node.op as? Transpose {
        let moving = transpose.perm.filter { graph[input].type.shape[$0] != 1 }
        guard moving == moving.sorted() else { continue }
        graph.nodes[index].op = Reshape(shape: shape)
      } else if !(node.op is Reshape) {
        continue
      }
      var source = input
      if let first = origin[input], graph.canStand(first, for: input) { source = first }
      graph.nodes[index].inputs[0] = source
      if graph[source].type.shape == shape && !graph.outputs.contains(output)
        && graph.canStand(source, for: output)
      {
        graph.aliases[graph[output].name] = graph[source].name
        graph.replaceUses(of: output, with: source)
      } else {
        origin[output] = source
      }
    }
    return graph.compacted()
  }
}

extension Graph {
  /// Whether the values of `source` may be read in place of `other`, which holds the same ones in another
  /// order or shape: nothing is decided about `other` that is not decided about `source` too.
  func canStand(_ source: TensorID, for other: TensorID) -> Bool {
    self[other].state == .open && self[other].bitwidth == nil
      || self[other].encoding == self[source].encoding && self[other].state == self[source].state
  }
}
