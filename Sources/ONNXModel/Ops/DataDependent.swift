import IR
import Operators

extension ONNXTranslation {
  /// Operators whose result's shape depends on values, which must be known here.
  static let dataDependent = [
    ONNXTranslation("NonZero", nonZero), ONNXTranslation("Compress", compress),
    ONNXTranslation("Unique", unique), ONNXTranslation("NonMaxSuppression", nonMaxSuppression),
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

  /// The boxes that stay, each as its image, its class and its number: the best first, as long as it overlaps
  /// none before by more than a share of what both cover.
  @Sendable private static func nonMaxSuppression(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let boxes = try context.input(0, ranks: 3...3)
    let scores = try context.input(1, ranks: 3...3)
    let isCentered = try context.flag("center_point_box")
    guard boxes.shape[2] == 4, boxes.shape[0] == scores.shape[0], boxes.shape[1] == scores.shape[2] else {
      throw context.invalid("scores \(scores.type) do not fit boxes \(boxes.type)")
    }
    guard let corners = boxes.constant?.floats(), let values = scores.constant?.floats() else {
      throw context.unsupported(
        "boxes or scores that are computed from an input (how many stay depends on them)",
        hint: "end the network before this operator")
    }
    let most = try context.integers(2, "the number of boxes")?.first.map { max($0, 0) } ?? 0
    let overlap = try context.number(3, "the threshold of overlap") ?? 0
    let least = try context.number(4, "the threshold of scores")
    let count = boxes.shape[1]
    let areas = (0..<boxes.shape[0] * count).map { Box(corners[(4 * $0)..<(4 * $0 + 4)], isCentered) }
    var rows: [Int] = []
    for line in 0..<scores.shape[0] * scores.shape[1] {
      let image = line / scores.shape[1]
      let own = (0..<count).filter { index in least.map { values[line * count + index] > $0 } ?? true }
      let order = own.sorted {
        (values[line * count + $1], $0) < (values[line * count + $0], $1)
      }
      var kept: [Int] = []
      for index in order where kept.count < most {
        let box = areas[image * count + index]
        if !kept.contains(where: { box.overlap(areas[image * count + $0]) > overlap }) { kept.append(index) }
      }
      rows += kept.flatMap { [image, line % scores.shape[1], $0] }
    }
    return [context.constant(indices(rows, [rows.count / 3, 3]), suffix: "boxes")]
  }

  /// A rectangle along the axes.
  private struct Box {
    var low: (Float, Float)
    var high: (Float, Float)

    /// From two opposite corners, or from the middle and the sizes.
    init(_ numbers: ArraySlice<Float>, _ isCentered: Bool) {
      let list = Array(numbers)
      if isCentered {
        low = (list[0] - list[2] / 2, list[1] - list[3] / 2)
        high = (list[0] + list[2] / 2, list[1] + list[3] / 2)
      } else {
        low = (min(list[0], list[2]), min(list[1], list[3]))
        high = (max(list[0], list[2]), max(list[1], list[3]))
      }
    }

    var area: Float { (high.0 - low.0) * (high.1 - low.1) }

    /// The share of what both cover that both cover alike.
    func overlap(_ other: Box) -> Float {
      let sizes = (
        min(high.0, other.high.0) - max(low.0, other.low.0), min(high.1, other.high.1) - max(low.1, other.low.1)
      )
      guard sizes.0 > 0, sizes.1 > 0, area > 0, other.area > 0 else { return 0 }
      let both = sizes.0 * sizes.1
      return both / (area + other.area - both)
    }
  }
}
