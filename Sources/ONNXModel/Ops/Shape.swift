import IR
import Operators

extension ONNXTranslation {
  /// Operators that change the shape or tell it.
  static let shapes = [
    ONNXTranslation("Reshape", reshape), ONNXTranslation("Flatten", flatten),
    ONNXTranslation("Squeeze", squeeze), ONNXTranslation("Unsqueeze", unsqueeze),
    ONNXTranslation("Transpose", transpose), ONNXTranslation("Expand", expand),
    ONNXTranslation("Tile", tile), ONNXTranslation("Shape", shapeOf),
    ONNXTranslation("Size") { (context) throws(Diagnostic) in
      let count = Int64(try context.input(0).type.count)
      return [context.constant(Constant([count], shape: []), suffix: "size")]
    },
  ]

  /// The shape is an attribute up to opset 4, an operand later; 0 copies a size, -1 takes the rest.
  @Sendable private static func reshape(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    context.ignore("consumed_inputs")
    let x = try context.input(0)
    let keepsZero = try context.flag("allowzero")
    let given =
      context.opset < 5 ? try context.ints("shape") : try context.integers(1, "the new shape")
    guard var sizes = given else { throw context.invalid("the new shape is missing") }
    func misfit() -> Diagnostic {
      context.invalid("\(x.type) cannot take the shape \(given ?? [])")
    }
    var open: Int?
    var known = 1
    for (axis, size) in sizes.enumerated() {
      if size == 0 && !keepsZero {
        guard axis < x.rank else { throw misfit() }
        sizes[axis] = x.shape[axis]
      } else if size == -1 {
        guard open == nil else { throw misfit() }
        open = axis
        continue
      } else if size < 0 {
        throw misfit()
      }
      let (product, overflow) = known.multipliedReportingOverflow(by: sizes[axis])
      guard !overflow else { throw misfit() }
      known = product
    }
    if let open {
      guard known > 0, x.type.count % known == 0 else { throw misfit() }
      sizes[open] = x.type.count / known
      known = x.type.count
    }
    guard known == x.type.count else { throw misfit() }
    return [try context.reshape(x, sizes, suffix: "")]
  }

  @Sendable private static func flatten(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let given = try context.int("axis") ?? 1
    let axis = given == x.rank ? given : try context.axis(given, rank: x.rank)
    let rows = x.shape[..<axis].reduce(1, &*)
    return [try context.reshape(x, [rows, x.shape[axis...].reduce(1, &*)], suffix: "")]
  }

  private static func givenAxes(_ context: NodeContext) throws(Diagnostic) -> [Int]? {
    context.opset < 13 ? try context.ints("axes") : try context.integers(1, "axes")
  }

  @Sendable private static func squeeze(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axes: [Int]
    if let given = try givenAxes(context) {
      axes = try context.axes(given, rank: x.rank)
    } else {
      axes = x.shape.indices.filter { x.shape[$0] == 1 }
    }
    if let axis = axes.first(where: { x.shape[$0] != 1 }) {
      throw context.invalid("axis \(axis) of \(x.type) is not 1")
    }
    let shape = x.shape.indices.filter { !axes.contains($0) }.map { x.shape[$0] }
    return [try context.reshape(x, shape, suffix: "")]
  }

  @Sendable private static func unsqueeze(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    guard let given = try givenAxes(context) else { throw context.invalid("axes are missing") }
    let rank = x.rank + given.count
    let axes = try context.axes(given, rank: rank)
    var shape = x.shape
    for axis in axes.sorted() { shape.insert(1, at: axis) }
    return [try context.reshape(x, shape, suffix: "")]
  }

  @Sendable private static func transpose(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let order = try context.ints("perm") ?? Array(x.shape.indices.reversed())
    guard order.sorted() == Array(x.shape.indices) else {
      throw context.invalid("perm \(order) is not an order of the axes of \(x.type)")
    }
    return [try context.transpose(x, order, suffix: "")]
  }

  @Sendable private static func expand(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    guard let given = try context.integers(1, "the new shape"),
      given.allSatisfy({ $0 >= 0 && $0 <= TensorDecoder.sizeLimit })
    else {
      throw context.invalid("the new shape is missing or negative")
    }
    let shape = try broadcastShape(x.shape, given)
    if shape == x.shape { return [x] }
    return [try context.emit(Expand(shape: shape), [x])]
  }

  /// From opset 6 on a factor an axis; in opset 1 one factor and one axis.
  @Sendable private static func tile(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    guard let given = try context.integers(1, "repeats") else {
      throw context.invalid("repeats are missing")
    }
    var factors = given
    if context.opset < 6 {
      guard given.count == 1, let axis = try context.integers(2, "axis"), axis.count == 1 else {
        throw context.invalid("tiles and axis must be one number each")
      }
      factors = [Int](repeating: 1, count: x.rank)
      factors[try context.axis(axis[0], rank: x.rank)] = given[0]
    }
    if factors.count == x.rank, factors.allSatisfy({ $0 == 1 }) { return [x] }
    return [try context.emit(Tile(multiples: factors), [x])]
  }

  /// The sizes are known, so this is a constant; from opset 15 on of the axes start to end.
  @Sendable private static func shapeOf(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    func bound(_ value: Int) -> Int { min(max(value < 0 ? value &+ x.rank : value, 0), x.rank) }
    let start = bound(try context.int("start") ?? 0)
    let end = max(start, bound(try context.int("end") ?? x.rank))
    let sizes = x.shape[start..<end].map { Int64($0) }
    return [context.constant(Constant(sizes, shape: [sizes.count]), suffix: "shape")]
  }
}
