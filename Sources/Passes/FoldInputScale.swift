import IR
import Operators

/// Multiplies a constant factor in front of a layer into its weights, W (a x) = (W a) x, and brings a constant
/// that is added there into its bias, W (x + b) = W x + W b. Where the layer pads with zeros the addend stays in
/// front: a x + b = a (x + b / a). Each is one rounding less on integer hardware.
///
/// Factors are one for all, or one a channel and alike: channels of a range of their own belong to the activation.
public struct FoldInputScale: Pass {
  public let name = "fold-input-scale"
  public let summary = "brings a constant factor or addend in front of a layer into its weights and bias"
  /// Largest ratio of the factors of two channels.
  static let largestRatio: Float = 4
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    while let next = step(graph) { graph = next }
    return graph
  }

  /// The graph with one node less; nil where there is none to take away.
  private func step(_ graph: Graph) -> Graph? {
    let readers = graph.consumers()
    let producers = graph.producers()
    let border = Set(graph.outputs)
    /// The constant operation that alone feeds `id` to one reader.
    func link(_ id: TensorID?) -> (index: NodeID, link: ConstantLink)? {
      guard let id, !border.contains(id), readers[id.index].count == 1, graph.isOpen(id),
        let made = producers[id.index],
        let link = ConstantLink(graph, graph[made])
      else { return nil }
      return (made, link)
    }
    for node in graph.nodes.indices {
      guard let layer = FoldableLayer(graph, graph.nodes[node], readers),
        let (index, last) = link(graph.nodes[node].inputs[0])
      else { continue }
      let channels = graph[last.x].type.shape.last ?? 1
      if !last.isSum, let factors = last.factors(channels) {
        var result = graph
        layer.scale(by: factors, in: &result)
        result.nodes[node].inputs[0] = last.x
        return finish(result, without: index, inside: node, readers)
      }
      guard last.isSum else { continue }
      if !layer.pads, let addends = last.addends(channels) {
        var result = graph
        guard layer.add(addends, at: node, in: &result, readers) else { continue }
        result.nodes[node].inputs[0] = last.x
        return finish(result, without: index, inside: node, readers)
      }
      // a x + b = a (x + b / a)
      guard layer.pads, let (inner, first) = link(last.x), !first.isSum, let factors = first.factors(channels),
        let addends = last.addends(channels)
      else { continue }
      let quotients = zip(addends, factors).map { $0 / $1 }
      guard zip(quotients, addends).allSatisfy({ $0.isFinite && ($0 == 0) == ($1 == 0) }) else { continue }
      var result = graph
      layer.scale(by: factors, in: &result)
      let isSame = Set(quotients.map(\.bitPattern)).count == 1
      let constant = Constant(isSame ? [quotients[0]] : quotients, shape: [isSame ? 1 : channels])
      var names = NameTable(result)
      let id = result.add(
        Tensor(name: names.unique(graph[last.constantID].name), type: constant.type, constant: constant))
      result[index].op = ElementWiseAdd()
      result[index].inputs = [first.x, id]
      if let sum = graph[index].outputs.first { result.batchNorms[graph[sum].name] = nil }
      return finish(result, without: inner, inside: node, readers)
    }
    return nil
  }

  private func finish(
    _ graph: Graph, without index: NodeID, inside node: Int, _ readers: [[NodeID]]
  ) -> Graph {
    var result = graph
    let gone = result[index]
    for id in gone.outputs {
      result.folded[result[id].name] = "brought into the weights of \(result.nodes[node].name)"
      result.batchNorms[result[id].name] = nil
    }
    for id in gone.inputs.compactMap({ $0 }) where result[id].constant != nil && readers[id.index].count == 1 {
      result.folded[result[id].name] = "brought into the weights of \(result.nodes[node].name)"
    }
    result.nodes.remove(at: index.index)
    return result.compacted()
  }
}

/// A product, quotient, sum or difference of a tensor and a float constant along its last axis, or of one number.
private struct ConstantLink {
  let x: TensorID
  let constantID: TensorID
  let isSum: Bool
  private let numbers: [Float]

  init?(_ graph: Graph, _ node: Node) {
    let isInverse = node.op is ElementWiseSubtract || node.op is ElementWiseDivide
    guard node.inputs.count == 2,
      isInverse || node.op is ElementWiseAdd || node.op is ElementWiseMultiply
    else { return nil }
    isSum = node.op is ElementWiseAdd || node.op is ElementWiseSubtract
    for (first, second) in isInverse ? [(0, 1)] : [(0, 1), (1, 0)] {
      guard let x = node.inputs[first], let other = node.inputs[second], let value = graph[other].constant,
        graph[x].constant == nil, value.type.element == .float32, graph[x].type.element == .float32,
        graph.isOpen(other), value.type.count == value.type.shape.last ?? 1,
        value.type.rank <= graph[x].type.rank,
        value.type.count == 1 || value.type.count == graph[x].type.shape.last
      else { continue }
      (self.x, constantID) = (x, other)
      let sum = isSum
      numbers = value.floats().map { isInverse ? (sum ? -$0 : 1 / $0) : $0 }
      return
    }
    return nil
  }

  private func spread(_ channels: Int) -> [Float] {
    numbers.count == channels ? numbers : Array(repeating: numbers[0], count: channels)
  }

  /// A factor a channel; nil where one is not normal or they differ much.
  func factors(_ channels: Int) -> [Float]? {
    let sizes = numbers.map(abs)
    guard numbers.allSatisfy(\.isNormal), let least = sizes.min(), let most = sizes.max(),
      most <= least * FoldInputScale.largestRatio
    else { return nil }
    return spread(channels)
  }

  /// An addend a channel; nil where one is not finite.
  func addends(_ channels: Int) -> [Float]? { numbers.allSatisfy(\.isFinite) ? spread(channels) : nil }
}

/// A layer over the last axis of its input whose weights may be changed.
private struct FoldableLayer {
  private let weightID: TensorID
  private let weight: Constant
  /// For each element of the weights its input channel and its output channel.
  private let channels: (Int) -> (input: Int, output: Int)
  private let outputs: Int
  /// Whether some windows see something else than the input: an addend in front is not one behind.
  let pads: Bool

  init?(_ graph: Graph, _ node: Node, _ readers: [[NodeID]]) {
    guard FoldBatchNorm.isLayer(node.op), node.inputs.count > 1, let weightID = node.inputs[1],
      let weight = graph[weightID].constant,
      weight.type.element == .float32, graph.isOpen(weightID), readers[weightID.index].count == 1,
      node.inputs.filter({ $0 == weightID }).count == 1, weight.type.count > 0,
      weight.type.rank > 1
    else { return nil }
    let shape = weight.type.shape
    (self.weightID, self.weight) = (weightID, weight)
    let last = shape[shape.count - 1]
    func window(_ group: Int) -> (Int) -> (input: Int, output: Int) {
      let (inputs, filters) = (shape[shape.count - 2], last / max(group, 1))
      return { ($0 % last / filters * inputs + $0 / last % inputs, $0 % last) }
    }
    switch node.op {
    case let op as Conv2d:
      (channels, outputs, pads) = (window(op.group), last, op.padAmount.contains { $0 != 0 })
    case let op as Conv3d:
      (channels, outputs, pads) = (window(op.group), last, op.padAmount.contains { $0 != 0 })
    case let op as TransposeConv2d: (channels, outputs, pads) = (window(op.group), last, true)
    case let op as TransposeConv3d: (channels, outputs, pads) = (window(op.group), last, true)
    case let op as DepthWiseConv2d:
      guard let x = node.inputs[0], let inputs = graph[x].type.shape.last, inputs > 0, last % inputs == 0 else {
        return nil
      }
      let multiplier = last / inputs
      (channels, outputs) = ({ ($0 % last / multiplier, $0 % last) }, last)
      pads = op.padAmount.contains { $0 != 0 }
    case is FullyConnected where shape.count == 2:
      (channels, outputs, pads) = ({ ($0 % last, $0 / last) }, shape[0], false)
    default: return nil
    }
  }

  /// Multiplies the weights of each input channel by its factor.
  func scale(by factors: [Float], in graph: inout Graph) {
    let values = weight.floats().enumerated().map {
      Float(Double($0.element) * Double(factors[channels($0.offset).input]))
    }
    graph[weightID].constant = Constant(values, shape: weight.type.shape)
  }

  /// Adds what the addends of the input channels make of each output to the bias; false where it cannot change.
  func add(_ addends: [Float], at node: Int, in graph: inout Graph, _ readers: [[NodeID]]) -> Bool {
    let old = graph.nodes[node].inputs.count > 2 ? graph.nodes[node].inputs[2] : nil
    var sums = [Double](repeating: 0, count: outputs)
    if let old {
      guard let bias = graph[old].constant, bias.type.element == .float32, graph.isOpen(old),
        bias.type.count == outputs
      else { return false }
      sums = bias.floats().map(Double.init)
    }
    for (index, value) in weight.floats().enumerated() {
      let place = channels(index)
      sums[place.output] += Double(value) * Double(addends[place.input])
    }
    let constant = Constant(sums.map { Float($0) }, shape: [outputs])
    guard constant.floats().allSatisfy(\.isFinite) else { return false }
    if let old, readers[old.index].count == 1 {
      graph[old].constant = constant
      graph[old].type = constant.type
      return true
    }
    var names = NameTable(graph)
    let name = old.map { graph[$0].name } ?? graph.nodes[node].name + ".bias"
    let bias = graph.add(Tensor(name: names.unique(name), type: constant.type, constant: constant))
    graph.nodes[node].inputs = [graph.nodes[node].inputs[0], weightID, bias]
    return true
  }
}
