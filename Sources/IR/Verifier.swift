extension Graph {
  /// Checks every rule of the IR and gives all violations: indices in range, names unique, one
  /// producer a tensor, topological order, types as the operators infer them, constants of the right
  /// size, encodings that fit. A violation after a pass is a bug of that pass.
  public func verify() -> [Diagnostic] {
    var found: [Diagnostic] = []
    var names = Set<String>()
    for tensor in tensors {
      let location = Diagnostic.Location(tensor: tensor.name)
      if tensor.name.isEmpty { found.append(Diagnostic("verify-name", "a tensor has no name")) }
      if !names.insert(tensor.name).inserted {
        found.append(Diagnostic("verify-name", "two tensors have this name", at: location))
      }
      if tensor.type.checkedCount() == nil {
        found.append(Diagnostic("verify-shape", "shape \(tensor.type) is not valid", at: location))
        continue
      }
      if let constant = tensor.constant {
        if constant.type != tensor.type {
          found.append(
            Diagnostic(
              "verify-constant", "constant is \(constant.type), tensor \(tensor.type)", at: location))
        } else if constant.stored.count < tensor.type.byteCount {
          found.append(
            Diagnostic(
              "verify-constant",
              "constant has \(constant.stored.count) bytes, \(tensor.type) needs \(tensor.type.byteCount)",
              at: location))
        }
      }
      if let problem = tensor.encoding?.problem(shape: tensor.type.shape) {
        found.append(Diagnostic("verify-encoding", problem, at: location))
      }
      if tensor.type.element.isFixedPoint && tensor.encoding == nil {
        found.append(
          Diagnostic("verify-encoding", "fixed-point tensor without an encoding", at: location))
      }
    }
    found += verifyNodes()
    return found
  }

  private func verifyNodes() -> [Diagnostic] {
    var found: [Diagnostic] = []
    var ready = tensors.map { $0.constant != nil }
    for id in inputs {
      guard tensors.indices.contains(id.index) else {
        return [Diagnostic("verify-index", "an input of the graph does not exist")]
      }
      ready[id.index] = true
    }
    for node in nodes {
      let location = Diagnostic.Location(node: node.name)
      let ids = node.inputs.compactMap { $0 } + node.outputs
      guard ids.allSatisfy({ tensors.indices.contains($0.index) }) else {
        found.append(Diagnostic("verify-index", "an operand does not exist", at: location))
        continue
      }
      for case let input? in node.inputs where !ready[input.index] {
        found.append(
          Diagnostic(
            "verify-order", "input \(self[input].name) is used before it is made", at: location))
      }
      for output in node.outputs {
        if ready[output.index] {
          found.append(
            Diagnostic("verify-producer", "\(self[output].name) is made twice", at: location))
        }
        ready[output.index] = true
      }
      do throws(Diagnostic) {
        let inferred = try node.op.infer(inputTypes(node))
        let actual = outputTypes(node)
        if inferred != actual {
          found.append(
            Diagnostic(
              "verify-type", "\(node.op.typeName) gives \(inferred), the graph says \(actual)",
              at: location))
        }
      } catch {
        found.append(error.inNode(node.name))
      }
    }
    for id in outputs where !(tensors.indices.contains(id.index) && ready[id.index]) {
      found.append(Diagnostic("verify-output", "an output of the graph is never made"))
    }
    return found
  }
}
