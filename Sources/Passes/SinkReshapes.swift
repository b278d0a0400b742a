import IR
import Operators

/// Moves a Reshape that only takes away axes of size 1 behind what is done element by element or channel by
/// channel, so that a convolution over one axis, an image one pixel high, and the BatchNormalization and
/// activation behind it meet.
public struct SinkReshapes: Pass {
  public let name = "sink-reshapes"
  public let summary = "moves reshapes of lines behind normalization and activation"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var names = NameTable(graph)
    var index = 0
    while index < graph.nodes.count {
      defer { index += 1 }
      let reshape = graph.nodes[index]
      guard reshape.op is Reshape, let source = reshape.inputs.first ?? nil,
        let line = reshape.outputs.first, isLine(graph[source].type.shape, graph[line].type.shape),
        !graph.outputs.contains(line), graph[line].encoding == nil
      else { continue }
      let readers = graph.consumers()[line.index]
      guard readers.count == 1, let reader = readers.first, let output = graph[reader].outputs.first,
        passes(graph[reader], line, graph), graph[output].encoding == nil,
        let made = graph.producers()[source.index], isImageOperator(graph, made)
      else { continue }
      // The reader works on the image; the Reshape, behind it now, makes what the reader made.
      let type = TensorType(graph[output].type.element, graph[source].type.shape)
      let image = graph.add(
        Tensor(name: names.unique(graph[output].name + SinkTransposes.suffix), type: type))
      var moved = graph[reader]
      moved.inputs = moved.inputs.map { $0 == line ? source : $0 }
      moved.outputs = [image]
      graph[reader] = moved
      graph.folded[graph[line].name] = "a line of the image \(graph[source].name)"
      graph.nodes.remove(at: index)
      let shape = graph[output].type.shape
      // The reader has moved one place forward.
      graph.nodes.insert(
        Node(name: reshape.name, op: Reshape(shape: shape), inputs: [image], outputs: [output]),
        at: reader.index)
      index = -1
    }
    return graph.compacted()
  }

  /// Whether an image one pixel high becomes a line of the same channels.
  private func isLine(_ image: [Int], _ line: [Int]) -> Bool {
    image.count == 4 && line.count == 3 && image[1] == 1 && [image[0], image[2], image[3]] == line
  }

  /// Whether a node does the same to an image as to its line.
  private func passes(_ node: Node, _ line: TensorID, _ graph: Graph) -> Bool {
    if node.op is Batchnorm { return node.inputs.first == line }
    guard node.inputs == [line], node.outputs.count == 1,
      let moved = node.op.sinking(permutation: [0, 2, 1]), moved.isEqual(node.op),
      graph[node.outputs[0]].type.shape == graph[line].type.shape
    else { return false }
    // Nothing that names axes: those of the image are others.
    return node.op.attributes.allSatisfy { attribute in
      if case .ints = attribute.value { return false }
      return attribute.name != "axis"
    }
  }

  /// Whether a node gives images: a convolution, a pool, or what follows one.
  private func isImageOperator(_ graph: Graph, _ node: NodeID) -> Bool {
    switch graph[node].op {
    case is Reshape, is Transpose: false
    default: graph[node].outputs.first.map { graph[$0].type.rank == 4 } ?? false
    }
  }
}
