import IR
import Operators

/// What an operator computes in integers, apart from how: made from the graph alone, the same on every
/// machine. Activations are unsigned codes (see ``CodeGrid``).
protocol IntegerOperation: Sendable {
  /// The plain evaluation that defines the result. Views are dense; those of activations hold codes.
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic)
  /// A fast kernel with the same bits, and why a faster one was not taken.
  func fastKernel() -> FastIntegerKernel
}

/// A kernel for an operation, or the reason why there is only the plain one.
enum FastIntegerKernel {
  case kernel(any Kernel)
  case plain(String)
}

/// The plain evaluation as a kernel.
struct PlainIntegerKernel: Kernel {
  let operation: any IntegerOperation
  var name: String { "plain integers" }
  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard outputs.contains(where: { $0.type.count > 0 }) else { return }
    try operation.evaluate(inputs, outputs)
  }
}

/// A node for which integers are sought, with the activations that are quantized together with it.
struct IntegerRequest {
  /// An operand or a result.
  struct Operand {
    let tensor: Tensor
    /// Its grid where its codes are held as bytes or words.
    let codes: CodeGrid?
    /// Its grid where they are bytes.
    var grid: CodeGrid? { codes.flatMap { $0.isWide ? nil : $0 } }
    /// Logical type.
    var type: TensorType { tensor.type.logical }
    /// What makes it unfit for bytes, for messages.
    var problem: String {
      guard tensor.type.logical.element == .float32 else { return "is \(tensor.type)" }
      guard let encoding = tensor.encoding else { return "is float" }
      if encoding.bitwidth > 8 { return "has \(encoding.bitwidth) bits" }
      return encoding.axis != nil ? "has a grid a channel" : "has no zero among its codes"
    }
  }
  /// An activation fused behind the node.
  struct Follower {
    let op: any Operator
    /// The real values and the shape of its second operand, where it has one.
    let constant: (values: [Float], shape: [Int])?
  }

  let op: any Operator
  let inputs: [Operand?]
  let outputs: [Operand]
  let followers: [Follower]

  /// Input `index`, nil where it is absent.
  func input(_ index: Int) -> Operand? { inputs.indices.contains(index) ? inputs[index] : nil }
}

/// The answer to a request.
enum IntegerOffer {
  /// The operation, and the inputs that it reads when it runs; the others are nil then.
  case operation(any IntegerOperation, reads: [Int])
  /// The operator is known but this case is not, for a reason.
  case refused(String)
  /// Not an operator of this maker.
  case unrelated
}

/// All makers of integer operations.
let integerMakers: [@Sendable (IntegerRequest) -> IntegerOffer] = [
  makeIntegerAccumulation, makeIntegerLookup, makeIntegerArithmetic, makeIntegerPool,
  makeIntegerReduction, makeIntegerSoftmax, makeIntegerNormalization,
  makeIntegerAffine, makeIntegerResampling, makeIntegerMovement,
]

extension IntegerRequest {
  /// The clamp that all followers amount to, with an upper bound a channel where one has them; nil where
  /// a follower is no clamp.
  func clamps(on grid: CodeGrid) -> (clamp: CodeClamp, bounds: [UInt16]?)? {
    var clamp = CodeClamp(grid)
    var bounds: [UInt16]?
    for follower in followers {
      // A clamp behind the bounds would have to be applied to them too.
      guard bounds == nil else { return nil }
      switch follower.op {
      case is Relu: clamp.clamp(0, .nan, on: grid)
      case let op as ReluMinMax: clamp.clamp(op.minValue, op.maxValue, on: grid)
      case is ElementWiseMinimum:
        guard let (values, shape) = follower.constant, let channels = outputs.first?.type.shape.last,
          shape.last ?? 1 == values.count, [1, channels].contains(values.count)
        else { return nil }
        let limits = values.map { UInt16(grid.wholeCode(steps: $0 / grid.scale, in: grid.range)) }
        bounds = limits.count == channels ? limits : [UInt16](repeating: limits[0], count: channels)
      default: return nil
      }
    }
    return (clamp, bounds)
  }
}

extension Tensor {
  /// Whole steps of a quantized constant, (code + offset) of every element in order; nil where it has no
  /// encoding.
  func constantSteps() -> [Int]? {
    guard let constant, let encoding else { return nil }
    var codes: [Int]
    if constant.type.element.isFixedPoint {
      codes = constant.integers() ?? []
    } else {
      let stored = TensorType(encoding.storage, constant.type.shape)
      let bytes = encoding.quantized(constant.floats(), shape: constant.type.shape)
      codes = Constant(type: stored, bytes: bytes).integers() ?? []
    }
    let shift = encoding.storageShift
    encoding.forEachChannelRun(shape: constant.type.shape) { channel, start, count in
      let add = Int(encoding.channels[channel].offset) - shift
      for index in start..<(start + count) { codes[index] += add }
    }
    return codes.count == constant.type.count ? codes : nil
  }
}

/// The bytes of a view.
@inline(__always)
func bytes(_ view: TensorView?) -> UnsafePointer<UInt8>? {
  view?.elements(as: UInt8.self).baseAddress
}

/// The words of a view.
@inline(__always)
func words(_ view: TensorView?) -> UnsafePointer<UInt16>? {
  view?.elements(as: UInt16.self).baseAddress
}

/// The words of a view to write.
@inline(__always)
func words(_ view: MutableTensorView) -> UnsafeMutablePointer<UInt16>? {
  view.elements(as: UInt16.self).baseAddress
}

/// The bytes of a view to write.
@inline(__always)
func bytes(_ view: MutableTensorView) -> UnsafeMutablePointer<UInt8>? {
  view.elements(as: UInt8.self).baseAddress
}
