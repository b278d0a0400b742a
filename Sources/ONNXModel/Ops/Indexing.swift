import IR
import Operators

extension ONNXTranslation {
  /// Gathering and scattering of single elements and of slices.
  static let indexings = [
    ONNXTranslation("GatherElements") { (context) throws(Diagnostic) in
      let (x, indices) = (try context.input(0), try context.input(1))
      let axis = try context.axis(try context.int("axis") ?? 0, rank: x.rank)
      return [try context.emit(GatherElements(axis: axis), [x, indices])]
    },
    ONNXTranslation("GatherND") { (context) throws(Diagnostic) in
      let batch = try context.int("batch_dims") ?? 0
      let operands = [try context.input(0), try context.input(1)]
      return [try context.emit(GatherNd(batchDims: batch), operands)]
    },
    ONNXTranslation("Scatter", scatterElements),
    ONNXTranslation("ScatterElements", scatterElements),
    ONNXTranslation("ScatterND") { (context) throws(Diagnostic) in
      let op = ScatterNd(reduction: try reduction(context))
      let operands = [try context.input(0), try context.input(1), try context.input(2)]
      return [try context.emit(op, operands)]
    },
  ]

  @Sendable private static func scatterElements(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let operands = [try context.input(0), try context.input(1), try context.input(2)]
    let axis = try context.axis(try context.int("axis") ?? 0, rank: operands[0].rank)
    let op = ScatterElements(axis: axis, reduction: try reduction(context))
    return [try context.emit(op, operands)]
  }

  private static func reduction(_ context: NodeContext) throws(Diagnostic) -> ScatterReduction {
    let name = try context.string("reduction") ?? "none"
    guard let known = ScatterReduction(rawValue: name) else {
      throw context.invalid("reduction is \(name)")
    }
    return known
  }
}
