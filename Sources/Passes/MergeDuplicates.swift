import IR
import Operators

/// Computes once what several nodes compute alike: same operator, same parameters, same operands.
public struct MergeDuplicates: Pass {
  public let name = "merge-duplicates"
  public let summary = "computes once what several nodes compute alike"
  /// Constants up to this size count as the same where their values are.
  static let comparedBytes = 1 << 12

  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let border = Set(graph.outputs)
    var standing = [TensorID](graph.tensors.indices.map(TensorID.init))
    joinConstants(graph, &standing)
    var known: [Key: Int] = [:]
    var kept: [Node] = []
    for var node in graph.nodes {
      let operands = node.inputs.map { $0.map { standing[$0.index] } }
      let key = Key(type: node.op.typeName, inputs: operands.map { $0?.index ?? -1 }, op: node.op)
      guard let first = known[key], node.outputs.allSatisfy({ !border.contains($0) }),
        zip(node.outputs, kept[first].outputs).allSatisfy({
          graph.canStand($1, for: $0) && graph[$0].type == graph[$1].type && !graph[$0].isUnfused
        }), !graph.integerNodes.contains(node.name)
      else {
        if known[key] == nil { known[key] = kept.count }
        // Constants stay apart unless a node goes: their names may be addressed.
        node.inputs = zip(node.inputs, operands).map { own, shared in
          shared.map { graph[$0].constant == nil } ?? true ? shared : own
        }
        kept.append(node)
        continue
      }
      for (output, other) in zip(node.outputs, kept[first].outputs) {
        standing[output.index] = other
        graph.aliases[graph[output].name] = graph[other].name
      }
      for (own, other) in zip(node.inputs, kept[first].inputs) {
        guard let own, let other, own != other, graph[own].constant != nil else { continue }
        graph.aliases[graph[own].name] = graph[other].name
      }
    }
    graph.nodes = kept
    let result = graph.compacted()
    // A constant that something else still reads keeps its own name.
    var settled = result
    for tensor in result.tensors { settled.aliases[tensor.name] = nil }
    return settled
  }

  /// Maps small constants with the same values to the first of them.
  private func joinConstants(_ graph: Graph, _ standing: inout [TensorID]) {
    var first: [[UInt8]: [TensorID]] = [:]
    for index in graph.tensors.indices {
      let tensor = graph.tensors[index]
      guard let value = tensor.constant, value.type.byteCount <= Self.comparedBytes,
        graph.isOpen(TensorID(index))
      else { continue }
      let bytes = value.materialized().buffer.map { $0 }
      if let same = first[bytes]?.first(where: { graph[$0].type == tensor.type }) {
        standing[index] = same
      } else {
        first[bytes, default: []].append(TensorID(index))
      }
    }
  }

  /// What makes two nodes the same.
  private struct Key: Hashable {
    let type: String
    let inputs: [Int]
    let op: any Operator

    static func == (a: Key, b: Key) -> Bool { a.inputs == b.inputs && a.op.isEqual(b.op) }
    func hash(into hasher: inout Hasher) {
      hasher.combine(type)
      hasher.combine(inputs)
    }
  }
}
