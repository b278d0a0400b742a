import IR

/// Replaces calls of the model's local functions by the nodes of their bodies.
struct FunctionInliner {
  /// Functions may call functions, but not themselves.
  private static let depthLimit = 32
  /// Calls multiply; a small file must not become an endless graph.
  private static let nodeLimit = 1 << 20

  private let functions: [String: ONNXFunction]
  private var nodes: [ONNXNode] = []
  private var usedPrefixes = Set<String>()

  /// The nodes of the model's graph without calls.
  static func inlined(_ model: ONNXModelProto) throws(Diagnostic) -> [ONNXNode] {
    if model.functions.isEmpty { return model.graph.nodes }
    var inliner = FunctionInliner(functions: model.functions)
    for (index, node) in model.graph.nodes.enumerated() {
      try inliner.add(node, index: index, depth: 0)
    }
    return inliner.nodes
  }

  private init(functions: [String: ONNXFunction]) { self.functions = functions }

  private mutating func add(_ node: ONNXNode, index: Int, depth: Int) throws(Diagnostic) {
    guard let function = functions[node.callee] else {
      guard nodes.count < FunctionInliner.nodeLimit else {
        throw Diagnostic(
          "onnx-function-size",
          "inlining the model's functions gives more than "
            + "\(FunctionInliner.nodeLimit) nodes", at: Diagnostic.Location(node: node.name))
      }
      nodes.append(node)
      return
    }
    guard depth < FunctionInliner.depthLimit else {
      throw Diagnostic(
        "onnx-function-depth",
        "functions of the model nest too deeply or call themselves: "
          + node.callee, at: Diagnostic.Location(node: node.name))
    }
    var prefix = node.name.isEmpty ? "\(node.opType)_\(index)" : node.name
    while !usedPrefixes.insert(prefix).inserted { prefix += "_" }
    try expand(function, call: node, prefix: prefix, depth: depth)
  }

  private mutating func expand(
    _ function: ONNXFunction, call: ONNXNode, prefix: String, depth: Int
  ) throws(Diagnostic) {
    guard call.inputs.count <= function.inputs.count, call.outputs.count <= function.outputs.count
    else {
      throw Diagnostic(
        "onnx-bad-node", "function \(call.callee) is called with too many operands",
        at: Diagnostic.Location(node: prefix))
    }
    var names = ["": ""]
    for (index, formal) in function.inputs.enumerated() {
      names[formal] = index < call.inputs.count ? call.inputs[index] : ""
    }
    var returned: [(from: String, to: String)] = []
    for (formal, actual) in zip(function.outputs, call.outputs) where !actual.isEmpty {
      if let input = names[formal] {
        returned.append((input, actual))
      } else {
        names[formal] = actual
      }
    }
    var given: [String: ONNXAttributeValue] = [:]
    for attribute in function.defaults { given[attribute.name] = attribute.value }
    let known = Set(function.attributes).union(given.keys)
    for attribute in call.attributes {
      guard known.contains(attribute.name) else {
        throw Diagnostic(
          "onnx-unknown-attribute", "function \(call.callee) has no attribute \(attribute.name)",
          at: Diagnostic.Location(node: prefix))
      }
      given[attribute.name] = attribute.value
    }
    for (index, inner) in function.nodes.enumerated() {
      var node = inner.renamed { names[$0] ?? "\(prefix)/\($0)" }
      node.name = prefix + "/" + (inner.name.isEmpty ? "\(inner.opType)_\(index)" : inner.name)
      node.opset = function.opsets[""] ?? call.opset
      node.attributes = node.attributes.compactMap { attribute in
        guard case .reference(let name) = attribute.value else { return attribute }
        return given[name].map { ONNXAttribute(name: attribute.name, value: $0) }
      }
      try add(node, index: index, depth: depth + 1)
    }
    for (index, pair) in returned.enumerated() {
      let copy = ONNXNode(
        name: "\(prefix)/Identity_\(index)", opType: "Identity", domain: "", inputs: [pair.from],
        outputs: [pair.to], attributes: [])
      try add(copy, index: index, depth: depth + 1)
    }
  }
}
