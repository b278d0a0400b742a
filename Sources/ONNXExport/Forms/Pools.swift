import IR
import Operators

extension MaximumPool: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: Space.count + 2)
    try session.emit(
      "MaxPool", [try session.name(try session.operand(node, 0), image)], onnxAttributes, for: node,
      layouts: [image])
  }

  /// The window as ONNX has it.
  fileprivate var onnxAttributes: [(String, ONNXAttribute)] {
    [
      ("kernel_shape", .ints(filterSize)), ("strides", .ints(stride)),
      ("pads", .ints(onnxPads(padAmount))), ("dilations", .ints(dilation)),
    ]
  }
}

extension MaximumPoolIndices: ONNXExportable {
  /// The second output of a MaxPool whose first one nobody reads.
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: Space.count + 2)
    try session.emit(
      "MaxPool", [try session.name(try session.operand(node, 0), image)],
      pool.onnxAttributes + [("storage_order", .int(isColumnMajor ? 1 : 0))], for: node,
      layouts: [image], behind: ["largest"])
  }
}

extension AveragePool: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let image = channelFirst(rank: Space.count + 2)
    let id = try session.operand(node, 0)
    let input = try session.name(id, image)
    if Array(session.type(id).shape[1...Space.count]) == filterSize, padAmount.allSatisfy({ $0 == 0 }),
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
