import IR

/// Where the names of the source model went, by the aliases and reasons that passes left.
public struct NameTrace: Sendable {
  /// One name and what it became, or what a tensor or node of the container came from.
  public struct Entry: Sendable, Hashable {
    /// What a name is.
    public enum Kind: String, Sendable { case alias, folded, tensor, node, source }

    public var name: String
    public var kind: Kind
    /// The tensor or node of the container that it leads to; nil where it is gone.
    public var target: String?
    public var note: String
  }

  private let graph: Graph

  /// The trace of a graph.
  public init(_ graph: Graph) { self.graph = graph }

  /// Every source name that has no tensor of its own any more, in alphabetical order.
  public var all: [Entry] {
    graph.aliases.keys.sorted().map(alias) + graph.folded.keys.sorted().map(folded)
  }

  /// What is known of a name: forward for a name of the source, back for one of the container.
  public func entries(of name: String) -> [Entry] {
    var found: [Entry] = []
    if graph.aliases[name] != nil { found.append(alias(name)) }
    if graph.folded[name] != nil { found.append(folded(name)) }
    if let id = graph.tensor(named: name) { found += tensor(name, id) }
    for (index, node) in graph.nodes.enumerated() where node.name == name {
      found += self.node(node, NodeID(index))
    }
    return found
  }

  private func alias(_ name: String) -> Entry {
    var seen: Set<String> = [name]
    var target = name
    while let next = graph.aliases[target], seen.insert(next).inserted { target = next }
    if let reason = graph.folded[target] {
      return Entry(name: name, kind: .alias, target: target, note: reason)
    }
    return Entry(name: name, kind: .alias, target: target, note: "the same value")
  }

  private func folded(_ name: String) -> Entry {
    let reason = graph.folded[name] ?? ""
    let node = graph.nodes.first { reason.contains($0.name) && !$0.name.isEmpty }
    return Entry(name: name, kind: .folded, target: node?.name, note: reason)
  }

  /// A tensor of the container: who makes and reads it, and the source names that lead to it.
  private func tensor(_ name: String, _ id: TensorID) -> [Entry] {
    let producer = graph.producers()[id.index].map { graph[$0].name }
    let readers = Set(graph.consumers()[id.index].map { graph[$0].name }).sorted()
    var parts = [producer.map { "made by \($0)" } ?? "given"]
    if !readers.isEmpty { parts.append("read by \(readers.joined(separator: ", "))") }
    let own = Entry(
      name: name, kind: .tensor, target: name,
      note: "\(graph[id].type), \(parts.joined(separator: ", "))")
    return [own] + sources(leadingTo: name)
  }

  private func node(_ node: Node, _ id: NodeID) -> [Entry] {
    let outputs = node.outputs.map { graph[$0].name }
    let own = Entry(
      name: node.name, kind: .node, target: node.name,
      note: "\(node.op.typeName), makes \(outputs.joined(separator: ", "))")
    let inside = graph.folded.keys.sorted().filter { folded($0).target == node.name }
    return [own]
      + inside.map { Entry(name: $0, kind: .source, target: node.name, note: graph.folded[$0] ?? "") }
      + outputs.flatMap(sources(leadingTo:))
  }

  private func sources(leadingTo name: String) -> [Entry] {
    graph.aliases.keys.sorted().filter { alias($0).target == name }.map {
      Entry(name: $0, kind: .source, target: name, note: "the same value")
    }
  }
}
