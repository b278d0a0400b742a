import IR

/// What convolutions and pools share: window, stride, dilation and padding of each spatial axis.
public struct WindowGeometry: Sendable, Hashable {
  /// Window size per spatial axis.
  public var filter: [Int]
  public var stride: [Int]
  public var dilation: [Int]
  /// `[before, after]` of the first spatial axis, then of the next, flat.
  public var pads: [Int]

  /// Sizes of the output's spatial axes for an input's; throws where the window does not fit.
  public func outputSizes(_ input: [Int]) throws(Diagnostic) -> [Int] {
    let rank = filter.count
    try check(
      stride.count == rank && dilation.count == rank && pads.count == 2 * rank
        && input.count == rank,
      "stride \(stride), dilation \(dilation), pads \(pads) do not match \(rank) spatial axes")
    try check(
      stride.allSatisfy { $0 > 0 } && dilation.allSatisfy { $0 > 0 } && filter.allSatisfy { $0 > 0 }
        && pads.allSatisfy { $0 >= 0 },
      "stride, dilation and window must be positive, padding not negative")
    var sizes: [Int] = []
    for axis in 0..<rank {
      let limit = 1 << 31
      try check(
        filter[axis] < limit && dilation[axis] < limit && pads[2 * axis] < limit
          && pads[2 * axis + 1] < limit && input[axis] < limit, "sizes over 2^31")
      let reach = dilation[axis] * (filter[axis] - 1) + 1
      let padded = input[axis] + pads[2 * axis] + pads[2 * axis + 1]
      try check(padded >= reach, "window \(reach) does not fit the padded size \(padded)")
      sizes.append((padded - reach) / stride[axis] + 1)
    }
    return sizes
  }
}
