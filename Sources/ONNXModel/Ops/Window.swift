import IR

/// The window of a convolution or pool as ONNX gives it, with all padding resolved.
struct Window {
  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  /// Padding before and after, by axis.
  var before: [Int]
  var after: [Int]

  /// Reads strides, dilations, pads and auto_pad of a node for an input of spatial sizes `sizes`.
  init(_ context: NodeContext, kernel: [Int], sizes: [Int]) throws(Diagnostic) {
    let rank = sizes.count
    guard kernel.count == rank, kernel.allSatisfy({ $0 > 0 && $0 <= TensorDecoder.sizeLimit })
    else {
      throw context.invalid("kernel shape \(kernel) does not fit \(rank) spatial axes")
    }
    let ones = [Int](repeating: 1, count: rank)
    self.kernel = kernel
    strides = try context.sizes("strides", count: rank, from: 1) ?? ones
    dilations = try context.sizes("dilations", count: rank, from: 1) ?? ones
    let pads =
      try context.sizes("pads", count: 2 * rank, from: 0) ?? [Int](repeating: 0, count: 2 * rank)
    before = Array(pads[..<rank])
    after = Array(pads[rank...])
    let mode = try context.string("auto_pad") ?? "NOTSET"
    switch mode {
    case "NOTSET", "": break
    case "VALID":
      before = before.map { _ in 0 }
      after = before
    case "SAME_UPPER", "SAME_LOWER":
      for axis in 0..<rank {
        let (input, stride) = (sizes[axis], strides[axis])
        let outputs = input > 0 ? (input - 1) / stride + 1 : 0
        let total = max(0, (outputs - 1) * stride + reach(axis) - input)
        before[axis] = mode == "SAME_UPPER" ? total / 2 : total - total / 2
        after[axis] = total - before[axis]
      }
    default: throw context.invalid("auto_pad is \(mode)")
    }
  }

  /// Input positions that the dilated window spans along an axis.
  func reach(_ axis: Int) -> Int { (kernel[axis] - 1) * dilations[axis] + 1 }

  /// Number of windows along an axis of that size.
  func count(_ axis: Int, of size: Int) -> Int {
    let room = size + before[axis] + after[axis] - reach(axis)
    return room < 0 ? 0 : room / strides[axis] + 1
  }

  /// Extra padding after each axis so that rounding the number of windows down gives what rounding
  /// it up, without windows that start in the padding after, would give.
  func ceilingPads(_ sizes: [Int]) -> [Int] {
    sizes.indices.map { axis in
      let padded = sizes[axis] + before[axis] + after[axis]
      let (span, stride) = (padded - reach(axis), strides[axis])
      guard span >= 0 else { return 0 }
      var steps = span / stride + (span % stride == 0 ? 0 : 1)
      if steps * stride >= sizes[axis] + before[axis] { steps -= 1 }
      return max(0, steps * stride - span)
    }
  }

  /// The same window for images one pixel high, where there is one spatial axis.
  var inTwoDimensions: Window {
    guard kernel.count == 1 else { return self }
    var copy = self
    copy.kernel.insert(1, at: 0)
    copy.strides.insert(1, at: 0)
    copy.dilations.insert(1, at: 0)
    copy.before.insert(0, at: 0)
    copy.after.insert(0, at: 0)
    return copy
  }

  /// [before, after] of each axis, flat.
  var padAmount: [Int] { zip(before, after).flatMap { [$0, $1] } }
}

extension NodeContext {
  /// Weights of rank 3 to 5 for images or volumes (rank 3: one pixel high).
  func images(_ value: Value) throws(Diagnostic) -> Value {
    try requireSpatial(value)
    guard value.rank == 3 else { return value }
    return try reshape(
      value, [value.shape[0], value.shape[1], 1, value.shape[2]], suffix: "image")
  }

  /// Throws unless an input has one to three spatial axes.
  func requireSpatial(_ value: Value) throws(Diagnostic) {
    guard value.rank >= 3 else { throw invalid("the input has rank \(value.rank)") }
    guard value.rank <= 5 else {
      throw unsupported("an input with \(value.rank - 2) spatial axes")
    }
  }

  /// An input with one to three spatial axes, channel-last; one axis becomes an image one pixel high.
  func pixels(_ value: Value) throws(Diagnostic) -> Value {
    try requireSpatial(value)
    let last = try channelLast(value)
    guard value.rank == 3 else { return last }
    return try reshape(last, [last.shape[0], 1, last.shape[1], last.shape[2]], suffix: "image")
  }

  /// What was made of ``pixels(_:)`` back in the rank and layout they came from.
  func fromPixels(_ value: Value, rank: Int) throws(Diagnostic) -> Value {
    guard rank == 3 else { return try channelFirst(value) }
    let line = try reshape(
      value, [value.shape[0], value.shape[2], value.shape[3]], suffix: "line")
    return try channelFirst(line)
  }
}
