import Glibc
import IR
import Operators

// Loops of our own, compiled for their function: a reference kernel that is generic over its function
// calls it through a table for every element. The arithmetic is the reference's, bit for bit; only
// squares are products here and powers there.

/// Makers of all kernels of our own.
let nativeKernelMakers =
  [
    KernelMaker(make: makePlanesKernel), KernelMaker(make: makeChainKernel), KernelMaker(make: makeBinaryKernel),
    KernelMaker(make: makeUnaryKernel),
    KernelMaker(make: makePermuteKernel), KernelMaker(make: makeReduceKernel),
  ] + nativeMovingMakers

// MARK: Two operands

/// A function of two numbers with broadcasting; what ``ChainKernel`` can do comes there first.
struct BinaryKernel: Kernel {
  enum Function: String, Sendable { case add, subtract, multiply, divide, maximum, minimum, power, prelu }
  let function: Function
  let nest: BroadcastNest

  var name: String { "native \(function.rawValue)" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let a = inputs[0]?.elements(as: Float.self).baseAddress,
      let b = inputs[1]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    switch function {
    case .add: nest.apply(a, b, y) { $0 + $1 }
    case .subtract: nest.apply(a, b, y) { $0 - $1 }
    case .multiply: nest.apply(a, b, y) { $0 * $1 }
    case .divide: nest.apply(a, b, y) { $0 / $1 }
    case .maximum: nest.apply(a, b, y) { $0.isNaN ? $0 : $1 > $0 || $1.isNaN ? $1 : $0 }
    case .minimum: nest.apply(a, b, y) { $0.isNaN ? $0 : $1 < $0 || $1.isNaN ? $1 : $0 }
    case .power: nest.apply(a, b, y) { powf($0, $1) }
    case .prelu: nest.apply(a, b, y) { $0 < 0 ? $1 * $0 : $0 }
    }
  }
}

private func makeBinaryKernel(_ request: KernelRequest) -> KernelOffer {
  let function: BinaryKernel.Function
  switch request.op {
  case is ElementWiseAdd: function = .add
  case is ElementWiseSubtract: function = .subtract
  case is ElementWiseMultiply: function = .multiply
  case is ElementWiseDivide: function = .divide
  case is ElementWiseMaximum: function = .maximum
  case is ElementWiseMinimum: function = .minimum
  case is ElementWisePower: function = .power
  case is Prelu: function = .prelu
  default: return .unrelated
  }
  guard request.isFloat, request.postOperations.isEmpty, let a = request.input(0),
    let b = request.input(1)
  else { return .refused("native: an operand is empty or not float32") }
  if function == .power, b.count == 1, a.shape == request.outputs[0].shape,
    let exponent = request.constant(1), exponent.base.loadUnaligned(as: Float.self) == 2
  {
    return .kernel(UnaryKernel(function: .square, count: a.count))
  }
  let nest = BroadcastNest(a.shape, b.shape, to: request.outputs[0].shape)
  return .kernel(BinaryKernel(function: function, nest: nest))
}

/// The loops over two broadcast operands, with as few axes as possible.
struct BroadcastNest: Sendable, Hashable {
  /// Sizes from the outermost axis in; at least one axis.
  private(set) var sizes: [Int]
  /// Elements to step in each operand; 0 where it is repeated.
  private(set) var aSteps: [Int]
  private(set) var bSteps: [Int]

  /// The nest for dense operands of two shapes that broadcast to `shape`.
  init(_ a: [Int], _ b: [Int], to shape: [Int]) {
    (sizes, aSteps, bSteps) = ([], [], [])
    let (aStrides, bStrides) = (broadcastStrides(a, to: shape), broadcastStrides(b, to: shape))
    for axis in shape.indices where shape[axis] != 1 {
      let last = sizes.count - 1
      if last >= 0 && aSteps[last] == aStrides[axis] * shape[axis]
        && bSteps[last] == bStrides[axis] * shape[axis]
      {
        sizes[last] *= shape[axis]
        aSteps[last] = aStrides[axis]
        bSteps[last] = bStrides[axis]
      } else {
        sizes.append(shape[axis])
        aSteps.append(aStrides[axis])
        bSteps.append(bStrides[axis])
      }
    }
    if sizes.isEmpty { (sizes, aSteps, bSteps) = ([1], [1], [1]) }
  }

  /// Writes `body` of every pair of elements; `y` is dense and overlaps neither operand.
  @inline(__always)
  func apply(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    _ body: (Float, Float) -> Float
  ) {
    let last = sizes.count - 1
    let row = sizes[last]
    let (aInner, bInner) = (aSteps[last], bSteps[last])
    forEachRow(sizes, aSteps, bSteps) { done, aStart, bStart in
      let (x, z, target) = (a + aStart, b + bStart, y + done)
      if aInner == 0 {
        let value = x[0]
        for i in 0..<row { target[i] = body(value, z[i]) }
      } else if bInner == 0 {
        let value = z[0]
        for i in 0..<row { target[i] = body(x[i], value) }
      } else {
        for i in 0..<row { target[i] = body(x[i], z[i]) }
      }
    }
  }
}

// MARK: One operand

/// A function of one number, of those that no chain takes.
struct UnaryKernel: ElementKernel {
  enum Function: String, Sendable {
    case floor, ceiling, round, sine, cosine, logarithm, square
  }
  let function: Function
  /// Number of elements.
  let count: Int

  var name: String { "native \(function.rawValue)" }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    switch function {
    case .floor: map(x, y, count) { $0.rounded(.down) }
    case .ceiling: map(x, y, count) { $0.rounded(.up) }
    case .round: map(x, y, count) { $0.rounded(.toNearestOrEven) }
    case .sine: map(x, y, count) { sinf($0) }
    case .cosine: map(x, y, count) { cosf($0) }
    case .logarithm: map(x, y, count) { logf($0) }
    case .square: map(x, y, count) { $0 * $0 }
    }
  }

  @inline(__always)
  private func map(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int,
    _ body: (Float) -> Float
  ) {
    for index in 0..<count { y[index] = body(x[index]) }
  }
}

private func makeUnaryKernel(_ request: KernelRequest) -> KernelOffer {
  let function: UnaryKernel.Function
  switch request.op {
  case is ElementWiseFloor: function = .floor
  case is ElementWiseCeil: function = .ceiling
  case is ElementWiseRound: function = .round
  case is ElementWiseSin: function = .sine
  case is ElementWiseCos: function = .cosine
  case is ElementWiseLog: function = .logarithm
  default: return .unrelated
  }
  if let refusal = request.floatRefusal { return refusal }
  return .kernel(UnaryKernel(function: function, count: request.outputs[0].count))
}

// MARK: Reduction

/// Reduces one axis of [outer, reduced, inner] in Double, in the order of memory.
struct ReduceKernel: ElementKernel {
  enum Function: String, Sendable { case mean, sum, maximum, minimum }
  let function: Function
  let outer: Int
  let reduced: Int
  let inner: Int

  var name: String { "native \(function.rawValue)" }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    let size = Double(reduced)
    switch function {
    case .mean: fold(x, y, start: 0, { $0 + $1 }, { $0 / size })
    case .sum: fold(x, y, start: 0, { $0 + $1 }, { $0 })
    case .maximum: fold(x, y, start: -.infinity, { $1.isNaN ? $1 : max($0, $1) }, { $0 })
    case .minimum: fold(x, y, start: .infinity, { $1.isNaN ? $1 : min($0, $1) }, { $0 })
    }
  }

  @inline(__always)
  private func fold(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, start: Double,
    _ combine: (Double, Double) -> Double, _ finish: (Double) -> Double
  ) {
    if inner == 1 {
      for row in 0..<outer {
        var sum = start
        let line = x + row * reduced
        for index in 0..<reduced { sum = combine(sum, Double(line[index])) }
        y[row] = Float(finish(sum))
      }
      return
    }
    withUnsafeTemporaryAllocation(of: Double.self, capacity: inner) { sums in
      guard let sums = sums.baseAddress else { return }
      for block in 0..<outer {
        for index in 0..<inner { sums[index] = start }
        for step in 0..<reduced {
          let line = x + (block * reduced + step) * inner
          for index in 0..<inner { sums[index] = combine(sums[index], Double(line[index])) }
        }
        for index in 0..<inner { y[block * inner + index] = Float(finish(sums[index])) }
      }
    }
  }
}

private func makeReduceKernel(_ request: KernelRequest) -> KernelOffer {
  let (function, axes): (ReduceKernel.Function, [Int])
  switch request.op {
  case let op as ReduceMean: (function, axes) = (.mean, op.axes)
  case let op as ReduceSum: (function, axes) = (.sum, op.axes)
  case let op as ReduceMax: (function, axes) = (.maximum, op.axes)
  case let op as ReduceMin: (function, axes) = (.minimum, op.axes)
  default: return .unrelated
  }
  guard request.isFloat, request.postOperations.isEmpty, let x = request.input(0) else {
    return .refused("native: an operand is empty or not float32")
  }
  // Axes of size 1 do not matter; the others must be neighbours.
  let relevant = axes.filter { x.shape[$0] != 1 }
  guard let first = relevant.first, let last = relevant.last else {
    return .kernel(ReduceKernel(function: function, outer: x.count, reduced: 1, inner: 1))
  }
  let between = (first...last).filter { x.shape[$0] != 1 }
  guard between == relevant else { return .refused("native: axes \(axes) are not neighbours") }
  return .kernel(
    ReduceKernel(
      function: function, outer: x.shape[..<first].reduce(1, *),
      reduced: relevant.map { x.shape[$0] }.reduce(1, *),
      inner: x.shape[(last + 1)...].reduce(1, *)))
}
