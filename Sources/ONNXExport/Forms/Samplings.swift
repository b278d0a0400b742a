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

extension PlanarImage: ONNXExportable {
  /// Planes are cut apart, chroma is repeated, a convolution of one pixel mixes the colours.
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let input = try session.operand(node, 0)
    let (images, area) = (session.type(input).shape[0], size[0] * size[1])
    let x = try session.name(input)
    func plane(_ name: String, _ range: Range<Int>, _ shape: [Int]) -> String {
      let bounds = ([range.lowerBound, range.upperBound, 1]).enumerated().map {
        session.list([$0.element], "\(node.name)_\(name)_\(["start", "end", "axis"][$0.offset])")
      }
      let cut = session.scratch("Slice", [x] + bounds, for: node, "\(name)_plane")
      return session.scratch("Reshape", [cut, session.list(shape, "\(node.name)_\(name)_shape")], for: node, name)
    }
    let luma = plane("luma", 0..<area, [images, 1] + size)
    let pairs = plane("chroma", area..<area / 2 * 3, [images, size[0] / 2, size[1] / 2, 2])
    let small = session.scratch("Transpose", [pairs], [("perm", .ints([0, 3, 1, 2]))], for: node, "pairs")
    let sizes = session.list([images, 2] + size, node.name + "_sizes")
    let chroma = session.scratch(
      "Resize", [small, "", "", sizes],
      [
        ("mode", .string("nearest")), ("coordinate_transformation_mode", .string("asymmetric")),
        ("nearest_mode", .string("floor")),
      ], for: node, "repeated", since: 18)
    let planes = session.scratch("Concat", [luma, chroma], [("axis", .int(1))], for: node, "planes")
    let weights = colors.flatMap { Order.isBlueFirst ? [$0.y, $0.u, $0.v] : [$0.y, $0.v, $0.u] }
    let mixed = session.scratch(
      "Conv",
      [
        planes, session.constant(Constant(weights, shape: [3, 3, 1, 1]), node.name + "_colors"),
        session.constant(Constant(colors.map(\.addend), shape: [3]), node.name + "_addends"),
      ], for: node, "mixed")
    let limits = [
      try session.scalar(0, .float32, node.name + "_lowest"), try session.scalar(255, .float32, node.name + "_highest"),
    ]
    try session.emit("Clip", [mixed] + limits, for: node, layouts: [channelFirst(rank: 4)], since: 13)
  }
}
