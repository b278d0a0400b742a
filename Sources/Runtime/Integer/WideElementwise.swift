import CIntegers
import IR
import Operators

/// A function of one activation where codes have 16 bits: a table over all codes of the input.
struct WideLookup: IntegerOperation {
  let table: [UInt16]
  let isWideInput: Bool
  let isWideOutput: Bool

  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let input = inputs[0] else { return }
    if isWideInput {
      lookUp(input.elements(as: UInt16.self), outputs[0])
    } else {
      lookUp(input.elements(as: UInt8.self), outputs[0])
    }
  }

  private func lookUp<Code: FixedWidthInteger>(_ codes: UnsafeBufferPointer<Code>, _ output: MutableTensorView) {
    table.withUnsafeBufferPointer { table in
      if isWideOutput {
        let y = output.elements(as: UInt16.self)
        for index in y.indices { y[index] = table[Int(codes[index])] }
      } else {
        let y = output.elements(as: UInt8.self)
        for index in y.indices { y[index] = UInt8(truncatingIfNeeded: table[Int(codes[index])]) }
      }
    }
  }

  func fastKernel() -> FastIntegerKernel { .kernel(WideLookupKernel(operation: self)) }
}

struct WideLookupKernel: Kernel {
  let operation: WideLookup
  var name: String { "int16 table" }
  var constantBytes: Int { operation.table.count * 2 }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    try operation.evaluate(inputs, outputs)
  }
}
