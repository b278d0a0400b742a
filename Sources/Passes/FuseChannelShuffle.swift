import IR
import Operators

/// Recognises an axis that is split into groups, exchanged with what it is split into, and joined again as
/// ChannelShuffle, which lets layouts pass.
public struct FuseChannelShuffle: Pass {
  public let name = "fuse-channel-shuffle"
  public let summary = "recognises a channel shuffle that is spelled out by Reshape and Transpose"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var matcher = PatternMatcher(graph)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard node.op is Reshape, let output = node.outputs.first,
        let turn = matcher.producer(of: node.inputs.first ?? nil, as: Transpose.self),
        let turned = turn.outputs.first,
        let split = matcher.producer(of: turn.inputs.first ?? nil, as: Reshape.self),
        let parts = split.outputs.first, let x = split.inputs.first ?? nil,
        graph[x].type == graph[output].type, let permutation = (turn.op as? Transpose)?.perm,
        let op = Self.shuffle(graph[x].type.shape, graph[parts].type.shape, permutation),
        matcher.areInner([parts, turned], of: [output])
      else { continue }
      graph.nodes[index].op = op
      graph.nodes[index].inputs = [x]
      for id in [parts, turned] { graph.folded[graph[id].name] = "inside the channel shuffle \(node.name)" }
      matcher = PatternMatcher(graph)
    }
    return graph.compacted()
  }

  /// The shuffle that splitting `shape` into `parts` and permuting these is; nil where it is another thing.
  private static func shuffle(_ shape: [Int], _ parts: [Int], _ permutation: [Int]) -> ChannelShuffle? {
    guard parts.count == shape.count + 1,
      let axis = permutation.indices.first(where: { permutation[$0] != $0 }), axis < shape.count
    else { return nil }
    var exchange = Array(parts.indices)
    exchange.swapAt(axis, axis + 1)
    guard permutation == exchange, parts[..<axis] == shape[..<axis],
      parts[(axis + 2)...] == shape[(axis + 1)...], parts[axis] > 0
    else { return nil }
    return ChannelShuffle(axis: axis, groups: parts[axis])
  }
}
