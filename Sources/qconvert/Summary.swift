import IR
import ToolKit

/// What a conversion has to tell about its result.
enum Summary {
  /// Operators, parameters and bytes in one line.
  static func line(_ graph: Graph) -> String {
    let constants = graph.tensors.filter { $0.constant != nil }
    let count = constants.reduce(0) { $0 + $1.type.count }
    let bytes = constants.reduce(0) { $0 + $1.type.byteCount }
    return
      "\(counted(graph.nodes.count, "operator")), \(grouped(count)) \(count == 1 ? "parameter" : "parameters"), \(byteText(bytes))"
  }

  /// Every operator that the model became, and inputs that nothing reads.
  static func support(of graph: Graph) -> String {
    var table = TextTable(["operator", "type", "output"])
    for node in graph.nodes {
      let types = node.outputs.map { graph[$0].type.description }
      table.add([node.name, node.op.typeName, types.joined(separator: " ")])
    }
    let consumers = graph.consumers()
    let unused = graph.inputs.filter { consumers[$0.index].isEmpty && !graph.outputs.contains($0) }
      .map { graph[$0].name }
    var text = table.text + "\n\(line(graph)); all operators are supported\n"
    text += "unused inputs: \(unused.isEmpty ? "none" : unused.joined(separator: ", "))\n"
    return text
  }
}
