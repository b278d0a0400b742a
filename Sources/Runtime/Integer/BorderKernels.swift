import CIntegers
import IR

/// Real numbers to codes, as the simulation rounds them.
struct QuantizeKernel: Kernel {
  let grid: CodeGrid
  var name: String { "quantize" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: Float.self).baseAddress else { return }
    let (count, low, high) = (
      outputs[0].type.count, Float(grid.low - grid.zeroPoint), Float(grid.high - grid.zeroPoint)
    )
    if grid.isWide, let y = words(outputs[0]) {
      qint_quantize_words(x, count, grid.scale, low, high, Int32(grid.zeroPoint), y)
    } else if let y = bytes(outputs[0]) {
      qint_quantize(x, count, grid.scale, low, high, Int32(grid.zeroPoint), y)
    }
  }
}

/// Codes to real numbers.
struct DequantizeKernel: Kernel {
  let grid: CodeGrid
  var name: String { "dequantize" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let y = outputs[0].elements(as: Float.self).baseAddress else { return }
    if grid.isWide {
      guard let x = words(inputs[0]) else { return }
      return qint_dequantize_words(x, outputs[0].type.count, grid.scale, Int32(grid.zeroPoint), y)
    }
    guard let x = bytes(inputs[0]) else { return }
    qint_dequantize(x, outputs[0].type.count, grid.scale, Int32(grid.zeroPoint), y)
  }
}

/// Sums of an accumulation as real numbers, before activations and rounding: what a tap between a node and
/// the activation behind it shows. Plain, as nobody runs it for speed.
struct TotalsKernel: Kernel {
  let operation: IntegerAccumulation
  /// What gives the sums where codes have 16 bits.
  let wide: WideAccumulation?
  var name: String { "plain sums" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let y = outputs[0].elements(as: Float.self).baseAddress else { return }
    let totals = wide?.totals(inputs[0]) ?? bytes(inputs[0]).map { operation.totals($0, as: Int.self) } ?? []
    for (index, total) in totals.enumerated() {
      let scaled = Float(total) * operation.scales[index % operation.channels]
      if case .hardSwish = operation.curve { y[index] = scaled } else { y[index] = scaled * operation.grid.scale }
    }
  }
}
