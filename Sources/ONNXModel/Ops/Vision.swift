import IR
import Operators

extension ONNXTranslation {
  /// DeformConv, Col2Im, MaxUnpool, Det and MaxRoiPool.
  static let visions = [
    ONNXTranslation("DeformConv", deformableConvolution), ONNXTranslation("Col2Im", columnsToImage),
    ONNXTranslation("MaxUnpool", maxUnpool), ONNXTranslation("MaxRoiPool", maxRoiPool),
    ONNXTranslation("Det") { (context) throws(Diagnostic) in
      [try context.emit(Determinant(), [try context.input(0, ranks: 2...8)])]
    },
  ]

  /// A GridSample takes the pixels under the moved taps of every window, an image of windows side by
  /// side; the convolution then steps from window to window.
  @Sendable private static func deformableConvolution(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 4...4)
    let weight = try context.input(1, ranks: 4...4)
    let offset = try context.input(2, ranks: 4...4)
    let sizes = Array(x.shape[2...])
    let window = try Window(
      context, kernel: try context.ints("kernel_shape") ?? Array(weight.shape[2...]), sizes: sizes)
    let parts = try context.int("offset_group") ?? 1
    let group = try context.int("group") ?? 1
    let (kernel, places) = (window.kernel, Array(offset.shape[2...]))
    guard kernel == Array(weight.shape[2...]) else {
      throw context.invalid("kernel_shape \(kernel) differs from the weights' \(weight.type)")
    }
    guard parts > 0, x.shape[1] > 0, x.shape[1] % parts == 0, sizes.allSatisfy({ $0 > 0 }),
      offset.shape[0] == x.shape[0], offset.shape[1] % (2 * parts) == 0,
      offset.shape[1] / (2 * parts) == kernel[0] * kernel[1],
      places == (0..<2).map({ window.count($0, of: sizes[$0]) })
    else { throw context.invalid("offsets \(offset.type) do not fit \(x.type)") }
    let taps = [places[0] * kernel[0], places[1] * kernel[1]]
    guard taps[0] * taps[1] <= 1 << 26 else { throw context.unsupported("an image of \(sizes)") }
    let images = x.shape[0] * parts

    // Places of the taps from -1 to 1, the last axis first.
    func unit(_ axis: Int) -> Float { 2 / Float(sizes[axis]) }
    var base: [Float] = []
    base.reserveCapacity(2 * taps[0] * taps[1])
    for row in 0..<taps[0] {
      for column in 0..<taps[1] {
        for axis in [1, 0] {
          let (place, tap) = (axis == 0 ? row : column).quotientAndRemainder(dividingBy: kernel[axis])
          let pixel = place * window.strides[axis] - window.before[axis] + tap * window.dilations[axis]
          base.append(Float((2 * Double(pixel) + 1) / Double(sizes[axis]) - 1))
        }
      }
    }
    var moves = try context.reshape(
      offset, [images, kernel[0], kernel[1], 2, places[0], places[1]], suffix: "offsets")
    moves = try context.transpose(moves, [0, 4, 1, 5, 2, 3], suffix: "windows")
    moves = try context.reshape(moves, [images] + taps + [2], suffix: "moves")
    let order = context.constant(
      Constant(type: TensorType(.int32, [2]), bytes: Bytes([Int32(1), 0])), suffix: "order")
    moves = try context.emit(Gather(axis: 3), [moves, order], suffix: "turned")
    let units = context.constant(Constant([unit(1), unit(0)], shape: [2]), suffix: "units")
    moves = try context.emit(ElementWiseMultiply(), [moves, units], suffix: "scaled")
    let grid = context.constant(Constant(base, shape: [1] + taps + [2]), suffix: "base")
    moves = try context.emit(ElementWiseAdd(), [moves, grid], suffix: "grid")

    let split = try context.reshape(x, [images, x.shape[1] / parts] + sizes, suffix: "split")
    let sampled = try context.emit(
      GridSample(), [try context.channelLast(split), moves], suffix: "sampled")
    var pixels = try context.channelFirst(sampled)
    if let mask = context.optional(4) {
      guard mask.shape == [x.shape[0], parts * kernel[0] * kernel[1]] + places else {
        throw context.invalid("the mask is \(mask.type)")
      }
      var factors = try context.reshape(mask, [images] + kernel + places, suffix: "masks")
      factors = try context.transpose(factors, [0, 3, 1, 4, 2], suffix: "mask_windows")
      factors = try context.reshape(factors, [images, 1] + taps, suffix: "factors")
      pixels = try context.emit(ElementWiseMultiply(), [pixels, factors], suffix: "masked")
    }
    pixels = try context.reshape(pixels, [x.shape[0], x.shape[1]] + taps, suffix: "joined")
    return [
      try context.nested(
        "Conv", [pixels, weight, context.optional(3)], output: context.node.outputs.first ?? context.name,
        attributes: [
          ONNXAttribute(name: "strides", value: .ints(kernel.map { Int64($0) })),
          ONNXAttribute(name: "group", value: .int(Int64(group))),
        ])
    ]
  }

  /// Sums of columns at their places: a transposed convolution whose filter for each tap has a 1 there.
  @Sendable private static func columnsToImage(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 3...3)
    guard let image = try context.integers(1, "the shape of the image"),
      let block = try context.integers(2, "the shape of a block")
    else { throw context.invalid("the shape of the image or of a block is missing") }
    let rank = image.count
    guard (1...3).contains(rank) else { throw context.unsupported("an image of \(rank) axes") }
    let ones = [Int](repeating: 1, count: rank)
    let strides = try context.sizes("strides", count: rank, from: 1) ?? ones
    let dilations = try context.sizes("dilations", count: rank, from: 1) ?? ones
    let pads = try context.sizes("pads", count: 2 * rank, from: 0) ?? (ones + ones).map { _ in 0 }
    let taps = block.reduce(1, &*)
    guard block.count == rank, block.allSatisfy({ (1...1024).contains($0) }), (1...4096).contains(taps),
      image.allSatisfy({ (1...TensorDecoder.sizeLimit).contains($0) }), x.shape[1] % taps == 0, x.shape[1] > 0
    else { throw context.invalid("blocks of \(block) do not fit \(x.type) and an image of \(image)") }
    var (windows, rest): ([Int], [Int]) = ([], [])
    for axis in 0..<rank {
      let room = image[axis] + pads[axis] + pads[rank + axis] - dilations[axis] * (block[axis] - 1) - 1
      guard room >= 0 else { throw context.invalid("a block of \(block) is larger than the image of \(image)") }
      windows.append(room / strides[axis] + 1)
      rest.append(room % strides[axis])
    }
    guard x.shape[2] == windows.reduce(1, &*) else {
      throw context.invalid("\(x.type) does not hold \(windows) blocks")
    }
    let channels = x.shape[1] / taps
    var filter = [Float](repeating: 0, count: channels * taps * taps)
    for channel in 0..<channels {
      for tap in 0..<taps { filter[(channel * taps + tap) * taps + tap] = 1 }
    }
    let weight = context.constant(Constant(filter, shape: [channels * taps, 1] + block), suffix: "taps")
    let columns = try context.reshape(x, [x.shape[0], x.shape[1]] + windows, suffix: "columns")
    func list(_ name: String, _ numbers: [Int]) -> ONNXAttribute {
      ONNXAttribute(name: name, value: .ints(numbers.map { Int64($0) }))
    }
    return [
      try context.nested(
        "ConvTranspose", [columns, weight], output: context.node.outputs.first ?? context.name,
        attributes: [
          list("strides", strides), list("dilations", dilations), list("pads", pads),
          list("output_padding", rest), ONNXAttribute(name: "group", value: .int(Int64(channels))),
        ])
    ]
  }

  /// Values back at the places where MaxPool found them, zeros elsewhere. Places count within the image that
  /// was pooled, where it is known, else within the one that the window's sizes tell; another shape that is
  /// asked for keeps their first corner.
  @Sendable private static func maxUnpool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 3...5)
    let places = try context.input(1, ranks: x.rank...x.rank)
    let rank = x.rank - 2
    guard let kernel = try context.sizes("kernel_shape", count: rank, from: 1), places.shape == x.shape else {
      throw context.invalid("kernel_shape is missing, or places \(places.type) do not fit \(x.type)")
    }
    let ones = [Int](repeating: 1, count: rank)
    let strides = try context.sizes("strides", count: rank, from: 1) ?? ones
    let pads = try context.sizes("pads", count: 2 * rank, from: 0) ?? (ones + ones).map { _ in 0 }
    var sizes = (0..<rank).map {
      (x.shape[$0 + 2] - 1) * strides[$0] + kernel[$0] - pads[$0] - pads[rank + $0]
    }
    let wanted = try context.integers(2, "the shape of the output")
    if let wanted {
      guard wanted.count == x.rank, wanted.allSatisfy({ (1...TensorDecoder.sizeLimit).contains($0) }),
        Array(wanted[..<2]) == Array(x.shape[..<2])
      else { throw context.invalid("an output of \(wanted) does not fit \(x.type)") }
      sizes = context.pooledSizes(places, rank) ?? sizes
    }
    let shape = Array(x.shape[..<2]) + sizes
    guard shape.allSatisfy({ $0 > 0 }) else { throw context.invalid("the output has sizes \(shape)") }
    let type = TensorType(x.type.element, shape)
    try GraphBuilder.check(type)
    let nothing = context.constant(Constant([Float(0)], shape: [1]), suffix: "zero")
    let empty = try context.emit(Expand(shape: [type.count]), [nothing], suffix: "empty")
    let flat = try context.reshape(places, [places.type.count], suffix: "places")
    let values = try context.reshape(x, [x.type.count], suffix: "values")
    let filled = try context.emit(ScatterElements(axis: 0), [empty, flat, values], suffix: "filled")
    var result = try context.reshape(filled, shape, suffix: "image")
    guard let wanted, wanted != shape else { return [result] }
    let least = zip(wanted, shape).map { min($0, $1) }
    if least != shape {
      let zeros = shape.map { _ in 0 }
      result = try context.emit(
        StridedSlice(begin: zeros, size: least, step: shape.map { _ in 1 }), [result], suffix: "cut")
    }
    guard least != wanted else { return [result] }
    let after = zip(wanted, least).flatMap { [0, $0 - $1] }
    return [try context.emit(Pad(padAmount: after), [result])]
  }

  @Sendable private static func maxRoiPool(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 4...4)
    let boxes = try context.input(1, ranks: 2...2)
    guard let size = try context.sizes("pooled_shape", count: 2, from: 1) else {
      throw context.invalid("pooled_shape is missing")
    }
    let op = MaxRoiPool(size: size, spatialScale: try context.float("spatial_scale") ?? 1)
    let result = try context.emit(
      op, [try context.channelLast(x), boxes], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }
}

extension NodeContext {
  /// Sizes of the image in which a MaxPool found the places; nil where they come from elsewhere.
  fileprivate func pooledSizes(_ places: Value, _ rank: Int) -> [Int]? {
    guard case .tensor(var id) = places.source else { return nil }
    while let node = builder.graph.nodes.last(where: { $0.outputs.contains(id) }), let source = node.inputs.first,
      let source
    {
      if node.op is PoolMaxIndices2d || node.op is PoolMaxIndices3d {
        return Array(builder.graph[source].type.shape.dropFirst().dropLast().suffix(rank))
      }
      guard node.op is Transpose || node.op is Reshape else { return nil }
      id = source
    }
    return nil
  }
}
