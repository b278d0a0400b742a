import CIntegers
import IR
import Operators

/// LayerNorm or RmsNorm over the trailing axes. Sums are exact whatever the order; p are distances from the
/// zero point, n their number, e the epsilon in steps of the input:
///
///     variance = (n * sum p^2 - (sum p)^2) / n^2         RmsNorm: sum p^2 / n
///     factor   = 1 / sqrt(variance + e),  shift = sum p / n * factor       in Double, then Float; RmsNorm: 0
///     code     = clamp(rint((Float(p) * factor - shift) * gamma + beta + zero point))
///
/// gamma and beta being divided by the output's scale.
struct IntegerNormalization: IntegerOperation {
  let size: Int
  let inputZero: Int
  /// Epsilon over the square of the input's scale.
  let epsilon: Double
  let centers: Bool
  let gamma: [Float]
  let beta: [Float]
  let grid: ByteGrid

  /// What a line's distances are multiplied by, and what is taken off then.
  func line(sum: Int, squares: Int) -> (factor: Float, shift: Float) {
    let count = Double(size)
    let variance =
      centers ? Double(size * squares - sum * sum) / (count * count) : Double(squares) / count
    let factor = 1 / (variance + epsilon).squareRoot()
    return (Float(factor), centers ? Float(Double(sum) / count * factor) : 0)
  }

  func fastKernel() -> FastIntegerKernel { .kernel(NormalizationCodesKernel(operation: self)) }
}

struct NormalizationCodesKernel: Kernel {
  let operation: IntegerNormalization
  var name: String { "int8 normalization" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (size, grid, zero) = (operation.size, operation.grid, Int32(operation.inputZero))
    operation.gamma.withUnsafeBufferPointer { gamma in
      operation.beta.withUnsafeBufferPointer { beta in
        guard let gamma = gamma.baseAddress, let beta = beta.baseAddress else { return }
        for start in stride(from: 0, to: outputs[0].type.count, by: size) {
          var (sum, squares): (Int64, Int64) = (0, 0)
          qint_moments(x + start, size, zero, &sum, &squares)
          let (factor, shift) = operation.line(sum: Int(sum), squares: Int(squares))
          qint_normalize(
            x + start, size, zero, factor, shift, gamma, beta, Float(grid.zeroPoint), Float(grid.low),
            Float(grid.high), y + start)
        }
      }
    }
  }
}

@Sendable func makeIntegerNormalization(_ request: IntegerRequest) -> IntegerOffer {
  let (axes, epsilon, centers): ([Int], Float, Bool)
  switch request.op {
  case let op as LayerNorm: (axes, epsilon, centers) = (op.axes, op.epsilon, true)
  case let op as RmsNorm: (axes, epsilon, centers) = (op.axes, op.epsilon, false)
  default: return .unrelated
  }
  guard let x = request.input(0) else { return .unrelated }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  let size = axes.map { x.type.shape[$0] }.reduce(1, *)
  guard size > 0, size < 1 << 20, x.type.count > 0 else { return .refused("integer: the lines are empty or too long") }
  func parameter(_ index: Int) -> [Float]? {
    guard let tensor = request.input(index)?.tensor, let constant = tensor.constant else { return nil }
    let values = tensor.preparedValue(constant, on: tensor.valueGrid).array(of: Float.self)
    return values.map { Float(Double($0) / Double(to.scale)) }
  }
  guard let gamma = parameter(1), gamma.count == size else { return .refused("integer: gamma is computed") }
  let beta = request.input(2) == nil ? [Float](repeating: 0, count: size) : parameter(2)
  guard let beta, beta.count == size else { return .refused("integer: beta is computed") }
  let scale = Double(from.scale)
  guard epsilon > 0 else { return .refused("integer: epsilon is not positive") }
  return .operation(
    IntegerNormalization(
      size: size, inputZero: from.zeroPoint, epsilon: Double(epsilon) / (scale * scale), centers: centers,
      gamma: gamma, beta: beta, grid: to), reads: [0])
}
