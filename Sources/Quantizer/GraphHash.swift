import IR

extension Graph {
  /// SHA-256, in hexadecimal digits, of what decides the observed values: structure and weights.
  /// Annotations (encodings, states), the order of the tensor array and the choice of outputs do not
  /// enter; version 1, of the first statistics files, took outputs and observed tensors in.
  public func observationHash(version: Int = 2) -> String {
    var hasher = SHA256()
    /// Every text is followed by a byte that cannot occur in UTF-8, so parts cannot run together.
    func add(_ text: String) {
      hasher.update(text)
      withUnsafeBytes(of: UInt8(0xFF)) { hasher.update($0) }
    }
    func add(_ tensor: Tensor) {
      add(tensor.name)
      add(tensor.type.logical.description)
    }
    var seen = Set<TensorID>()
    add("observation \(version)")
    for id in inputs { add(self[id]) }
    for node in nodes {
      add("node")
      add(node.op.typeName)
      for attribute in node.op.attributes {
        add(attribute.name)
        add(attribute.value.canonicalText)
      }
      add("in")
      for input in node.inputs {
        guard let input else {
          add("")
          continue
        }
        add(self[input])
        if let constant = self[input].constant, seen.insert(input).inserted {
          constant.forEachBlock { hasher.update($0) }
        }
      }
      add("out")
      for output in node.outputs { add(self[output]) }
    }
    if version == 1 {
      add("outputs")
      for id in outputs { add(self[id].name) }
      add("observed")
      for id in ObservationSet(self).tensors { add(self[id].name) }
    }
    return SHA256.hex(hasher.finalize())
  }
}

extension AttributeValue {
  /// An exact text of the value for hashing.
  fileprivate var canonicalText: String {
    switch self {
    case .bool(let value): value ? "true" : "false"
    case .int(let value): "int \(value)"
    case .float(let value): "float \(value.bitPattern)"
    case .string(let value): "string \(value)"
    case .ints(let list): "ints \(list)"
    case .floats(let list): "floats \(list.map(\.bitPattern))"
    }
  }
}
