import CKernels
import IR
import Operators

// Loops for operators that move rows so short that a copy of each costs more than its elements, and for
// root mean square normalization.

/// Makers of these kernels.
let nativeMovingMakers = [
  KernelMaker(make: makeExpandKernel), KernelMaker(make: makeGatherKernel),
  KernelMaker(make: makeConcatKernel), KernelMaker(make: makeSplitKernel),
  KernelMaker(make: makeRmsNormKernel), KernelMaker(make: makeResizeKernel),
  KernelMaker(make: makeShortSoftmaxKernel), KernelMaker(make: makeSelectKernel),
  KernelMaker(make: makeResponseNormKernel), KernelMaker(make: makeImageNormKernel),
]

/// Longest row, in elements, that is moved element by element.
private let shortRow = 16

// MARK: Expand

/// Repeats a tensor along axes of size 1.
struct ExpandKernel: ElementKernel {
  let nest: BroadcastNest
  var name: String { "native expand" }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    nest.apply(x, x, y) { value, _ in value }
  }
}

private func makeExpandKernel(_ request: KernelRequest) -> KernelOffer {
  guard request.op is Expand, let x = request.input(0) else { return .unrelated }
  if let refusal = request.floatRefusal { return refusal }
  let shape = request.outputs[0].shape
  return .kernel(ExpandKernel(nest: BroadcastNest(x.shape, x.shape, to: shape)))
}

// MARK: Gather

/// Picks short rows of four-byte elements by known indices.
struct GatherKernel: ElementKernel {
  let indices: [Int]
  let outer: Int
  let size: Int
  let inner: Int
  var name: String { "native gather" }
  var consumedInputs: Set<Int> { [1] }

  func run(_ x: UnsafePointer<UInt32>, _ y: UnsafeMutablePointer<UInt32>) {
    let (step, targetStep) = (size * inner, indices.count * inner)
    for (place, index) in indices.enumerated() {
      for element in 0..<inner {
        let (source, target) = (x + index * inner + element, y + place * inner + element)
        for block in 0..<outer { target[block &* targetStep] = source[block &* step] }
      }
    }
  }
}

private func makeGatherKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Gather, let x = request.input(0), let type = request.input(1) else {
    return .unrelated
  }
  let inner = x.shape[(op.axis + 1)...].reduce(1, *)
  if let refusal = request.wordRefusal { return refusal }
  guard inner < shortRow else { return .refused("native: rows are long, each is copied") }
  guard let bytes = request.constant(1),
    let list = Constant(type: type, bytes: bytes).integers()
  else { return .refused("native: indices are computed") }
  let size = x.shape[op.axis]
  let indices = list.map { $0 < 0 ? $0 + size : $0 }
  guard indices.allSatisfy({ (0..<size).contains($0) }) else {
    return .refused("native: an index is outside")
  }
  let outer = x.shape[..<op.axis].reduce(1, *)
  return .kernel(GatherKernel(indices: indices, outer: outer, size: size, inner: inner))
}

// MARK: Root mean square

/// Root mean square normalization of rows; sums in Double, in eight parts.
struct RmsNormKernel: Kernel {
  let size: Int
  let epsilon: Float
  var name: String { "native rms" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let input = inputs[0], let x = input.elements(as: Float.self).baseAddress,
      let gamma = inputs[1]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    let beta = inputs.count > 2 ? inputs[2]?.elements(as: Float.self).baseAddress : nil
    for start in stride(from: 0, to: input.type.count, by: size) {
      let (row, target) = (x + start, y + start)
      let factor = 1 / (meanSquare(row) + Double(epsilon)).squareRoot()
      if let beta {
        for i in 0..<size { target[i] = Float(Double(row[i]) * factor) * gamma[i] + beta[i] }
      } else {
        for i in 0..<size { target[i] = Float(Double(row[i]) * factor) * gamma[i] }
      }
    }
  }

  private func meanSquare(_ row: UnsafePointer<Float>) -> Double {
    var parts = SIMD8<Double>.zero
    var index = 0
    while index + 8 <= size {
      let values = UnsafeRawPointer(row + index).loadUnaligned(as: SIMD8<Float>.self)
      let wide = SIMD8<Double>(values)
      parts += wide * wide
      index += 8
    }
    var sum = parts.sum()
    while index < size {
      sum += Double(row[index]) * Double(row[index])
      index += 1
    }
    return sum / Double(size)
  }
}

private func makeRmsNormKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? RmsNorm, let x = request.input(0) else { return .unrelated }
  if let refusal = request.floatRefusal { return refusal }
  let size = op.axes.map { x.shape[$0] }.reduce(1, *)
  return .kernel(RmsNormKernel(size: size, epsilon: op.epsilon))
}

// MARK: Softmax

/// Softmax along short rows; oneDNN's takes as long for four numbers as for a vector of sixteen.
struct ShortSoftmaxKernel: ElementKernel {
  let rows: Int
  let size: Int
  var name: String { "native softmax" }
  var inPlaceInput: Int? { 0 }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 64 * (size + 2)) { scratch in
      guard let scratch = scratch.baseAddress else { return }
      qk_softmax_rows(x, y, rows, size, scratch)
    }
  }
}

private func makeShortSoftmaxKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Softmax, let x = request.input(0) else { return .unrelated }
  if let refusal = request.floatRefusal { return refusal }
  let rows = x.shape[..<op.axis].reduce(1, *)
  guard op.beta == 1, isShortSoftmax(x.shape, axis: op.axis) else {
    return .refused("native: rows are long or not dense")
  }
  return .kernel(ShortSoftmaxKernel(rows: rows, size: x.shape[op.axis]))
}

/// Whether rows are so short, and so many, that ``ShortSoftmaxKernel`` computes them.
func isShortSoftmax(_ shape: [Int], axis: Int) -> Bool {
  shape[axis] <= 32 && shape[(axis + 1)...].allSatisfy { $0 == 1 } && shape[..<axis].reduce(1, *) >= 16
}

// MARK: Select

/// Chooses elements of four bytes.
struct SelectKernel: Kernel {
  /// Of the condition and both operands.
  let layouts: [qk_layout]
  let rows: Int
  let columns: Int
  var name: String { "native select" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let truth = inputs[0]?.elements(as: UInt8.self).baseAddress,
      let a = inputs[1]?.elements(as: UInt32.self).baseAddress,
      let b = inputs[2]?.elements(as: UInt32.self).baseAddress,
      let y = outputs[0].elements(as: UInt32.self).baseAddress
    else { return }
    qk_select(truth, layouts[0], a, layouts[1], b, layouts[2], y, rows, columns)
  }
}

private func makeSelectKernel(_ request: KernelRequest) -> KernelOffer {
  guard request.op is ElementWiseSelect else { return .unrelated }
  if let refusal = request.wordRefusal { return refusal }
  let shape = request.outputs[0].shape
  let count = shape.reduce(1, *)
  var (lies, layouts) = (ChainShape(), [qk_layout]())
  for input in request.inputs {
    guard let input, let layout = lies.layout(of: input.shape, over: shape) else {
      return .refused("native: operands are repeated along axes between others")
    }
    layouts.append(layout)
  }
  let columns = lies.columns ?? count
  return .kernel(SelectKernel(layouts: layouts, rows: count / columns, columns: columns))
}
