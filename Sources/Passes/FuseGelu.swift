import IR
import Operators

/// Recognises x / 2 * (1 + erf(x / sqrt(2))), its factors in any order, as Gelu.
public struct FuseGelu: Pass {
  public let name = "fuse-gelu"
  public let summary = "recognises Gelu that is spelled out by Erf"
  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    guard graph.nodes.contains(where: { $0.op is ElementWiseErf }) else { return graph }
    var matcher = PatternMatcher(graph)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard let output = node.outputs.first, let (x, inner) = match(matcher, node),
        graph[x].type == graph[output].type, matcher.areInner(inner, of: [output])
      else { continue }
      graph.nodes[index].op = Gelu()
      graph.nodes[index].inputs = [x]
      for id in inner { graph.folded[graph[id].name] = "inside the Gelu \(node.name)" }
      matcher = PatternMatcher(graph)
    }
    return graph.compacted()
  }

  /// The input and the tensors that disappear; nil where the node does not end the pattern.
  private func match(_ matcher: PatternMatcher, _ node: Node) -> (TensorID, [TensorID])? {
    guard node.op is ElementWiseMultiply || node.op is ElementWiseDivide else { return nil }
    var inner: [TensorID] = []
    guard let factors = factors(matcher, node, &inner), factors.count == 2 else { return nil }
    for (x, gate) in [(factors[0], factors[1]), (factors[1], factors[0])] {
      let sum = matcher.producer(of: gate, as: ElementWiseAdd.self)
      guard let value = matcher.operand(of: sum, besides: 1),
        let erf = matcher.producer(of: value, as: ElementWiseErf.self),
        let argument = erf.inputs.first ?? nil, isScaled(matcher, argument, x)
      else { continue }
      return (x, inner + [gate, value, argument])
    }
    return nil
  }

  /// Two factors of a product of three, the third of which is a half.
  private func factors(
    _ matcher: PatternMatcher, _ node: Node, _ inner: inout [TensorID]
  ) -> [TensorID]? {
    if let product = half(matcher, node) {
      guard let made = matcher.producer(of: product, as: ElementWiseMultiply.self) else {
        return nil
      }
      inner.append(product)
      return made.inputs.compactMap { $0 }
    }
    guard node.op is ElementWiseMultiply else { return nil }
    for (first, second) in [(0, 1), (1, 0)] {
      let part = node.inputs[first]
      let made =
        matcher.producer(of: part, as: ElementWiseMultiply.self)
        ?? matcher.producer(of: part, as: ElementWiseDivide.self)
      if let part, let made, let halved = half(matcher, made), let other = node.inputs[second] {
        inner.append(part)
        return [halved, other]
      }
    }
    return nil
  }

  /// What a node halves.
  private func half(_ matcher: PatternMatcher, _ node: Node) -> TensorID? {
    if node.op is ElementWiseMultiply { return matcher.operand(of: node, besides: 0.5) }
    return matcher.number(node.inputs[1]) == 2 ? node.inputs[0] : nil
  }

  /// Whether a tensor is x / sqrt(2).
  private func isScaled(_ matcher: PatternMatcher, _ id: TensorID, _ x: TensorID) -> Bool {
    if let division = matcher.producer(of: id, as: ElementWiseDivide.self) {
      guard let divisor = matcher.number(division.inputs[1]) else { return false }
      return abs(divisor - Float(2).squareRoot()) < 1e-4 && division.inputs[0] == x
    }
    let product = matcher.producer(of: id, as: ElementWiseMultiply.self)
    return matcher.operand(of: product, besides: Float(0.5).squareRoot()) == x
  }
}
