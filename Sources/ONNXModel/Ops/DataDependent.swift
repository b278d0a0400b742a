import IR
import Operators

extension ONNXTranslation {
  /// Operators whose result's shape depends on values, which must be known here.
  static let dataDependent = [
    ONNXTranslation("NonZero", nonZero), ONNXTranslation("Compress", compress),
    ONNXTranslation("Unique", unique),
  ]

  /// If is resolved before any translation.
  static let branches = [
    ONNXTranslation("If") { (context) throws(Diagnostic) in throw context.unsupported("this place") }
  ]

  private static func computed(_ context: NodeContext, _ what: String) -> Diagnostic {
    context.unsupported(
      "\(what) that is computed from an input (the shape of the result depends on it)",
      hint: "end the network before this operator, or start it behind")
  }

  private static func indices(_ list: [Int], _ shape: [Int]) -> Constant {
    Constant(list.map { Int64($0) }, shape: shape)
  }

  /// Positions of the elements that are not 0, an axis a row.
  @Sendable private static func nonZero(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    guard let constant = x.constant else { throw computed(context, "an operand") }
    let places = constant.floats().enumerated().filter { $0.element != 0 }.map(\.offset)
    let steps = denseStrides(x.shape)
    let rows = x.shape.indices.flatMap { axis in places.map { $0 / steps[axis] % x.shape[axis] } }
    return [context.constant(indices(rows, [x.rank, places.count]), suffix: "places")]
  }

  /// Slices for which the condition holds: a Gather, as the condition is known.
  @Sendable private static func compress(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    var x = try context.input(0)
    guard let flags = try context.input(1, ranks: 1...1).constant?.integers() else {
      throw computed(context, "a condition")
    }
    let given = try context.int("axis")
    if given == nil { x = try context.reshape(x, [x.type.count], suffix: "flat") }
    let axis = try context.axis(given ?? 0, rank: x.rank)
    guard flags.count <= x.shape[axis] else {
      throw context.invalid("\(flags.count) conditions for axis \(axis) of \(x.type)")
    }
    let kept = flags.enumerated().filter { $0.element != 0 }.map { Int32($0.offset) }
    let type = TensorType(.int32, [kept.count])
    let places = context.constant(Constant(type: type, bytes: Bytes(kept)), suffix: "places")
    return [try context.emit(Gather(axis: axis), [x, places])]
  }

  /// The different slices along an axis (or elements), where each comes first, which one each slice is,
  /// and how many there are of each.
  @Sendable private static func unique(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let isSorted = try context.flag("sorted", default: true)
    let given = try context.int("axis")
    var x = try context.input(0)
    if given == nil { x = try context.reshape(x, [x.type.count], suffix: "flat") }
    let axis = try context.axis(given ?? 0, rank: x.rank)
    guard let constant = x.constant else { throw computed(context, "an operand") }
    let numbers = constant.floats()
    let (count, inner) = (x.shape[axis], x.shape[(axis + 1)...].reduce(1, *))
    guard count > 0 else { throw context.unsupported("an empty operand") }
    let outer = numbers.count / count / max(inner, 1)
    let slices = (0..<count).map { place in
      (0..<outer).flatMap { block in
        (0..<inner).map { numbers[(block * count + place) * inner + $0] }
      }
    }
    var first: [[Float]: Int] = [:]
    for (place, slice) in slices.enumerated() where first[slice] == nil { first[slice] = place }
    var places = first.values.sorted()
    if isSorted { places.sort { slices[$0].lexicographicallyPrecedes(slices[$1]) } }
    var number: [[Float]: Int] = [:]
    for (index, place) in places.enumerated() { number[slices[place]] = index }
    let which = slices.map { number[$0] ?? 0 }
    let counts = places.indices.map { index in which.count { $0 == index } }
    let type = TensorType(.int32, [places.count])
    let picks = context.constant(
      Constant(type: type, bytes: Bytes(places.map { Int32($0) })), suffix: "picks")
    return [
      try context.emit(Gather(axis: axis), [x, picks]),
      context.constant(indices(places, [places.count]), suffix: "first"),
      context.constant(indices(which, [which.count]), suffix: "which"),
      context.constant(indices(counts, [counts.count]), suffix: "counts"),
    ]
  }
}
