/// Functions of sixteen numbers at a time, exact to about 1e-6 relative: enough where they steer a search.
enum VectorMath {
  typealias Floats = SIMD16<Float>

  /// 2 to the power x, x from -126 to 126; beyond as at the ends.
  @inline(__always)
  static func exp2(_ x: Floats) -> Floats {
    let limited = x.clamped(lowerBound: Floats(repeating: -126), upperBound: Floats(repeating: 126))
    let whole = limited.rounded(.toNearestOrEven)
    let f = limited - whole
    // Taylor's series of 2^f for f from -1/2 to 1/2.
    var p = Floats(repeating: 1.5403530e-4)
    p = p * f + 1.3333558e-3
    p = p * f + 9.6181291e-3
    p = p * f + 5.5504109e-2
    p = p * f + 2.4022651e-1
    p = p * f + 6.9314718e-1
    p = p * f + 1
    let bits = (SIMD16<Int32>(truncatingIfNeeded: SIMD16<Int32>(whole)) &+ 127) &<< 23
    return p * Floats(bits: bits)
  }

  /// The logarithm of x > 0 to the base 2.
  @inline(__always)
  static func log2(_ x: Floats) -> Floats {
    let bits = x.bits
    // Significand from sqrt(1/2) to sqrt(2).
    let shifted = bits &- 0x3F35_04F3
    let exponent = shifted &>> 23
    let significand = Floats(bits: bits &- (exponent &<< 23))
    let z = (significand - 1) / (significand + 1)
    let square = z * z
    var p = Floats(repeating: 2.885390 / 9)
    p = p * square + Float(2.885390 / 7)
    p = p * square + Float(2.885390 / 5)
    p = p * square + Float(2.885390 / 3)
    p = p * square + Float(2.8853900817779268)
    return z * p + Floats(exponent)
  }

  /// 1 / (1 + e^-x).
  @inline(__always)
  static func sigmoid(_ x: Floats) -> Floats { 1 / (1 + exp2(x * -1.4426950409)) }
}

extension SIMD16<Float> {
  @inline(__always)
  fileprivate init(bits: SIMD16<Int32>) { self = unsafeBitCast(bits, to: SIMD16<Float>.self) }
  @inline(__always)
  fileprivate var bits: SIMD16<Int32> { unsafeBitCast(self, to: SIMD16<Int32>.self) }
}
