import IR
import Operators

extension ONNXTranslation {
  /// Reductions; axes are an attribute, from opset 18 on (ReduceSum: 13) an operand.
  static let reductions = [
    reduction("ReduceMean") { ReduceMean(axes: $0, keepDims: $1) },
    reduction("ReduceSum", operandFrom: 13) { ReduceSum(axes: $0, keepDims: $1) },
    reduction("ReduceMax") { ReduceMax(axes: $0, keepDims: $1) },
    reduction("ReduceMin") { ReduceMin(axes: $0, keepDims: $1) },
    reduction("ReduceProd") { ReduceProd(axes: $0, keepDims: $1) },
    running("CumSum") { CumulativeSum(axis: $0, exclusive: $1, reverse: $2) },
    running("CumProd") { CumulativeProduct(axis: $0, exclusive: $1, reverse: $2) },
    ONNXTranslation("ReduceL1") { (context) throws(Diagnostic) in
      let (x, reduction) = (try context.input(0), try Reduction(context))
      let sizes = try context.emit(ElementWiseAbs(), [x], suffix: "abs")
      return [try reduction.sum(context, sizes)]
    },
    ONNXTranslation("ReduceSumSquare") { (context) throws(Diagnostic) in
      let (x, reduction) = (try context.input(0), try Reduction(context))
      let squares = try context.emit(ElementWiseMultiply(), [x, x], suffix: "square")
      return [try reduction.sum(context, squares)]
    },
    ONNXTranslation("ReduceL2") { (context) throws(Diagnostic) in
      let (x, reduction) = (try context.input(0), try Reduction(context))
      let squares = try context.emit(ElementWiseMultiply(), [x, x], suffix: "square")
      let sum = try reduction.sum(context, squares, suffix: "sum")
      return [try context.emit(ElementWiseSquareRoot(), [sum])]
    },
    ONNXTranslation("ReduceLogSum") { (context) throws(Diagnostic) in
      let (x, reduction) = (try context.input(0), try Reduction(context))
      let sum = try reduction.sum(context, x, suffix: "sum")
      return [try context.emit(ElementWiseLog(), [sum])]
    },
    ONNXTranslation("ReduceLogSumExp") { (context) throws(Diagnostic) in
      let (x, reduction) = (try context.input(0), try Reduction(context))
      if reduction.axes.contains(where: { x.shape[$0] == 0 }) || reduction.axes.isEmpty {
        let exps = try context.emit(ElementWiseExp(), [x], suffix: "exp")
        let sum = try reduction.sum(context, exps, suffix: "sum")
        return [try context.emit(ElementWiseLog(), [sum])]
      }
      // The largest element is taken out, so that no power overflows.
      let top = try context.emit(
        ReduceMax(axes: reduction.axes, keepDims: true), [x], suffix: "max")
      let moved = try context.emit(ElementWiseSubtract(), [x, top], suffix: "moved")
      let exps = try context.emit(ElementWiseExp(), [moved], suffix: "exp")
      let sum = try reduction.sum(context, exps, suffix: "sum")
      let log = try context.emit(ElementWiseLog(), [sum], suffix: "log")
      let addend = try context.reshape(top, log.shape, suffix: "top")
      return [try context.emit(ElementWiseAdd(), [log, addend])]
    },
    extremeIndex("ArgMax") { Argmax(axis: $0, keepDims: $1, selectLastIndex: $2) },
    extremeIndex("ArgMin") { Argmin(axis: $0, keepDims: $1, selectLastIndex: $2) },
  ]

  /// The axis is an operand.
  private static func running(
    _ name: String, _ make: @escaping @Sendable (Int, Bool, Bool) -> any Operator
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let x = try context.input(0)
      guard let given = try context.integers(1, "the axis"), given.count == 1 else {
        throw context.invalid("the axis must be one integer")
      }
      let op = make(
        try context.axis(given[0], rank: x.rank), try context.flag("exclusive"),
        try context.flag("reverse"))
      return [try context.emit(op, [x])]
    }
  }

  private static func reduction(
    _ name: String, operandFrom: Int = 18,
    _ make: @escaping @Sendable ([Int], Bool) -> any Operator
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let x = try context.input(0)
      let reduction = try Reduction(context, operandFrom: operandFrom)
      if reduction.axes.isEmpty { return [x] }
      let op = make(reduction.axes, reduction.keepsDims)
      guard x.type.element == .bool else { return [try context.emit(op, [x])] }
      let numbers = try context.cast(x, to: .uint8, suffix: "numbers")
      let result = try context.emit(op, [numbers], suffix: "result")
      return [try context.cast(result, to: .bool)]
    }
  }

  private static func extremeIndex(
    _ name: String, _ make: @escaping @Sendable (Int, Bool, Bool) -> any Operator
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let x = try context.input(0)
      let axis = try context.axis(try context.int("axis") ?? 0, rank: x.rank)
      let keepsDims = try context.flag("keepdims", default: true)
      let isLast = try context.flag("select_last_index")
      return [try context.emit(make(axis, keepsDims, isLast), [x])]
    }
  }
}

/// The axes that a reduction takes away.
private struct Reduction {
  /// None where nothing is reduced.
  let axes: [Int]
  let keepsDims: Bool

  init(_ context: NodeContext, operandFrom: Int = 18) throws(Diagnostic) {
    let x = try context.input(0)
    keepsDims = try context.flag("keepdims", default: true)
    var given: [Int]?
    var doesNothing = false
    if context.opset >= operandFrom {
      given = try context.integers(1, "axes")
      doesNothing = try context.flag("noop_with_empty_axes")
    } else {
      given = try context.ints("axes")
    }
    let list = try context.axes(given ?? [], rank: x.rank)
    axes = list.isEmpty && !doesNothing ? Array(x.shape.indices) : list
  }

  /// The sum of a value over the axes.
  func sum(
    _ context: NodeContext, _ x: Value, suffix: String = ""
  ) throws(Diagnostic) -> Value {
    if axes.isEmpty { return x }
    return try context.emit(ReduceSum(axes: axes, keepDims: keepsDims), [x], suffix: suffix)
  }
}
