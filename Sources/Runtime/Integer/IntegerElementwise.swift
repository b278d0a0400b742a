import CIntegers
import IR
import Operators

// MARK: Functions of one number

/// A function of one activation: a table of 256 codes, computed by the operator's own kernel on the real
/// values of all codes. The same as dequantizing, applying and quantizing.
struct IntegerLookup: IntegerOperation {
  let table: [UInt8]

  func fastKernel() -> FastIntegerKernel { .kernel(LookupKernel(table: table)) }
}

struct LookupKernel: Kernel {
  let table: [UInt8]
  var name: String { "int8 table" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    qint_look_up(table, x, outputs[0].type.count, y)
  }
}

/// Codes of one grid as codes of another; nil where they are the same.
func conversionTable(_ from: CodeGrid, _ to: CodeGrid) -> [UInt8]? {
  if from.scale == to.scale && from.zeroPoint == to.zeroPoint && from.low >= to.low && from.high <= to.high {
    return nil
  }
  return (0...255).map { to.code(from.value($0)) }
}

/// An operator that applies one function to each number of its only operand.
private protocol FunctionOfOneNumber: Operator {}
extension Relu: FunctionOfOneNumber {}
extension ReluMinMax: FunctionOfOneNumber {}
extension LeakyRelu: FunctionOfOneNumber {}
extension HardSwish: FunctionOfOneNumber {}
extension HardSigmoid: FunctionOfOneNumber {}
extension Elu: FunctionOfOneNumber {}
extension Gelu: FunctionOfOneNumber {}
extension ElementWiseUnary: FunctionOfOneNumber {}
extension ParametricUnary: FunctionOfOneNumber {}
extension Border: FunctionOfOneNumber where Kind == ConvertBorder {}

@Sendable func makeIntegerLookup(_ request: IntegerRequest) -> IntegerOffer {
  guard request.op is any FunctionOfOneNumber, let x = request.input(0) else { return .unrelated }
  guard let from = x.codes, x.tensor.constant == nil else { return .refused("integer: the input \(x.problem)") }
  guard let to = request.outputs[0].codes else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard request.followers.isEmpty else { return .refused("integer: an activation stands behind it") }
  let count = from.isWide ? 1 << 16 : 1 << 8
  let type = TensorType(.float32, [count])
  let values = Bytes((0..<count).map { from.value($0) })
  do throws(Diagnostic) {
    let results = try Bytes(count: type.byteCount) { (target) throws(Diagnostic) in
      try request.op.evaluate(
        [TensorView(type: type, bytes: values.buffer)], [MutableTensorView(type: type, bytes: target)])
    }
    let made = results.array(of: Float.self)
    guard from.isWide || to.isWide else {
      return .operation(IntegerLookup(table: made.map { to.code($0) }), reads: [0])
    }
    return .operation(
      WideLookup(
        table: made.map { UInt16(truncatingIfNeeded: to.wholeCode($0)) }, isWideInput: from.isWide,
        isWideOutput: to.isWide), reads: [0])
  } catch {
    return .refused("integer: \(error.message)")
  }
}

// MARK: Functions of two numbers

/// Two activations combined, broadcast; p and q are the distances from their zero points:
///
///     sum               y = Float(p) * aScale + Float(q) * bScale
///     maximum, minimum  y = the larger or smaller one of Float(p) * aScale and Float(q) * bScale
///     product           y = Float(p * q) * aScale            p * q exact
///     quotient          y = Float(p) / Float(q) * aScale
///     code = clamp(rint(y + zero point)), NaN the lowest
struct IntegerArithmetic: IntegerOperation {
  enum Kind: Sendable { case sum, maximum, minimum, product, quotient }
  let kind: Kind
  let aShape: [Int]
  let bShape: [Int]
  let shape: [Int]
  let aZero: Int
  let bZero: Int
  let aScale: Float
  let bScale: Float
  let grid: CodeGrid
  let clamp: CodeClamp

  func fastKernel() -> FastIntegerKernel { .kernel(ArithmeticKernel(operation: self)) }
}

/// Rows of an ``IntegerArithmetic``: axes that both operands walk alike are joined.
struct ArithmeticKernel: Kernel {
  let operation: IntegerArithmetic
  private let shape: [Int]
  private let aSteps: [Int]
  private let bSteps: [Int]
  var name: String { "\(operation.grid.isWide ? "int16" : "int8") \(operation.kind)" }

  init(operation: IntegerArithmetic) {
    self.operation = operation
    var shape: [Int] = []
    var (aSteps, bSteps): ([Int], [Int]) = ([], [])
    let a = broadcastStrides(operation.aShape, to: operation.shape)
    let b = broadcastStrides(operation.bShape, to: operation.shape)
    for axis in operation.shape.indices.reversed() {
      let size = operation.shape[axis]
      if size == 1 { continue }
      if let last = shape.last, let aLast = aSteps.last, let bLast = bSteps.last,
        a[axis] == aLast * last, b[axis] == bLast * last
      {
        shape[shape.count - 1] = last * size
      } else {
        shape.append(size)
        aSteps.append(a[axis])
        bSteps.append(b[axis])
      }
    }
    self.shape = shape.isEmpty ? [1] : shape.reversed()
    self.aSteps = aSteps.isEmpty ? [0] : aSteps.reversed()
    self.bSteps = bSteps.isEmpty ? [0] : bSteps.reversed()
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    if operation.grid.isWide { return runWords(inputs, outputs) }
    guard let a = bytes(inputs[0]), let b = bytes(inputs[1]), let y = bytes(outputs[0]) else { return }
    let row = shape[shape.count - 1]
    let (low, high) = (Float(operation.clamp.range.lowerBound), Float(operation.clamp.range.upperBound))
    let zero = Float(operation.grid.zeroPoint)
    forEachRow(shape, aSteps, bSteps) { out, left, right in
      let p = qint_operand(
        codes: a + left, step: aSteps[shape.count - 1], zero: Int32(operation.aZero), scale: operation.aScale)
      let q = qint_operand(
        codes: b + right, step: bSteps[shape.count - 1], zero: Int32(operation.bZero), scale: operation.bScale)
      qint_combine(operation.kind.loop, p, q, row, zero, low, high, y + out)
    }
  }
}

extension ArithmeticKernel {
  private func runWords(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) {
    guard let a = words(inputs[0]), let b = words(inputs[1]), let y = words(outputs[0]) else { return }
    let last = shape.count - 1
    let (low, high) = (Float(operation.clamp.range.lowerBound), Float(operation.clamp.range.upperBound))
    let zero = Float(operation.grid.zeroPoint)
    forEachRow(shape, aSteps, bSteps) { out, left, right in
      let p = qint_word_operand(
        codes: a + left, step: aSteps[last], zero: Int32(operation.aZero), scale: operation.aScale)
      let q = qint_word_operand(
        codes: b + right, step: bSteps[last], zero: Int32(operation.bZero), scale: operation.bScale)
      qint_combine_words(operation.kind.loop, p, q, shape[last], zero, low, high, y + out)
    }
  }
}

extension IntegerArithmetic.Kind {
  fileprivate var loop: qint_binary {
    switch self {
    case .sum: qint_binary_sum
    case .maximum: qint_binary_maximum
    case .minimum: qint_binary_minimum
    case .product: qint_binary_product
    case .quotient: qint_binary_quotient
    }
  }
}

@Sendable func makeIntegerArithmetic(_ request: IntegerRequest) -> IntegerOffer {
  let kind: IntegerArithmetic.Kind
  var sign: Double = 1
  switch request.op {
  case is ElementWiseAdd: kind = .sum
  case is ElementWiseSubtract: (kind, sign) = (.sum, -1)
  case is ElementWiseMultiply: kind = .product
  case is ElementWiseDivide: kind = .quotient
  case is ElementWiseMaximum: kind = .maximum
  case is ElementWiseMinimum: kind = .minimum
  default: return .unrelated
  }
  guard let a = request.input(0), let b = request.input(1) else { return .unrelated }
  guard let aGrid = a.codes, let bGrid = b.codes else {
    return .refused("integer: an operand \(a.codes == nil ? a.problem : b.problem)")
  }
  guard let grid = request.outputs[0].codes else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard aGrid.isWide == grid.isWide, bGrid.isWide == grid.isWide else {
    return .refused("integer: operands and result have 8 and 16 bits")
  }
  guard let (clamp, bounds) = request.clamps(on: grid), bounds == nil else {
    return .refused("integer: an activation behind it has no integer form")
  }
  let (aScale, bScale) = (Double(aGrid.scale), Double(bGrid.scale))
  let factor =
    switch kind {
    case .sum, .maximum, .minimum: aScale
    case .product: aScale * bScale
    case .quotient: aScale / bScale
    }
  return .operation(
    IntegerArithmetic(
      kind: kind, aShape: a.type.shape, bShape: b.type.shape, shape: request.outputs[0].type.shape,
      aZero: aGrid.zeroPoint, bZero: bGrid.zeroPoint,
      aScale: Float(factor / Double(grid.scale)),
      bScale: Float(sign * bScale / Double(grid.scale)), grid: grid, clamp: clamp), reads: [0, 1])
}
