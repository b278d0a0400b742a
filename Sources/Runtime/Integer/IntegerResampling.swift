import CIntegers
import CKernels
import IR
import Operators

/// Interpolation over one axis or two neighbouring ones; p are distances from the zero point:
///
///     line  = sum over the terms of the row of Float(weight) * Float(p), in order
///     value = sum over the terms of the column of Float(weight) * line, in order
///     code  = clamp(rint(value * factor + zero point))
struct IntegerResampling: IntegerOperation {
  /// The terms of each element of an axis.
  struct Terms: Sendable {
    let count: Int
    let indices: [Int32]
    let weights: [Float]
    /// Elements of the axis.
    var length: Int { indices.count / count }

    init(_ table: ResamplingTable) {
      (count, indices, weights) = (table.taps, table.indices.map { Int32($0) }, table.weights.map { Float($0) })
    }

    /// Every element itself.
    init(identity size: Int) {
      (count, indices, weights) = (1, (0..<size).map { Int32($0) }, [Float](repeating: 1, count: size))
    }
  }

  /// Input [outer, height, width, inner].
  let outer: Int
  let height: Int
  let width: Int
  let inner: Int
  let rows: Terms
  let columns: Terms
  let inputZero: Int
  let factor: Float
  let grid: CodeGrid
  let clamp: CodeClamp

  func fastKernel() -> FastIntegerKernel { .kernel(ResamplingCodesKernel(operation: self)) }
}

extension IntegerResampling {
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    var place = 0
    for block in 0..<outer {
      for row in 0..<rows.length {
        for column in 0..<columns.length {
          for channel in 0..<inner {
            let value = sum(columns, column) { source in
              sum(rows, row) { Float(Int(x[((block * height + $0) * width + source) * inner + channel]) - inputZero) }
            }
            y[place] = grid.code(steps: value * factor, in: clamp.range)
            place += 1
          }
        }
      }
    }
  }

  private func sum(_ terms: Terms, _ element: Int, _ value: (Int) -> Float) -> Float {
    var result: Float = 0
    for term in 0..<terms.count {
      let place = element * terms.count + term
      let product = terms.weights[place] * value(Int(terms.indices[place]))
      result = term == 0 ? product : result + product
    }
    return result
  }
}

/// A line at a time: rows of codes become a weighted row of floats, then its columns, then codes.
struct ResamplingCodesKernel: Kernel {
  let operation: IntegerResampling
  var name: String { "int8 resize" }
  var temporaries: [Int] {
    [operation.width * operation.inner * 4, operation.columns.length * operation.inner * 4]
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    let (op, floats) = (operation, outputs[1...].map { $0.bytes.baseAddress?.assumingMemoryBound(to: Float.self) })
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]), let line = floats[0], let row = floats[1] else { return }
    let (length, made) = (op.width * op.inner, op.columns.length * op.inner)
    var target = y
    for block in 0..<op.outer {
      for place in 0..<op.rows.length {
        for term in (place * op.rows.count)..<((place + 1) * op.rows.count) {
          qint_weigh(
            x + (block * op.height + Int(op.rows.indices[term])) * length, length, Int32(op.inputZero),
            op.rows.weights[term], term == place * op.rows.count ? 0 : 1, line)
        }
        qk_resample(
          line, row, op.columns.length, op.columns.count, op.columns.indices, op.columns.weights, op.inner)
        qint_round(
          row, made, op.factor, Float(op.grid.zeroPoint), Float(op.clamp.range.lowerBound),
          Float(op.clamp.range.upperBound), target)
        target += made
      }
    }
  }
}

@Sendable func makeIntegerResampling(_ request: IntegerRequest) -> IntegerOffer {
  guard let op = request.op as? any Resampling, let x = request.input(0) else { return .unrelated }
  if case .sameAsInput = request.op.quantization.output(0) { return .unrelated }
  guard request.inputs.dropFirst().allSatisfy({ $0 == nil }) else { return .refused("integer: sizes are computed") }
  guard let from = x.grid, x.tensor.constant == nil else { return .refused("integer: the input \(x.problem)") }
  guard let grid = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard let (clamp, bounds) = request.clamps(on: grid), bounds == nil else {
    return .refused("integer: an activation behind it has no integer form")
  }
  let shape = x.type.shape
  let tables = op.tables(shape)
  let axes = tables.keys.sorted()
  guard x.type.count > 0, request.outputs[0].type.count > 0,
    !tables.values.contains(where: { $0.isOutside.contains(true) })
  else { return .refused("integer: elements lie outside of the crop") }
  let first = axes.first ?? 0
  guard axes.count <= 1 || axes == [first, first + 1] else {
    return .refused("integer: axes \(axes) are not two neighbours")
  }
  let (height, width) = (shape[first], first + 1 < shape.count ? shape[first + 1] : 1)
  return .operation(
    IntegerResampling(
      outer: shape[..<first].reduce(1, *), height: height, width: width,
      inner: first + 2 < shape.count ? shape[(first + 2)...].reduce(1, *) : 1,
      rows: tables[first].map { .init($0) } ?? .init(identity: height),
      columns: tables[first + 1].map { .init($0) } ?? .init(identity: width), inputZero: from.zeroPoint,
      factor: Float(Double(from.scale) / Double(grid.scale)), grid: grid, clamp: clamp), reads: [0])
}
