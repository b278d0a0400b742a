import IR
import Operators

/// Padding [top, bottom, left, right] in ONNX's order: all begins, then all ends.
func onnxPads(_ pads: [Int]) -> [Int] {
  stride(from: 0, to: pads.count, by: 2).map { pads[$0] }
    + stride(from: 1, to: pads.count, by: 2).map { pads[$0] }
}

extension Convolution: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let weight = try session.operand(node, 1)
    let image = channelFirst(rank: Space.count + 2)
    // [K..., C / group, M] as ONNX has it: [M, C / group, K...].
    let filtersFirst = [Space.count + 1, Space.count] + Array(0..<Space.count)
    var inputs = [
      try session.name(try session.operand(node, 0), image), try session.name(weight, filtersFirst),
    ]
    if let bias = session.optional(node, 2) { inputs.append(try session.name(bias)) }
    let window = geometry(weight: session.type(weight).shape)
    try session.emit(
      "Conv", inputs,
      [
        ("kernel_shape", .ints(window.filter)), ("strides", .ints(stride)),
        ("pads", .ints(onnxPads(padAmount))), ("dilations", .ints(dilation)), ("group", .int(group)),
      ], for: node, layouts: [image])
  }
}

extension DepthWiseConv2d: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let channels = session.type(try session.operand(node, 0)).shape[3]
    try grouped(channels: channels).export(node, session)
  }
}

extension TransposeConvolution: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let weight = try session.operand(node, 1)
    let shape = session.type(weight).shape
    let count = Space.count
    let image = channelFirst(rank: count + 2)
    let spatial = Array(0..<count)
    // ONNX: [C, M / group, K...].
    var filters: String
    if group == 1 {
      filters = try session.name(weight, [count, count + 1] + spatial)
    } else {
      let perGroup = shape[count + 1] / group
      let split = session.list(
        Array(shape[...count]) + [group, perGroup], node.name + "_split")
      filters = session.scratch("Reshape", [try session.name(weight), split], for: node, "split")
      filters = session.scratch(
        "Transpose", [filters], [("perm", .ints([count + 1, count, count + 2] + spatial))], for: node,
        "grouped")
      let joined = session.list(
        [group * shape[count], perGroup] + Array(shape.prefix(count)), node.name + "_joined")
      filters = session.scratch("Reshape", [filters, joined], for: node, "weight")
    }
    var inputs = [try session.name(try session.operand(node, 0), image), filters]
    if let bias = session.optional(node, 2) { inputs.append(try session.name(bias)) }
    try session.emit(
      "ConvTranspose", inputs,
      [
        ("kernel_shape", .ints(Array(shape.prefix(count)))), ("strides", .ints(stride)),
        ("pads", .ints(onnxPads(padAmount))), ("dilations", .ints(dilation)),
        ("output_padding", .ints(outputPadding)), ("group", .int(group)),
      ], for: node, layouts: [image])
  }
}
