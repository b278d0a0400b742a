import IR
import Operators

extension Relu: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("Relu", node, since: 14)
  }
}

extension ReluMinMax: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.sharedLayout(node)
    var inputs = [try session.name(try session.operand(node, 0), layout)]
    for (bound, suffix) in [(minValue, "min"), (maxValue, "max")] {
      inputs.append(
        bound.isFinite ? try session.scalar(bound, .float32, "\(node.name)_\(suffix)") : "")
    }
    try session.emit("Clip", inputs, for: node, layouts: [layout], since: 13)
  }
}

extension LeakyRelu: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("LeakyRelu", node, [("alpha", .float(alpha))], since: 16)
  }
}

extension Prelu: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("PRelu", node, since: 16)
  }
}

extension HardSwish: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("HardSwish", node, since: 14)
  }
}

extension Elu: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise("Elu", node, [("alpha", .float(alpha))])
  }
}

extension HardSigmoid: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise(
      "HardSigmoid", node, [("alpha", .float(alpha)), ("beta", .float(beta))])
  }
}

extension Gelu: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    try session.emitElementWise(
      "Gelu", node, [("approximate", .string(approximate.rawValue))], since: 20)
  }
}

extension ParametricUnary: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    switch typeName {
    case "Selu":
      try session.emitElementWise("Selu", node, [("alpha", .float(a)), ("gamma", .float(b))])
    case "Celu": try session.emitElementWise("Celu", node, [("alpha", .float(a))])
    case "ThresholdedRelu":
      try session.emitElementWise("ThresholdedRelu", node, [("alpha", .float(a))])
    case "Shrink":
      try session.emitElementWise("Shrink", node, [("lambd", .float(a)), ("bias", .float(b))])
    case "Swish": try exportSwish(node, session)
    default: throw Diagnostic("onnx-no-form", "\(typeName) cannot be written as ONNX")
    }
  }

  /// Swish came with operator set 24; its parts are understood everywhere.
  private func exportSwish(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.sharedLayout(node)
    let input = try session.name(try session.operand(node, 0), layout)
    var inner = input
    if a != 1 {
      let factor = try session.scalar(a, .float32, node.name + "_alpha")
      inner = session.scratch("Mul", [input, factor], for: node, "scaled")
    }
    let gate = session.scratch("Sigmoid", [inner], for: node, "gate")
    try session.emit("Mul", [input, gate], for: node, layouts: [layout])
  }
}
