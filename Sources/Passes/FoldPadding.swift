import IR
import Operators

/// Moves a Pad with zeros around the spatial axes into the convolution that alone reads it.
public struct FoldPadding: Pass {
  public let name = "fold-padding"
  public let summary = "moves zero padding into the convolution behind it"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let readers = graph.consumers()
    let border = Set(graph.outputs)
    for node in graph.nodes {
      guard let pad = node.op as? Pad, pad.scheme == .constant, pad.value == 0,
        [8, 10].contains(pad.padAmount.count), pad.padAmount.prefix(2) == [0, 0],
        pad.padAmount.suffix(2) == [0, 0],
        let output = node.outputs.first, !border.contains(output),
        readers[output.index].count == 1, let reader = readers[output.index].first,
        graph[reader].inputs.first == output
      else { continue }
      let extra = Array(pad.padAmount.dropFirst(2).dropLast(2))
      if var conv = graph[reader].op as? Conv2d {
        conv.padAmount = zip(conv.padAmount, extra).map { $0 + $1 }
        graph[reader].op = conv
      } else if var conv = graph[reader].op as? Conv3d {
        conv.padAmount = zip(conv.padAmount, extra).map { $0 + $1 }
        graph[reader].op = conv
      } else if var conv = graph[reader].op as? DepthWiseConv2d {
        conv.padAmount = zip(conv.padAmount, extra).map { $0 + $1 }
        graph[reader].op = conv
      } else {
        continue
      }
      graph[reader].inputs[0] = node.inputs[0]
      graph.folded[graph[output].name] = "padding inside \(graph[reader].name)"
    }
    return graph.compacted()
  }
}
