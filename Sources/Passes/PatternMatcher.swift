import IR

/// Looks up how tensors are made, for passes that recognise patterns.
struct PatternMatcher {
  private let graph: Graph
  private let readers: [[NodeID]]
  private let producers: [NodeID?]
  private let border: Set<TensorID>

  /// A view of a graph as it is now.
  init(_ graph: Graph) {
    self.graph = graph
    readers = graph.consumers()
    producers = graph.producers()
    border = Set(graph.outputs)
  }

  /// The node that makes a tensor, where it is of that kind.
  func producer<Kind: Operator>(of id: TensorID?, as kind: Kind.Type) -> Node? {
    guard let id, let made = producers[id.index], graph[made].op is Kind else { return nil }
    return graph[made]
  }

  /// Whether nobody but nodes of the given outputs reads any of the tensors, so that they can go.
  func areInner(_ tensors: [TensorID], of outputs: [TensorID]) -> Bool {
    let kept = Set(outputs + tensors)
    return tensors.allSatisfy { id in
      !border.contains(id)
        && readers[id.index].allSatisfy { graph[$0].outputs.allSatisfy(kept.contains) }
    }
  }

  /// The number of a constant of one float.
  func number(_ id: TensorID?) -> Float? {
    guard let id, let constant = graph[id].constant, constant.type.count == 1,
      constant.type.element == .float32
    else { return nil }
    return constant.floats().first
  }

  /// The operand beside a number near `value`, in a node of two operands in either order.
  func operand(of node: Node?, besides value: Float) -> TensorID? {
    guard let node, node.inputs.count == 2 else { return nil }
    for (first, second) in [(0, 1), (1, 0)] {
      if let found = number(node.inputs[second]), abs(found - value) < 1e-4 * abs(value) {
        return node.inputs[first]
      }
    }
    return nil
  }
}
