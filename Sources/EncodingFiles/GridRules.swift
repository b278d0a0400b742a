import IR

/// The rules that all layouts share: which numbers make a grid, and what symmetric means.
struct GridRules {
  let bitwidth: Int
  /// Reader of the object that the numbers stand in, for messages.
  let fields: JSONFields
  /// Whether the object says `mode: clip`: its grid may leave zero out, scale and offset alone tell it.
  let isClip: Bool

  /// Throws where a width is none of a grid, or where a mode is unknown.
  init(bitwidth: Int, fields: JSONFields, key: String) throws(Diagnostic) {
    isClip = fields.has("mode")
    if isClip, try fields.string("mode") != "clip" {
      throw fields.failure("the only mode is clip: a grid that may leave zero out", "mode")
    }
    guard (2...32).contains(bitwidth) else {
      throw fields.failure("the bitwidth \(bitwidth) is outside 2 to 32", key)
    }
    self.bitwidth = bitwidth
    self.fields = fields
  }

  /// Number of steps of the grid.
  var steps: Int { (1 << bitwidth) - 1 }
  /// Minus the offset of a symmetric grid.
  var half: Int { 1 << (bitwidth - 1) }

  /// Throws where a scale is no positive Float.
  func scale(_ value: Double, _ place: JSONPath) throws(Diagnostic) -> Float {
    let scale = Float(value)
    guard scale.isFinite, scale > 0 else {
      throw JSONFields.failure(
        "the scale \(value) is not a positive number of 32 bits", place, fields.tensor)
    }
    return scale
  }

  /// The grid of a scale and an offset; throws where zero is not on it, but for `mode: clip`.
  func grid(
    scale: Double, offset: Double, scalePlace: JSONPath, offsetPlace: JSONPath
  ) throws(Diagnostic) -> ScaleOffset {
    let step = try self.scale(scale, scalePlace)
    guard let whole = Int(exactly: offset) else {
      throw JSONFields.failure(
        "the offset \(offset) is not whole: grids without an exact zero (2-bit codebooks) are not supported",
        offsetPlace, fields.tensor, code: "encodings-unsupported")
    }
    if isClip, let stored = Int32(exactly: whole) { return ScaleOffset(scale: step, offset: stored) }
    guard (-steps...0).contains(whole), let stored = Int32(exactly: whole) else {
      throw JSONFields.failure(
        "the offset \(whole) is outside \(max(-steps, Int(Int32.min))) to 0, the range of \(bitwidth) bits",
        offsetPlace, fields.tensor)
    }
    return ScaleOffset(scale: step, offset: stored)
  }

  /// What the declaration of symmetry means for the grids.
  enum Symmetry {
    case asymmetric
    case symmetric(strict: Bool)
    /// The declaration contradicts the offset of this grid.
    case contradicted(index: Int)
  }

  /// Reads grids that are declared symmetric: offset -2^(bw-1), one more where strict (the grid is
  /// moved so that its lowest code is unused), or 0 for the unsigned kind, which is asymmetric to us.
  func symmetry(of grids: inout [ScaleOffset]) -> Symmetry {
    let offsets = Set(grids.map { Int($0.offset) })
    if offsets == [0] { return .asymmetric }
    if offsets == [-half] { return .symmetric(strict: false) }
    if offsets == [1 - half] {
      for index in grids.indices { grids[index].offset = Int32(-half) }
      return .symmetric(strict: true)
    }
    let wrong = grids.firstIndex { Int($0.offset) != -half } ?? 0
    return .contradicted(index: wrong)
  }
}
