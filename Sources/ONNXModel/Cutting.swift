/// Where a network ends before its last node: what is needed for some of its tensors, and which tensors to
/// end at where some of its nodes cannot be read.
enum Cutting {
  /// The graph with the nodes that make the named tensors, which become its outputs; a node's name stands
  /// for what it makes. nil where a name is none of the source's, or a constant's.
  static func pruned(
    _ graph: ONNXGraph, nodeNames: [String], to wanted: [String]
  ) -> (graph: ONNXGraph, kept: [Int])? {
    var producers: [String: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for output in node.outputs where !output.isEmpty { producers[output] = producers[output] ?? index }
    }
    let inputs = Set(graph.inputs.map(\.name))
    var read = Set(graph.outputs.map(\.name))
    for node in graph.nodes { read.formUnion(node.inputs + node.captured) }
    var names: [String] = []
    for name in wanted {
      if producers[name] != nil || inputs.contains(name) {
        names.append(name)
      } else if let index = nodeNames.firstIndex(of: name) {
        let outputs = graph.nodes[index].outputs.filter { !$0.isEmpty }
        names += outputs.contains(where: read.contains) ? outputs.filter(read.contains) : outputs
      } else {
        return nil
      }
    }
    var isKept = [Bool](repeating: false, count: graph.nodes.count)
    var waiting = names
    while let name = waiting.popLast() {
      guard let index = producers[name], !isKept[index] else { continue }
      isKept[index] = true
      waiting += graph.nodes[index].inputs + graph.nodes[index].captured
    }
    let kept = graph.nodes.indices.filter { isKept[$0] }
    let needed = Set(names + kept.flatMap { graph.nodes[$0].inputs + graph.nodes[$0].captured })
    var declared: [String: ONNXValueInfo] = [:]
    for info in graph.valueInfos + graph.outputs { declared[info.name] = info }
    var result = graph
    result.nodes = kept.map { graph.nodes[$0] }
    // An input with an initializer that nobody needs any more must not become one to be fed.
    let dropped = Set(
      (graph.initializers.map(\.name) + graph.sparseInitializers.map(\.values.name)).filter {
        !needed.contains($0)
      })
    result.initializers.removeAll { dropped.contains($0.name) }
    result.sparseInitializers.removeAll { dropped.contains($0.values.name) }
    result.inputs.removeAll { dropped.contains($0.name) }
    result.outputs = []
    for name in names where !result.outputs.contains(where: { $0.name == name }) {
      result.outputs.append(declared[name] ?? ONNXValueInfo(name: name, dataType: nil, shape: nil))
    }
    return (result, kept)
  }

  /// The tensors to end at so that nothing is left of the nodes that make `failed`, and of those behind them:
  /// what such nodes read from the others, and the outputs that do not depend on them. `order` has producers
  /// first. Inputs of the network and what `isFixed` (its constants) are not among them.
  static func tensors(
    before failed: Set<String>, in graph: ONNXGraph, order: [Int], isFixed: (String) -> Bool
  ) -> [String] {
    var lost = failed
    var made = Set<String>()
    var read: [String] = []
    for index in order {
      let node = graph.nodes[index]
      let operands = node.inputs + node.captured
      if node.outputs.contains(where: lost.contains) || operands.contains(where: lost.contains) {
        lost.formUnion(node.outputs)
        read += operands
      } else {
        made.formUnion(node.outputs)
      }
    }
    lost.remove("")
    var seen = Set<String>()
    return (read + graph.outputs.map(\.name)).filter {
      made.contains($0) && !lost.contains($0) && !isFixed($0) && seen.insert($0).inserted
    }
  }
}
