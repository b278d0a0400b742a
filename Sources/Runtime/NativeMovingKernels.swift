import IR
import Operators

// Loops for operators that move rows so short that a copy of each costs more than its elements, and for
// root mean square normalization.

/// Makers of these kernels.
let nativeMovingMakers = [
  KernelMaker(make: makeExpandKernel), KernelMaker(make: makeGatherKernel),
  KernelMaker(make: makeConcatKernel), KernelMaker(make: makeRmsNormKernel),
  KernelMaker(make: makeResizeKernel),
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

// MARK: Concat

/// Joins tensors of four-byte elements whose rows are short.
struct ConcatKernel: Kernel {
  let outer: Int
  /// Elements that each input adds to a row of the result.
  let rows: [Int]
  var name: String { "native concat" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let y = outputs[0].elements(as: UInt32.self).baseAddress else { return }
    let width = rows.reduce(0, +)
    var start = 0
    for (input, row) in zip(inputs, rows) {
      guard row > 0, let x = input?.elements(as: UInt32.self).baseAddress else { continue }
      if row < 4 {
        for element in 0..<row {
          let (source, target) = (x + element, y + start + element)
          for block in 0..<outer { target[block &* width] = source[block &* row] }
        }
      } else {
        copyRows(x, y + start, row, width)
      }
      start += row
    }
  }
}

extension ConcatKernel {
  /// Rows of four and more elements, four at a time; the last four of a row may overlap those before.
  private func copyRows(
    _ x: UnsafePointer<UInt32>, _ y: UnsafeMutablePointer<UInt32>, _ row: Int, _ width: Int
  ) {
    for block in 0..<outer {
      let (source, target) = (
        UnsafeRawPointer(x + block &* row), UnsafeMutableRawPointer(y + block &* width)
      )
      var element = 0
      while element < row {
        let place = min(element, row &- 4) &* 4
        target.storeBytes(
          of: source.loadUnaligned(fromByteOffset: place, as: SIMD4<UInt32>.self), toByteOffset: place,
          as: SIMD4<UInt32>.self)
        element &+= 4
      }
    }
  }
}

private func makeConcatKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Concat else { return .unrelated }
  let y = request.outputs[0]
  if let refusal = request.wordRefusal { return refusal }
  let inner = y.shape[(op.axis + 1)...].reduce(1, *)
  let rows = request.inputs.map { ($0?.shape[op.axis] ?? 0) * inner }
  guard rows.allSatisfy({ $0 < shortRow }) else {
    return .refused("native: rows are long, each is copied")
  }
  return .kernel(ConcatKernel(outer: y.shape[..<op.axis].reduce(1, *), rows: rows))
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
