/// A permutation of axes that elements in memory are still to undergo: axis i of the result is axis
/// `order[i]` of the stored array of shape `shape`. Axes of size 1 are left out and those that stay side
/// by side are one, so that equal permutations of elements are equal values.
public struct PendingPermutation: Sendable, Hashable {
  /// Sizes of the stored array.
  public let shape: [Int]
  /// The stored axis of each axis of the result.
  public let order: [Int]

  /// The permutation of an array that has elements.
  public init(shape: [Int], order: [Int]) {
    var sizes: [Int] = []
    var place: [Int?] = []
    for size in shape {
      place.append(size == 1 ? nil : sizes.count)
      if size != 1 { sizes.append(size) }
    }
    let kept = order.compactMap { place[$0] }
    // Runs of stored axes that follow each other in the result too, by their first axis.
    var runs: [Range<Int>] = []
    for axis in kept {
      if let last = runs.last, last.upperBound == axis {
        runs[runs.count - 1] = last.lowerBound..<axis + 1
      } else {
        runs.append(axis..<axis + 1)
      }
    }
    let sorted = runs.sorted { $0.lowerBound < $1.lowerBound }
    self.shape = sorted.map { sizes[$0].reduce(1, *) }
    self.order = runs.map { run in sorted.firstIndex(of: run) ?? 0 }
  }

  /// Whether it moves nothing.
  public var isIdentity: Bool { order.count <= 1 }

  /// This permutation followed by that of the result, seen as an array of shape `view`, by `next`; nil
  /// where the axes of the view are no products of axes or of factors of axes.
  func permuted(_ next: [Int], of view: [Int]) -> PendingPermutation? {
    // Sizes of the parts of each stored axis, outermost first, and the parts that make each axis of the view.
    var parts = [[Int]](repeating: [], count: shape.count)
    var runs: [[(axis: Int, part: Int)]] = []
    var position = 0
    var left = 1
    for size in view {
      var run: [(axis: Int, part: Int)] = []
      var wanted = size
      while wanted > 1 {
        if left == 1 {
          guard position < order.count else { return nil }
          left = shape[order[position]]
          position += 1
        }
        let axis = order[position - 1]
        let part = left.isMultiple(of: wanted) ? wanted : left
        guard wanted.isMultiple(of: part) else { return nil }
        run.append((axis, parts[axis].count))
        parts[axis].append(part)
        left /= part
        wanted /= part
      }
      runs.append(run)
    }
    guard left == 1, position == order.count else { return nil }
    let starts = parts.indices.map { parts[..<$0].reduce(0) { $0 + $1.count } }
    return PendingPermutation(
      shape: Array(parts.joined()), order: next.flatMap { runs[$0].map { starts[$0.axis] + $0.part } })
  }

  /// Calls `body` with the permuted elements of `width` bytes, front to back, in pieces of about `size`
  /// bytes.
  func forEachBlock<Failure: Error>(
    _ source: Bytes, width: Int, size: Int,
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    let target = order.map { shape[$0] }
    let strides = denseStrides(shape)
    let steps = order.map { strides[$0] }
    let from = source.base
    let limit = max(size / width, 1)
    // A piece is a range of one axis, all of those behind it and one index of each in front.
    var cut = target.count - 1
    var inner = 1
    while cut > 0, inner * target[cut] <= limit {
      inner *= target[cut]
      cut -= 1
    }
    let rows = min(max(limit / inner, 1), target[cut])
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: rows * inner * width, alignment: 64)
    defer { buffer.deallocate() }
    var index = [Int](repeating: 0, count: cut)
    var offset = 0
    while true {
      for first in stride(from: 0, to: target[cut], by: rows) {
        let count = min(rows, target[cut] - first)
        transposeBox(
          from + (offset + first * steps[cut]) * width, steps: Array(steps[cut...]),
          shape: [count] + target[(cut + 1)...], width: width, into: buffer)
        try body(UnsafeRawBufferPointer(rebasing: buffer[..<(count * inner * width)]))
        // Where the first axis stays the first, what was read is a run too.
        if cut == 0, order[0] == 0 {
          source.discardPages(from: first * steps[0] * width, count: count * steps[0] * width)
        }
      }
      var axis = cut - 1
      while axis >= 0 {
        index[axis] += 1
        offset += steps[axis]
        if index[axis] < target[axis] { break }
        offset -= steps[axis] * target[axis]
        index[axis] = 0
        axis -= 1
      }
      if axis < 0 { return }
    }
  }
}

/// Copies a dense array with its axes permuted: axis i of the target is axis `permutation[i]` of the
/// source, whose sizes are `shape`; `width` is the bytes of an element.
public func transposeBytes(
  _ source: UnsafeRawBufferPointer, shape: [Int], permutation: [Int], width: Int,
  into target: UnsafeMutableRawBufferPointer
) {
  guard shape.allSatisfy({ $0 > 0 }), let from = source.baseAddress else { return }
  let simple = PendingPermutation(shape: shape, order: permutation)
  let strides = denseStrides(simple.shape)
  transposeBox(
    from, steps: simple.order.map { strides[$0] }, shape: simple.order.map { simple.shape[$0] }, width: width,
    into: target)
}

/// Fills `target`, dense with shape `shape`, from a source whose elements lie `steps` apart.
private func transposeBox(
  _ source: UnsafeRawPointer, steps: [Int], shape: [Int], width: Int, into target: UnsafeMutableRawBufferPointer
) {
  guard let to = target.baseAddress else { return }
  switch width {
  case 1: transposeBox(source, steps, shape, to.assumingMemoryBound(to: UInt8.self))
  case 2: transposeBox(source, steps, shape, to.assumingMemoryBound(to: UInt16.self))
  case 4: transposeBox(source, steps, shape, to.assumingMemoryBound(to: UInt32.self))
  case 8: transposeBox(source, steps, shape, to.assumingMemoryBound(to: UInt64.self))
  default: preconditionFailure("elements have 1, 2, 4 or 8 bytes")
  }
}

private func transposeBox<Element: FixedWidthInteger & BitwiseCopyable>(
  _ source: UnsafeRawPointer, _ steps: [Int], _ shape: [Int], _ target: UnsafeMutablePointer<Element>
) {
  let width = MemoryLayout<Element>.size
  guard let last = shape.indices.last else {
    target.pointee = source.loadUnaligned(as: Element.self)
    return
  }
  let rows = denseStrides(shape)
  // The axis along which the source is contiguous, if it is not the last.
  let fast = steps.dropLast().lastIndex(of: 1)
  let outer = shape.indices.filter { $0 != last && $0 != fast }
  let tile = 16
  var index = [Int](repeating: 0, count: outer.count)
  var (from, to) = (0, 0)
  while true {
    if steps[last] == 1 {
      UnsafeMutableRawPointer(target + to).copyMemory(from: source + from * width, byteCount: shape[last] * width)
    } else {
      let (columns, apart) = fast.map { (shape[$0], rows[$0]) } ?? (1, 0)
      for column in stride(from: 0, to: columns, by: tile) {
        let columnEnd = min(column + tile, columns)
        for row in stride(from: 0, to: shape[last], by: tile) {
          let rowEnd = min(row + tile, shape[last])
          for place in column..<columnEnd {
            let line = target + (to + place * apart)
            var read = source + (from + place + row * steps[last]) * width
            for step in row..<rowEnd {
              line[step] = read.loadUnaligned(as: Element.self)
              read += steps[last] * width
            }
          }
        }
      }
    }
    var position = outer.count - 1
    while position >= 0 {
      let axis = outer[position]
      index[position] += 1
      from += steps[axis]
      to += rows[axis]
      if index[position] < shape[axis] { break }
      from -= steps[axis] * shape[axis]
      to -= rows[axis] * shape[axis]
      index[position] = 0
      position -= 1
    }
    if position < 0 { return }
  }
}
