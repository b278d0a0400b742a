import IR

extension ImportSession {
  /// Translates the branch that the constant condition of an If chooses, in its place.
  func takeBranch(
    of node: ONNXNode, named name: String, _ inputs: [Value?]
  ) throws(Diagnostic) {
    guard let condition = inputs.first ?? nil else {
      throw Diagnostic("onnx-bad-node", "If has no condition")
    }
    guard let truth = condition.constant?.integers(), truth.count == 1 else {
      throw Diagnostic(
        "onnx-unsupported-form", "If whose condition is computed from an input is not supported",
        hint: "export the model without branches that depend on data")
    }
    let wanted = truth[0] != 0 ? "then_branch" : "else_branch"
    var body: ONNXGraph?
    for attribute in node.attributes where attribute.name == wanted {
      if case .graph(let graph) = attribute.value { body = graph }
    }
    guard let body, body.outputs.count >= node.outputs.count else {
      throw Diagnostic("onnx-bad-node", "If has no \(wanted), or one with too few outputs")
    }
    for tensor in body.initializers {
      values[tensor.name] = builder.constant(
        try decoder.constant(tensor), named: tensor.name, isSource: true)
    }
    for (index, inner) in body.nodes.enumerated() {
      guard self.translation(inner) != nil else {
        throw Diagnostic(
          "onnx-unsupported-operator", "operator \(inner.callee) in \(wanted) is not supported",
          hint: ImportSession.hint(inner.callee))
      }
      let own = inner.name.isEmpty ? "\(inner.opType)_\(index)" : inner.name
      translate(inner, named: "\(name)/\(own)")
    }
    for (output, name) in zip(body.outputs, node.outputs) where !name.isEmpty {
      if let value = values[output.name] { bind(name, value) }
    }
  }
}
