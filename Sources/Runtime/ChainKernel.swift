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
  /// Place of x among the inputs.
  var source = 0
  /// Numbers of a row.
  let columns: Int
  let count: Int

  var name: String {
    links.count == 1 ? "native \(Self.names[links[0].function] ?? "function")" : "native chain"
  }
  var inPlaceInput: Int? { source }

  private static let names: [qk_function: String] = [
    .add: "add", .subtract: "subtract", .subtract_from: "subtract", .multiply: "multiply", .divide: "divide",
    .divide_into: "divide", .maximum: "maximum", .maximum_of: "maximum", .minimum: "minimum",
    .minimum_of: "minimum", .prelu: "prelu", .relu: "relu", .leaky: "leaky relu", .clip: "clip",
    .hard_sigmoid: "hard sigmoid",
    .negate: "negate", .absolute: "absolute", .square_root: "square root",
    .reciprocal_root: "reciprocal root", .reciprocal: "reciprocal", .square: "square", .grid: "grid",
  ]

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[source]?.elements(as: Float.self).baseAddress,
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

/// What one node adds to a chain over one of its inputs.
struct ChainPart {
  /// Their operands are places among the node's inputs.
  var links: [ChainLink] = []
  var shape: ChainShape

  /// nil where the node is no part of a chain over input `place`.
  init?(
    _ op: any Operator, _ inputs: [TensorType?], _ outputs: [TensorType], over place: Int,
    _ shape: ChainShape = ChainShape()
  ) {
    guard outputs.count == 1, outputs[0].element == .float32, outputs[0].count > 0, let x = inputs[place],
      x.element == .float32, x.count == outputs[0].count
    else { return nil }
    self.shape = shape
    if let link = Self.plainLink(op) {
      guard inputs.count == 1 else { return nil }
      links = [link]
      return
    }
    var functions: [(qk_function, Int)] = []
    if op is Batchnorm {
      guard place == 0, inputs.count == 3 else { return nil }
      functions = [(.multiply, 1), (.add, 2)]
    } else {
      guard inputs.count == 2, let pair = Self.binaryFunctions(op) else { return nil }
      guard let function = place == 0 ? pair.first : pair.second else { return nil }
      functions = [(function, 1 - place)]
    }
    for (function, operand) in functions {
      guard let type = inputs[operand], type.element == .float32,
        let layout = self.shape.layout(of: type.shape, over: outputs[0].shape)
      else { return nil }
      links.append(ChainLink(function: function, layout: layout, input: operand))
    }
  }

  /// The link of a function of one number.
  private static func plainLink(_ op: any Operator) -> ChainLink? {
    switch op {
    case is Relu: ChainLink(function: .relu)
    case let op as LeakyRelu: ChainLink(function: op.alpha == 0 ? .relu : .leaky, a: op.alpha)
    case let op as ReluMinMax: ChainLink(function: .clip, a: op.minValue, b: op.maxValue)
    case let op as HardSigmoid: ChainLink(function: .hard_sigmoid, a: op.alpha, b: op.beta)
    case is ElementWiseNeg: ChainLink(function: .negate)
    case is ElementWiseAbs: ChainLink(function: .absolute)
    case is ElementWiseSquareRoot: ChainLink(function: .square_root)
    case is ElementWiseRsqrt: ChainLink(function: .reciprocal_root)
    case is ElementWiseReciprocal: ChainLink(function: .reciprocal)
    default: nil
    }
  }

  /// The functions of a node of two operands where the chain's tensor is the first, or the second.
  private static func binaryFunctions(_ op: any Operator) -> (first: qk_function?, second: qk_function?)? {
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
}

/// Maker of chains of one node, for plans that do not fuse them.
func makeChainKernel(_ request: KernelRequest) -> KernelOffer {
  guard request.postOperations.isEmpty else { return .unrelated }
  for source in request.inputs.indices {
    guard let part = ChainPart(request.op, request.inputs, request.outputs, over: source) else { continue }
    let count = request.outputs[0].count
    return .kernel(
      ChainKernel(links: part.links, source: source, columns: part.shape.columns ?? count, count: count))
  }
  return .unrelated
}

extension PlanBuilder {
  /// A part of a chain with the tensors that its links read, numbered from `firstInput`.
  private func chainPart(
    _ node: Node, over tensor: TensorID, _ shape: ChainShape, firstInput: Int
  ) -> (part: ChainPart, operands: [TensorID])? {
    guard let place = node.inputs.firstIndex(of: tensor) else { return nil }
    if node.op is ElementWiseMultiply, node.inputs == [tensor, tensor],
      var part = ChainPart(node.op, graph.inputTypes(node), graph.outputTypes(node), over: 0, shape)
    {
      part.links = [ChainLink(function: .square)]
      return (part, [])
    }
    guard node.inputs.count(where: { $0 == tensor }) == 1,
      var part = ChainPart(node.op, graph.inputTypes(node), graph.outputTypes(node), over: place, shape)
    else { return nil }
    var operands: [TensorID] = []
    for index in part.links.indices {
      guard let input = part.links[index].input, let operand = node.inputs[input] else { continue }
      part.links[index].input = firstInput + operands.count
      operands.append(operand)
    }
    return (part, operands)
  }

  /// The longest chain that starts at a node, nil where none does.
  func chainGroup(_ first: Int, _ absorbed: Set<Int>) -> Group? {
    let node = graph.nodes[first]
    // The operand that the others are spread over, an activation where there is a choice.
    let inputs = node.inputs.compactMap { $0 }
    let starts = inputs.filter { graph[$0].constant == nil } + inputs
    var start: (tensor: TensorID, part: ChainPart, operands: [TensorID])?
    for tensor in starts where start == nil {
      if let found = chainPart(node, over: tensor, ChainShape(), firstInput: 1) {
        start = (tensor, found.part, found.operands)
      }
    }
    guard let start else { return nil }
    var (nodes, part, operands) = ([first], start.part, start.operands)
    var refusals: [String] = []
    while let tensor = graph.nodes[nodes[nodes.count - 1]].outputs.first {
      switch follower(of: tensor, absorbed) {
      case .none(let reason):
        if let reason { refusals.append(reason) }
      case .node(let next):
        if let more = chainPart(graph.nodes[next], over: tensor, part.shape, firstInput: 1 + operands.count) {
          nodes.append(next)
          part.links += more.part.links
          part.shape = more.part.shape
          operands += more.operands
          continue
        }
      }
      break
    }
    let output = graph.nodes[nodes[nodes.count - 1]].outputs[0]
    let count = graph[output].type.count
    return Group(
      nodes: nodes, inputs: [start.tensor] + operands, outputs: [output],
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
