import Foundation
import Testing

@testable import Recovery

/// Vector functions against the library's.
@Suite struct VectorMathTests {
  @Test func exponentials() {
    for value in stride(from: Float(-126), through: 126, by: 0.37) {
      let found = VectorMath.exp2(value)
      #expect(abs(found / exp2f(value) - 1) < 2e-6)
    }
    #expect(VectorMath.exp2(-1e9) > 0 && VectorMath.exp2(1e9).isFinite)
  }

  @Test func logarithms() {
    var value: Float = 1e-20
    while value < 1e20 {
      let found = VectorMath.log2(value)
      #expect(abs(found - log2f(value)) < 2e-6 * max(1, abs(log2f(value))))
      value *= 1.23
    }
  }

  @Test func squareRoots() {
    var value: Float = 1e-30
    while value < 1e30 {
      #expect(abs(VectorMath.squareRoot(value) / value.squareRoot() - 1) < 1e-5)
      value *= 1.7
    }
    #expect(VectorMath.squareRoot(0) < 1e-17)
  }

  @Test func sigmoids() {
    for value in stride(from: Float(-80), through: 80, by: 0.31) {
      let expected = 1 / (1 + exp(-Double(value)))
      #expect(abs(Double(VectorMath.sigmoid(value)) - expected) < 1e-6)
    }
  }
}
