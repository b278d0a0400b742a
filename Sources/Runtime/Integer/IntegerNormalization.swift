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
  let grid: CodeGrid

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

/// A scale and a shift a channel, BatchNormalization that could not be folded:
///
///     code = clamp(rint(Float(p) * gamma + beta + zero point))
///
/// gamma being multiplied by the input's scale, and both divided by the output's.
struct IntegerAffine: IntegerOperation {
  let inputZero: Int
  let gamma: [Float]
  let beta: [Float]
  let grid: CodeGrid
  let clamp: CodeClamp

  func fastKernel() -> FastIntegerKernel { .kernel(AffineKernel(operation: self)) }
}

struct AffineKernel: Kernel {
  let operation: IntegerAffine
  var name: String { "int8 scale and shift" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (channels, range) = (operation.gamma.count, operation.clamp.range)
    operation.gamma.withUnsafeBufferPointer { gamma in
      operation.beta.withUnsafeBufferPointer { beta in
        guard let gamma = gamma.baseAddress, let beta = beta.baseAddress else { return }
        for start in stride(from: 0, to: outputs[0].type.count, by: channels) {
          qint_normalize(
            x + start, channels, Int32(operation.inputZero), 1, 0, gamma, beta,
            Float(operation.grid.zeroPoint), Float(range.lowerBound), Float(range.upperBound), y + start)
        }
      }
    }
  }
}

extension IntegerRequest {
  /// The real values of a constant operand times a number, over the step of a grid; nil where it is none.
  fileprivate func parameter(_ index: Int, times factor: Double, over grid: CodeGrid) -> [Float]? {
    guard let tensor = input(index)?.tensor, let constant = tensor.constant else { return nil }
    let values = tensor.preparedValue(constant, on: tensor.valueGrid).array(of: Float.self)
    return values.map { Float(Double($0) * factor / Double(grid.scale)) }
  }
}

@Sendable func makeIntegerAffine(_ request: IntegerRequest) -> IntegerOffer {
  guard request.op is Batchnorm, let x = request.input(0) else { return .unrelated }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard let (clamp, bounds) = request.clamps(on: to), bounds == nil else {
    return .refused("integer: an activation behind it has no integer form")
  }
  guard let gamma = request.parameter(1, times: Double(from.scale), over: to), !gamma.isEmpty,
    let beta = request.parameter(2, times: 1, over: to), gamma.count == beta.count
  else { return .refused("integer: scale or shift is computed") }
  return .operation(
    IntegerAffine(inputZero: from.zeroPoint, gamma: gamma, beta: beta, grid: to, clamp: clamp), reads: [0])
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
  guard size > 0, size < 1 << 20, x.type.count > 0 else {
    return .refused("integer: the lines are empty or too long")
  }
  guard let gamma = request.parameter(1, times: 1, over: to), gamma.count == size else {
    return .refused("integer: gamma is computed")
  }
  let beta =
    request.input(2) == nil ? [Float](repeating: 0, count: size) : request.parameter(2, times: 1, over: to)
  guard let beta, beta.count == size else { return .refused("integer: beta is computed") }
  let scale = Double(from.scale)
  guard epsilon > 0 else { return .refused("integer: epsilon is not positive") }
  return .operation(
    IntegerNormalization(
      size: size, inputZero: from.zeroPoint, epsilon: Double(epsilon) / (scale * scale), centers: centers,
      gamma: gamma, beta: beta, grid: to), reads: [0])
}
