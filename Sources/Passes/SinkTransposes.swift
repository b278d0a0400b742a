import IR
import Operators

/// Moves Transposes towards the outputs, through every operator that lets them pass, and cancels those
/// that meet, so that the network runs channel-last and only its border keeps the source's layout.
public struct SinkTransposes: Pass {
  public let name = "sink-transposes"
  public let summary = "moves transposes towards the outputs and cancels them"
  /// Suffix of a tensor that stands for a source tensor in another layout.
  public static let suffix = ".nhwc"

  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var changed = true
    var rounds = 0
    while changed && rounds < graph.nodes.count + 8 {
      var sweep = Sweep(graph)
      changed = sweep.run()
      graph = sweep.graph.compacted()
      rounds += 1
    }
    return graph
  }
}

/// One forward walk over the nodes.
private struct Sweep {
  var graph: Graph
  private var emitted: [Node] = []
  /// For a tensor made by a Transpose: what is transposed, and how.
  private var origin: [TensorID: (source: TensorID, perm: [Int])] = [:]
  private var replacement: [TensorID: TensorID] = [:]
  private var names: NameTable
  private var changed = false

  init(_ graph: Graph) {
    self.graph = graph
    names = NameTable(graph)
  }

  mutating func run() -> Bool {
    for original in graph.nodes {
      var node = original
      node.inputs = node.inputs.map { $0.map { replacement[$0] ?? $0 } }
      if let transpose = node.op as? Transpose {
        visit(transpose, node)
      } else if !sink(node) {
        emitted.append(node)
      }
    }
    graph.nodes = emitted
    return changed
  }

  private mutating func visit(_ transpose: Transpose, _ node: Node) {
    guard let input = node.inputs.first ?? nil, let output = node.outputs.first else { return }
    var (source, perm) = (input, transpose.perm)
    if let inner = origin[input] {
      source = inner.source
      perm = transpose.perm.map { inner.perm[$0] }
      changed = true
    }
    let isIdentity = perm.enumerated().allSatisfy { $0.offset == $0.element }
    if isIdentity && !graph.outputs.contains(output) {
      graph.aliases[graph[output].name] = graph[source].name
      replacement[output] = source
      changed = true
      return
    }
    if isIdentity, takeOver(output, from: source) {
      changed = true
      return
    }
    emitted.append(
      Node(name: node.name, op: Transpose(perm: perm), inputs: [source], outputs: [output]))
    origin[output] = (source, perm)
  }

  /// Lets the node that makes `source` make the graph's output `output` instead, so that the output
  /// keeps its name without a copy. Not possible for inputs, constants and other outputs.
  private mutating func takeOver(_ output: TensorID, from source: TensorID) -> Bool {
    guard !graph.inputs.contains(source), !graph.outputs.contains(source),
      graph[source].constant == nil
    else { return false }
    for index in emitted.indices {
      emitted[index].outputs = emitted[index].outputs.map { $0 == source ? output : $0 }
      emitted[index].inputs = emitted[index].inputs.map { $0 == source ? output : $0 }
    }
    for (key, value) in origin where value.source == source {
      origin[key] = (output, value.perm)
    }
    graph.aliases[graph[source].name] = graph[output].name
    for (key, value) in replacement where value == source { replacement[key] = output }
    replacement[source] = output
    return true
  }

  /// Replaces node(transpose(x, p), ...) by transpose(node'(x, ...), p) where the operator allows it and
  /// every input that is not constant comes through the same permutation.
  private mutating func sink(_ node: Node) -> Bool {
    var permutation: [Int]?
    for case let input? in node.inputs where graph[input].constant == nil {
      guard let found = origin[input], permutation == nil || permutation == found.perm else {
        return false
      }
      permutation = found.perm
    }
    guard let perm = permutation, let moved = node.op.sinking(permutation: perm) else { return false }
    let rank = perm.count
    for id in node.inputs.compactMap({ $0 }) + node.outputs {
      let tensor = graph[id]
      if tensor.type.rank != rank && !(tensor.constant != nil && tensor.type.rank < rank) {
        return false
      }
    }
    let inverse = inversePermutation(perm)
    let inputs = node.inputs.map { $0.map { operand($0, rank: rank, inverse: inverse) } }
    let types: [TensorType]
    do { types = try moved.infer(inputs.map { $0.map { graph[$0].type.logical } }) } catch {
      return false
    }
    var inner: [TensorID] = []
    for (output, type) in zip(node.outputs, types) {
      let name = names.unique(graph[output].name + SinkTransposes.suffix)
      inner.append(graph.add(Tensor(name: name, type: type)))
    }
    emitted.append(Node(name: node.name, op: moved, inputs: inputs, outputs: inner))
    for (output, source) in zip(node.outputs, inner) {
      emitted.append(
        Node(
          name: node.name + ".layout", op: Transpose(perm: perm), inputs: [source],
          outputs: [output]))
      origin[output] = (source, perm)
    }
    changed = true
    return true
  }

  /// The operand as the moved operator reads it: before its Transpose, or the constant permuted back.
  private mutating func operand(_ id: TensorID, rank: Int, inverse: [Int]) -> TensorID {
    if let found = origin[id], graph[id].constant == nil { return found.source }
    guard let constant = graph[id].constant, constant.type.count != 1 else { return id }
    let lead = [Int](repeating: 1, count: rank - constant.type.rank)
    var full: Tensor? = graph[id]
    if !lead.isEmpty { full = full?.reshaped(lead + constant.type.shape, named: graph[id].name) }
    guard var moved = full?.permuted(inverse, named: graph[id].name) else { return id }
    if moved.constant?.pending == nil && moved.type == graph[id].type { return id }
    moved.name = names.unique(graph[id].name + SinkTransposes.suffix)
    return graph.add(moved)
  }
}
