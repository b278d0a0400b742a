import IR
import Operators

extension Resize: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let (op, layout) = session.relaid(self, node)
    let input = layout.map { session.type(id).shape[$0] }
    var inputs = [try session.name(id, layout), "", ""]
    if op.scales.isEmpty {
      inputs.append(session.list(op.shape, node.name + "_sizes"))
    } else {
      let sizes = zip(input, op.scales).map { Int((Float($0) * $1).rounded(.down)) }
      guard sizes == op.shape else {
        throw Diagnostic("onnx-no-form", "Resize to other sizes than its scales give")
      }
      inputs[2] = session.constant(Constant(op.scales, shape: [op.scales.count]), node.name + "_scales")
    }
    if !op.crop.isEmpty {
      inputs[1] = session.constant(Constant(op.crop, shape: [op.crop.count]), node.name + "_roi")
    }
    var attributes: [(String, ONNXAttribute)] = [
      ("mode", .string(op.interpolation.rawValue)),
      ("coordinate_transformation_mode", .string(op.transformation.rawValue)),
    ]
    switch op.interpolation {
    case .nearest: attributes.append(("nearest_mode", .string(op.nearestMode.rawValue)))
    case .cubic: attributes.append(("cubic_coeff_a", .float(op.cubicCoefficient)))
    case .linear: break
    }
    if op.excludeOutside { attributes.append(("exclude_outside", .int(1))) }
    if op.antialias { attributes.append(("antialias", .int(1))) }
    if op.transformation == .cropAndResize {
      attributes.append(("extrapolation_value", .float(op.extrapolationValue)))
    }
    try session.emit(
      "Resize", inputs, attributes, for: node, layouts: [layout],
      since: op.transformation == .halfPixelSymmetric ? 19 : 18)
  }
}

extension ImageResize: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try general(session.type(try session.operand(node, 0)).shape).export(node, session)
  }
}
