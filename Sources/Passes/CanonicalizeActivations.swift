import IR
import Operators

/// Brings activations into one form: clamps that follow each other become one, a clamp from zero
/// without upper bound becomes Relu, x * HardSigmoid(x) becomes HardSwish.
public struct CanonicalizeActivations: Pass {
  public let name = "canonicalize-activations"
  public let summary = "fuses chains of clamps and spelled-out activations into one operator"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    mergeClamps(&graph)
    fuseHardSwish(&graph)
    return graph.compacted()
  }

  private func bounds(_ op: any Operator) -> (Float, Float)? {
    if op is Relu { return (0, .infinity) }
    if let clamp = op as? ReluMinMax { return (clamp.minValue, clamp.maxValue) }
    return nil
  }

  private func clamp(_ low: Float, _ high: Float) -> any Operator {
    low == 0 && high == .infinity ? Relu() : ReluMinMax(minValue: low, maxValue: high)
  }

  private func mergeClamps(_ graph: inout Graph) {
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard var (low, high) = bounds(node.op), let input = node.inputs.first ?? nil,
        let output = node.outputs.first
      else { continue }
      if let first = producers[input.index], !border.contains(input),
        readers[input.index].count == 1, let (innerLow, innerHigh) = bounds(graph[first].op)
      {
        // max(min(x, h), l) after [l', h']: the later bounds clamp the earlier ones.
        low = max(min(innerLow, high), low)
        high = min(max(innerHigh, low), high)
        graph.nodes[index].inputs[0] = graph[first].inputs[0]
        graph.folded[graph[input].name] = "merged with the clamp \(node.name)"
      }
      graph.nodes[index].op = clamp(low, high)
      if low == -.infinity && high == .infinity && !border.contains(output),
        let source = graph.nodes[index].inputs[0]
      {
        graph.aliases[graph[output].name] = graph[source].name
        graph.replaceUses(of: output, with: source)
      }
    }
  }

  private func fuseHardSwish(_ graph: inout Graph) {
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    for index in graph.nodes.indices where graph.nodes[index].op is ElementWiseMultiply {
      let node = graph.nodes[index]
      for (x, gate) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
        guard let x, let gate, !border.contains(gate), readers[gate.index].count == 1,
          let made = producers[gate.index], let sigmoid = graph[made].op as? HardSigmoid,
          abs(sigmoid.alpha - 1 / 6) < 1e-6, sigmoid.beta == 0.5, graph[made].inputs.first == x
        else { continue }
        graph.nodes[index].op = HardSwish()
        graph.nodes[index].inputs = [x]
        graph.folded[graph[gate].name] = "inside the HardSwish \(node.name)"
        break
      }
    }
  }
}
