import IR

/// The grid of a channel that is given by its range and perhaps by scale and offset too: the range
/// wins. Source: QNN's converter, which recomputes; files carry offsets of both signs.
struct RangeRules {
  /// Least width of a range that is not confirmed by a scale.
  static let minimumRange = 0.0001
  /// How far scale and offset may be from the range without a warning.
  static let tolerance = 1e-3
  /// How near the scale of the file must be to be taken as it is, digits that printing lost included.
  static let sameScale = 1e-6

  let rules: GridRules

  /// A grid and what there is to say about it.
  struct Result {
    var grid: ScaleOffset
    /// Declared symmetric, and the range reaches equally far to both sides.
    var strict = false
    var disagreement: String?
  }

  /// The grid of a range.
  func grid(
    min: Double, max: Double, symmetric: Bool, scale: Double?, offset: Double?
  ) throws(Diagnostic) -> Result {
    let fields = rules.fields
    guard min <= max else {
      throw fields.failure("min \(min) is above max \(max)", "min")
    }
    guard Float(min).isFinite, Float(max).isFinite else {
      throw fields.failure("the range \(min) to \(max) does not fit 32-bit numbers", "min")
    }
    // A strict range lacks one step at its lower end: at many bits that is less than printing loses.
    let even = max / Double(rules.half - 1)
    if symmetric, max > 0, abs(min + max) <= Swift.min(Self.sameScale * max, even / 4) {
      return try settled(
        step: even, zero: Double(rules.half), written: [rules.half, rules.half - 1], strict: true,
        low: min, width: max - min, scale, offset)
    }
    let low = Swift.min(min, 0)
    let high = Swift.max(max, 0)
    let steps = Double(rules.steps)
    let raw = (high - low) / steps
    if raw > 0 {
      let zero = Self.zero(low: low, step: raw, steps: steps)
      let kept = try settled(
        step: raw, zero: zero, written: [Int(zero)], strict: false, low: low, width: high - low,
        scale, offset)
      if high - low >= Self.minimumRange || isKept(kept.grid, scale, zero, offset) { return kept }
    }
    let top = Swift.max(Swift.max(max, min + Self.minimumRange), 0)
    let step = (top - low) / steps
    return Result(
      grid: try made(step, Self.zero(low: low, step: step, steps: steps)),
      disagreement: nil)
  }

  /// Zero point of a range: half away from zero, the noise of the division removed.
  private static func zero(low: Double, step: Double, steps: Double) -> Double {
    Swift.min((-low / step + 0.5 + 1e-9).rounded(.down), steps)
  }

  private func made(_ step: Double, _ zero: Double) throws(Diagnostic) -> ScaleOffset {
    let place = rules.fields.path.member("min")
    return try rules.grid(
      scale: step, offset: 0 - Swift.min(zero, 0x1p31), scalePlace: place, offsetPlace: place)
  }

  private func isKept(_ grid: ScaleOffset, _ scale: Double?, _ zero: Double, _ offset: Double?) -> Bool {
    guard let scale, let offset else { return false }
    return Float(scale) == grid.scale && abs(offset) == zero
  }

  /// The grid that the range gives, with the digits of the file's scale where they are the same
  /// number; `written` are the offsets (without sign) that mean this grid.
  private func settled(
    step: Double, zero: Double, written: [Int], strict: Bool, low: Double, width: Double,
    _ scale: Double?, _ offset: Double?
  ) throws(Diagnostic) -> Result {
    var result = Result(grid: try made(step, zero), strict: strict)
    guard let scale, let offset else { return result }
    let matches = written.contains { Double($0) == abs(offset) }
    if matches, abs(scale - step) <= Self.sameScale * step {
      result.grid.scale = try rules.scale(scale, rules.fields.path.member("scale"))
      return result
    }
    if abs(scale - step) > Self.tolerance * step {
      result.disagreement = "scale \(scale) disagrees with min and max, which give \(Float(step)): this is taken"
    } else if !matches, abs(-abs(offset) * scale - low) > Self.tolerance * width {
      result.disagreement =
        "offset \(offset) disagrees with min and max, which give \(result.grid.offset): this is taken"
    }
    return result
  }
}
