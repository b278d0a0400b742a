import IR

/// The grid of a tensor whose codes are held as bytes: always the unsigned code, whatever the container
/// stores (a signed one is 128 less), so that every kernel knows one kind of byte.
struct ByteGrid: Sendable, Hashable {
  /// Step between neighbouring codes.
  let scale: Float
  /// The code of zero, 0 to 255.
  let zeroPoint: Int
  /// Lowest and highest code in use.
  let low: Int
  let high: Int

  /// The grid of an encoding; nil where it has more than 8 bits, a grid a channel, or a zero that no byte
  /// can hold.
  init?(_ encoding: Encoding) {
    guard encoding.bitwidth <= 8, encoding.axis == nil, encoding.blocks == nil,
      encoding.channels.count == 1
    else { return nil }
    let grid = encoding.channels[0]
    guard (-255...0).contains(grid.offset) else { return nil }
    scale = grid.scale
    zeroPoint = -Int(grid.offset)
    low = encoding.codeMin
    high = encoding.codeMax
  }

  /// The nearest code: clamp(rint(value / scale) + zeroPoint, low, high).
  func code(_ value: Float) -> UInt8 {
    let grid = ScaleOffset(scale: scale, offset: Int32(-zeroPoint))
    return UInt8(truncatingIfNeeded: grid.quantize(value, codeMin: low, codeMax: high))
  }

  /// The real value of a code.
  func value(_ code: Int) -> Float { Float(code - zeroPoint) * scale }

  /// A number of steps from zero as a code: half to even, clamped to `bounds`; NaN gives the lower one.
  func code(steps: Float, in bounds: ClosedRange<Int>) -> UInt8 {
    let (low, high) = (Float(bounds.lowerBound), Float(bounds.upperBound))
    let rounded = (steps + Float(zeroPoint)).rounded(.toNearestOrEven)
    let raised = rounded > low ? rounded : low
    return UInt8(raised < high ? raised : high)
  }

  /// All codes in use.
  var range: ClosedRange<Int> { low...high }
}

/// A clamp of real values, expressed in the codes of the grid that follows. As clamping and rounding are
/// both monotone, clamping before rounding, as an activation does, gives the same codes.
struct CodeClamp: Sendable, Hashable {
  /// Lowest and highest code.
  private(set) var range: ClosedRange<Int>

  /// The codes in use of a grid.
  init(_ grid: ByteGrid) { range = grid.range }

  /// Narrows the codes to those of real values from `low` to `high`; NaN means no bound.
  mutating func clamp(_ low: Float, _ high: Float, on grid: ByteGrid) {
    let first = low.isNaN ? grid.low : Int(grid.code(steps: low / grid.scale, in: grid.range))
    let last = high.isNaN ? grid.high : Int(grid.code(steps: high / grid.scale, in: grid.range))
    // Where bounds cross the upper one wins, as in ReluMinMax.
    range = min(max(range.lowerBound, first), last)...min(max(range.upperBound, first), last)
  }
}
