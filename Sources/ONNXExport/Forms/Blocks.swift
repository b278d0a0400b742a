import IR
import Operators

extension BlockMovement: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    guard blockSize[0] == blockSize[1], Kind.makesPixels || mode == .depthFirst else {
      throw Diagnostic("onnx-no-form", "\(typeName) of blocks \(blockSize), mode \(mode.rawValue)")
    }
    let image = channelFirst(rank: 4)
    var attributes: [(String, ONNXAttribute)] = [("blocksize", .int(blockSize[0]))]
    if Kind.makesPixels { attributes.append(("mode", .string(mode.rawValue))) }
    try session.emit(
      typeName, [try session.name(try session.operand(node, 0), image)], attributes, for: node,
      layouts: [image], since: 13)
  }
}

extension ChannelShuffle: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let (op, layout) = session.relaid(self, node)
    let shape = layout.map { session.type(id).shape[$0] }
    var parts = shape
    parts.replaceSubrange(op.axis...op.axis, with: [groups, shape[op.axis] / groups])
    var order = Array(parts.indices)
    order.swapAt(op.axis, op.axis + 1)
    let split = session.scratch(
      "Reshape", [try session.name(id, layout), session.list(parts, node.name + "_parts")], for: node,
      "split")
    let turned = session.scratch("Transpose", [split], [("perm", .ints(order))], for: node, "turned")
    try session.emit(
      "Reshape", [turned, session.list(shape, node.name + "_shape")], for: node, layouts: [layout],
      since: 14)
  }
}
