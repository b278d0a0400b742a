import IR
import Operators

/// Keeps inputs and outputs of a materialised graph in float32 (`--preserve_io_datatype`): a Quantize or
/// Convert behind the input, a Dequantize or Convert before the output, the fixed-point or float16 tensor
/// between being called `NAME_inner`. Integer inputs and outputs have the model's own types in any case.
///
/// - Parameters:
///   - names: the tensors to keep, nil for all. A name that is neither an input nor an output is an error
///     `unknown-border`.
/// - Returns: the graph and the number of tensors that changed.
public func preservingTypes(
  _ graph: Graph, names: [String]? = nil
) throws(Diagnostic) -> (graph: Graph, changed: Int) {
  let wanted = try names.map { (names) throws(Diagnostic) in try borderTensors(graph, names) }
  var writer = TypeKeeper(graph: graph)
  for id in graph.inputs where wanted?.contains(id) ?? true { writer.keepInput(id) }
  for id in graph.outputs where wanted?.contains(id) ?? true { writer.keepOutput(id) }
  guard writer.changed > 0 else { return (graph, 0) }
  try writer.graph.checkMaterialized()
  return (writer.graph, writer.changed)
}

/// The inputs and outputs of a graph that have these names; throws `unknown-border` for every other name.
public func borderTensors(_ graph: Graph, _ names: [String]) throws(Diagnostic) -> Set<TensorID> {
  var found = Set<TensorID>()
  var errors: [Diagnostic] = []
  for name in names {
    let own = graph.aliases[name] ?? name
    if let id = (graph.inputs + graph.outputs).first(where: {
      graph[$0].name == name || graph[$0].name == own
    }) {
      found.insert(id)
    } else {
      errors.append(
        Diagnostic(
          "unknown-border", "the graph has no input or output \(name)",
          hint: "they are: "
            + (graph.inputs + graph.outputs).map { graph[$0].name }.joined(separator: ", ")))
    }
  }
  if let failure = Diagnostic.combining(errors) { throw failure }
  return found
}

/// Puts the operators behind inputs and before outputs.
private struct TypeKeeper {
  var graph: Graph
  var changed = 0
  private var names: NameTable

  init(graph: Graph) {
    self.graph = graph
    names = NameTable(graph)
  }

  /// Whether a tensor is not float32 though its values are.
  private func isNarrow(_ id: TensorID) -> Bool {
    let element = graph[id].type.element
    return element != .float32 && element.logical == .float32
  }

  /// Moves type and annotations of a tensor to a new one beside it.
  private mutating func split(_ id: TensorID) -> TensorID {
    var inner = graph[id]
    inner.name = names.unique(BorderName.of(inner.name, BorderName.inner))
    graph[id].type = graph[id].type.logical
    graph[id].encoding = nil
    graph[id].encodingSource = nil
    graph[id].state = .float
    graph[id].bitwidth = nil
    changed += 1
    return graph.add(inner)
  }

  mutating func keepInput(_ id: TensorID) {
    guard isNarrow(id), graph[id].constant == nil else { return }
    let inner = split(id)
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    let op: any Operator = graph[inner].encoding == nil ? Convert() : Quantize()
    graph.nodes.insert(
      Node(name: graph[inner].name, op: op, inputs: [id], outputs: [inner]), at: 0)
  }

  mutating func keepOutput(_ id: TensorID) {
    guard isNarrow(id), graph[id].constant == nil,
      let producer = graph.nodes.firstIndex(where: { $0.outputs.contains(id) })
    else { return }
    let inner = split(id)
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    graph.nodes[producer].outputs = graph.nodes[producer].outputs.map { $0 == id ? inner : $0 }
    let op: any Operator = graph[inner].encoding == nil ? Convert() : Dequantize()
    graph.nodes.insert(
      Node(name: graph[inner].name, op: op, inputs: [inner], outputs: [id]), at: producer + 1)
  }
}
