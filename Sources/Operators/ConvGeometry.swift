import IR

/// How many spatial axes an operator with a window has.
public protocol SpatialAxes: Sendable {
  /// Number of spatial axes.
  static var count: Int { get }
  /// End of QNN's operator names.
  static var suffix: String { get }
}

extension SpatialAxes {
  /// A 1 for each axis.
  public static var ones: [Int] { [Int](repeating: 1, count: count) }
  /// Padding of nothing.
  public static var noPads: [Int] { [Int](repeating: 0, count: 2 * count) }
}

/// Images: [N, H, W, C].
public enum TwoAxes: SpatialAxes {
  public static let count = 2
  public static let suffix = "2d"
}
/// Volumes: [N, D, H, W, C].
public enum ThreeAxes: SpatialAxes {
  public static let count = 3
  public static let suffix = "3d"
}

/// What convolutions and pools share: window, stride, dilation and padding of each spatial axis.
public struct WindowGeometry: Sendable, Hashable {
  /// Window size per spatial axis.
  public var filter: [Int]
  public var stride: [Int]
  public var dilation: [Int]
  /// `[before, after]` of the first spatial axis, then of the next, flat.
  public var pads: [Int]

  /// A window of one position, over `rank` axes.
  public static func point(rank: Int) -> WindowGeometry {
    let ones = [Int](repeating: 1, count: rank)
    return WindowGeometry(filter: ones, stride: ones, dilation: ones, pads: [Int](repeating: 0, count: 2 * rank))
  }

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

extension WindowGeometry {
  /// The same window over volumes: images are volumes of depth 1.
  public var inThreeAxes: WindowGeometry {
    let missing = 3 - filter.count
    let ones = [Int](repeating: 1, count: missing)
    let zeros = [Int](repeating: 0, count: 2 * missing)
    return WindowGeometry(
      filter: ones + filter, stride: ones + stride, dilation: ones + dilation, pads: zeros + pads)
  }
}

/// A channel-last shape with three spatial axes.
public func inThreeAxes(_ shape: [Int]) -> [Int] {
  let ones = [Int](repeating: 1, count: 5 - shape.count)
  return Array(shape.prefix(1)) + ones + Array(shape.dropFirst())
}

/// The taps of a window that lie on an axis of `size` places, where tap 0 of `count` lies on place `start`
/// and each further one `step` behind.
@inlinable @inline(__always)
public func taps(_ start: Int, _ step: Int, _ count: Int, _ size: Int) -> Range<Int> {
  // Inside of the volume all of them, without a division.
  if start >= 0, start + (count - 1) * step < size { return 0..<count }
  let end = start >= size ? 0 : min(count, (size - 1 - start) / step + 1)
  let first = start >= 0 ? 0 : (-start + step - 1) / step
  return first..<max(first, end)
}

/// Walks the windows over a volume: `start` gets the number of each output pixel, then `tap` that number,
/// the number of an input pixel in its window, and the place of that pixel in the window. Shapes are
/// [N, D, H, W, C].
@inlinable @inline(__always)
public func forEachTap(
  _ input: [Int], _ output: [Int], _ geometry: WindowGeometry, start: (Int) -> Void,
  tap: (Int, Int, Int) -> Void
) {
  // Without channels there is nothing to do, for however many pixels.
  guard output[4] > 0 else { return }
  let (depth, height, width) = (input[1], input[2], input[3])
  let (stride, dilation, pads, filter) =
    (geometry.stride, geometry.dilation, geometry.pads, geometry.filter)
  var position = 0
  for n in 0..<output[0] {
    for oz in 0..<output[1] {
      for oy in 0..<output[2] {
        for ox in 0..<output[3] {
          start(position)
          for kz in taps(oz * stride[0] - pads[0], dilation[0], filter[0], depth) {
            let iz = oz * stride[0] + kz * dilation[0] - pads[0]
            for ky in taps(oy * stride[1] - pads[2], dilation[1], filter[1], height) {
              let iy = oy * stride[1] + ky * dilation[1] - pads[2]
              for kx in taps(ox * stride[2] - pads[4], dilation[2], filter[2], width) {
                let ix = ox * stride[2] + kx * dilation[2] - pads[4]
                tap(
                  position, ((n * depth + iz) * height + iy) * width + ix,
                  (kz * filter[1] + ky) * filter[2] + kx)
              }
            }
          }
          position += 1
        }
      }
    }
  }
}
