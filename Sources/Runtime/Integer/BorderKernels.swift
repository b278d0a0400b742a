import CIntegers
import IR

/// Real numbers to codes, as the simulation rounds them.
struct QuantizeKernel: Kernel {
  let grid: ByteGrid
  var name: String { "quantize" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: Float.self).baseAddress, let y = bytes(outputs[0]) else { return }
    qint_quantize(
      x, outputs[0].type.count, grid.scale, Float(grid.low - grid.zeroPoint),
      Float(grid.high - grid.zeroPoint), Int32(grid.zeroPoint), y)
  }
}

/// Codes to real numbers.
struct DequantizeKernel: Kernel {
  let grid: ByteGrid
  var name: String { "dequantize" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = outputs[0].elements(as: Float.self).baseAddress else { return }
    qint_dequantize(x, outputs[0].type.count, grid.scale, Int32(grid.zeroPoint), y)
  }
}

/// Sums of an accumulation as real numbers, before activations and rounding: what a tap between a node and
/// the activation behind it shows. Plain, as nobody runs it for speed.
struct TotalsKernel: Kernel {
  let operation: IntegerAccumulation
  var name: String { "plain sums" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = outputs[0].elements(as: Float.self).baseAddress else { return }
    for (index, total) in operation.totals(x).enumerated() {
      let scaled = Float(total) * operation.scales[index % operation.channels]
      if case .hardSwish = operation.curve { y[index] = scaled } else { y[index] = scaled * operation.grid.scale }
    }
  }
}
