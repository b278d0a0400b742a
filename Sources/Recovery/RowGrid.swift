import IR

/// The grids of the elements of a layer's rows: `real = z * scale`, z a whole number within limits.
struct RowGrids: Sendable {
  /// Scale of every element, [row][depth].
  var scales: [Float]
  /// Least and largest z of every element's grid, by grid.
  var low: [Float]
  var high: [Float]
  /// Grid of every element.
  let grids: [Int32]

  init(_ encoding: Encoding, _ matrix: WeightMatrix) {
    grids = matrix.grids(of: encoding)
    low = encoding.channels.map { Float(encoding.codeMin + Int($0.offset)) }
    high = encoding.channels.map { Float(encoding.codeMax + Int($0.offset)) }
    scales = grids.map { encoding.channels[Int($0)].scale }
  }

  /// The nearest whole number of steps of an element.
  @inline(__always)
  func nearest(_ value: Float, _ index: Int) -> Float {
    let grid = Int(grids[index])
    return min(max((value / scales[index]).rounded(.toNearestOrEven), low[grid]), high[grid])
  }
}
