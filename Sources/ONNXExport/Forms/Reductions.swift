import IR
import Operators

extension Reduce: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let layout = session.layout(of: id)
    let places = axes.compactMap { layout.firstIndex(of: $0) }.sorted()
    // What is left of the layout: axes that stay, renumbered where others go.
    let kept = keepDims ? layout : layout.filter { !axes.contains($0) }
    let order = kept.sorted()
    let result = kept.compactMap { order.firstIndex(of: $0) }
    var attributes: [(String, ONNXAttribute)] = [("keepdims", .int(keepDims ? 1 : 0))]
    if axes.isEmpty { attributes.append(("noop_with_empty_axes", .int(1))) }
    try session.emit(
      typeName, [try session.name(id, layout), session.list(places, node.name + "_axes")], attributes,
      for: node, layouts: [result], since: 18)
  }
}

extension ExtremeIndex: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = keepDims ? session.relaid(self, node) : (self, session.plainLayout(try session.operand(node, 0)))
    let result = keepDims ? layout : Array(layout.indices.dropLast())
    try session.emit(
      Kind.isLargest ? "ArgMax" : "ArgMin", [try session.name(try session.operand(node, 0), layout)],
      [
        ("axis", .int(op.axis)), ("keepdims", .int(keepDims ? 1 : 0)),
        ("select_last_index", .int(selectLastIndex ? 1 : 0)),
      ], for: node, layouts: [result], since: 13)
  }
}

extension Cumulation: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    let place = session.constant(Constant([Int64(op.axis)], shape: []), node.name + "_axis")
    try session.emit(
      Kind.start == 0 ? "CumSum" : "CumProd", [try session.name(try session.operand(node, 0), layout), place],
      [("exclusive", .int(exclusive ? 1 : 0)), ("reverse", .int(reverse ? 1 : 0))], for: node,
      layouts: [layout], since: Kind.start == 0 ? 14 : 26)
  }
}

extension TopK: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    try session.emit(
      "TopK", [try session.name(try session.operand(node, 0), layout), session.list([k], node.name + "_k")],
      [("axis", .int(op.axis)), ("largest", .int(largest ? 1 : 0)), ("sorted", .int(1))], for: node,
      layouts: node.outputs.map { _ in layout })
  }
}

extension OneHot: ONNXExportable {
  /// ONNX Runtime has it for float and int64; other types are cast from these.
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.plainLayout(node.outputs[0])
    var indices = try session.indexName(try session.operand(node, 0), for: node)
    if session.type(try session.operand(node, 0)).element == .int32 {
      indices = session.scratch(
        "Cast", [indices], [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "indices64")
    }
    let isFloat = to == .float32
    let values =
      isFloat
      ? session.constant(Constant([offValue, onValue], shape: [2]), node.name + "_values")
      : session.list([Int(offValue), Int(onValue)], node.name + "_values")
    let size = session.constant(Constant([Int64(depth)], shape: [1]), node.name + "_depth")
    let inputs = [indices, size, values]
    let attributes: [(String, ONNXAttribute)] = [("axis", .int(axis))]
    if isFloat || to == .int64 {
      return try session.emit("OneHot", inputs, attributes, for: node, layouts: [layout], since: 11)
    }
    let whole = session.scratch("OneHot", inputs, attributes, for: node, "int64", since: 11)
    try session.emit(
      "Cast", [whole], [("to", .int(Int(to.onnxCode)))], for: node, layouts: [layout], since: 13)
  }
}
