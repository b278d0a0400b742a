import IR
import Operators

extension ONNXTranslation {
  /// Sums over products of named axes.
  static let contractions = [ONNXTranslation("Einsum", einsum)]

  /// Operands are multiplied from the left to the right; axes that nothing needs any more are summed away
  /// as soon as possible.
  @Sendable private static func einsum(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let equation = (try context.string("equation") ?? "").filter { $0 != " " }
    var operands: [Value] = []
    for index in context.inputs.indices { operands.append(try context.input(index)) }
    let parsed = try EinsumEquation(equation, operands, context)
    var factors: [Factor] = []
    for (index, value) in operands.enumerated() {
      factors.append(try diagonal(context, Factor(value, parsed.terms[index]), "operand\(index)"))
    }
    guard var result = factors.first else { throw context.invalid("there is no operand") }
    for (index, next) in factors.enumerated().dropFirst() {
      let later = Set(factors[(index + 1)...].flatMap(\.labels) + parsed.output)
      result = try product(context, result, next, later, "product\(index)")
    }
    result = try summed(context, result, keeping: Set(parsed.output), "sum")
    let order = parsed.output.compactMap { result.labels.firstIndex(of: $0) }
    guard order.count == parsed.output.count, order.count == result.labels.count else {
      throw context.invalid("the result of \(equation) has an axis that no operand has")
    }
    return [try context.transpose(result.value, order, suffix: "")]
  }

  /// A value whose axes have names.
  private struct Factor {
    var value: Value
    var labels: [Int]
    init(_ value: Value, _ labels: [Int]) {
      self.value = value
      self.labels = labels
    }
  }

  /// Takes the diagonal of axes that have one name.
  private static func diagonal(
    _ context: NodeContext, _ given: Factor, _ suffix: String
  ) throws(Diagnostic) -> Factor {
    var factor = given
    while let label = factor.labels.first(where: { name in factor.labels.count { $0 == name } > 1 }) {
      let axes = factor.labels.indices.filter { factor.labels[$0] == label }
      let size = factor.value.shape[axes[0]]
      guard factor.value.shape[axes[1]] == size else {
        throw context.invalid("axes of one name differ in \(factor.value.type)")
      }
      let rest = factor.labels.indices.filter { $0 != axes[0] && $0 != axes[1] }
      let front = rest.map { factor.value.shape[$0] }
      let moved = try context.transpose(factor.value, rest + axes.prefix(2), suffix: "\(suffix).pair")
      let flat = try context.reshape(moved, front + [size * size], suffix: "\(suffix).flat")
      let step = [Int](repeating: 1, count: front.count) + [size + 1]
      let begin = [Int](repeating: 0, count: front.count + 1)
      let line = try context.emit(
        StridedSlice(begin: begin, size: front + [size], step: step), [flat], suffix: "\(suffix).diagonal")
      factor = Factor(line, rest.map { factor.labels[$0] } + [label])
    }
    return factor
  }

  /// Sums over the axes that are not wanted.
  private static func summed(
    _ context: NodeContext, _ factor: Factor, keeping wanted: Set<Int>, _ suffix: String
  ) throws(Diagnostic) -> Factor {
    let axes = factor.labels.indices.filter { !wanted.contains(factor.labels[$0]) }
    if axes.isEmpty { return factor }
    let sum = try context.emit(
      ReduceSum(axes: Array(axes), keepDims: false), [factor.value], suffix: suffix)
    return Factor(sum, factor.labels.filter(wanted.contains))
  }

  /// The product of two factors as a product of matrices, summed over what only they have.
  private static func product(
    _ context: NodeContext, _ left: Factor, _ right: Factor, _ later: Set<Int>, _ suffix: String
  ) throws(Diagnostic) -> Factor {
    let a = try summed(context, left, keeping: later.union(right.labels), "\(suffix).left")
    let b = try summed(context, right, keeping: later.union(left.labels), "\(suffix).right")
    func size(_ label: Int) -> Int {
      [a, b].compactMap { factor in
        factor.labels.firstIndex(of: label).map { factor.value.shape[$0] }
      }.max() ?? 1
    }
    let shared = a.labels.filter(b.labels.contains)
    let (batch, inner) = (shared.filter(later.contains), shared.filter { !later.contains($0) })
    let (rows, columns) = (
      a.labels.filter { !shared.contains($0) }, b.labels.filter { !shared.contains($0) }
    )
    func matrix(_ factor: Factor, _ groups: [[Int]], _ name: String) throws(Diagnostic) -> Value {
      let order = groups.joined().compactMap { factor.labels.firstIndex(of: $0) }
      let moved = try context.transpose(factor.value, order, suffix: "\(suffix).\(name).moved")
      let full = groups.joined().map(size)
      var wide = moved
      if full != moved.shape {
        wide = try context.emit(Expand(shape: full), [moved], suffix: "\(suffix).\(name).wide")
      }
      return try context.reshape(
        wide, groups.map { $0.map(size).reduce(1, *) }, suffix: "\(suffix).\(name)")
    }
    let product = try context.emit(
      MatMul(), [try matrix(a, [batch, rows, inner], "a"), try matrix(b, [batch, inner, columns], "b")],
      suffix: suffix)
    let labels = batch + rows + columns
    return Factor(
      try context.reshape(product, labels.map(size), suffix: "\(suffix).axes"), labels)
  }
}

/// The terms of an einsum, an integer an axis: letters by their code, the axes of an ellipsis below 0,
/// -1 being the last one.
private struct EinsumEquation {
  var terms: [[Int]]
  var output: [Int]

  init(_ text: String, _ operands: [Value], _ context: NodeContext) throws(Diagnostic) {
    let sides = text.split(separator: "->", omittingEmptySubsequences: false).map(String.init)
    let words = sides[0].split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard words.count == operands.count else {
      throw context.invalid("equation \(text) has \(words.count) terms for \(operands.count) operands")
    }
    terms = []
    var widest = 0
    for (word, operand) in zip(words, operands) {
      let term = try EinsumEquation.labels(word, rank: operand.rank, context)
      widest = max(widest, term.count { $0 < 0 })
      terms.append(term)
    }
    if sides.count > 1 {
      let letters = sides[1].filter { $0 != "." }.count
      output = try EinsumEquation.labels(
        sides[1], rank: sides[1].contains(".") ? letters + widest : letters, context)
    } else {
      let all = terms.flatMap { $0 }
      let single = Set(all.filter { label in label >= 0 && all.count { $0 == label } == 1 })
      output = (0..<widest).map { $0 - widest } + single.sorted()
    }
    guard Set(output).count == output.count else {
      throw context.invalid("the result of \(text) repeats an axis")
    }
  }

  private static func labels(
    _ word: String, rank: Int, _ context: NodeContext
  ) throws(Diagnostic) -> [Int] {
    var labels: [Int] = []
    let letters = word.unicodeScalars.filter { $0 != "." }
    let dots = word.unicodeScalars.count - letters.count
    guard dots == 0 || (dots == 3 && word.contains("...")), letters.count <= rank,
      dots == 3 || letters.count == rank, letters.allSatisfy({ $0.properties.isAlphabetic })
    else { throw context.invalid("the term \(word) does not fit rank \(rank)") }
    var isOpen = false
    for scalar in word.unicodeScalars {
      if scalar != "." {
        labels.append(Int(scalar.value))
      } else if !isOpen {
        isOpen = true
        let hidden = rank - letters.count
        labels += (0..<hidden).map { $0 - hidden }
      }
    }
    return labels
  }
}
