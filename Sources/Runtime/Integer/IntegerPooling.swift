import CIntegers
import IR
import Operators

// MARK: Maximum

/// The largest code of each window. Where the output has another grid the result is looked up, as codes
/// keep the order of real values.
struct IntegerMaximumPool: IntegerOperation {
  let window: WindowGeometry
  /// Shapes with three spatial axes, channel-last.
  let input: [Int]
  let output: [Int]
  /// Codes of the output for codes of the input.
  let table: [UInt8]

  func fastKernel() -> FastIntegerKernel { .kernel(MaximumPoolKernel(operation: self)) }
}

struct MaximumPoolKernel: Kernel {
  let operation: IntegerMaximumPool
  private let isIdentity: Bool
  var name: String { isIdentity ? "int8 maximum" : "int8 maximum, table" }

  init(operation: IntegerMaximumPool) {
    self.operation = operation
    isIdentity = operation.table.enumerated().allSatisfy { $0.offset == Int($0.element) }
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (channels, count) = (operation.output[4], outputs[0].type.count)
    y.update(repeating: 0, count: count)
    forEachWindowLine(operation.input, operation.output, operation.window) { position, pixel, pixels in
      qint_maximum(
        y + position * channels, x + pixel * channels, operation.window.stride[2] * channels, pixels, channels)
    }
    if !isIdentity { qint_look_up(operation.table, y, count, y) }
  }
}

// MARK: Average

/// The mean of each window: code = clamp(rint(Float(sum of distances from zero) * factor + zero point)), the
/// factor being scale / (output scale * divisor) of the position.
struct IntegerAveragePool: IntegerOperation {
  let window: WindowGeometry
  let input: [Int]
  let output: [Int]
  let inputZero: Int
  /// For each output position of an image.
  let factors: [Float]
  let grid: CodeGrid

  func fastKernel() -> FastIntegerKernel { .kernel(AveragePoolKernel(operation: self)) }
}

/// Sums of codes; zero points are taken off at the end, by the number of pixels in the window.
struct AveragePoolKernel: Kernel {
  let operation: IntegerAveragePool
  /// Pixels in the window of each position of an image.
  private let counts: [Int32]
  var name: String { "int8 average" }
  var temporaries: [Int] { [operation.output.reduce(1, *) * 4] }

  init(operation: IntegerAveragePool) {
    self.operation = operation
    var counts = [Int32](repeating: 0, count: operation.output[1...3].reduce(1, *))
    forEachTap(
      [1] + operation.input[1...3] + [1], [1] + operation.output[1...3] + [1], operation.window,
      start: { _ in }, tap: { position, _, _ in counts[position] += 1 })
    self.counts = counts
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]),
      let sums = outputs[1].bytes.baseAddress?.assumingMemoryBound(to: Int32.self)
    else { return }
    let (channels, count) = (operation.output[4], outputs[0].type.count)
    sums.update(repeating: 0, count: count)
    forEachTap(
      operation.input, operation.output, operation.window, start: { _ in },
      tap: { position, pixel, _ in qint_accumulate(sums + position * channels, x + pixel * channels, channels) })
    let sink = SumRequantization(grid: operation.grid, inputZero: operation.inputZero)
    for position in 0..<(count / channels) {
      let place = position % counts.count
      sink.run(
        sums + position * channels, channels, count: Int(counts[place]),
        factor: operation.factors[place], y + position * channels)
    }
  }
}

/// Turns sums of codes into codes of a grid.
struct SumRequantization {
  let grid: CodeGrid
  let inputZero: Int

  /// `count` codes went into each of `channels` sums.
  func run(
    _ sums: UnsafePointer<Int32>, _ channels: Int, count: Int, factor: Float,
    _ output: UnsafeMutablePointer<UInt8>
  ) {
    qint_finish_sums(
      sums, channels, Int32(count * inputZero), factor, Float(grid.zeroPoint), Float(grid.low),
      Float(grid.high), output)
  }
}

@Sendable func makeIntegerPool(_ request: IntegerRequest) -> IntegerOffer {
  let window: WindowGeometry
  var countsPads: Bool?
  switch request.op {
  case let op as PoolMax2d: window = op.geometry.inThreeAxes
  case let op as PoolMax3d: window = op.geometry.inThreeAxes
  case let op as PoolAvg2d: (window, countsPads) = (op.geometry.inThreeAxes, op.countPadForEdges)
  case let op as PoolAvg3d: (window, countsPads) = (op.geometry.inThreeAxes, op.countPadForEdges)
  default: return .unrelated
  }
  guard let x = request.input(0) else { return .unrelated }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  let (input, output) = (inThreeAxes(x.type.shape), inThreeAxes(request.outputs[0].type.shape))
  guard output.allSatisfy({ $0 > 0 }), input.allSatisfy({ $0 > 0 }) else {
    return .refused("integer: an operand is empty")
  }
  let (one, small) = ([1] + input[1...3] + [1], [1] + output[1...3] + [1])
  var counts = [Int](repeating: 0, count: small.reduce(1, *))
  forEachTap(one, small, window, start: { _ in }, tap: { position, _, _ in counts[position] += 1 })
  guard let countsPads else {
    guard !counts.contains(0) else { return .refused("integer: a window sees nothing but padding") }
    let table = conversionTable(from, to) ?? (0...255).map { UInt8($0) }
    return .operation(
      IntegerMaximumPool(window: window, input: input, output: output, table: table), reads: [0])
  }
  guard window.filter.reduce(1, *) < 1 << 16 else { return .refused("integer: the window is too large") }
  if countsPads {
    let sizes = (0..<3).map { axis in
      (0..<output[axis + 1]).map { place in
        taps(
          place * window.stride[axis], window.dilation[axis], window.filter[axis],
          window.pads[2 * axis] + input[axis + 1] + window.pads[2 * axis + 1]
        ).count
      }
    }
    for position in counts.indices {
      counts[position] =
        sizes[0][position / output[3] / output[2]] * sizes[1][position / output[3] % output[2]]
        * sizes[2][position % output[3]]
    }
  }
  let factors = counts.map { $0 > 0 ? Float(Double(from.scale) / (Double(to.scale) * Double($0))) : 0 }
  return .operation(
    IntegerAveragePool(
      window: window, input: input, output: output, inputZero: from.zeroPoint, factors: factors, grid: to),
    reads: [0])
}

// MARK: Reductions

/// Mean or sum over neighbouring axes: the formula of ``IntegerAveragePool`` over [outer, reduced, inner].
struct IntegerReduction: IntegerOperation {
  let outer: Int
  let reduced: Int
  let inner: Int
  let inputZero: Int
  let factor: Float
  let grid: CodeGrid

  func fastKernel() -> FastIntegerKernel { .kernel(ReductionKernel(operation: self)) }
}

struct ReductionKernel: Kernel {
  let operation: IntegerReduction
  var name: String { "int8 reduction" }
  var temporaries: [Int] { [operation.inner * 4] }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]),
      let sums = outputs[1].bytes.baseAddress?.assumingMemoryBound(to: Int32.self)
    else { return }
    let (inner, reduced) = (operation.inner, operation.reduced)
    let sink = SumRequantization(grid: operation.grid, inputZero: operation.inputZero)
    for o in 0..<operation.outer {
      let start = x + o * reduced * inner
      if inner == 1 {
        var sum: Int32 = 0
        for r in 0..<reduced { sum &+= Int32(start[r]) }
        sums[0] = sum
      } else {
        sums.update(repeating: 0, count: inner)
        for r in 0..<reduced { qint_accumulate(sums, start + r * inner, inner) }
      }
      sink.run(sums, inner, count: reduced, factor: operation.factor, y + o * inner)
    }
  }
}

/// The largest or smallest code over neighbouring axes; converted where the output has another grid.
struct IntegerExtreme: IntegerOperation {
  let outer: Int
  let reduced: Int
  let inner: Int
  let isLargest: Bool
  let table: [UInt8]

  func fastKernel() -> FastIntegerKernel { .kernel(ExtremeKernel(operation: self)) }
}

struct ExtremeKernel: Kernel {
  let operation: IntegerExtreme
  var name: String { "int8 \(operation.isLargest ? "maximum" : "minimum")" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    let (inner, reduced) = (operation.inner, operation.reduced)
    for o in 0..<operation.outer {
      let (from, to) = (x + o * reduced * inner, y + o * inner)
      to.update(from: from, count: inner)
      for r in 1..<max(reduced, 1) {
        let row = from + r * inner
        if operation.isLargest {
          qint_maximum(to, row, inner, 1, inner)
        } else {
          qint_limit_rows(to, row, 1, inner)
        }
      }
    }
    qint_look_up(operation.table, y, outputs[0].type.count, y)
  }
}

@Sendable func makeIntegerReduction(_ request: IntegerRequest) -> IntegerOffer {
  let axes: [Int]
  var isMean = true
  var isLargest: Bool?
  switch request.op {
  case let op as ReduceMean: axes = op.axes
  case let op as ReduceSum: (axes, isMean) = (op.axes, false)
  case let op as Reduce<MaxReduction>: (axes, isLargest) = (op.axes, true)
  case let op as Reduce<MinReduction>: (axes, isLargest) = (op.axes, false)
  default: return .unrelated
  }
  guard let x = request.input(0) else { return .unrelated }
  guard let from = x.grid else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].grid else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  let shape = x.type.shape
  // Axes of one element between those reduced do not matter.
  let long = axes.filter { shape[$0] != 1 }
  let (first, last) = (long.first ?? 0, long.last ?? -1)
  guard shape.indices.filter({ $0 >= first && $0 <= last && shape[$0] != 1 }) == long else {
    return .refused("integer: the reduced axes are apart")
  }
  let reduced = long.map { shape[$0] }.reduce(1, *)
  guard reduced > 0, reduced < 1 << 22, x.type.count > 0 else {
    return .refused("integer: nothing or too much is reduced")
  }
  let outer = shape[..<first].reduce(1, *)
  if let isLargest {
    return .operation(
      IntegerExtreme(
        outer: outer, reduced: reduced, inner: x.type.count / outer / reduced, isLargest: isLargest,
        table: conversionTable(from, to) ?? (0...255).map { UInt8($0) }), reads: [0])
  }
  let divisor = isMean ? Double(reduced) : 1
  return .operation(
    IntegerReduction(
      outer: outer, reduced: reduced, inner: x.type.count / outer / reduced, inputZero: from.zeroPoint,
      factor: Float(Double(from.scale) / (Double(to.scale) * divisor)), grid: to), reads: [0])
}
