import IR
import Operators

extension GridSample: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let image = channelFirst(rank: session.type(id).rank)
    try session.emit(
      "GridSample", [try session.name(id, image), try session.name(try session.operand(node, 1))],
      [
        ("mode", .string(mode.rawValue)), ("padding_mode", .string(padding.rawValue)),
        ("align_corners", .int(alignCorners ? 1 : 0)),
      ], for: node, layouts: [image], since: 20)
  }
}

extension RoiAlign: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: 4)
    let images = session.scratch(
      "Cast", [try session.name(try session.operand(node, 2))],
      [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "images")
    try session.emit(
      "RoiAlign",
      [
        try session.name(try session.operand(node, 0), image),
        try session.name(try session.operand(node, 1)), images,
      ],
      [
        ("mode", .string(takesLargest ? "max" : "avg")), ("output_height", .int(size[0])),
        ("output_width", .int(size[1])), ("spatial_scale", .float(spatialScale)),
        ("sampling_ratio", .int(samplingRatio)),
        ("coordinate_transformation_mode", .string(halfPixel ? "half_pixel" : "output_half_pixel")),
      ], for: node, layouts: [image], since: 16)
  }
}

extension MaxRoiPool: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: 4)
    try session.emit(
      "MaxRoiPool",
      [
        try session.name(try session.operand(node, 0), image),
        try session.name(try session.operand(node, 1)),
      ], [("pooled_shape", .ints(size)), ("spatial_scale", .float(spatialScale))], for: node,
      layouts: [image])
  }
}

extension Determinant: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emit(
      "Det", [try session.name(try session.operand(node, 0))], for: node,
      layouts: [session.plainLayout(node.outputs[0])], since: 11)
  }
}
