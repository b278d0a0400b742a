import IR
import Operators

extension ExportSession {
  /// QuantizeLinear or DequantizeLinear of plain integers, by its grid.
  fileprivate func emitCodes(_ opType: String, _ node: Node, _ grid: CodeGrid, _ layout: [Int]) throws(Diagnostic) {
    let encoding = grid.encoding
    let isScalar = encoding.axis == nil
    let shape = isScalar ? [] : [encoding.channels.count]
    let scale = constant(Constant(encoding.channels.map(\.scale), shape: shape), node.name + "_scale")
    var inputs = [try name(try operand(node, 0), layout), scale]
    if grid.element != .int32 {
      let points = grid.zeroPoints
      let bytes: Bytes
      switch grid.element.bits {
      case 4: bytes = packNibbles(points.map { UInt8(truncatingIfNeeded: $0) })
      case 8: bytes = Bytes(points.map { UInt8(truncatingIfNeeded: $0) })
      default: bytes = Bytes(points.map { UInt16(truncatingIfNeeded: $0) })
      }
      inputs.append(
        initializer(bytes, grid.element.onnxCode, shape, node.name + "_zero_point"))
    } else if opType == "QuantizeLinear" {
      throw Diagnostic("onnx-no-form", "ONNX does not quantize to int32")
    }
    try emit(
      opType, inputs, encoding.axis.map { [("axis", .int($0))] } ?? [], for: node, layouts: [layout],
      since: grid.element.bits == 16 || grid.element.bits == 4 ? 21 : 13)
  }
}

extension QuantizeLinear: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    try session.emitCodes("QuantizeLinear", node, op.grid, layout)
  }
}

extension DequantizeLinear: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    try session.emitCodes("DequantizeLinear", node, op.grid, layout)
  }
}
