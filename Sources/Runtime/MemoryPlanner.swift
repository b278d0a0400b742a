/// A run of bytes that is needed from one step to another, both included.
struct PlannedBuffer: Sendable {
  var byteCount: Int
  var firstStep: Int
  var lastStep: Int
  /// Place in the arena.
  var offset = 0
}

/// Gives every buffer a place so that no two that are needed in the same step overlap; large ones
/// first, each into the smallest gap that holds it. Places are multiples of 64.
///
/// - Returns: bytes of the whole arena, or nil where they exceed an `Int`.
func layOut(_ buffers: inout [PlannedBuffer]) -> Int? {
  let order = buffers.indices.sorted {
    (buffers[$0].byteCount, $1) > (buffers[$1].byteCount, $0)
  }
  var placed: [Int] = []  // in the order of their offsets
  var total = 0
  for index in order {
    let (padded, overflow) = buffers[index].byteCount.addingReportingOverflow(63)
    if overflow { return nil }
    let size = padded & ~63
    var best: (offset: Int, gap: Int)?
    var end = 0
    for other in placed {
      let neighbour = buffers[other]
      guard
        neighbour.firstStep <= buffers[index].lastStep
          && buffers[index].firstStep <= neighbour.lastStep
      else { continue }
      let gap = neighbour.offset - end
      if gap >= size && gap < best?.gap ?? .max { best = (end, gap) }
      end = max(end, neighbour.offset + (neighbour.byteCount + 63) & ~63)
    }
    let offset = best?.offset ?? end
    let (limit, overflow2) = offset.addingReportingOverflow(size)
    if overflow2 { return nil }
    buffers[index].offset = offset
    total = max(total, limit)
    let position = placed.firstIndex { buffers[$0].offset > offset } ?? placed.count
    placed.insert(index, at: position)
  }
  return total
}
