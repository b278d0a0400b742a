import IR
import Operators

/// Makes chains of products (or sums) with constants one: (x * a) * b = x * (a * b), (x + a) - b =
/// x + (a - b), quotients likewise. Each link less is one rounding less on integer hardware.
public struct FoldFactors: Pass {
  public let name = "fold-factors"
  public let summary = "merges chains of products or of sums with constants into one"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    var names = NameTable(graph)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard let outer = Link(graph, node), !border.contains(outer.x),
        readers[outer.x.index].count == 1, graph.isOpen(outer.x), let made = producers[outer.x.index],
        let inner = Link(graph, graph[made]), inner.isSum == outer.isSum,
        let output = node.outputs.first,
        let merged = try merge(inner, outer, graph),
        let result = try? merged.op.infer([graph[inner.x].type, merged.constant.type]),
        result == [graph[output].type]
      else { continue }
      var constant = outer.constantID
      if readers[constant.index].count == 1 {
        graph[constant].constant = merged.constant
        graph[constant].type = merged.constant.type
        graph[constant].sourceOrder = nil
      } else {
        constant = graph.add(
          Tensor(
            name: names.unique(graph[constant].name), type: merged.constant.type, constant: merged.constant))
      }
      graph.nodes[index].op = merged.op
      graph.nodes[index].inputs = [inner.x, constant]
      graph.folded[graph[outer.x].name] = "merged with the constant operand of \(node.name)"
      if inner.constantID.index < readers.count, readers[inner.constantID.index].count == 1 {
        graph.folded[graph[inner.constantID].name] = "merged into the constant operand of \(node.name)"
      }
    }
    return graph.compacted()
  }

  /// x with a constant operand: a product, quotient, sum or difference.
  private struct Link {
    let x: TensorID
    let constantID: TensorID
    let constant: Constant
    /// Sum or difference; else product or quotient.
    let isSum: Bool
    /// Difference or quotient.
    let isInverse: Bool

    init?(_ graph: Graph, _ node: Node) {
      switch node.op {
      case is ElementWiseMultiply: (isSum, isInverse) = (false, false)
      case is ElementWiseDivide: (isSum, isInverse) = (false, true)
      case is ElementWiseAdd: (isSum, isInverse) = (true, false)
      case is ElementWiseSubtract: (isSum, isInverse) = (true, true)
      default: return nil
      }
      guard node.inputs.count == 2, let first = node.inputs[0], let second = node.inputs[1] else { return nil }
      if let value = graph[second].constant, graph[first].constant == nil {
        (x, constantID, constant) = (first, second, value)
      } else if !isInverse, let value = graph[first].constant, graph[second].constant == nil {
        (x, constantID, constant) = (second, first, value)
      } else {
        return nil
      }
      guard value(graph) else { return nil }
    }

    /// Whether the constant is a float nobody decided a grid for.
    private func value(_ graph: Graph) -> Bool {
      constant.type.element == .float32 && graph.isOpen(constantID)
    }
  }

  /// The one operator and constant that do what both do; nil where that would be larger, leave the
  /// range of floats or lose what cancels.
  private func merge(
    _ inner: Link, _ outer: Link, _ graph: Graph
  ) throws(Diagnostic) -> (op: any Operator, constant: Constant)? {
    var (first, second) = (inner.constant, outer.constant)
    if inner.isInverse && !outer.isInverse { swap(&first, &second) }
    let alike = inner.isInverse == outer.isInverse
    let combine = outer.isSum ? Self.sum(inverse: !alike) : Self.product(inverse: !alike)
    let inverse = alike && outer.isInverse
    let op = outer.isSum ? Self.sum(inverse: inverse) : Self.product(inverse: inverse)
    guard let types = try? combine.infer([first.type, second.type]), types.count == 1,
      types[0].count <= max(first.type.count, second.type.count)
    else { return nil }
    let node = Node(name: "constant", op: combine, inputs: [], outputs: [])
    guard let value = try FoldConstants.evaluate(node, [first, second], types).first else { return nil }
    let parts = first.floats() + second.floats()
    let smallest = parts.lazy.map(abs).min() ?? 0
    for number in value.floats() {
      guard number.isFinite else { return nil }
      if outer.isSum {
        guard parts.count > 1 << 20 || abs(number) >= smallest * 0x1p-10 else { return nil }
      } else {
        guard number.isNormal else { return nil }
      }
    }
    return (op, value)
  }

  private static func sum(inverse: Bool) -> any Operator {
    if inverse { return ElementWiseSubtract() }
    return ElementWiseAdd()
  }

  private static func product(inverse: Bool) -> any Operator {
    if inverse { return ElementWiseDivide() }
    return ElementWiseMultiply()
  }
}

/// Multiplies the constant factor behind a layer, one for all or one a channel, into its weights and
/// bias: W x * s = (s W) x.
public struct FoldLayerScale: Pass {
  public let name = "fold-layer-scale"
  public let summary = "multiplies a constant factor behind a layer into its weights"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    var dropped = Set<Int>()
    for (index, node) in graph.nodes.enumerated() {
      guard let (input, factor) = factors(graph, node), !border.contains(input),
        readers[input.index].count == 1, graph.isOpen(input), let layerID = producers[input.index],
        FoldBatchNorm.isLayer(graph[layerID].op) || graph[layerID].op is MatMul,
        case .weight(let channelAxis, _) = graph[layerID].op.quantization.input(1),
        let weightID = graph[layerID].inputs[1], let weight = graph[weightID].constant,
        case let axis = channelAxis < 0 ? channelAxis + weight.type.rank : channelAxis, axis >= 0,
        weight.type.element == .float32, graph.isOpen(weightID), readers[weightID.index].count == 1,
        let channels = graph[input].type.shape.last, weight.type.shape[axis] == channels,
        factor.count == 1 || factor.count == channels
      else { continue }
      let scale = factor.count == channels ? factor : Array(repeating: factor[0], count: channels)
      let biasID = graph[layerID].inputs.count > 2 ? graph[layerID].inputs[2] : nil
      if let biasID {
        guard let bias = graph[biasID].constant, graph.isOpen(biasID), readers[biasID.index].count == 1,
          bias.type.count == channels
        else { continue }
        graph[biasID].constant = Constant(zip(bias.floats(), scale).map { $0 * $1 }, shape: bias.type.shape)
      }
      graph[weightID].constant = FoldBatchNorm.scaled(weight, axis: axis, by: scale)
      graph[layerID].outputs = node.outputs
      if let old = graph.batchNorms.removeValue(forKey: graph[input].name), let output = node.outputs.first {
        graph.batchNorms[graph[output].name] = BatchNormStatistics(
          beta: zip(old.beta, scale).map { $0 * $1 }, gamma: zip(old.gamma, scale).map { $0 * $1 })
      }
      graph.folded[graph[input].name] = "inside \(graph[layerID].name), before its factor"
      for operand in node.inputs {
        if let operand, graph[operand].constant != nil, readers[operand.index].count == 1 {
          graph.folded[graph[operand].name] = "folded into \(graph[layerID].name)"
        }
      }
      dropped.insert(index)
    }
    graph.nodes = graph.nodes.enumerated().filter { !dropped.contains($0.offset) }.map(\.element)
    return graph.compacted()
  }

  /// What a node multiplies by finite constants along the last axis, and these.
  private func factors(_ graph: Graph, _ node: Node) -> (TensorID, [Float])? {
    guard node.op is ElementWiseMultiply || node.op is ElementWiseDivide, node.inputs.count == 2 else {
      return nil
    }
    let slots = node.op is ElementWiseDivide ? [(0, 1)] : [(0, 1), (1, 0)]
    for (first, second) in slots {
      guard let x = node.inputs[first], let other = node.inputs[second], let value = graph[other].constant,
        graph[x].constant == nil, value.type.element == .float32, graph.isOpen(other),
        value.type.count == value.type.shape.last ?? 1, value.type.rank <= graph[x].type.rank
      else { continue }
      let numbers = value.floats().map { node.op is ElementWiseDivide ? 1 / $0 : $0 }
      return numbers.allSatisfy { $0.isNormal } ? (x, numbers) : nil
    }
    return nil
  }
}

extension Graph {
  /// Whether nothing is decided about a tensor yet: no encoding, no width, no place of its own.
  func isOpen(_ id: TensorID) -> Bool {
    self[id].state == .open && self[id].encoding == nil && self[id].bitwidth == nil && !self[id].isUnfused
  }
}
