import IR

/// Leaves the operators whose node names fit one of `patterns` (`*` any run, `?` any one character) in
/// float: their results, and with them the other half of a fused pair, become float by choice; so do inputs of
/// the graph that nobody else reads. Results with an override keep it, which is a warning.
///
/// Throws `keep-float-no-match` for a pattern that fits no operator.
public func keepingFloat(
  _ graph: Graph, _ patterns: [String]
) throws(Diagnostic) -> (graph: Graph, notes: [Diagnostic]) {
  var result = graph
  var notes: [Diagnostic] = []
  var errors: [Diagnostic] = []
  let inner = graph.innerTensorsOfFusedPairs()
  let names = graph.nodes.map { Array($0.name.unicodeScalars) }
  var reported = Set<TensorID>()
  var matched = Set<Int>()
  for text in patterns {
    let pattern = Array(text.unicodeScalars)
    let found = names.indices.filter { OverrideNames.matches(names[$0], pattern) }
    if found.isEmpty {
      errors.append(
        Diagnostic(
          "keep-float-no-match", "no operator's name fits --keep_float \(text.debugDescription)",
          hint: "qinspect info lists the names of the operators"))
    }
    matched.formUnion(found)
    for index in found {
      for output in graph.nodes[index].outputs where graph[output].type.element == .float32 {
        let id = inner[output] ?? output
        guard graph[id].encodingSource != .override || graph[id].state == .float else {
          if reported.insert(id).inserted {
            notes.append(
              Diagnostic(
                "keep-float-overridden",
                "it keeps the encoding that an override gives: --keep_float has no effect on it",
                at: .init(node: graph.nodes[index].name, tensor: graph[id].name), severity: .warning))
          }
          continue
        }
        result[id].encoding = nil
        result[id].encodingSource = nil
        result[id].state = .float
      }
    }
  }
  if let failure = Diagnostic.combining(errors) { throw failure }
  let readers = graph.consumers()
  for id in graph.inputs where graph[id].type.element == .float32 && graph[id].state == .open {
    let isRead = !readers[id.index].isEmpty && graph[id].bitwidth == nil
    if isRead, readers[id.index].allSatisfy({ matched.contains($0.index) }) { result[id].state = .float }
  }
  return (result, notes)
}
