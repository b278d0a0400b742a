import CKernels
import Operators

/// The functions of gates over many numbers; sigmoid and tanh within 2e-7 of the exact values.
enum VectorFunctions {
  /// Applies a gate's function in place.
  static func apply(_ gate: Gate, _ values: UnsafeMutablePointer<Float>, _ count: Int) {
    switch gate.function {
    case .sigmoid: qk_sigmoid(values, count)
    case .tanh: qk_tanh(values, count)
    default: for index in 0..<count { values[index] = gate(values[index]) }
    }
  }
}
