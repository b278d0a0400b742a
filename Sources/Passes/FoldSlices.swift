import IR
import Operators

/// Takes slices of a concatenation from its operands: what is joined only to be taken apart again keeps
/// the grid of its own parts.
public struct FoldSlices: Pass {
  public let name = "fold-slices"
  public let summary = "reads slices of a concatenation from the operand that holds them"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let producers = graph.producers()
    var reread: [(joined: String, slice: String)] = []
    for index in graph.nodes.indices {
      // A concatenation of concatenations: again, until the operand is made by something else.
      while let part = part(graph, producers, index) {
        let node = graph.nodes[index]
        guard let output = node.outputs.first, let joined = node.inputs[0] else { break }
        reread.append((graph[joined].name, node.name))
        if part.slice.size == graph[part.source].type.shape, part.slice.step.allSatisfy({ $0 == 1 }),
          !graph.outputs.contains(output)
        {
          graph.aliases[graph[output].name] = graph[part.source].name
          graph.replaceUses(of: output, with: part.source)
          break
        }
        graph.nodes[index].op = part.slice
        graph.nodes[index].inputs = [part.source]
      }
    }
    graph = graph.compacted()
    let names = Set(graph.tensors.map(\.name))
    for (joined, slice) in reread where !names.contains(joined) {
      graph.folded[joined] = "joined only to be taken apart again by \(slice)"
    }
    return graph
  }

  /// The operand of the concatenation that a slice lies in, and the slice of it.
  private func part(
    _ graph: Graph, _ producers: [NodeID?], _ index: Int
  ) -> (source: TensorID, slice: StridedSlice)? {
    let node = graph.nodes[index]
    guard let slice = node.op as? StridedSlice, let joined = node.inputs[0],
      let output = node.outputs.first, let made = producers[joined.index],
      let concat = graph[made].op as? Concat, graph.isOpen(joined),
      !slice.size.contains(0)
    else { return nil }
    let axis = concat.axis
    let last = slice.begin[axis] + (slice.size[axis] - 1) * slice.step[axis]
    let (low, high) = (min(slice.begin[axis], last), max(slice.begin[axis], last))
    var start = 0
    for input in graph[made].inputs {
      guard let input else { return nil }
      let extent = graph[input].type.shape[axis]
      if low >= start && high < start + extent {
        guard graph.canStand(input, for: output) else { return nil }
        var moved = slice
        moved.begin[axis] -= start
        return (input, moved)
      }
      start += extent
    }
    return nil
  }
}
