import IR

/// The nodes in an order in which every operand is made before it is read.
enum NodeOrder {
  /// Indices of `nodes`; the given order where it is good. `known` are the names that exist from
  /// the start. Appends an error for each operand that nothing makes, and one for a cycle.
  static func sorted(
    _ nodes: [ONNXNode], names: [String], known: Set<String>, errors: inout [Diagnostic]
  ) -> [Int] {
    var producer: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for output in node.outputs where !output.isEmpty {
        if known.contains(output) || producer[output] != nil {
          errors.append(
            Diagnostic(
              "onnx-duplicate-name", "\(output) is made more than once",
              at: Diagnostic.Location(node: names[index]),
              hint: "check the model with onnx.checker"))
        } else {
          producer[output] = index
        }
      }
    }
    var waiting = [Int](repeating: 0, count: nodes.count)
    var readers = [[Int]](repeating: [], count: nodes.count)
    var isInOrder = true
    for (index, node) in nodes.enumerated() {
      for input in Set(node.inputs + node.captured).sorted() where !input.isEmpty && !known.contains(input) {
        guard let source = producer[input] else {
          errors.append(
            Diagnostic(
              "onnx-missing-value", "input \(input) is made by no node, input or initializer",
              at: Diagnostic.Location(node: names[index]),
              hint: "check the model with onnx.checker"))
          continue
        }
        if source >= index { isInOrder = false }
        waiting[index] += 1
        readers[source].append(index)
      }
    }
    if isInOrder { return Array(nodes.indices) }
    var order = nodes.indices.filter { waiting[$0] == 0 }
    var next = 0
    while next < order.count {
      for reader in readers[order[next]] {
        waiting[reader] -= 1
        if waiting[reader] == 0 { order.append(reader) }
      }
      next += 1
    }
    if order.count < nodes.count {
      let left = nodes.indices.filter { waiting[$0] > 0 }
      let some = left.prefix(5).map { names[$0] }.joined(separator: ", ")
      errors.append(
        Diagnostic(
          "onnx-cycle", "the graph has a cycle; \(left.count) nodes wait for each other: \(some)",
          hint: "a network must be acyclic; export the model again"))
    }
    return order
  }
}
