import IR
import Operators

extension Reshape: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let source = try session.operand(node, 0)
    if let transpose = asLayoutChange(of: session.type(source).shape) {
      let layout = transpose.resultLayout(session.layout(of: source))
      if isIdentity(layout) || layout == channelFirst(rank: layout.count) {
        return try session.alias(node, of: source, layout: layout)
      }
    }
    let target = session.list(shape, node.name + "_shape")
    try session.emit(
      "Reshape", [try session.flatName(source), target],
      shape.contains(0) ? [("allowzero", .int(1))] : [], for: node,
      layouts: [Array(shape.indices)], since: 14)
  }

  /// The transpose between channel-first and channel-last images that this is where all that moves are
  /// axes of size 1 (passes prefer a Reshape there).
  private func asLayoutChange(of from: [Int]) -> Transpose? {
    guard from.count == shape.count, from.count >= 4 else { return nil }
    let first = channelFirst(rank: from.count)
    for perm in [inversePermutation(first), first] where perm.map({ from[$0] }) == shape {
      let moving = perm.filter { from[$0] != 1 }
      if moving == moving.sorted() { return Transpose(perm: perm) }
    }
    return nil
  }
}

extension Transpose: ONNXExportable {
  /// Mostly nothing: the tensor is the same value in another layout. A transpose that is no change
  /// between channel-first and channel-last is written.
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let source = try session.operand(node, 0)
    let layout = resultLayout(session.layout(of: source))
    if isIdentity(layout) || (layout.count > 2 && layout == channelFirst(rank: layout.count)) {
      return try session.alias(node, of: source, layout: layout)
    }
    // The value as it lies, by the permutation from there.
    let there = session.layout(of: source)
    let back = inversePermutation(there)
    try session.emit(
      "Transpose", [try session.name(source, there)], [("perm", .ints(perm.map { back[$0] }))],
      for: node, layouts: [Array(perm.indices)])
  }

  /// The layout in which the result is the very value that the operand is in `layout`.
  fileprivate func resultLayout(_ layout: [Int]) -> [Int] {
    let inverse = inversePermutation(perm)
    return layout.map { inverse[$0] }
  }
}

extension Expand: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let target = session.list(shape, node.name + "_shape")
    try session.emit(
      "Expand", [try session.name(try session.operand(node, 0)), target], for: node,
      layouts: [Array(shape.indices)])
  }
}

extension Tile: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let layout = session.sharedLayout(node)
    let repeats = session.list(layout.map { multiples[$0] }, node.name + "_repeats")
    try session.emit(
      "Tile", [try session.name(try session.operand(node, 0), layout), repeats], for: node,
      layouts: [layout])
  }
}

extension Concat: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    var inputs: [String] = []
    for slot in node.inputs.indices {
      inputs.append(try session.name(try session.operand(node, slot), layout))
    }
    try session.emit("Concat", inputs, [("axis", .int(op.axis))], for: node, layouts: [layout])
  }
}

extension Split: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    let parts = session.list(sizes, node.name + "_sizes")
    try session.emit(
      "Split", [try session.name(try session.operand(node, 0), layout), parts],
      [("axis", .int(op.axis))], for: node, layouts: node.outputs.map { _ in layout })
  }
}

extension StridedSlice: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    // Going down past the first element ends at "before everything".
    let ends = op.begin.indices.map { axis in
      let end = op.begin[axis] + op.size[axis] * op.step[axis]
      return end < 0 ? Int.min : end
    }
    let shape = layout.map { session.type(node.inputs[0] ?? node.outputs[0]).shape[$0] }
    let axes = shape.indices.filter {
      op.begin[$0] != 0 || op.size[$0] != shape[$0] || op.step[$0] != 1
    }
    let chosen = axes.isEmpty ? Array(shape.indices) : axes
    let inputs = [
      try session.name(try session.operand(node, 0), layout),
      session.list(chosen.map { op.begin[$0] }, node.name + "_starts"),
      session.list(chosen.map { ends[$0] }, node.name + "_ends"),
      session.list(chosen, node.name + "_axes"),
      session.list(chosen.map { op.step[$0] }, node.name + "_steps"),
    ]
    try session.emit("Slice", inputs, for: node, layouts: [layout])
  }
}

extension Pad: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    let id = try session.operand(node, 0)
    var inputs = [
      try session.name(id, layout), session.list(onnxPads(op.padAmount), node.name + "_pads"),
    ]
    if scheme == .constant, value != 0 {
      inputs.append(try session.scalar(value, session.type(id).element, node.name + "_value"))
    }
    try session.emit(
      "Pad", inputs, [("mode", .string(scheme.rawValue))], for: node, layouts: [layout],
      since: scheme == .wrap ? 19 : 18)
  }
}

extension Gather: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let inputs = [
      try session.name(try session.operand(node, 0)),
      try session.indexName(try session.operand(node, 1), for: node),
    ]
    try session.emit(
      "Gather", inputs, [("axis", .int(axis))], for: node,
      layouts: [session.plainLayout(node.outputs[0])])
  }
}

extension GatherElements: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let inputs = [
      try session.name(try session.operand(node, 0)),
      try session.indexName(try session.operand(node, 1), for: node),
    ]
    try session.emit(
      "GatherElements", inputs, [("axis", .int(axis))], for: node,
      layouts: [session.plainLayout(node.outputs[0])])
  }
}

extension GatherNd: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let indices = try session.operand(node, 1)
    var name = try session.indexName(indices, for: node)
    if session.type(indices).element == .int32 {
      name = session.scratch(
        "Cast", [name], [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "indices64")
    }
    try session.emit(
      "GatherND", [try session.name(try session.operand(node, 0)), name],
      [("batch_dims", .int(batchDims))], for: node,
      layouts: [session.plainLayout(node.outputs[0])])
  }
}

extension ScatterElements: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let inputs = [
      try session.name(try session.operand(node, 0)),
      try session.indexName(try session.operand(node, 1), for: node),
      try session.name(try session.operand(node, 2)),
    ]
    try session.emit(
      "ScatterElements", inputs,
      [("axis", .int(axis)), ("reduction", .string(reduction.rawValue))], for: node,
      layouts: [session.plainLayout(node.outputs[0])])
  }
}

extension ScatterNd: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let indices = try session.operand(node, 1)
    var name = try session.indexName(indices, for: node)
    if session.type(indices).element == .int32 {
      name = session.scratch(
        "Cast", [name], [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "indices64")
    }
    let inputs = [
      try session.name(try session.operand(node, 0)), name,
      try session.name(try session.operand(node, 2)),
    ]
    try session.emit(
      "ScatterND", inputs, [("reduction", .string(reduction.rawValue))], for: node,
      layouts: [session.plainLayout(node.outputs[0])])
  }
}
