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
  let grid: ByteGrid

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

@Sendable func makeIntegerSoftmax(_ request: IntegerRequest) -> IntegerOffer {
  guard let op = request.op as? Softmax, let x = request.input(0) else { return .unrelated }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard op.beta > 0 else { return .refused("integer: beta is not positive") }
  let shape = x.type.shape
  guard x.type.count > 0 else { return .refused("integer: the input is empty") }
  let unit = Double(from.scale) * Double(op.beta)
  return .operation(
    IntegerSoftmax(
      outer: shape[..<op.axis].reduce(1, *), size: shape[op.axis],
      inner: shape[(op.axis + 1)...].reduce(1, *),
      table: (0...255).map { Int32((exp(-Double($0) * unit) * 0x1p24).rounded(.toNearestOrEven)) },
      grid: to), reads: [0])
}
