/// Rounding to half precision (IEEE 754 binary16), the simulation of float16 tensors: arithmetic stays
/// in `Float`, values are rounded where a float16 tensor is made.
public enum Half {
  /// Largest finite number.
  public static let largest: Float = 65504

  /// The half-precision number nearest to `value`, ties to even; beyond the range it is infinite. The
  /// slow twin of the array kernel.
  public static func rounded(_ value: Float) -> Float { floatFromHalfBits(halfBits(value)) }

  /// Rounds `count` numbers in place or from one buffer to another; same bits as ``rounded(_:)``.
  public static func round(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, count: Int
  ) {
    for index in 0..<count {
      let bits = source[index].bitPattern
      let sign = bits & 0x8000_0000
      let size = bits & 0x7FFF_FFFF
      // Normal numbers lose 13 bits of the fraction, half to even.
      let normal = (size &+ 0xFFF &+ (size >> 13 & 1)) & ~0x1FFF
      // Below 2^-14 the step is 2^-24, that of Float between 1/2 and 1.
      let small = ((Float(bitPattern: size) + 0.75) - 0.75).bitPattern
      var result = size < 0x3880_0000 ? small : normal
      result = normal >= 0x4780_0000 ? 0x7F80_0000 : result
      result = size > 0x7F80_0000 ? 0x7FC0_0000 : result
      target[index] = Float(bitPattern: sign | result)
    }
  }

  /// The bits of a stored number: as ``halfBits(_:)``, but finite numbers beyond the range become the
  /// largest one, so that a mask of -3.4e38 stays finite.
  public static func storedBits(_ value: Float) -> UInt16 {
    value.isFinite ? halfBits(min(max(value, -largest), largest)) : halfBits(value)
  }

  /// Whether storing a number changes it to the end of the range.
  public static func overflows(_ value: Float) -> Bool {
    value.isFinite && abs(value) >= 65520
  }
}

extension Constant {
  /// The constant as float16, finite numbers beyond its range at its end.
  public func halved() -> Constant {
    Constant(
      type: TensorType(.float16, type.shape), bytes: Bytes(floats().map { Half.storedBits($0) }))
  }

  /// How many finite elements lie beyond the range of float16.
  public var halfOverflows: Int {
    type.element == .float16 ? 0 : floats().count { Half.overflows($0) }
  }
}
