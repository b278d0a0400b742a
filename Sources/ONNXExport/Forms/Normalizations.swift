import IR
import Operators

extension Batchnorm: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let rank = session.type(id).rank
    let parameters = [
      try session.name(try session.operand(node, 1)), try session.name(try session.operand(node, 2)),
    ]
    guard rank > 1 else {
      let scaled = session.scratch("Mul", [try session.name(id), parameters[0]], for: node, "scaled")
      return try session.emit(
        "Add", [scaled, parameters[1]], for: node, layouts: [session.plainLayout(id)])
    }
    let layout = channelFirst(rank: rank)
    let channels = session.type(id).shape[rank - 1]
    let mean = session.constant(
      Constant([Float](repeating: 0, count: channels), shape: [channels]), node.name + "_mean")
    let variance = session.constant(
      Constant([Float](repeating: 1, count: channels), shape: [channels]), node.name + "_variance")
    try session.emit(
      "BatchNormalization", [try session.name(id, layout)] + parameters + [mean, variance],
      [("epsilon", .float(0))], for: node, layouts: [layout], since: 15)
  }
}

extension TrailingNormalization: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let layout = session.plainLayout(id)
    let x = try session.name(id)
    let gamma = try session.name(try session.operand(node, 1))
    let beta = session.optional(node, 2)
    if Kind.centers {
      var inputs = [x, gamma]
      if let beta { inputs.append(try session.name(beta)) }
      return try session.emit(
        "LayerNormalization", inputs,
        [("axis", .int(axes.first ?? -1)), ("epsilon", .float(epsilon))], for: node,
        layouts: [layout], since: 17)
    }
    // RMSNormalization came with operator set 23; its parts are understood everywhere.
    let square = session.scratch("Mul", [x, x], for: node, "square")
    let mean = session.scratch(
      "ReduceMean", [square, session.list(axes, node.name + "_axes")], for: node, "mean")
    let small = try session.scalar(epsilon, .float32, node.name + "_epsilon")
    let shifted = session.scratch("Add", [mean, small], for: node, "shifted")
    let root = session.scratch("Sqrt", [shifted], for: node, "root")
    let unit = session.scratch("Div", [x, root], for: node, "unit")
    guard let beta else {
      return try session.emit("Mul", [unit, gamma], for: node, layouts: [layout])
    }
    let scaled = session.scratch("Mul", [unit, gamma], for: node, "scaled")
    try session.emit("Add", [scaled, try session.name(beta)], for: node, layouts: [layout])
  }
}

extension ImageNormalization: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let layout = channelFirst(rank: session.type(id).rank)
    let inputs = [
      try session.name(id, layout), try session.name(try session.operand(node, 1)),
      try session.name(try session.operand(node, 2)),
    ]
    if Kind.hasGroups {
      return try session.emit(
        "GroupNormalization", inputs, [("epsilon", .float(epsilon)), ("num_groups", .int(group))],
        for: node, layouts: [layout], since: 21)
    }
    try session.emit(
      "InstanceNormalization", inputs, [("epsilon", .float(epsilon))], for: node, layouts: [layout])
  }
}

extension Lrn: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let id = try session.operand(node, 0)
    let layout = channelFirst(rank: session.type(id).rank)
    let size = 2 * radius + 1
    try session.emit(
      "LRN", [try session.name(id, layout)],
      [
        ("alpha", .float(alpha * Float(size))), ("beta", .float(beta)), ("bias", .float(bias)),
        ("size", .int(size)),
      ], for: node, layouts: [layout])
  }
}

extension Softmax: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    var input = try session.name(try session.operand(node, 0), layout)
    if beta != 1 {
      let factor = try session.scalar(beta, .float32, node.name + "_beta")
      input = session.scratch("Mul", [input, factor], for: node, "scaled")
    }
    try session.emit(
      "Softmax", [input], [("axis", .int(op.axis))], for: node, layouts: [layout], since: 13)
  }
}

extension LogSoftmax: ONNXExportable {
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic) {
    let (op, layout) = session.relaid(self, node)
    try session.emit(
      "LogSoftmax", [try session.name(try session.operand(node, 0), layout)],
      [("axis", .int(op.axis))], for: node, layouts: [layout], since: 13)
  }
}
