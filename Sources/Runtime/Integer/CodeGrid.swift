import IR

/// The grid of a tensor whose codes are held as bytes, or as words of 16 bits where it has more than 8: always the
/// unsigned code, whatever the container stores (a signed one is 128 or 32768 less), so that every kernel knows one
/// kind of each.
struct CodeGrid: Sendable, Hashable {
  /// Step between neighbouring codes.
  let scale: Float
  /// The code of zero, 0 to 255 or 65535.
  let zeroPoint: Int
  /// Lowest and highest code in use.
  let low: Int
  let high: Int
  /// Whether codes are words.
  let isWide: Bool

  /// The type that codes are held in.
  var element: DataType { isWide ? .uint16 : .uint8 }

  /// The grid of an encoding; nil where it has more than 16 bits, a grid a channel, or a zero that no code
  /// can hold.
  init?(_ encoding: Encoding) {
    guard encoding.bitwidth <= 16, encoding.axis == nil, encoding.blocks == nil,
      encoding.channels.count == 1
    else { return nil }
    let grid = encoding.channels[0]
    isWide = encoding.bitwidth > 8
    guard (isWide ? -65535...0 : -255...0).contains(grid.offset) else { return nil }
    scale = grid.scale
    zeroPoint = -Int(grid.offset)
    low = encoding.codeMin
    high = encoding.codeMax
  }

  /// The nearest code: clamp(rint(value / scale) + zeroPoint, low, high).
  func wholeCode(_ value: Float) -> Int {
    ScaleOffset(scale: scale, offset: Int32(-zeroPoint)).quantize(value, codeMin: low, codeMax: high)
  }

  /// The same of a grid of bytes.
  func code(_ value: Float) -> UInt8 { UInt8(truncatingIfNeeded: wholeCode(value)) }

  /// The real value of a code.
  func value(_ code: Int) -> Float { Float(code - zeroPoint) * scale }

  /// A number of steps from zero as a code: half to even, clamped to `bounds`; NaN gives the lower one.
  func wholeCode(steps: Float, in bounds: ClosedRange<Int>) -> Int {
    let (low, high) = (Float(bounds.lowerBound), Float(bounds.upperBound))
    let rounded = (steps + Float(zeroPoint)).rounded(.toNearestOrEven)
    let raised = rounded > low ? rounded : low
    return Int(raised < high ? raised : high)
  }

  /// The same of a grid of bytes.
  func code(steps: Float, in bounds: ClosedRange<Int>) -> UInt8 { UInt8(wholeCode(steps: steps, in: bounds)) }

  /// All codes in use.
  var range: ClosedRange<Int> { low...high }
}

/// A clamp of real values, expressed in the codes of the grid that follows. As clamping and rounding are
/// both monotone, clamping before rounding, as an activation does, gives the same codes.
struct CodeClamp: Sendable, Hashable {
  /// Lowest and highest code.
  private(set) var range: ClosedRange<Int>

  /// The codes in use of a grid.
  init(_ grid: CodeGrid) { range = grid.range }

  /// Narrows the codes to those of real values from `low` to `high`; NaN means no bound.
  mutating func clamp(_ low: Float, _ high: Float, on grid: CodeGrid) {
    let first = low.isNaN ? grid.low : grid.wholeCode(steps: low / grid.scale, in: grid.range)
    let last = high.isNaN ? grid.high : grid.wholeCode(steps: high / grid.scale, in: grid.range)
    // Where bounds cross the upper one wins, as in ReluMinMax.
    range = min(max(range.lowerBound, first), last)...min(max(range.upperBound, first), last)
  }
}
