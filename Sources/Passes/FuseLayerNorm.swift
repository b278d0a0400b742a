import IR
import Operators

/// Recognises (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gamma + beta over trailing axes as
/// LayerNorm, and x / sqrt(mean(x^2) + epsilon) * gamma as RmsNorm.
public struct FuseLayerNorm: Pass {
  public let name = "fuse-layernorm"
  public let summary = "recognises layer and root mean square normalization spelled out by means and a root"
  /// Makes the pass.
  public init() {}

  /// What the pattern without scale and shift consists of.
  private struct Match {
    var x: TensorID
    var axes: [Int]
    var epsilon: Float
    var inner: [TensorID]
    /// Whether the mean is taken out.
    var centers: Bool
  }

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var matcher = PatternMatcher(graph)
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard let output = node.outputs.first,
        var match = [centered(matcher, node), divided(matcher, node)].lazy.compactMap({ $0 }).first(
          where: { matcher.areInner($0.inner, of: [output]) })
      else { continue }
      let type = graph[match.x].type
      guard type.rank > 0, match.axes == Array((type.rank - match.axes.count)..<type.rank) else {
        continue
      }
      let shape = match.axes.map { type.shape[$0] }
      var (last, gamma, beta) = (index, TensorID?.none, TensorID?.none)
      if let (scaled, constant) = next(graph, output, ElementWiseMultiply.self, shape) {
        match.inner.append(output)
        (last, gamma) = (scaled, constant)
        if match.centers, let product = graph.nodes[scaled].outputs.first,
          let (shifted, constant) = next(graph, product, ElementWiseAdd.self, shape)
        {
          match.inner.append(product)
          (last, beta) = (shifted, constant)
        }
      }
      replace(&graph, last, match, gamma: gamma, beta: beta, shape: shape)
      matcher = PatternMatcher(graph)
    }
    return graph.compacted()
  }

  /// The only reader of a tensor where it is of one kind and its other operand a constant that fits.
  private func next<Kind: Operator>(
    _ graph: Graph, _ id: TensorID, _ kind: Kind.Type, _ shape: [Int]
  ) -> (Int, TensorID)? {
    let readers = graph.nodes.indices.filter { graph.nodes[$0].inputs.contains(id) }
    guard !graph.outputs.contains(id), readers.count == 1, graph.nodes[readers[0]].op is Kind,
      let other = graph.nodes[readers[0]].inputs.first(where: { $0 != id }) ?? nil,
      let constant = graph[other].constant, constant.type.element == .float32
    else { return nil }
    let trimmed = Array(constant.type.shape.drop { $0 == 1 })
    let target = Array(shape.drop { $0 == 1 })
    let rank = graph[id].type.rank
    return (trimmed == target && constant.type.rank <= rank) ? (readers[0], other) : nil
  }

  private func replace(
    _ graph: inout Graph, _ index: Int, _ match: Match, gamma: TensorID?, beta: TensorID?,
    shape: [Int]
  ) {
    let name = graph.nodes[index].name
    func parameter(_ id: TensorID?, _ suffix: String) -> TensorID {
      if let id, let constant = graph[id].constant {
        if constant.type.shape == shape { return id }
        let moved = constant.reshaped(shape)
        let unique = graph.uniqueName(graph[id].name + ".axes")
        return graph.add(Tensor(name: unique, type: moved.type, constant: moved))
      }
      let ones = Constant([Float](repeating: 1, count: shape.reduce(1, *)), shape: shape)
      return graph.add(
        Tensor(name: graph.uniqueName("\(name).\(suffix)"), type: ones.type, constant: ones))
    }
    var inputs: [TensorID?] = [match.x, parameter(gamma, "gamma")]
    if beta != nil { inputs.append(parameter(beta, "beta")) }
    let op: any Operator =
      match.centers
      ? LayerNorm(axes: match.axes, epsilon: match.epsilon)
      : RmsNorm(axes: match.axes, epsilon: match.epsilon)
    graph.nodes[index].op = op
    graph.nodes[index].inputs = inputs
    for id in match.inner { graph.folded[graph[id].name] = "inside the \(op.typeName) \(name)" }
  }

  /// d / sqrt(mean(d * d) + epsilon), or d times the reciprocal root, with d = x - mean(x).
  private func centered(_ matcher: PatternMatcher, _ node: Node) -> Match? {
    for quotient in quotients(matcher, node) {
      let distance = quotient.top
      guard let center = matcher.producer(of: distance, as: ElementWiseSubtract.self),
        let x = center.inputs[0], let centre = center.inputs[1],
        let average = matcher.producer(of: centre, as: ReduceMean.self),
        average.inputs[0] == x, average.op.isEqual(quotient.reduction)
      else { continue }
      var inner = quotient.inner + [distance, centre]
      if quotient.base != distance {
        // Exporters that compute x - mean twice.
        guard let again = matcher.producer(of: quotient.base, as: ElementWiseSubtract.self),
          again.inputs == center.inputs
        else { continue }
        inner.append(quotient.base)
      }
      return Match(
        x: x, axes: quotient.reduction.axes, epsilon: quotient.epsilon, inner: inner, centers: true)
    }
    return nil
  }

  /// x / sqrt(mean(x * x) + epsilon), or x times the reciprocal root.
  private func divided(_ matcher: PatternMatcher, _ node: Node) -> Match? {
    for quotient in quotients(matcher, node) where quotient.base == quotient.top {
      return Match(
        x: quotient.top, axes: quotient.reduction.axes, epsilon: quotient.epsilon,
        inner: quotient.inner, centers: false)
    }
    return nil
  }

  /// top / sqrt(mean(base * base) + epsilon).
  private struct Quotient {
    var top: TensorID
    var base: TensorID
    var reduction: ReduceMean
    var epsilon: Float
    var inner: [TensorID]
  }

  /// The ways in which a division or product is a quotient by a root of a mean square.
  private func quotients(_ matcher: PatternMatcher, _ node: Node) -> [Quotient] {
    guard node.op is ElementWiseDivide || node.op is ElementWiseMultiply, node.inputs.count == 2
    else { return [] }
    return [(0, 1), (1, 0)].compactMap { first, second in
      guard let top = node.inputs[first], let factor = node.inputs[second] else { return nil }
      var inner = [factor]
      let shifted: TensorID?
      if node.op is ElementWiseDivide {
        if first == 1 { return nil }
        shifted = matcher.producer(of: factor, as: ElementWiseSquareRoot.self)?.inputs[0]
      } else if let root = matcher.producer(of: factor, as: ElementWiseRsqrt.self) {
        shifted = root.inputs[0]
      } else if let inverse = matcher.producer(of: factor, as: ElementWiseReciprocal.self)?.inputs[0] {
        inner.append(inverse)
        shifted = matcher.producer(of: inverse, as: ElementWiseSquareRoot.self)?.inputs[0]
      } else {
        return nil
      }
      guard let shifted, let sum = matcher.producer(of: shifted, as: ElementWiseAdd.self),
        let (variance, epsilon) = addend(matcher, sum),
        let mean = matcher.producer(of: variance, as: ReduceMean.self),
        let reduction = mean.op as? ReduceMean, reduction.keepDims, let square = mean.inputs[0],
        let base = squared(matcher, square)
      else { return nil }
      inner += [shifted, variance, square]
      return Quotient(top: top, base: base, reduction: reduction, epsilon: epsilon, inner: inner)
    }
  }

  /// The operand of a sum that is not constant, and the constant.
  private func addend(_ matcher: PatternMatcher, _ sum: Node) -> (TensorID, Float)? {
    for (first, second) in [(0, 1), (1, 0)] {
      if let number = matcher.number(sum.inputs[second]), let value = sum.inputs[first] {
        return (value, number)
      }
    }
    return nil
  }

  /// What is squared, by a power or a product.
  private func squared(_ matcher: PatternMatcher, _ id: TensorID) -> TensorID? {
    if let power = matcher.producer(of: id, as: ElementWisePower.self) {
      return matcher.number(power.inputs[1]) == 2 ? power.inputs[0] : nil
    }
    guard let product = matcher.producer(of: id, as: ElementWiseMultiply.self),
      product.inputs[0] == product.inputs[1]
    else { return nil }
    return product.inputs[0]
  }
}
