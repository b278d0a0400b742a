import IR
import Operators

/// [KH, KW, C / group, M] as ONNX has it: [M, C / group, KH, KW].
private let filtersFirst = [3, 2, 0, 1]

/// Padding [top, bottom, left, right] in ONNX's order: all begins, then all ends.
func onnxPads(_ pads: [Int]) -> [Int] {
  stride(from: 0, to: pads.count, by: 2).map { pads[$0] }
    + stride(from: 1, to: pads.count, by: 2).map { pads[$0] }
}

extension Conv2d: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let weight = try session.operand(node, 1)
    let image = channelFirst(rank: 4)
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

extension TransposeConv2d: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let weight = try session.operand(node, 1)
    let shape = session.type(weight).shape
    let image = channelFirst(rank: 4)
    // ONNX: [C, M / group, KH, KW].
    var filters: String
    if group == 1 {
      filters = try session.name(weight, [2, 3, 0, 1])
    } else {
      let perGroup = shape[3] / group
      let split = session.list([shape[0], shape[1], shape[2], group, perGroup], node.name + "_split")
      filters = session.scratch("Reshape", [try session.name(weight), split], for: node, "split")
      filters = session.scratch(
        "Transpose", [filters], [("perm", .ints([3, 2, 4, 0, 1]))], for: node, "grouped")
      let joined = session.list(
        [group * shape[2], perGroup, shape[0], shape[1]], node.name + "_joined")
      filters = session.scratch("Reshape", [filters, joined], for: node, "weight")
    }
    var inputs = [try session.name(try session.operand(node, 0), image), filters]
    if let bias = session.optional(node, 2) { inputs.append(try session.name(bias)) }
    try session.emit(
      "ConvTranspose", inputs,
      [
        ("kernel_shape", .ints(Array(shape[0...1]))), ("strides", .ints(stride)),
        ("pads", .ints(onnxPads(padAmount))), ("dilations", .ints(dilation)),
        ("output_padding", .ints(outputPadding)), ("group", .int(group)),
      ], for: node, layouts: [image])
  }
}

extension PoolMax2d: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: 4)
    try session.emit(
      "MaxPool", [try session.name(try session.operand(node, 0), image)],
      [
        ("kernel_shape", .ints(filterSize)), ("strides", .ints(stride)),
        ("pads", .ints(onnxPads(padAmount))), ("dilations", .ints(dilation)),
      ], for: node, layouts: [image])
  }
}

extension PoolAvg2d: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: 4)
    let id = try session.operand(node, 0)
    let input = try session.name(id, image)
    if Array(session.type(id).shape[1...2]) == filterSize, padAmount.allSatisfy({ $0 == 0 }),
      dilation.allSatisfy({ $0 == 1 })
    {
      return try session.emit("GlobalAveragePool", [input], for: node, layouts: [image])
    }
    let isDilated = dilation.contains { $0 != 1 }
    try session.emit(
      "AveragePool", [input],
      [
        ("kernel_shape", .ints(filterSize)), ("strides", .ints(stride)),
        ("pads", .ints(onnxPads(padAmount))), ("count_include_pad", .int(countPadForEdges ? 1 : 0)),
      ] + (isDilated ? [("dilations", .ints(dilation))] : []), for: node, layouts: [image],
      since: isDilated ? 19 : 11)
  }
}
