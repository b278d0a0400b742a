import IR
import Operators

extension FullyConnected: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    var inputs = [
      try session.name(try session.operand(node, 0)), try session.name(try session.operand(node, 1)),
    ]
    if let bias = session.optional(node, 2) { inputs.append(try session.name(bias)) }
    try session.emit("Gemm", inputs, [("transB", .int(1))], for: node, layouts: [[0, 1]])
  }
}

extension MatMul: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    var operands: [String] = []
    for (slot, transposes) in [(0, transposeIn0), (1, transposeIn1)] {
      let id = try session.operand(node, slot)
      var layout = session.plainLayout(id)
      if transposes { layout.swapAt(layout.count - 1, layout.count - 2) }
      operands.append(try session.name(id, layout))
    }
    let layout = node.outputs.first.map(session.plainLayout) ?? []
    guard let bias = session.optional(node, 2) else {
      return try session.emit("MatMul", operands, for: node, layouts: [layout])
    }
    let product = session.scratch("MatMul", operands, for: node, "product")
    try session.emit("Add", [product, try session.name(bias)], for: node, layouts: [layout])
  }
}
