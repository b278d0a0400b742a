import IR
import Operators

extension ONNXTranslation {
  /// Resize and its forerunner Upsample.
  static let resizings = [
    ONNXTranslation("Resize", resize), ONNXTranslation("Upsample", upsample),
  ]

  /// Up to opset 10 without a choice of coordinates; later from scales or from sizes.
  @Sendable private static func resize(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let mode = try context.string("mode") ?? "nearest"
    if context.opset < 11 {
      let scales = try numbers(context, 1, "scales")
      return [try resized(context, x, Plan(x, scales: scales, context), mode, old: true)]
    }
    let axes = try context.axes(try context.ints("axes") ?? Array(x.shape.indices), rank: x.rank)
    let policy = try context.string("keep_aspect_ratio_policy") ?? "stretch"
    let scales = try numbers(context, 2, "scales")
    let sizes = try context.integers(3, "sizes") ?? []
    var plan: Plan
    if !scales.isEmpty {
      guard sizes.isEmpty else { throw context.invalid("both scales and sizes are given") }
      plan = try Plan(x, scales: try spread(context, scales, axes, x.shape.map { _ in 1 }), context)
    } else {
      plan = Plan(shape: try spread(context, sizes, axes, x.shape), scales: [])
      if policy != "stretch" { try keepAspect(context, &plan, x.shape, axes, policy) }
    }
    let roi = try numbers(context, 1, "roi")
    if !roi.isEmpty {
      guard roi.count == 2 * axes.count else { throw context.invalid("roi has \(roi.count) numbers") }
      let starts = try spread(context, Array(roi[..<axes.count]), axes, x.shape.map { _ in 0 })
      plan.crop = starts + (try spread(context, Array(roi[axes.count...]), axes, x.shape.map { _ in 1 }))
    }
    return [try resized(context, x, plan, mode, old: false)]
  }

  /// Every opset before Resize: the nearest element before, or straight lines from the left border.
  @Sendable private static func upsample(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let mode = try context.string("mode") ?? "nearest"
    var scales: [Float]
    if context.opset >= 9 {
      scales = try numbers(context, 1, "scales")
    } else if case .floats(let list)? = context.any("scales") {
      scales = list
    } else {
      scales = [1, 1, try context.float("height_scale") ?? 1, try context.float("width_scale") ?? 1]
    }
    return [
      try resized(
        context, x, Plan(x, scales: scales, context), mode == "bilinear" ? "linear" : mode, old: true)
    ]
  }

  /// What a resizing makes of its input.
  private struct Plan {
    var shape: [Int]
    /// None where they are the ratios of the sizes.
    var scales: [Float]
    var crop: [Float] = []

    init(shape: [Int], scales: [Float]) {
      self.shape = shape
      self.scales = scales
    }

    init(_ x: Value, scales: [Float], _ context: NodeContext) throws(Diagnostic) {
      guard scales.count == x.rank, scales.allSatisfy({ $0 > 0 && $0 < 0x1p20 }) else {
        throw context.invalid("scales \(scales) do not fit \(x.type)")
      }
      shape = zip(x.shape, scales).map { Int((Float($0) * $1).rounded(.down)) }
      let isRatio = zip(zip(x.shape, shape), scales).allSatisfy { sizes, scale in
        Double(sizes.0) * Double(scale) == Double(sizes.1)
      }
      self.scales = isRatio ? [] : scales
    }
  }

  private static func numbers(
    _ context: NodeContext, _ index: Int, _ what: String
  ) throws(Diagnostic) -> [Float] {
    guard let value = context.optional(index) else { return [] }
    guard let constant = value.constant else {
      if value.type.count == 0 { return [] }
      throw context.unsupported(
        "\(what) that are computed from an input",
        hint: "export the model with fixed shapes, or simplify it with onnxsim")
    }
    guard value.rank <= 1, value.type.count <= 16 else {
      throw context.invalid("\(what) must be a list, are \(value.type)")
    }
    return constant.floats()
  }

  /// A list with an entry for each axis from one of entries for some.
  private static func spread<Number>(
    _ context: NodeContext, _ list: [Number], _ axes: [Int], _ rest: [Number]
  ) throws(Diagnostic) -> [Number] {
    guard list.count == axes.count else {
      throw context.invalid("\(list.count) numbers for \(axes.count) axes")
    }
    var result = rest
    for (axis, number) in zip(axes, list) { result[axis] = number }
    return result
  }

  /// One scale for all axes, the smallest or the largest; the sizes follow.
  private static func keepAspect(
    _ context: NodeContext, _ plan: inout Plan, _ input: [Int], _ axes: [Int], _ policy: String
  ) throws(Diagnostic) {
    guard ["not_larger", "not_smaller"].contains(policy), input.allSatisfy({ $0 > 0 }) else {
      throw context.invalid("keep_aspect_ratio_policy is \(policy)")
    }
    let ratios = axes.map { Double(plan.shape[$0]) / Double(input[$0]) }
    guard let scale = policy == "not_larger" ? ratios.min() : ratios.max(), scale < 0x1p20 else { return }
    plan.scales = input.map { _ in 1 }
    for axis in axes {
      plan.shape[axis] = Int((scale * Double(input[axis]) + 0.5).rounded(.down))
      plan.scales[axis] = Float(scale)
    }
  }

  private static func resized(
    _ context: NodeContext, _ x: Value, _ plan: Plan, _ mode: String, old: Bool
  ) throws(Diagnostic) -> Value {
    guard let interpolation = Interpolation(rawValue: mode) else {
      throw context.invalid("mode is \(mode)")
    }
    guard plan.shape.allSatisfy({ (0...TensorDecoder.sizeLimit).contains($0) }) else {
      throw context.invalid("sizes \(plan.shape) are not valid")
    }
    var coordinates = try context.string("coordinate_transformation_mode") ?? "half_pixel"
    var nearest = try context.string("nearest_mode") ?? "round_prefer_floor"
    if old { (coordinates, nearest) = ("asymmetric", "floor") }
    if coordinates == "tf_half_pixel_for_nn" { (coordinates, nearest) = ("half_pixel", "round_prefer_ceil") }
    guard let transformation = CoordinateTransformation(rawValue: coordinates),
      let nearestMode = NearestMode(rawValue: nearest)
    else { throw context.invalid("\(coordinates) or \(nearest) is not known") }
    let op = Resize(
      shape: plan.shape, scales: plan.scales, interpolation: interpolation,
      transformation: transformation, nearestMode: nearestMode,
      cubicCoefficient: try context.float("cubic_coeff_a") ?? -0.75,
      excludeOutside: try context.flag("exclude_outside"), antialias: try context.flag("antialias"),
      crop: transformation == .cropAndResize ? plan.crop : [],
      extrapolationValue: try context.float("extrapolation_value") ?? 0)
    let element = x.type.element
    guard element.isInteger else { return try applied(op, context, x) }
    let numbers = try context.cast(x, to: .float32, suffix: "numbers")
    var result = try applied(op, context, numbers)
    if interpolation != .nearest {
      result = try context.emit(ElementWiseRound(), [result], suffix: "whole")
      let range = element.bits < 32 ? CodeGrid.range(element) : nil
      if let range {
        result = try context.emit(
          ReluMinMax(minValue: range.0, maxValue: range.1), [result], suffix: "limited")
      }
    }
    return try context.cast(result, to: element, suffix: "codes")
  }

  /// Longest axis that is resampled: every place of it has an entry of its own in a table.
  private static let longestAxis = 1 << 20

  /// QNN's operator for images where one gives the same, the general one elsewhere.
  private static func applied(
    _ op: Resize, _ context: NodeContext, _ x: Value
  ) throws(Diagnostic) -> Value {
    guard (op.shape + x.shape).allSatisfy({ $0 <= longestAxis }) else {
      throw context.invalid("axes longer than \(longestAxis) cannot be resized")
    }
    if op.shape == x.shape, op.tables(x.shape).isEmpty { return x }
    _ = try op.infer([x.type])
    let isImage = x.rank == 3 || x.rank == 4
    if isImage, op.shape[..<2] == x.shape[..<2], op.interpolation != .cubic {
      let pixels = try context.pixels(x)
      let size = x.rank == 3 ? [1, op.shape[2]] : Array(op.shape[2...])
      if let special = special(op, pixels.shape, size, x.rank) {
        let result = try context.emit(special, [pixels], tensor: context.channelLastName)
        return try context.fromPixels(result, rank: x.rank)
      }
    }
    return try context.emit(op, [x])
  }

  private static func special(
    _ op: Resize, _ input: [Int], _ size: [Int], _ rank: Int
  ) -> (any Resampling)? {
    let wanted = op.tables(
      rank == 3 ? [input[0], input[3], input[2]] : [input[0], input[3], input[1], input[2]])
    var candidates: [any Resampling] = []
    for (corners, centers) in [(false, true), (true, false), (false, false)] {
      if op.interpolation == .nearest {
        candidates.append(
          ResizeNearestNeighbor(size: size, alignCorners: corners, halfPixelCenters: centers))
      } else {
        candidates.append(ResizeBilinear(size: size, alignCorners: corners, halfPixelCenters: centers))
      }
    }
    if op.interpolation == .nearest { candidates.swapAt(0, 2) }
    // Axis 2 of three is the width; of four, 2 and 3 are height and width.
    let places = rank == 3 ? [(2, 2)] : [(2, 1), (3, 2)]
    return candidates.first { candidate in
      let tables = candidate.tables(input)
      return places.allSatisfy { wanted[$0.0] == tables[$0.1] }
    }
  }
}

extension CodeGrid {
  /// Smallest and largest number of an integer type below 32 bits.
  static func range(_ element: DataType) -> (Float, Float) {
    let half = Float(1 << (element.bits - 1))
    return isSigned(element) ? (-half, half - 1) : (0, 2 * half - 1)
  }
}
