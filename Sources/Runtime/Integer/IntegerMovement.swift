import CIntegers
import IR
import Operators

/// An operator that only moves or repeats numbers, on codes; inputs with another grid than the output's
/// are converted by a table first.
struct IntegerMovement: IntegerOperation {
  let op: any Operator
  /// For each input the codes of the output's grid for its codes; nil where it has that grid, or is none.
  let tables: [[UInt8]?]
  /// Types on which the operator is evaluated: bytes, where the operator knows them.
  let outputs: [TensorType]
  /// Whether the operator knows floats only: codes are handed to it as floats, which it does not change.
  let needsFloats: Bool

  /// The operator itself on codes.
  func move(_ inputs: [TensorView?], _ results: [MutableTensorView]) throws(Diagnostic) {
    guard needsFloats else { return try op.evaluate(inputs, results) }
    guard let input = inputs[0], let y = bytes(results[0]) else { return }
    let codes = Bytes(input.bytes.map { Float($0) })
    let type = TensorType(.float32, input.type.shape)
    let made = try Bytes(count: outputs[0].count * 4) { (target) throws(Diagnostic) in
      try op.evaluate(
        [TensorView(type: type, bytes: codes.buffer)] + inputs.dropFirst(),
        [MutableTensorView(type: TensorType(.float32, outputs[0].shape), bytes: target)])
    }
    for (index, code) in made.array(of: Float.self).enumerated() { y[index] = UInt8(code) }
  }

  func fastKernel() -> FastIntegerKernel {
    let isWide = outputs.contains { $0.element == .uint16 }
    if let transpose = op as? Transpose,
      let kernel = TransposeCodesKernel(inputShape, transpose, tables[0], isWide: isWide)
    {
      return .kernel(kernel)
    }
    if isWide { return .kernel(MovementKernel(operation: self)) }
    guard tables.count == 1, outputs.count == 1, let map = MovementMap(self) else {
      return needsFloats ? .plain("the tensor is too large for a map") : .kernel(MovementKernel(operation: self))
    }
    return .kernel(GatherCodesKernel(map: map, table: tables[0]))
  }

  /// Shape of the data input, where it is the only one.
  fileprivate let inputShape: [Int]
}

/// Where each run of bytes of a result comes from, found by moving numbers instead of codes.
struct MovementMap: Sendable {
  /// Place of each run in the input, negative where it is filled.
  let starts: [Int32]
  let run: Int
  let fill: UInt8

  /// nil where the places are beyond what a Float counts.
  fileprivate init?(_ movement: IntegerMovement) {
    let (count, result) = (movement.inputShape.reduce(1, *), movement.outputs[0].count)
    guard count > 0, result > 0, count < 1 << 24, result < 1 << 24 else { return nil }
    var op = movement.op
    var fill: UInt8 = 0
    if var pad = op as? Pad, pad.scheme == .constant {
      fill = UInt8(pad.value)
      pad.value = -1
      op = pad
    }
    let places = Bytes((0..<count).map { Float($0) })
    let type = TensorType(.float32, movement.outputs[0].shape)
    let evaluated = try? Bytes(count: type.byteCount) { (target) throws(Diagnostic) in
      try op.evaluate(
        [TensorView(type: TensorType(.float32, movement.inputShape), bytes: places.buffer)],
        [MutableTensorView(type: type, bytes: target)])
    }
    guard let evaluated else { return nil }
    let map = evaluated.array(of: Float.self).map { Int32($0) }
    // The longest run length, among divisors of the last axes, whose runs are all unbroken.
    var run = 1
    for size in type.shape.reversed() where size > 1 {
      let longer = run * size
      let isUnbroken = map.indices.allSatisfy { place in
        let (first, step) = (map[place - place % longer], Int32(place % longer))
        return first < 0 ? map[place] < 0 : map[place] == first + step
      }
      guard isUnbroken else { break }
      run = longer
    }
    starts = stride(from: 0, to: result, by: run).map { map[$0] }
    self.run = run
    self.fill = fill
  }
}

struct GatherCodesKernel: Kernel {
  let map: MovementMap
  let table: [UInt8]?
  var name: String { table == nil ? "int8 move" : "int8 move, table" }
  var constantBytes: Int { map.starts.count * 4 }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    qint_gather(map.starts, map.starts.count, map.run, map.fill, x, y)
    if let table { qint_look_up(table, y, outputs[0].type.count, y) }
  }
}

/// Transposes that exchange two blocks of axes.
struct TransposeCodesKernel: Kernel {
  let count: Int
  let rows: Int
  let columns: Int
  let table: [UInt8]?
  let isWide: Bool
  var name: String { "\(isWide ? "int16" : "int8") transpose\(table == nil ? "" : ", table")" }

  /// nil for other permutations.
  init?(_ shape: [Int], _ op: Transpose, _ table: [UInt8]?, isWide: Bool) {
    let simple = simplifiedPermutation(shape: shape, permutation: op.perm)
    switch simple.permutation {
    case [1, 0]: (count, rows, columns) = (1, simple.shape[0], simple.shape[1])
    case [0, 2, 1]: (count, rows, columns) = (simple.shape[0], simple.shape[1], simple.shape[2])
    default: return nil
    }
    self.table = table
    self.isWide = isWide
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    if isWide, let x = words(inputs[0]), let y = words(outputs[0]) {
      return qint_transpose_words(x, count, rows, columns, y)
    }
    guard let x = bytes(inputs[0]), let y = bytes(outputs[0]) else { return }
    qint_transpose(x, count, rows, columns, y)
    if let table { qint_look_up(table, y, outputs[0].type.count, y) }
  }
}

/// Movements of several inputs or outputs: the operator's own copying of rows.
struct MovementKernel: Kernel {
  let operation: IntegerMovement
  var name: String {
    let kind = operation.outputs.contains { $0.element == .uint16 } ? "int16" : "int8"
    return operation.tables.contains { $0 != nil }
      ? "\(kind) table, \(operation.op.typeName)" : "\(kind) \(operation.op.typeName)"
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    try operation.evaluate(inputs, outputs)
  }
}

@Sendable func makeIntegerMovement(_ request: IntegerRequest) -> IntegerOffer {
  var op = request.op
  var data = [0]
  var needsFloats = false
  switch op {
  case is Reshape, is Transpose, is Expand, is Tile, is Split, is StridedSlice, is DepthToSpace,
    is SpaceToDepth, is ChannelShuffle, is Gather:
    break
  case is Concat: data = Array(request.inputs.indices)
  case let resize as Resize:
    guard case .sameAsInput = resize.quantization.output(0) else { return .unrelated }
    needsFloats = true
  case is ResizeNearestNeighbor: needsFloats = true
  case is Pad: break
  default: return .unrelated
  }
  guard let to = request.outputs[0].codes, request.outputs.allSatisfy({ $0.codes != nil }) else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  guard request.followers.isEmpty, request.outputs.allSatisfy({ $0.codes == to }) else {
    return .refused("integer: outputs have grids of their own")
  }
  if to.isWide && needsFloats { return .refused("integer: \(op.typeName) has 16 bits") }
  var tables: [[UInt8]?] = []
  for (index, input) in request.inputs.enumerated() {
    guard data.contains(index) else {
      tables.append(nil)
      continue
    }
    guard let from = input?.codes else {
      return .refused("integer: an input \(input?.problem ?? "is missing")")
    }
    if from.isWide || to.isWide {
      guard from == to else { return .refused("integer: an input of 16 bits has a grid of its own") }
      tables.append(nil)
    } else {
      tables.append(conversionTable(from, to))
    }
  }
  if var pad = op as? Pad {
    guard let from = request.input(0)?.codes else { return .unrelated }
    // The border is filled before the table is applied.
    pad.value = Float(pad.scheme == .constant ? from.wholeCode(pad.value) : 0)
    op = pad
    if tables[0] != nil { return .refused("integer: input and output of a Pad have grids of their own") }
  }
  guard request.inputs.count == 1 || !needsFloats else { return .refused("integer: sizes are computed") }
  return .operation(
    IntegerMovement(
      op: op, tables: tables, outputs: request.outputs.map { TensorType(to.element, $0.type.shape) },
      needsFloats: needsFloats, inputShape: request.input(0)?.type.shape ?? []),
    reads: Array(request.inputs.indices))
}
