import IR

/// How a range becomes a grid (`--act_quantizer_schema`, `--param_quantizer_schema`).
public enum QuantizerSchema: String, Sendable, Hashable, CaseIterable {
  /// Min-max: lowest and highest code at the ends of the range, zero exact (QNN's `tf`).
  case asymmetric
  /// Grid symmetric about zero (QNN's `symmetric`).
  case symmetric
  /// Symmetric, but a range without negative values uses the unsigned grid from zero (QNN's
  /// `unsignedsymmetric`).
  case unsignedSymmetric = "unsignedsymmetric"

  /// Whether a range that starts at `min` gets a grid symmetric about zero.
  public func isSymmetric(min: Double) -> Bool {
    switch self {
    case .asymmetric: false
    case .symmetric: true
    case .unsignedSymmetric: min < 0
    }
  }
}

/// Arithmetic from an observed range to scale and offset. Everything is Double until the scale is
/// kept as Float and the offset as Int32.
///
/// Source: Qualcomm's public QNN quantization page; for the symmetric rule see there too (AIMET's
/// differs).
public enum RangeToEncoding {
  /// Least width of a range.
  public static let minimumRange = 0.0001

  /// The range that is encoded for an observed one: at least ``minimumRange`` wide, zero inside.
  /// Both numbers are finite.
  public static func adjusted(min: Double, max: Double) -> (min: Double, max: Double) {
    let widened = Swift.max(max, min + minimumRange)
    return (Swift.min(min, 0), Swift.max(widened, 0))
  }

  /// Scale and offset of the asymmetric grid of `bitwidth` (2 to 32) bits. At 32 bits the range is
  /// widened where the zero point would not fit an Int32 offset.
  public static func asymmetric(min: Double, max: Double, bitwidth: Int) -> ScaleOffset {
    let range = adjusted(min: min, max: max)
    let steps = Double((1 << bitwidth) - 1)
    let scale = Swift.max((range.max - range.min) / steps, -range.min / 0x1p31)
    let zero = (-range.min / scale + 0.5 + 1e-9).rounded(.down)
    let offset = -Swift.min(zero, Swift.min(steps, 0x1p31))
    return ScaleOffset(scale: Float(scale), offset: Int32(offset))
  }

  /// Scale and offset of the symmetric grid of `bitwidth` (2 to 32) bits: the larger magnitude is
  /// at code 2^(bw-1) - 1 of the signed grid.
  public static func symmetric(min: Double, max: Double, bitwidth: Int) -> ScaleOffset {
    let range = adjusted(min: min, max: max)
    let largest = Swift.max(-range.min, range.max)
    let half = 1 << (bitwidth - 1)
    return ScaleOffset(scale: Float(largest / Double(half - 1)), offset: Int32(-half))
  }

  /// Scale and offset by schema.
  public static func grid(
    min: Double, max: Double, bitwidth: Int, schema: QuantizerSchema
  ) -> ScaleOffset {
    // A range from zero upwards has no negative half: the asymmetric rule puts zero at code 0.
    schema.isSymmetric(min: min)
      ? symmetric(min: min, max: max, bitwidth: bitwidth)
      : asymmetric(min: min, max: max, bitwidth: bitwidth)
  }

  /// The encoding of a whole tensor with the observed range. `strict` leaves the lowest code of a
  /// symmetric grid unused.
  public static func encoding(
    min: Double, max: Double, bitwidth: Int, schema: QuantizerSchema, strict: Bool = false
  ) -> Encoding {
    let symmetric = schema.isSymmetric(min: min)
    return Encoding(
      bitwidth: bitwidth, symmetric: symmetric,
      channels: [grid(min: min, max: max, bitwidth: bitwidth, schema: schema)],
      codeMin: symmetric && strict ? 1 : 0)
  }

  /// The symmetric encoding of a tensor with a grid for each index along `axis`, from the range of
  /// each.
  public static func perChannel(
    _ ranges: [ClosedRange<Float>], axis: Int, bitwidth: Int, strict: Bool = false
  ) -> Encoding {
    Encoding(
      bitwidth: bitwidth, symmetric: true, axis: axis,
      channels: ranges.map {
        symmetric(
          min: Double($0.lowerBound), max: Double($0.upperBound), bitwidth: bitwidth)
      },
      codeMin: strict ? 1 : 0)
  }

  /// The encoding of outputs whose range is known beforehand: [0, 1) or, signed, [-1, 1).
  public static func fixedUnit(signed: Bool, bitwidth: Int) -> Encoding {
    let half = 1 << (bitwidth - 1)
    let exponent = signed ? bitwidth - 1 : bitwidth
    let grid = ScaleOffset(
      scale: Float(sign: .plus, exponent: -exponent, significand: 1),
      offset: signed ? Int32(-half) : 0)
    return Encoding(bitwidth: bitwidth, channels: [grid])
  }

  /// The encoding of another width over the same range, for a Convert between precisions. A wider one
  /// holds every number of the narrower exactly: its step is smaller by a power of two.
  public static func rewidened(_ encoding: Encoding, bitwidth: Int) -> Encoding {
    let shift = bitwidth - encoding.bitwidth
    if shift > 0, bitwidth < 32, let grid = encoding.channels.first,
      let offset = Int32(exactly: Int(grid.offset) << shift)
    {
      let scale = grid.scale / Float(1 << shift)
      if scale.isNormal {
        return Encoding(
          bitwidth: bitwidth, symmetric: encoding.symmetric,
          channels: [ScaleOffset(scale: scale, offset: offset)],
          codeMin: encoding.symmetric && encoding.codeMin > 0 ? 1 : 0)
      }
    }
    return self.encoding(
      min: encoding.minimum(), max: encoding.maximum(), bitwidth: bitwidth,
      schema: encoding.symmetric ? .symmetric : .asymmetric)
  }
}
