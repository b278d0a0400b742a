import IR
import Operators

/// The weight of a layer seen as matrices: for each group, rows (outputs) times depth (what a row adds
/// up).
struct WeightMatrix: Sendable {
  /// Groups; each has its own inputs.
  let groups: Int
  /// Rows of one group.
  let rows: Int
  /// Length of a row.
  let depth: Int
  /// Whether the stored weight has all rows of an element of depth side by side.
  private let isDepthMajor: Bool
  private let shape: [Int]
  /// Parts that rows are cut into, each a group of its own, and the length of a row before that.
  let parts: Int
  private let wholeDepth: Int

  /// Rows of all groups.
  var rowCount: Int { groups * rows }
  /// Elements, with those that fill up the last part of a row.
  var count: Int { rowCount * depth }

  /// The view of a weight, nil where an operator is none of convolutions, plain, depthwise or transposed,
  /// FullyConnected, MatMul with a matrix, and recurrences. `states`: the weight is a recurrence's for its own states.
  init?(_ op: any Operator, weight shape: [Int], input: [Int], states: Bool = false) {
    self.shape = shape
    parts = 1
    switch op {
    case let op as any WindowedProduct:
      guard shape.count > 2, op.group > 0 else { return nil }
      (groups, rows) = (op.group, shape[shape.count - 1] / op.group)
      depth = shape.dropLast().reduce(1, *)
      isDepthMajor = true
    case is DepthWiseConv2d:
      guard shape.count == 4, input.count == 4, input[3] > 0 else { return nil }
      (groups, rows) = (input[3], shape[3] / input[3])
      depth = shape[0] * shape[1]
      isDepthMajor = true
    case is FullyConnected:
      guard shape.count == 2 else { return nil }
      (groups, rows, depth) = (1, shape[0], shape[1])
      isDepthMajor = false
    case let op as MatMul:
      guard shape.count == 2, !op.transposeIn0 else { return nil }
      groups = 1
      (rows, depth) = op.transposeIn1 ? (shape[0], shape[1]) : (shape[1], shape[0])
      isDepthMajor = !op.transposeIn1
    case let op as any RecurrentProduct:
      guard shape.count == 3, !states || op.readsStatesAsTheyAre else { return nil }
      // Every direction reads all inputs, and the states of its own.
      (groups, rows) = states ? (shape[0], shape[1]) : (1, shape[0] * shape[1])
      depth = shape[2]
      isDepthMajor = false
    default: return nil
    }
    wholeDepth = depth
    if rows <= 0 || depth <= 0 { return nil }
  }

  private init(_ whole: WeightMatrix, parts: Int) {
    (shape, isDepthMajor, wholeDepth, rows) = (whole.shape, whole.isDepthMajor, whole.depth, whole.rows)
    self.parts = parts
    groups = whole.groups * parts
    depth = (whole.depth + parts - 1) / parts
  }

  /// The same with rows cut into equal parts of at most `limit` elements, each a group: [group][part][row][depth].
  /// What is missing of a row's last part repeats an element.
  func cut(_ limit: Int) -> WeightMatrix {
    depth > limit && parts == 1 ? WeightMatrix(self, parts: (depth + limit - 1) / limit) : self
  }

  /// Calls `body` with every place in a cut order and its element's place in storage; `isFilling` where it
  /// stands for no element of its own.
  private func forEachOfParts(_ body: (_ place: Int, _ stored: Int, _ isFilling: Bool) -> Void) {
    let columns = groups / parts * rows
    var place = 0
    for group in 0..<groups {
      let first = group % parts * depth
      for row in 0..<rows {
        let whole = group / parts * rows + row
        for k in first..<first + depth {
          let isFilling = k >= wholeDepth
          let element = isFilling ? first : k
          body(place, isDepthMajor ? element * columns + whole : whole * wholeDepth + element, isFilling)
          place += 1
        }
      }
    }
  }

  /// Stored elements in the order [group][row][depth].
  func arranged<Element>(_ stored: [Element]) -> [Element] {
    if parts > 1, let first = stored.first {
      var result = [Element](repeating: first, count: count)
      forEachOfParts { place, from, _ in result[place] = stored[from] }
      return result
    }
    guard isDepthMajor else { return stored }
    var result = stored
    let columns = rowCount
    for row in 0..<columns {
      for k in 0..<depth { result[row * depth + k] = stored[k * columns + row] }
    }
    return result
  }

  /// Elements in the order [group][row][depth] as they are stored.
  func stored<Element>(_ arranged: [Element]) -> [Element] {
    if parts > 1, let first = arranged.first {
      var result = [Element](repeating: first, count: groups / parts * rows * wholeDepth)
      forEachOfParts { place, to, isFilling in
        if !isFilling { result[to] = arranged[place] }
      }
      return result
    }
    guard isDepthMajor else { return arranged }
    var result = arranged
    let columns = rowCount
    for row in 0..<columns {
      for k in 0..<depth { result[k * columns + row] = arranged[row * depth + k] }
    }
    return result
  }

  /// For every element in the order [group][row][depth] the index of its grid in an encoding.
  func grids(of encoding: Encoding) -> [Int32] {
    var stored = [Int32](repeating: 0, count: groups / parts * rows * wholeDepth)
    encoding.forEachChannelRun(shape: shape) { channel, start, length in
      for index in start..<(start + length) { stored[index] = Int32(truncatingIfNeeded: channel) }
    }
    return arranged(stored)
  }
}

/// What a layer's rows are multiplied by: the values under its window at each position.
struct Patches: Sendable {
  /// Positions of one sample.
  let positions: Int
  private(set) var groups: Int
  private(set) var depth: Int
  private let source: Source
  /// Parts that rows are cut into, and the length of a row before that.
  private var parts = 1
  private let wholeDepth: Int

  private enum Source: Sendable {
    /// Rows of the input as they stand.
    case rows
    /// States of a recurrence, [T, D, N, H]: a group a direction.
    case states(batch: Int)
    case window(Window)
  }

  /// A window over a volume; sizes are those of three axes.
  private struct Window: Sendable {
    var geometry: WindowGeometry
    var input: [Int]
    var output: [Int]
    var channels: Int
    var perGroup: Int
    /// Whether the window walks over the output.
    var isTransposed: Bool
  }

  /// The patches of a layer, nil where ``WeightMatrix`` has none.
  init?(_ op: any Operator, weight: [Int], input: [Int], output: [Int], states: Bool = false) {
    guard let matrix = WeightMatrix(op, weight: weight, input: input, states: states) else { return nil }
    groups = matrix.groups
    depth = matrix.depth
    wholeDepth = matrix.depth
    let (geometry, isTransposed): (WindowGeometry, Bool)
    switch op {
    case let op as any WindowedProduct: (geometry, isTransposed) = (op.geometry(weight: weight), op.isTransposed)
    case let op as DepthWiseConv2d:
      (geometry, isTransposed) = (op.grouped(channels: input[3]).geometry(weight: weight), false)
    case is any RecurrentProduct where states:
      guard input.count == 4 else { return nil }
      source = .states(batch: input[2])
      positions = input[0] * input[2]
      return
    default:
      source = .rows
      positions = input.dropLast().reduce(1, *)
      return
    }
    guard input.count == weight.count, output.count == weight.count else { return nil }
    source = .window(
      Window(
        geometry: geometry.inThreeAxes, input: inThreeAxes(input), output: inThreeAxes(output),
        channels: input[input.count - 1], perGroup: weight[weight.count - 2], isTransposed: isTransposed))
    positions = output.dropLast().reduce(1, *)
  }

  /// The same with rows cut as those of a matrix are, filled up with zeros.
  func cut(like matrix: WeightMatrix) -> Patches {
    guard matrix.parts > 1 else { return self }
    var result = self
    (result.groups, result.depth, result.parts) = (matrix.groups, matrix.depth, matrix.parts)
    return result
  }

  /// Writes the patches of some positions and one group: [positions.count, depth].
  func gather(
    _ input: UnsafePointer<Float>, positions chosen: some Collection<Int>, group: Int,
    into target: UnsafeMutablePointer<Float>
  ) {
    guard parts == 1 else { return gatherParts(input, positions: chosen, group: group, into: target) }
    for (row, position) in chosen.enumerated() {
      gather(input, position: position, groups: group..<group + 1, into: target + row * depth, groupStride: 0)
    }
  }

  private func gatherParts(
    _ input: UnsafePointer<Float>, positions chosen: some Collection<Int>, group: Int,
    into target: UnsafeMutablePointer<Float>
  ) {
    var whole = self
    (whole.groups, whole.depth, whole.parts) = (groups / parts, wholeDepth, 1)
    let row = SharedFloats(count: wholeDepth)
    let first = group % parts * depth
    let count = min(depth, wholeDepth - first)
    var to = target
    for position in chosen {
      whole.gather(
        input, position: position, groups: group / parts..<group / parts + 1, into: row.base, groupStride: 0)
      to.initialize(from: row.base + first, count: count)
      (to + count).initialize(repeating: 0, count: depth - count)
      to += depth
    }
  }

  /// Copies the `depth` inputs that some groups have at one position to `target`, the next group's
  /// `groupStride` floats behind.
  @inline(__always)
  func gather(
    _ input: UnsafePointer<Float>, position: Int, groups: Range<Int>, into target: UnsafeMutablePointer<Float>,
    groupStride: Int
  ) {
    switch source {
    case .rows:
      target.initialize(from: input + position * depth, count: depth)
    case .states(let batch):
      for (place, group) in groups.enumerated() {
        let row = (position / batch * self.groups + group) * batch + position % batch
        (target + place * groupStride).initialize(from: input + row * depth, count: depth)
      }
    case .window(let window):
      let (channels, perGroup) = (window.channels, window.perGroup)
      let first = groups.lowerBound * perGroup
      var to = target
      forEachTap(position) { pixel in
        if perGroup == 1 {
          let from = input + (pixel ?? 0) * channels + first
          for g in 0..<groups.count { to[g * groupStride] = pixel == nil ? 0 : from[g] }
        } else {
          for g in 0..<groups.count {
            let place = to + g * groupStride
            if let pixel {
              place.initialize(from: input + pixel * channels + first + g * perGroup, count: perGroup)
            } else {
              place.initialize(repeating: 0, count: perGroup)
            }
          }
        }
        to += perGroup
      }
    }
  }

  /// Calls `body` with the input pixel under each place of the window at a position, nil outside and, of a
  /// transposed convolution, between the input's pixels.
  @inline(__always)
  private func forEachTap(_ position: Int, _ body: (_ pixel: Int?) -> Void) {
    guard case .window(let window) = source else { return }
    let (geometry, input, output) = (window.geometry, window.input, window.output)
    /// The place along an axis that a tap reads.
    func place(_ axis: Int, _ out: Int, _ tap: Int) -> Int? {
      let (stride, step, pad) = (geometry.stride[axis], tap * geometry.dilation[axis], geometry.pads[2 * axis])
      var found = out * stride + step - pad
      if window.isTransposed {
        let start = out + pad - step
        guard start >= 0, start % stride == 0 else { return nil }
        found = start / stride
      }
      return found >= 0 && found < input[axis + 1] ? found : nil
    }
    let (ox, oy, oz) = (
      position % output[3], position / output[3] % output[2], position / (output[3] * output[2]) % output[1]
    )
    let image = position / (output[1] * output[2] * output[3])
    for kz in 0..<geometry.filter[0] {
      let z = place(0, oz, kz).map { (image * input[1] + $0) * input[2] }
      for ky in 0..<geometry.filter[1] {
        var line: Int?
        if let z, let y = place(1, oy, ky) { line = (z + y) * input[3] }
        for kx in 0..<geometry.filter[2] {
          if let line, let x = place(2, ox, kx) { body(line + x) } else { body(nil) }
        }
      }
    }
  }

  /// Whether each group reads one channel, and there are several.
  var isChannelwise: Bool {
    if case .window(let window) = source { return window.perGroup == 1 && window.channels > 1 && parts == 1 }
    return false
  }

  /// Where ``isChannelwise``: the inputs of all groups at a position, [depth][group].
  func channels(_ input: UnsafePointer<Float>, position: Int, into target: UnsafeMutablePointer<Float>) {
    guard case .window(let window) = source else { return }
    let channels = window.channels
    var to = target
    forEachTap(position) { pixel in
      if let pixel {
        to.update(from: input + pixel * channels, count: channels)
      } else {
        to.update(repeating: 0, count: channels)
      }
      to += channels
    }
  }

  /// About `wanted` different positions, spread evenly with a jitter, in order.
  func chosen(_ wanted: Int, _ generator: inout SeededGenerator) -> [Int] {
    guard wanted < positions else { return Array(0..<positions) }
    return (0..<max(wanted, 1)).map { index in
      let share = (Double(index) + generator.unit()) / Double(max(wanted, 1))
      return min(Int(share * Double(positions)), positions - 1)
    }
  }
}

/// An operator whose outputs are sums of products over a window, weight [K..., C / group, M].
private protocol WindowedProduct: Operator {
  var group: Int { get }
  /// Whether the window walks over the output.
  var isTransposed: Bool { get }
  func geometry(weight: [Int]) -> WindowGeometry
}

extension Convolution: WindowedProduct {
  fileprivate var isTransposed: Bool { false }
}

extension TransposeConvolution: WindowedProduct {
  fileprivate var isTransposed: Bool { true }
}

/// A recurrence, whose gates are sums of products of inputs and of states.
private protocol RecurrentProduct: Operator {
  /// Whether all products of states are of the states themselves: a Gru may let its reset gate act on them first.
  var readsStatesAsTheyAre: Bool { get }
}

extension Recurrence: RecurrentProduct {
  fileprivate var readsStatesAsTheyAre: Bool { !(self is Gru) || linearBeforeReset }
}
