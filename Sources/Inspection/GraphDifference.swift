import IR

/// One thing in which two graphs differ.
public struct GraphDifference: Sendable, Hashable {
  /// What kind of thing it is, in the order of the report.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    case graph, node, tensor, type, state, encoding, weight
  }

  public var kind: Kind
  /// The node or tensor, the empty string for the graph itself.
  public var name: String
  /// What differs in it: `attribute stride`, `encoding`, `added`.
  public var what: String
  /// Text of the first graph's side; empty where there is none.
  public var first: String
  /// Text of the second graph's side; empty where there is none.
  public var second: String

  /// One line: `node conv1: attribute stride: [1, 1] -> [2, 2]`.
  public var line: String {
    let subject = name.isEmpty ? kind.subject : "\(kind.subject) \(name)"
    let sides = first.isEmpty ? second : second.isEmpty ? first : "\(first) -> \(second)"
    return sides.isEmpty ? "\(subject): \(what)" : "\(subject): \(what): \(sides)"
  }
}

extension GraphDifference.Kind {
  fileprivate var subject: String {
    switch self {
    case .graph: "graph"
    case .node: "node"
    case .tensor, .type, .state, .encoding, .weight: "tensor"
    }
  }
}

/// Compares two graphs: structure, types, encodings, constants. Nodes and tensors are matched by name;
/// order counts where it means something (operands, inputs and outputs of the graph).
public struct GraphComparison: Sendable {
  /// Largest difference that does not count: of range ends relative to the range, of constants relative
  /// to the largest magnitude of the tensor. 0 compares exactly.
  public var tolerance: Double

  /// A comparison with a tolerance, 0 by default.
  public init(tolerance: Double = 0) { self.tolerance = tolerance }

  /// Every difference, one a line of the report; empty where the graphs are the same.
  public func differences(_ first: Graph, _ second: Graph) -> [GraphDifference] {
    var walk = Walk(first: first, second: second, tolerance: tolerance)
    walk.run()
    return walk.found
  }
}

private struct Walk {
  let first: Graph
  let second: Graph
  let tolerance: Double
  var found: [GraphDifference] = []

  init(first: Graph, second: Graph, tolerance: Double) {
    self.first = first
    self.second = second
    self.tolerance = tolerance
  }

  mutating func run() {
    if first.name != second.name { add(.graph, "", "name", first.name, second.name) }
    let borders = [
      ("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs),
    ]
    for (what, a, b) in borders {
      let (names, others) = (a.map { first[$0].name }, b.map { second[$0].name })
      if names != others { add(.graph, "", what, list(names), list(others)) }
    }
    let implied = compareNodes()
    compareTensors(implied)
    compareStatistics()
  }

  private mutating func add(
    _ kind: GraphDifference.Kind, _ name: String, _ what: String, _ a: String = "", _ b: String = ""
  ) {
    found.append(GraphDifference(kind: kind, name: name, what: what, first: a, second: b))
  }

  private func list(_ names: [String]) -> String { "[\(names.joined(separator: ", "))]" }

  // MARK: Nodes

  /// Nodes by name; further ones of a name carry their number.
  private func keyed(_ graph: Graph) -> (keys: [String], nodes: [String: Node]) {
    var count: [String: Int] = [:]
    var nodes: [String: Node] = [:]
    let keys = graph.nodes.map { node in
      let number = count[node.name, default: 0]
      count[node.name] = number + 1
      let key = number == 0 ? node.name : "\(node.name) (\(number + 1))"
      nodes[key] = node
      return key
    }
    return (keys, nodes)
  }

  /// Compares nodes and gives the names of the tensors that only added or removed nodes make.
  private mutating func compareNodes() -> Set<String> {
    let (a, b) = (keyed(first), keyed(second))
    var implied = Set<String>()
    for key in a.keys {
      guard let node = a.nodes[key] else { continue }
      guard let other = b.nodes[key] else {
        add(.node, key, "only in the first", node.op.typeName)
        implied.formUnion(node.outputs.map { first[$0].name })
        continue
      }
      compare(key, node, other)
    }
    for key in b.keys {
      guard a.nodes[key] == nil, let node = b.nodes[key] else { continue }
      add(.node, key, "only in the second", node.op.typeName)
      implied.formUnion(node.outputs.map { second[$0].name })
    }
    return implied
  }

  private mutating func compare(_ key: String, _ a: Node, _ b: Node) {
    if a.op.typeName != b.op.typeName {
      add(.node, key, "type", a.op.typeName, b.op.typeName)
    } else {
      let others = Dictionary(
        b.op.attributes.map { ($0.name, $0.value) }, uniquingKeysWith: { one, _ in one })
      for attribute in a.op.attributes where others[attribute.name] != attribute.value {
        add(
          .node, key, "attribute \(attribute.name)", attribute.value.shownText,
          others[attribute.name]?.shownText ?? "none")
      }
      let known = Set(a.op.attributes.map(\.name))
      for attribute in b.op.attributes where !known.contains(attribute.name) {
        add(.node, key, "attribute \(attribute.name)", "none", attribute.value.shownText)
      }
    }
    let inputs = a.inputs.map { $0.map { first[$0].name } ?? "_" }
    let others = b.inputs.map { $0.map { second[$0].name } ?? "_" }
    if inputs != others { add(.node, key, "inputs", list(inputs), list(others)) }
    let (outputs, results) = (a.outputs.map { first[$0].name }, b.outputs.map { second[$0].name })
    if outputs != results { add(.node, key, "outputs", list(outputs), list(results)) }
    let (whole, wholeOther) = (
      first.integerNodes.contains(a.name), second.integerNodes.contains(b.name)
    )
    if whole != wholeOther { add(.node, key, "computes in int32", "\(whole)", "\(wholeOther)") }
  }

  // MARK: Tensors

  private mutating func compareTensors(_ implied: Set<String>) {
    let others = Dictionary(
      second.tensors.map { ($0.name, $0) }, uniquingKeysWith: { one, _ in one })
    let known = Set(first.tensors.map(\.name))
    for tensor in first.tensors {
      guard let other = others[tensor.name] else {
        if !implied.contains(tensor.name) {
          add(.tensor, tensor.name, "only in the first", tensor.type.description)
        }
        continue
      }
      compare(tensor, other)
    }
    for tensor in second.tensors where !known.contains(tensor.name) && !implied.contains(tensor.name) {
      add(.tensor, tensor.name, "only in the second", tensor.type.description)
    }
  }

  private mutating func compare(_ a: Tensor, _ b: Tensor) {
    let sameEncoding = isSame(a.encoding, b.encoding)
    // Another width or sign of a grid changes the stored type with it: that is one difference.
    let followsEncoding =
      !sameEncoding && a.type.logical == b.type.logical
      && (a.type.element == a.encoding?.storage || b.type.element == b.encoding?.storage)
    if a.type != b.type, !followsEncoding {
      add(.type, a.name, "type", a.type.description, b.type.description)
    }
    if !sameEncoding {
      let sides = shown(a.encoding, b.encoding)
      add(.encoding, a.name, "encoding", sides.0, sides.1)
    } else if a.state != b.state || a.bitwidth != b.bitwidth {
      add(.state, a.name, "state", shown(a), shown(b))
    }
    if a.isUnfused != b.isUnfused {
      add(.state, a.name, "unfused", "\(a.isUnfused)", "\(b.isUnfused)")
    }
    switch (a.constant, b.constant) {
    case (nil, nil): break
    case (_?, nil): add(.weight, a.name, "constant", "present", "absent")
    case (nil, _?): add(.weight, a.name, "constant", "absent", "present")
    case (let one?, let other?):
      guard a.type.shape == b.type.shape else { return }
      compareValues(a, one, b, other, sameEncoding: sameEncoding)
    }
  }

  private func shown(_ tensor: Tensor) -> String {
    tensor.bitwidth.map { "\(tensor.state.rawValue) \($0)" } ?? tensor.state.rawValue
  }

  /// Both encodings; where their short texts are the same, with what is behind the first grid.
  private func shown(_ a: Encoding?, _ b: Encoding?) -> (String, String) {
    let texts = (a?.shortText ?? "none", b?.shortText ?? "none")
    guard texts.0 == texts.1, let a, let b else { return texts }
    if let index = zip(a.channels, b.channels).enumerated().first(where: { $0.element.0 != $0.element.1 })?.offset {
      let grids = [a, b].map { "\($0.channels[index].scale), offset \($0.shownOffset(channel: index))" }
      return ("\(texts.0), grid \(index): scale \(grids[0])", "grid \(index): scale \(grids[1])")
    }
    return ("\(texts.0), channel scales and factors", "others with the same products")
  }

  private func isSame(_ a: Encoding?, _ b: Encoding?) -> Bool {
    guard let a, let b else { return a == nil && b == nil }
    if a == b { return true }
    guard tolerance > 0, a.bitwidth == b.bitwidth, a.symmetric == b.symmetric, a.axis == b.axis,
      a.granularity == b.granularity, a.blocks?.axis == b.blocks?.axis, a.blocks?.size == b.blocks?.size,
      a.blocks?.lowPower?.decompressedBitwidth == b.blocks?.lowPower?.decompressedBitwidth,
      a.channels.count == b.channels.count
    else { return false }
    return a.channels.indices.allSatisfy { channel in
      let (low, high) = (a.minimum(channel: channel), a.maximum(channel: channel))
      let limit = tolerance * (high - low)
      return abs(low - b.minimum(channel: channel)) <= limit
        && abs(high - b.maximum(channel: channel)) <= limit
    }
  }

  // MARK: Constants

  /// One line where values differ. Where encodings differ, values within half a step of both grids
  /// are one weight on two grids and do not count: the encoding's line says it all.
  private mutating func compareValues(
    _ a: Tensor, _ one: Constant, _ b: Tensor, _ other: Constant, sameEncoding: Bool
  ) {
    let (bytes, otherBytes) = (one.materialized(), other.materialized())
    if one.type.element == other.type.element, bytes.count == otherBytes.count,
      zip(bytes.buffer, otherBytes.buffer).allSatisfy({ $0 == $1 })
    {
      return
    }
    let (x, y) = (realValues(a, one), realValues(b, other))
    let largest = x.lazy.filter(\.isFinite).map { abs($0) }.max() ?? 0
    let limit = Float(tolerance) * largest
    let slack = sameEncoding ? nil : halfSteps(a.encoding, b.encoding, shape: a.type.shape)
    var (count, worst, place) = (0, Float(0), 0)
    for index in x.indices {
      let (left, right) = (x[index], y[index])
      if left == right || (left.isNaN && right.isNaN) { continue }
      let distance = abs(left - right)
      if distance <= max(limit, slack?(index) ?? 0) { continue }
      count += 1
      if !(distance <= worst) { (worst, place) = (distance, index) }
    }
    guard count > 0 else { return }
    add(
      .weight, a.name, "weight",
      "\(count) of \(x.count) elements differ, most at \(position(place, a.type.shape)): \(x[place])",
      "\(y[place])")
  }

  /// Half the steps of both grids together, by element.
  private func halfSteps(_ a: Encoding?, _ b: Encoding?, shape: [Int]) -> (Int) -> Float {
    let (first, second) = (steps(a, shape), steps(b, shape))
    return { (first($0) + second($0)) * 0.500_01 }
  }

  private func steps(_ encoding: Encoding?, _ shape: [Int]) -> (Int) -> Float {
    guard let encoding, let grid = encoding.channels.first else { return { _ in 0 } }
    if encoding.axis == nil { return { _ in grid.scale } }
    var steps = [Float](repeating: grid.scale, count: shape.reduce(1, *))
    encoding.forEachChannelRun(shape: shape) { channel, start, count in
      guard encoding.channels.indices.contains(channel) else { return }
      for index in start..<(start + count) { steps[index] = encoding.channels[channel].scale }
    }
    let filled = steps
    return { filled[$0] }
  }

  private func realValues(_ tensor: Tensor, _ constant: Constant) -> [Float] {
    guard let encoding = tensor.encoding, constant.type.element.isFixedPoint else {
      return constant.floats()
    }
    return encoding.dequantized(constant)
  }

  private func position(_ index: Int, _ shape: [Int]) -> String {
    let strides = denseStrides(shape)
    let places = shape.indices.map { index / strides[$0] % max(shape[$0], 1) }
    return "[\(places.map(String.init).joined(separator: ", "))]"
  }

  // MARK: BatchNorm statistics

  private mutating func compareStatistics() {
    for name in Set(first.batchNorms.keys).union(second.batchNorms.keys).sorted()
    where first.batchNorms[name] != second.batchNorms[name] {
      let sides = (first.batchNorms[name], second.batchNorms[name])
      add(
        .tensor, name, "BatchNorm statistics", sides.0 == nil ? "absent" : "present",
        sides.1 == nil ? "absent" : sides.0 == nil ? "present" : "other values")
    }
  }
}

extension Encoding {
  /// For reports: width, kind, and the grid, or the number of grids with the first one.
  public var shortText: String {
    var parts = ["bw \(bitwidth)"]
    if symmetric { parts.append("symmetric") }
    if codeMin != 0 || codeMax != (1 << bitwidth) - 1 { parts.append("codes \(codeMin) to \(codeMax)") }
    if let axis {
      parts.append("axis \(axis)")
      if let blocks {
        parts.append("blocks of \(blocks.size) along axis \(blocks.axis)")
        if let scales = blocks.lowPower {
          parts.append("low-power, decompressed to \(scales.decompressedBitwidth) bits")
        }
      }
      parts.append("\(channels.count) grids")
    }
    if let grid = channels.first { parts.append("scale \(grid.scale), offset \(shownOffset())") }
    return "(\(parts.joined(separator: ", ")))"
  }
}

extension AttributeValue {
  /// The value as reports show it.
  public var shownText: String {
    switch self {
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .float(let value): "\(value)"
    case .string(let value): value
    case .ints(let values): "[\(values.map { "\($0)" }.joined(separator: ", "))]"
    case .floats(let values): "[\(values.map { "\($0)" }.joined(separator: ", "))]"
    }
  }
}
