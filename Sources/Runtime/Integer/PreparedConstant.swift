import IR
import Operators

extension Tensor {
  /// The value of a constant as kernels over real numbers read it: fixed point dequantized, `grid` applied.
  func preparedValue(_ constant: Constant, on grid: ValueGrid?) -> Bytes {
    let shape = constant.type.shape
    if let encoding, constant.type.element.isFixedPoint { return Bytes(encoding.dequantized(constant)) }
    if constant.type.element == .float16 { return Bytes(constant.floats()) }
    guard let grid, constant.type.count > 0 else {
      return constant.materialized().aligned(to: max(constant.type.element.byteWidth, 1))
    }
    // A half-precision constant as it will be stored: numbers beyond the range at its end.
    let stored = grid == .half ? Constant(constant.halved().floats(), shape: shape) : constant
    let source = stored.materialized().aligned(to: 4)
    return Bytes(count: source.count) { target in
      let floats = target.bindMemory(to: Float.self)
      guard let to = floats.baseAddress else { return }
      grid.apply(source.base.assumingMemoryBound(to: Float.self), into: to, shape: shape)
    }
  }

  /// The grid that the simulation applies to the tensor after it is made, nil where there is none.
  var valueGrid: ValueGrid? {
    guard type.element.logical == .float32 else { return nil }
    if let encoding { return .encoding(encoding) }
    return type.element == .float16 || (state == .float && bitwidth == 16) ? .half : nil
  }
}

extension Graph {
  /// Whether a node's output has the bytes of its input, in the same order.
  func isView(_ node: Node) -> Bool {
    guard node.outputs.count == 1, let id = node.inputs.first ?? nil else { return false }
    let (input, output) = (self[id].type.logical, self[node.outputs[0]].type.logical)
    guard input.count == output.count, input.element == output.element else { return false }
    switch node.op {
    case is Reshape, is Cast, is Convert, is Quantize, is Dequantize, is Expand: return true
    case let op as StridedSlice: return op.step.allSatisfy { $0 > 0 }
    case is Concat: return node.inputs.count == 1
    case let op as Transpose:
      return simplifiedPermutation(shape: input.shape, permutation: op.perm).shape.count <= 1
    default: return false
    }
  }
}
