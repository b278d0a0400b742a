import IR
import Operators

extension QuantizeLinear: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    let x = try session.name(try session.operand(node, 0), layout)
    try session.emitGrid("QuantizeLinear", x, op.grid, node, layout)
  }
}

extension DequantizeLinear: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    let q = try session.name(try session.operand(node, 0), layout)
    try session.emitGrid("DequantizeLinear", q, op.grid, node, layout)
  }
}

extension ExportSession {
  /// A node of ONNX's with the scales and zero points of a grid.
  fileprivate func emitGrid(
    _ opType: String, _ operand: String, _ grid: CodeGrid, _ node: Node, _ layout: [Int]
  ) throws(Diagnostic) {
    let axis = grid.encoding.axis
    let shape = axis == nil ? [] : [grid.encoding.channels.count]
    let base = "\(node.name)_grid"
    var inputs = [
      operand, constant(Constant(grid.encoding.channels.map(\.scale), shape: shape), "\(base)_scale"),
    ]
    // int32 has no zero point.
    if grid.element != .int32 {
      let zeros = grid.zeroPoints
      let bytes: Bytes
      switch grid.element.bits {
      case 4: bytes = packNibbles(zeros.map { UInt8(truncatingIfNeeded: $0) })
      case 8: bytes = Bytes(zeros.map { UInt8(truncatingIfNeeded: $0) })
      default: bytes = Bytes(zeros.map { UInt16(truncatingIfNeeded: $0) })
      }
      inputs.append(
        constant(
          Constant(type: TensorType(grid.element, shape), bytes: bytes), "\(base)_zero_point"))
    }
    let attributes: [(String, ONNXAttribute)] = axis.map { [("axis", .int($0))] } ?? []
    let isNew = grid.element.bits == 4 || grid.element.bits == 16
    try emit(opType, inputs, attributes, for: node, layouts: [layout], since: isNew ? 21 : 13)
  }
}
