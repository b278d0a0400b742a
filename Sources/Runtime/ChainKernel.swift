import CKernels
import IR
import Operators

/// One function of a chain and where its operand is found.
struct ChainLink: Sendable {
  var function: qk_function
  var layout = qk_layout.none
  var a: Float = 0
  var b: Float = 0
  var c: Float = 0
  /// The operand's place among the step's inputs, where the layout asks for one.
  var input: Int?
}

/// How the operands of a chain lie over its tensor.
struct ChainShape: Sendable, Hashable {
  /// Numbers of a row; operands that do not care leave it nil.
  var columns: Int?

  /// The layout of an operand over a tensor, nil where the chain cannot read it: one number, one a channel
  /// or a row, or all. Rows have to be the same for all operands of a chain.
  mutating func layout(of operand: [Int], over shape: [Int]) -> qk_layout? {
    let count = shape.reduce(1, *)
    let size = operand.reduce(1, *)
    if size == 1 { return .scalar }
    if size == count { return .full }
    guard operand.count <= shape.count, size > 0 else { return nil }
    let padded = Array(repeating: 1, count: shape.count - operand.count) + operand
    // Behind leading ones the axes of the tensor, or before trailing ones.
    let trailing = shape.indices.reversed().prefix { padded[$0] == shape[$0] }.last ?? shape.count
    let leading = shape.indices.prefix { padded[$0] == shape[$0] }.last.map { $0 + 1 } ?? 0
    let (layout, length): (qk_layout, Int)
    if padded[..<trailing].allSatisfy({ $0 == 1 }) {
      (layout, length) = (.row, size)
    } else if padded[leading...].allSatisfy({ $0 == 1 }) {
      (layout, length) = (.column, count / size)
    } else {
      return nil
    }
    guard columns == nil || columns == length else { return nil }
    columns = length
    return layout
  }
}

/// Element-wise functions one after the other over a tensor of floats, a block at a time, so that what lies
/// between them never leaves the processor's cache. A node alone is a chain of one: both have the same bits.
struct ChainKernel: Kernel {
  var links: [ChainLink]
  /// Numbers of a row.
  let columns: Int
  let count: Int

  var name: String {
    links.count == 1 ? "native \(Self.names[links[0].function] ?? "function")" : "native chain"
  }
  var inPlaceInput: Int? { 0 }

  private static let names: [qk_function: String] = [
    .add: "add", .subtract: "subtract", .subtract_from: "subtract", .multiply: "multiply", .divide: "divide",
    .divide_into: "divide", .maximum: "maximum", .maximum_of: "maximum", .minimum: "minimum",
    .minimum_of: "minimum", .prelu: "prelu", .relu: "relu", .leaky: "leaky relu", .clip: "clip",
    .negate: "negate", .absolute: "absolute", .square_root: "square root",
    .reciprocal_root: "reciprocal root", .reciprocal: "reciprocal", .square: "square", .grid: "grid",
  ]

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    withUnsafeTemporaryAllocation(of: qk_link.self, capacity: links.count) { table in
      for (place, link) in links.enumerated() {
        table[place] = qk_link(
          function: link.function, layout: link.layout, a: link.a, b: link.b, c: link.c,
          operand: link.input.flatMap { inputs[$0]?.elements(as: Float.self).baseAddress })
      }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: Int(qk_block) * links.count) { tiles in
        guard let table = table.baseAddress, let tiles = tiles.baseAddress else { return }
        qk_chain(x, y, count / columns, columns, table, links.count, tiles)
      }
    }
  }
}

extension PlanBuilder {
  /// What one node adds to a chain.
  struct ChainPart {
    var links: [ChainLink]
    /// The operands that the links read, in their order.
    var operands: [TensorID]
    var shape: ChainShape
  }

  /// The links of a node over `tensor`, one of its inputs; nil where it is no part of a chain. The places of
  /// operands count from `firstInput`.
  func chainPart(_ node: Node, over tensor: TensorID, _ shape: ChainShape, firstInput: Int) -> ChainPart? {
    guard node.outputs.count == 1, let output = node.outputs.first else { return nil }
    let type = graph[output].type.logical
    guard type.element == .float32, type.count > 0, graph[tensor].type.logical.element == .float32,
      graph[tensor].type.count == type.count
    else { return nil }
    var part = ChainPart(links: [], operands: [], shape: shape)
    if let link = plainLink(node.op) {
      guard node.inputs.count == 1 else { return nil }
      part.links = [link]
      return part
    }

    func add(_ function: qk_function, _ operand: TensorID?) -> Bool {
      guard let operand, operand != tensor, graph[operand].type.logical.element == .float32,
        let layout = part.shape.layout(of: graph[operand].type.shape, over: type.shape)
      else { return false }
      part.links.append(
        ChainLink(function: function, layout: layout, input: firstInput + part.operands.count))
      part.operands.append(operand)
      return true
    }

    if node.op is Batchnorm {
      guard node.inputs[0] == tensor, add(.multiply, node.inputs[1]), add(.add, node.inputs[2]) else { return nil }
      return part
    }
    if node.op is ElementWiseMultiply, node.inputs == [tensor, tensor] {
      part.links = [ChainLink(function: .square)]
      return part
    }
    guard node.inputs.count == 2, let functions = binaryFunctions(node.op) else { return nil }
    if node.inputs[0] == tensor {
      return add(functions.first, node.inputs[1]) ? part : nil
    }
    guard let second = functions.second else { return nil }
    return add(second, node.inputs[0]) ? part : nil
  }

  /// The link of a function of one number.
  private func plainLink(_ op: any Operator) -> ChainLink? {
    switch op {
    case is Relu: ChainLink(function: .relu)
    case let op as LeakyRelu: ChainLink(function: op.alpha == 0 ? .relu : .leaky, a: op.alpha)
    case let op as ReluMinMax: ChainLink(function: .clip, a: op.minValue, b: op.maxValue)
    case is ElementWiseNeg: ChainLink(function: .negate)
    case is ElementWiseAbs: ChainLink(function: .absolute)
    case is ElementWiseSquareRoot: ChainLink(function: .square_root)
    case is ElementWiseRsqrt: ChainLink(function: .reciprocal_root)
    case is ElementWiseReciprocal: ChainLink(function: .reciprocal)
    default: nil
    }
  }

  /// The functions of a node of two operands where the chain's tensor is the first, or the second.
  private func binaryFunctions(_ op: any Operator) -> (first: qk_function, second: qk_function?)? {
    switch op {
    case is ElementWiseAdd: (.add, .add)
    case is ElementWiseSubtract: (.subtract, .subtract_from)
    case is ElementWiseMultiply: (.multiply, .multiply)
    case is ElementWiseDivide: (.divide, .divide_into)
    case is ElementWiseMaximum: (.maximum, .maximum_of)
    case is ElementWiseMinimum: (.minimum, .minimum_of)
    case is Prelu: (.prelu, nil)
    default: nil
    }
  }

  /// The longest chain that starts at a node, nil where none does.
  func chainGroup(_ first: Int, _ absorbed: Set<Int>) -> Group? {
    let node = graph.nodes[first]
    // The operand that the others are spread over.
    let starts = node.inputs.compactMap { $0 }.filter { graph[$0].constant == nil } + node.inputs.compactMap { $0 }
    var start: (tensor: TensorID, part: ChainPart)?
    for tensor in starts where start == nil {
      if let part = chainPart(node, over: tensor, ChainShape(), firstInput: 1) { start = (tensor, part) }
    }
    guard let start else { return nil }
    var (nodes, part) = ([first], start.part)
    var refusals: [String] = []
    while let tensor = graph.nodes[nodes[nodes.count - 1]].outputs.first {
      switch follower(of: tensor, absorbed) {
      case .none(let reason):
        if let reason { refusals.append(reason) }
      case .node(let next):
        if let more = chainPart(
          graph.nodes[next], over: tensor, part.shape, firstInput: 1 + part.operands.count)
        {
          nodes.append(next)
          part.links += more.links
          part.operands += more.operands
          part.shape = more.shape
          continue
        }
      }
      break
    }
    let output = graph.nodes[nodes[nodes.count - 1]].outputs[0]
    let count = graph[output].type.count
    return Group(
      nodes: nodes, inputs: [start.tensor] + part.operands, outputs: [output],
      kernel: ChainKernel(links: part.links, columns: part.shape.columns ?? count, count: count),
      refusals: refusals)
  }
}

extension ChainKernel {
  /// The chain with its result moved to a grid; nil where the grid's arithmetic is another.
  func onGrid(_ grid: ValueGrid) -> ChainKernel? {
    guard let plain = grid.plain else { return nil }
    var chain = self
    chain.links.append(ChainLink(function: .grid, a: plain.scale, b: plain.lowest, c: plain.highest))
    return chain
  }
}

extension ValueGrid {
  /// Scale, lowest and highest number of steps of an encoding with one grid whose steps are exact in
  /// `Float`; nil for others.
  var plain: (scale: Float, lowest: Float, highest: Float)? {
    guard case .encoding(let encoding) = self, encoding.channels.count == 1, encoding.blocks == nil else {
      return nil
    }
    let grid = encoding.channels[0]
    let lowest = Float(encoding.codeMin + Int(grid.offset))
    let highest = Float(encoding.codeMax + Int(grid.offset))
    return max(abs(lowest), abs(highest)) < 0x1p22 ? (grid.scale, lowest, highest) : nil
  }
}
