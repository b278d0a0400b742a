import Operators

/// Sigmoid and tanh of many numbers, within 2e-7 of the exact values: plain arithmetic that the compiler turns
/// into vectors.
enum VectorFunctions {
  /// Applies a gate's function in place.
  static func apply(_ gate: Gate, _ values: UnsafeMutablePointer<Float>, _ count: Int) {
    switch gate.function {
    case .sigmoid: for index in 0..<count { values[index] = sigmoid(values[index]) }
    case .tanh: for index in 0..<count { values[index] = 2 * sigmoid(2 * values[index]) - 1 }
    default: for index in 0..<count { values[index] = gate(values[index]) }
    }
  }

  /// 1 / (1 + e^-x).
  @inline(__always)
  private static func sigmoid(_ x: Float) -> Float { 1 / (1 + exp(-x)) }

  /// e^x by 2^n * e^r with r in [-ln 2 / 2, ln 2 / 2] and a polynomial of degree 6 for e^r (Cephes, expf). What
  /// is no number stays so.
  @inline(__always)
  private static func exp(_ given: Float) -> Float {
    let low = given < -87 ? -87 : given
    let x = low > 88 ? 88 : low
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    let shifted = x * 1.442_695 + 12_582_912
    let n = shifted - 12_582_912
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4
    var p = 1.987_569_1e-4 * r + 1.398_199_9e-3
    p = p * r + 8.333_452e-3
    p = p * r + 4.166_579_6e-2
    p = p * r + 0.166_666_65
    p = p * r + 0.5
    let power = (shifted.bitPattern &- 0x4B40_0000 &+ 127) &<< 23
    return (p * r * r + r + 1) * Float(bitPattern: power)
  }
}
