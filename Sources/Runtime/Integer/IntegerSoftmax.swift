import CIntegers
import Glibc
import IR
import Operators

/// Softmax of codes: powers of e by a table of whole numbers over the distance from the line's largest
/// code, so that their sum is exact whatever the order.
///
///     e[d]   = rint(exp(-d * scale * beta) * 2^24)
///     factor = Float(1 / (sum of e * output scale))
///     code   = clamp(rint(Float(e) * factor + zero point))
struct IntegerSoftmax: IntegerOperation {
  let outer: Int
  let size: Int
  let inner: Int
  let table: [Int32]
  let grid: CodeGrid

  func fastKernel() -> FastIntegerKernel { .kernel(IntegerSoftmaxKernel(operation: self)) }
}

struct IntegerSoftmaxKernel: Kernel {
  let operation: IntegerSoftmax
  var name: String { "int8 softmax" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (size, step, grid) = (operation.size, operation.inner, operation.grid)
    operation.table.withUnsafeBufferPointer { table in
      guard let table = table.baseAddress else { return }
      for line in 0..<(operation.outer * step) {
        let start = line / step * size * step + line % step
        qint_softmax(
          x + start, size, step, table, Double(grid.scale), Float(grid.zeroPoint), Float(grid.low),
          Float(grid.high), y + start)
      }
    }
  }
}

/// Logarithm of softmax, with the exact sum of ``IntegerSoftmax``:
///
///     shift = Float(log(sum of e / 2^24) / output scale)
///     code  = clamp(rint(-Float(largest q - q) * factor - shift + zero point))
struct IntegerLogSoftmax: IntegerOperation {
  let outer: Int
  let size: Int
  let inner: Int
  let table: [Int32]
  /// Input scale over output scale.
  let factor: Float
  let grid: CodeGrid

  /// The code of a distance from the line's largest code.
  func code(_ distance: Int, _ shift: Float) -> UInt8 {
    grid.code(steps: -Float(distance) * factor - shift, in: grid.range)
  }

  /// What is taken off all steps of a line.
  func shift(_ sum: Int) -> Float { Float(log(Double(sum) * 0x1p-24) / Double(grid.scale)) }

  func fastKernel() -> FastIntegerKernel { .kernel(IntegerLogSoftmaxKernel(operation: self)) }
}

/// Long lines have a code for every distance first.
struct IntegerLogSoftmaxKernel: Kernel {
  let operation: IntegerLogSoftmax
  var name: String { "int8 logarithm of softmax" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (size, step) = (operation.size, operation.inner)
    for line in 0..<(operation.outer * step) {
      let start = line / step * size * step + line % step
      let (from, to) = (x + start, y + start)
      var (top, sum): (UInt8, Int) = (0, 0)
      for s in 0..<size { top = max(top, from[s * step]) }
      for s in 0..<size { sum += Int(operation.table[Int(top - from[s * step])]) }
      let shift = operation.shift(sum)
      if size <= 256 {
        for s in 0..<size { to[s * step] = operation.code(Int(top - from[s * step]), shift) }
      } else {
        let codes = (0...Int(top)).map { operation.code($0, shift) }
        for s in 0..<size { to[s * step] = codes[Int(top - from[s * step])] }
      }
    }
  }
}

@Sendable func makeIntegerSoftmax(_ request: IntegerRequest) -> IntegerOffer {
  guard let x = request.input(0) else { return .unrelated }
  let (axis, beta): (Int, Float)
  switch request.op {
  case let op as Softmax: (axis, beta) = (op.axis, op.beta)
  case let op as LogSoftmax: (axis, beta) = (op.axis, 1)
  default: return .unrelated
  }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard beta > 0 else { return .refused("integer: beta is not positive") }
  let shape = x.type.shape
  guard x.type.count > 0 else { return .refused("integer: the input is empty") }
  let unit = Double(from.scale) * Double(beta)
  let (outer, inner) = (shape[..<axis].reduce(1, *), shape[(axis + 1)...].reduce(1, *))
  let table = (0...255).map { Int32((exp(-Double($0) * unit) * 0x1p24).rounded(.toNearestOrEven)) }
  guard request.op is Softmax else {
    return .operation(
      IntegerLogSoftmax(
        outer: outer, size: shape[axis], inner: inner, table: table,
        factor: Float(Double(from.scale) / Double(to.scale)), grid: to), reads: [0])
  }
  return .operation(
    IntegerSoftmax(outer: outer, size: shape[axis], inner: inner, table: table, grid: to), reads: [0])
}
