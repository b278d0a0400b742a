import IR
import Operators

extension ONNXTranslation {
  /// Reductions; axes are an attribute, from opset 18 on (ReduceSum: 13) an operand.
  static let reductions = [
    reduction("ReduceMean") { ReduceMean(axes: $0, keepDims: $1) },
    reduction("ReduceSum", operandFrom: 13) { ReduceSum(axes: $0, keepDims: $1) },
    reduction("ReduceMax") { ReduceMax(axes: $0, keepDims: $1) },
    reduction("ReduceMin") { ReduceMin(axes: $0, keepDims: $1) },
  ]

  private static func reduction(
    _ name: String, operandFrom: Int = 18,
    _ make: @escaping @Sendable ([Int], Bool) -> any Operator
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let x = try context.input(0)
      let keepsDims = try context.flag("keepdims", default: true)
      var given: [Int]?
      var doesNothing = false
      if context.opset >= operandFrom {
        given = try context.integers(1, "axes")
        doesNothing = try context.flag("noop_with_empty_axes")
      } else {
        given = try context.ints("axes")
      }
      var axes = try context.axes(given ?? [], rank: x.rank)
      if axes.isEmpty {
        if doesNothing { return [x] }
        axes = Array(x.shape.indices)
      }
      if axes.isEmpty { return [x] }
      return [try context.emit(make(axes, keepsDims), [x])]
    }
  }
}
