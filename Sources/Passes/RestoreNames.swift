import IR

/// Gives tensors that moved to another layout the names of the source back, wherever the tensor that
/// carried the name is gone. Runs last: only then is it known which ones are.
public struct RestoreNames: Pass {
  public let name = "restore-names"
  public let summary = "gives tensors whose layout changed their source names back"

  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var used = Set(graph.tensors.map(\.name))
    let border = Set(graph.inputs + graph.outputs)
    for index in graph.tensors.indices where !border.contains(TensorID(index)) {
      let old = graph.tensors[index].name
      let base = Self.sourceName(old)
      // An alias says that the name means another tensor.
      guard !base.isEmpty, graph.aliases[base] == nil, used.insert(base).inserted else { continue }
      graph.tensors[index].name = base
      for (alias, target) in graph.aliases where target == old { graph.aliases[alias] = base }
      if let statistics = graph.batchNorms.removeValue(forKey: old) {
        graph.batchNorms[base] = statistics
      }
    }
    for name in graph.folded.keys.sorted() {
      let base = Self.sourceName(name)
      guard base != name, !base.isEmpty, !used.contains(base), graph.folded[base] == nil else {
        continue
      }
      graph.folded[base] = graph.folded.removeValue(forKey: name)
    }
    settleAliases(&graph)
    return graph
  }

  /// Leads every alias straight to a tensor; names that only passes gave count for the source's name.
  private func settleAliases(_ graph: inout Graph) {
    let names = Set(graph.tensors.map(\.name))
    let old = graph.aliases
    graph.aliases = [:]
    for name in old.keys.sorted() where !names.contains(name) {
      var target = name
      var seen: Set<String> = []
      while !names.contains(target), let next = old[target], seen.insert(target).inserted { target = next }
      guard names.contains(target) else {
        // No tensor, but perhaps the reason why there is none is known, by the name it ends at.
        if Self.sourceName(target) != Self.sourceName(name) { graph.aliases[name] = old[name] }
        continue
      }
      let base = Self.sourceName(name)
      guard !base.isEmpty, !names.contains(base) else { continue }
      if base == name || (old[base] == nil && graph.aliases[base] == nil) { graph.aliases[base] = target }
    }
  }

  /// The name without the layout suffixes, numbered ones (`.nhwc_1`) included.
  static func sourceName(_ name: String) -> String {
    var base = Substring(name)
    while true {
      var end = base
      let digits = end.reversed().prefix { $0.isNumber }.count
      if digits > 0, end.dropLast(digits).hasSuffix("_") { end = end.dropLast(digits + 1) }
      guard end.hasSuffix(SinkTransposes.suffix) else { return String(base) }
      base = end.dropLast(SinkTransposes.suffix.count)
    }
  }
}
