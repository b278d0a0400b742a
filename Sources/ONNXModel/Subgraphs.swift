import IR

extension ONNXGraph {
  /// Names that the nodes of a body read and nothing in it makes.
  var capturedNames: [String] {
    var made = Set(inputs.map(\.name) + initializers.map(\.name) + sparseInitializers.map(\.values.name))
    for node in nodes { made.formUnion(node.outputs) }
    made.insert("")
    let read = nodes.flatMap { $0.inputs + $0.captured } + outputs.map(\.name)
    return Set(read).subtracting(made).sorted()
  }

  /// Names that nodes of the body, and of bodies inside, read.
  var readNames: Set<String> {
    var names = Set(outputs.map(\.name))
    for node in nodes {
      names.formUnion(node.inputs)
      for body in node.bodies { names.formUnion(body.readNames) }
    }
    return names
  }

  /// The body with other names for its values.
  func renamed(_ rename: (String) -> String) -> ONNXGraph {
    func renamed(_ tensor: ONNXTensor) -> ONNXTensor {
      var copy = tensor
      copy.name = rename(tensor.name)
      return copy
    }
    func renamed(_ info: ONNXValueInfo) -> ONNXValueInfo {
      var copy = info
      copy.name = rename(info.name)
      return copy
    }
    var copy = self
    copy.nodes = nodes.map { $0.renamed(rename) }
    copy.initializers = initializers.map { renamed($0) }
    copy.sparseInitializers = sparseInitializers.map { sparse in
      var copy = sparse
      copy.values = renamed(sparse.values)
      return copy
    }
    copy.inputs = inputs.map { renamed($0) }
    copy.outputs = outputs.map { renamed($0) }
    copy.valueInfos = valueInfos.map { renamed($0) }
    return copy
  }
}

extension ONNXNode {
  /// Graphs in the attributes.
  var bodies: [ONNXGraph] {
    attributes.compactMap { attribute in
      if case .graph(let body) = attribute.value { return body }
      return nil
    }
  }

  /// The node with other names for its operands and results, in bodies too.
  func renamed(_ rename: (String) -> String) -> ONNXNode {
    var copy = self
    copy.inputs = inputs.map(rename)
    copy.outputs = outputs.map(rename)
    copy.captured = captured.map(rename)
    copy.attributes = attributes.map { attribute in
      guard case .graph(let body) = attribute.value else { return attribute }
      return ONNXAttribute(name: attribute.name, value: .graph(body.renamed(rename)))
    }
    return copy
  }
}
