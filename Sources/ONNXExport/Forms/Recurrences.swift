import IR
import Operators

extension Recurrence: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    var inputs: [String] = []
    for slot in node.inputs.indices {
      inputs.append(try session.optional(node, slot).map { (id) throws(Diagnostic) in try session.name(id) } ?? "")
    }
    let names: [GateFunction: String] = [
      .relu: "Relu", .tanh: "Tanh", .sigmoid: "Sigmoid", .affine: "Affine", .leakyrelu: "LeakyRelu",
      .thresholdedrelu: "ThresholdedRelu", .scaledtanh: "ScaledTanh", .hardsigmoid: "HardSigmoid",
      .elu: "Elu", .softsign: "Softsign", .softplus: "Softplus",
    ]
    var attributes: [(String, ONNXAttribute)] = [
      ("hidden_size", .int(hiddenSize)), ("direction", .string(direction.rawValue)),
      ("activations", .strings(gates.map { names[$0.function] ?? "" })),
    ]
    // Parameters are given for the functions that have some, in their order.
    let alphas = gates.filter { ![.relu, .tanh, .sigmoid, .softsign, .softplus].contains($0.function) }
    let betas = gates.filter { [.affine, .scaledtanh, .hardsigmoid].contains($0.function) }
    if !alphas.isEmpty { attributes.append(("activation_alpha", .floats(alphas.map(\.alpha)))) }
    if !betas.isEmpty { attributes.append(("activation_beta", .floats(betas.map(\.beta)))) }
    if clip > 0 { attributes.append(("clip", .float(clip))) }
    if linearBeforeReset { attributes.append(("linear_before_reset", .int(1))) }
    if inputForget { attributes.append(("input_forget", .int(1))) }
    try session.emit(
      Cell.hasCell ? "LSTM" : Cell.gates == 3 ? "GRU" : "RNN", inputs, attributes, for: node,
      layouts: node.outputs.map { session.plainLayout($0) }, since: 14)
  }
}

extension ReverseSequence: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let x = try session.operand(node, 0)
    let lengths = try session.operand(node, 1)
    guard [0, 1].contains(batchAxis), [0, 1].contains(timeAxis) else {
      throw Diagnostic("onnx-no-form", "ReverseSequence over axes \(batchAxis) and \(timeAxis)")
    }
    var counts = try session.name(lengths)
    if session.type(lengths).element != .int64 {
      counts = session.scratch(
        "Cast", [counts], [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "lengths")
    }
    try session.emit(
      "ReverseSequence", [try session.name(x), counts],
      [("batch_axis", .int(batchAxis)), ("time_axis", .int(timeAxis))], for: node,
      layouts: [session.plainLayout(x)])
  }
}

extension BitCast: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.sharedLayout(node)
    func cast(_ type: DataType) -> [(String, ONNXAttribute)] { [("to", .int(Int(type.onnxCode)))] }
    var value = try session.name(try session.operand(node, 0), layout)
    if from == .float16 { value = session.scratch("Cast", [value], cast(.float16), for: node, "half") }
    guard to == .float16 else {
      return try session.emit("BitCast", [value], cast(to), for: node, layouts: [layout], since: 26)
    }
    value = session.scratch("BitCast", [value], cast(to), for: node, "bits", since: 26)
    try session.emit("Cast", [value], cast(.float32), for: node, layouts: [layout])
  }
}
