/// Functions exact to about 1e-6 relative, enough where they steer a search, without calls and branches:
/// loops over them become vector instructions.
enum VectorMath {
  /// 1.5 * 2^23: floats of this size are whole numbers.
  private static let roundingShift: Float = 12_582_912
  private static let roundingBits: UInt32 = 0x4B40_0000

  /// 2 to the power x, x from -126 to 126; beyond as at the ends.
  @inline(__always)
  static func exp2(_ x: Float) -> Float {
    let limited = clamped(x, -126, 126)
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the whole number in the low bits.
    let shifted = limited + roundingShift
    let f = limited - (shifted - roundingShift)
    // Taylor's series of 2^f for f from -1/2 to 1/2.
    var p: Float = 1.5403530e-4
    p = p * f + 1.3333558e-3
    p = p * f + 9.6181291e-3
    p = p * f + 5.5504109e-2
    p = p * f + 2.4022651e-1
    p = p * f + 6.9314718e-1
    p = p * f + 1
    return p * Float(bitPattern: (shifted.bitPattern &- roundingBits &+ 127) &<< 23)
  }

  /// The logarithm of x > 0 to the base 2.
  @inline(__always)
  static func log2(_ x: Float) -> Float {
    // Significand from sqrt(1/2) to sqrt(2).
    let bits = Int32(bitPattern: x.bitPattern)
    let exponent = (bits &- 0x3F35_04F3) &>> 23
    let significand = Float(bitPattern: UInt32(bitPattern: bits &- (exponent &<< 23)))
    let z = (significand - 1) / (significand + 1)
    let square = z * z
    var p: Float = 2.885390 / 9
    p = p * square + 2.885390 / 7
    p = p * square + 2.885390 / 5
    p = p * square + 2.885390 / 3
    p = p * square + 2.8853900817779268
    let whole = Float(bitPattern: UInt32(bitPattern: exponent) &+ roundingBits) - roundingShift
    return z * p + whole
  }

  /// 1 / (1 + e^-x).
  @inline(__always)
  static func sigmoid(_ x: Float) -> Float { 1 / (1 + exp2(x * -1.4426950409)) }

  /// The square root of x >= 0; of numbers below 1e-36 about 1e-18.
  @inline(__always)
  static func squareRoot(_ x: Float) -> Float { exp2(0.5 * log2(x < 1e-36 ? 1e-36 : x)) }

  /// x between two bounds; not for NaN.
  @inline(__always)
  static func clamped(_ x: Float, _ low: Float, _ high: Float) -> Float {
    let raised = x < low ? low : x
    return raised > high ? high : raised
  }

  /// The sum of products, as many partial sums at a time as a vector has numbers.
  @inline(__always)
  static func dot<Vector: SIMD>(
    _ a: UnsafePointer<Vector.Scalar>, _ b: UnsafePointer<Vector.Scalar>, _ count: Int, by _: Vector.Type
  ) -> Vector.Scalar where Vector.Scalar: FloatingPoint {
    var sum = Vector()
    var index = 0
    while index + Vector.scalarCount <= count {
      let x = UnsafeRawPointer(a + index).loadUnaligned(as: Vector.self)
      let y = UnsafeRawPointer(b + index).loadUnaligned(as: Vector.self)
      sum += x * y
      index += Vector.scalarCount
    }
    var total = sum.sum()
    while index < count {
      total += a[index] * b[index]
      index += 1
    }
    return total
  }
}
