import CIntegers
import IR
import Operators

/// The matrix product of two activations:
///
///     total = sum of (a - aZero) * (b - bZero)             in integers
///     code  = clamp(rint(Float(total) * scale + zero point))
struct IntegerProduct: IntegerOperation {
  let rows: Int
  let depth: Int
  let columns: Int
  /// Whether the second factor is [columns, depth].
  let isTurned: Bool
  /// Where the factors of each product of the batch begin.
  let batches: [(a: Int, b: Int)]
  let aZero: Int
  let bZero: Int
  let scale: Float
  let grid: CodeGrid
  let clamp: CodeClamp

  func fastKernel() -> FastIntegerKernel { .kernel(ProductKernel(operation: self)) }
}

/// A loop of our own over pairs of 16-bit distances: exact, and the same on processors without VNNI.
struct ProductKernel: Kernel {
  let operation: IntegerProduct
  private let scales: [Float]
  private let zeros: [Int32]
  var name: String { "int8 product of activations" }

  init(operation: IntegerProduct) {
    self.operation = operation
    scales = [Float](repeating: operation.scale, count: operation.columns)
    zeros = [Int32](repeating: 0, count: operation.columns)
  }

  private var pairs: Int { (operation.depth + 1) / 2 }
  private var width: Int {
    let block = Int(qint_column_block)
    return (operation.columns + block - 1) / block * block
  }

  var temporaries: [Int] { [operation.rows * pairs * 4, pairs * width * 4, operation.rows * width * 4] }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let a = bytes(inputs[0]), let b = bytes(inputs[1]), let y = bytes(outputs[0]),
      let left = outputs[1].bytes.baseAddress?.assumingMemoryBound(to: Int16.self),
      let right = outputs[2].bytes.baseAddress?.assumingMemoryBound(to: Int16.self),
      let sums = outputs[3].bytes.baseAddress?.assumingMemoryBound(to: Int32.self)
    else { return }
    let (rows, depth, columns) = (operation.rows, operation.depth, operation.columns)
    scales.withUnsafeBufferPointer { scales in
      zeros.withUnsafeBufferPointer { zeros in
        guard let scales = scales.baseAddress, let zeros = zeros.baseAddress else { return }
        var how = qint_requantization(
          factor: 1, low_sums: nil, share: 0, bias: zeros, bias_rows: 1, scales: scales, slopes: nil, step: 0,
          zero_point: Float(operation.grid.zeroPoint), low: Float(operation.clamp.range.lowerBound),
          high: Float(operation.clamp.range.upperBound))
        for (batch, starts) in operation.batches.enumerated() {
          qint_pack_rows(a + starts.a, rows, depth, Int32(operation.aZero), left)
          qint_pack_columns(
            b + starts.b, depth, columns, operation.isTurned ? 1 : 0, Int32(operation.bZero), right)
          qint_product(left, right, rows, pairs, columns, sums)
          for row in 0..<rows {
            qint_requantize(sums + row * width, &how, 1, columns, y + (batch * rows + row) * columns)
          }
        }
      }
    }
  }
}

/// Products whose second factor is computed, or has a batch.
func makeIntegerProduct(_ request: IntegerRequest, _ op: MatMul) -> IntegerOffer {
  guard let a = request.input(0), let b = request.input(1) else { return .unrelated }
  guard request.input(2) == nil else { return .refused("integer: a product of activations has a bias") }
  guard !op.transposeIn0 else { return .refused("integer: the first factor is transposed") }
  guard let aGrid = a.grid, let bGrid = b.grid else {
    return .refused("integer: a factor \(a.grid == nil ? a.problem : b.problem)")
  }
  guard let grid = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard let (clamp, bounds) = request.clamps(on: grid), bounds == nil else {
    return .refused("integer: an activation behind it has no integer form")
  }
  let (aShape, bShape, shape) = (a.type.shape, b.type.shape, request.outputs[0].type.shape)
  let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
  let depth = aShape[aShape.count - 1]
  guard depth > 0, depth <= Int(Int32.max) / (255 * 255), shape.allSatisfy({ $0 > 0 }) else {
    return .refused("integer: a factor is empty, or sums may not fit 32 bits")
  }
  let batch = Array(shape.dropLast(2))
  let aSteps = broadcastStrides(Array(aShape.dropLast(2)), to: batch)
  let bSteps = broadcastStrides(Array(bShape.dropLast(2)), to: batch)
  let strides = denseStrides(batch)
  let batches = (0..<batch.reduce(1, *)).map { number in
    var (left, right) = (0, 0)
    for axis in batch.indices {
      let place = number / strides[axis] % batch[axis]
      left += place * aSteps[axis]
      right += place * bSteps[axis]
    }
    return (a: left * rows * depth, b: right * depth * columns)
  }
  let scale = Float(Double(aGrid.scale) * Double(bGrid.scale) / Double(grid.scale))
  guard scale.isFinite else { return .refused("integer: the scales are too far apart") }
  return .operation(
    IntegerProduct(
      rows: rows, depth: depth, columns: columns, isTurned: op.transposeIn1, batches: batches,
      aZero: aGrid.zeroPoint, bZero: bGrid.zeroPoint, scale: scale, grid: grid, clamp: clamp), reads: [0, 1])
}
