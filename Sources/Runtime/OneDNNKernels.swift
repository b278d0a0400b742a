import COneDNN
import IR
import Operators

/// A primitive with one or two activations as inputs and, possibly, a fused sum.
struct OneDNNKernel: Kernel {
  let primitive: OneDNNPrimitive
  /// Place of the second activation among the inputs.
  var secondInput: Int?
  var consumedInputs: Set<Int> = []
  /// Place of the addend among the inputs: it has to lie in the output before.
  var addend: Int?
  /// Whether input 0 may lie in the memory of the output.
  var overwritesInput = false

  var name: String { "oneDNN \(primitive.implementation)" }
  var inPlaceInput: Int? { addend ?? (overwritesInput ? 0 : nil) }
  var usesOneDNN: Bool { true }
  var scratchpadBytes: Int { primitive.scratchpadBytes }
  var constantBytes: Int { primitive.constantBytes }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let worker = context.oneDNN, let source = floats(inputs[0]),
      let target = outputs[0].elements(as: Float.self).baseAddress
    else { throw Diagnostic("onednn", "an operand has no memory", kind: .internal) }
    if let addend, let initial = floats(inputs[addend]), initial != UnsafePointer(target) {
      target.update(from: initial, count: outputs[0].type.count)
    }
    try worker.execute(primitive, source, secondInput.flatMap { floats(inputs[$0]) }, target)
  }

  private func floats(_ view: TensorView?) -> UnsafePointer<Float>? {
    view?.elements(as: Float.self).baseAddress
  }
}

extension OneDNN {
  /// Makers of all oneDNN kernels.
  static let kernelMakers = [
    KernelMaker(make: convolution), KernelMaker(make: matrixProduct), KernelMaker(make: pool),
    KernelMaker(make: softmax), KernelMaker(make: elementWise),
    KernelMaker(make: layerNorm), KernelMaker(make: upsampling), KernelMaker(make: deconvolution),
    KernelMaker(make: recurrence),
  ]

  /// An offer of the kernel that `make` gives, or the reason why it failed.
  static func offer(
    _ make: () throws(Diagnostic) -> OneDNNKernel
  ) -> KernelOffer {
    do throws(Diagnostic) {
      return .kernel(try make())
    } catch {
      return .refused("oneDNN: \(error.message)")
    }
  }

  /// Calls `body` with the post-operations of a request; it does not keep them.
  static func withPostOps<Result>(
    _ request: KernelRequest, _ body: (UnsafePointer<qdnn_post_op>?, Int) -> Result
  ) -> Result {
    let values = request.channelValues.map { $0.aligned(to: 4) }
    return withExtendedLifetime(values) {
      var next = values.makeIterator()
      let list = request.postOperations.map { operation in
        var result = qdnn_post_op(function: .relu, alpha: 0, beta: 0, values: nil, value_count: 0)
        switch operation {
        case .relu(let slope): result.alpha = slope
        case .clip(let low, let high): (result.function, result.alpha, result.beta) = (.clip, low, high)
        case .hardSwish: result.function = .hard_swish
        case .sigmoid: result.function = .sigmoid
        case .tanh: result.function = .tanh
        case .gelu(let tanh): result.function = tanh ? .gelu_tanh : .gelu_erf
        case .swish(let a): (result.function, result.alpha) = (.swish, a)
        case .elu(let alpha): (result.function, result.alpha) = (.elu, alpha)
        case .mish: result.function = .mish
        case .sum: result.function = .sum
        case .channels(let function):
          switch function {
          case .add: result.function = .channel_add
          case .multiply: result.function = .channel_multiply
          case .minimum: result.function = .channel_minimum
          case .maximum: result.function = .channel_maximum
          }
          if let bytes = next.next() {
            result.values = bytes.base.assumingMemoryBound(to: Float.self)
            result.value_count = bytes.count / 4
          }
        }
        return result
      }
      return list.withUnsafeBufferPointer { body($0.baseAddress, $0.count) }
    }
  }

  static func axes(
    _ geometry: WindowGeometry, input: [Int], output: [Int]
  ) -> [qdnn_axis] {
    geometry.filter.indices.map { axis in
      qdnn_axis(
        in: input[axis + 1], out: output[axis + 1], kernel: geometry.filter[axis],
        stride: geometry.stride[axis], dilation: geometry.dilation[axis],
        pad_begin: geometry.pads[2 * axis])
    }
  }

  /// The place of the addend behind a node's own inputs, nil without a fused sum.
  static func addendIndex(_ request: KernelRequest) -> Int? {
    request.postOperations.contains(.sum) ? request.inputs.count : nil
  }

  /// Throws where fusing would change bits: only the `brg` kernels add a sum to the finished result,
  /// bias included; the others start the accumulation with it or add the bias after it.
  static func requireSameBits(
    _ primitive: OneDNNPrimitive, _ request: KernelRequest
  ) throws(Diagnostic) {
    let implementation = primitive.implementation
    guard !implementation.hasPrefix("brg") else { return }
    if request.postOperations.contains(.sum) {
      throw Diagnostic("onednn", "\(implementation) rounds a fused sum in another order")
    }
    if !request.channelValues.isEmpty {
      throw Diagnostic("onednn", "\(implementation) is slow with constants a channel")
    }
  }

  private static func convolution(_ request: KernelRequest) -> KernelOffer {
    guard let x = request.input(0), let w = request.input(1) else { return .unrelated }
    let (geometry, group): (WindowGeometry, Int)
    switch request.op {
    case let op as Conv2d: (geometry, group) = (op.geometry(weight: w.shape), op.group)
    case let op as Conv3d: (geometry, group) = (op.geometry(weight: w.shape), op.group)
    case let op as DepthWiseConv2d:
      (geometry, group) = (op.grouped(channels: 1).geometry(weight: w.shape), x.shape[3])
    default: return .unrelated
    }
    guard request.isFloat else { return .refused("oneDNN: an operand is empty or not float32") }
    guard let weight = request.constant(1) else { return .refused("oneDNN: weight is computed") }
    if request.takesPlanes { return .refused("oneDNN: vectors would be half empty with so few channels") }
    let bias = request.constant(2)
    if request.input(2) != nil && bias == nil { return .refused("oneDNN: bias is computed") }
    let y = request.outputs[0]
    let axes = axes(geometry, input: x.shape, output: y.shape)
    let (channels, filters) = (x.shape[x.rank - 1], y.shape[y.rank - 1])
    return offer { () throws(Diagnostic) in
      let primitive = try OneDNNPrimitive { error, capacity in
        withPostOps(request) { postOps, count in
          withFloats(weight, bias) { weight, bias in
            weight.flatMap {
              qdnn_conv_create(
                axes.count, axes, x.shape[0], channels, filters, group, $0, bias, postOps, count, error,
                capacity)
            }
          }
        }
      }
      try requireSameBits(primitive, request)
      return OneDNNKernel(
        primitive: primitive, consumedInputs: [1, 2], addend: addendIndex(request))
    }
  }

  private static func matrixProduct(_ request: KernelRequest) -> KernelOffer {
    guard let a = request.input(0), let b = request.input(1) else { return .unrelated }
    let (transposeA, transposeB): (Bool, Bool)
    switch request.op {
    case is FullyConnected: (transposeA, transposeB) = (false, true)
    case let product as MatMul:
      (transposeA, transposeB) = (product.transposeIn0, product.transposeIn1)
    default: return .unrelated
    }
    guard request.isFloat else { return .refused("oneDNN: an operand is empty or not float32") }
    let constant = request.constant(1)
    let bias = request.constant(2)
    if request.input(2) != nil && bias == nil { return .refused("oneDNN: bias is computed") }
    let (batchA, batchB) = (a.shape.dropLast(2), b.shape.dropLast(2))
    let (countA, countB) = (batchA.reduce(1, *), batchB.reduce(1, *))
    let isSame = batchA.drop(while: { $0 == 1 }) == batchB.drop(while: { $0 == 1 })
    guard countA == 1 || countB == 1 || isSame else {
      return .refused("oneDNN: batch axes are repeated on both sides")
    }
    let y = request.outputs[0].shape
    let (m, n) = (y[y.count - 2], y[y.count - 1])
    let k = a.shape[transposeA ? a.rank - 2 : a.rank - 1]
    let layout =
      (transposeA ? UInt32(qdnn_matmul_transpose_a) : 0)
      | (transposeB ? UInt32(qdnn_matmul_transpose_b) : 0)
      | (constant?.isMapped == true ? UInt32(qdnn_matmul_mapped_b) : 0)
    return offer { () throws(Diagnostic) in
      let primitive = try OneDNNPrimitive { error, capacity in
        withPostOps(request) { postOps, count in
          withFloats(constant, bias) { constant, bias in
            qdnn_matmul_create(
              countA, countB, m, k, n, layout, constant, bias, postOps, count, error, capacity)
          }
        }
      }
      try requireSameBits(primitive, request)
      return OneDNNKernel(
        primitive: primitive, secondInput: constant == nil ? 1 : nil,
        consumedInputs: constant == nil ? [2] : [1, 2], addend: addendIndex(request))
    }
  }

  private static func pool(_ request: KernelRequest) -> KernelOffer {
    let (kind, geometry): (qdnn_pooling, WindowGeometry)
    switch request.op {
    case let op as PoolMax2d: (kind, geometry) = (.max, op.geometry)
    case let op as PoolMax3d: (kind, geometry) = (.max, op.geometry)
    case let op as PoolAvg2d:
      kind = op.countPadForEdges ? .average_include_pad : .average_exclude_pad
      geometry = op.geometry
    case let op as PoolAvg3d:
      kind = op.countPadForEdges ? .average_include_pad : .average_exclude_pad
      geometry = op.geometry
    default: return .unrelated
    }
    guard request.isFloat, request.postOperations.isEmpty, let x = request.input(0) else {
      return .refused("oneDNN: an operand is empty")
    }
    // It visits the padding too, place by place.
    guard zip(geometry.filter, geometry.dilation).allSatisfy({ $0 <= 4096 && $1 <= 4096 }) else {
      return .refused("oneDNN: the window is too large")
    }
    let axes = axes(geometry, input: x.shape, output: request.outputs[0].shape)
    return offer { () throws(Diagnostic) in
      OneDNNKernel(
        primitive: try OneDNNPrimitive {
          qdnn_pool_create(kind, axes.count, axes, x.shape[0], x.shape[x.rank - 1], $0, $1)
        })
    }
  }

  private static func softmax(_ request: KernelRequest) -> KernelOffer {
    let (axis, logarithm): (Int, Int32)
    switch request.op {
    case let op as Softmax:
      if op.beta != 1 { return .refused("oneDNN: beta is not 1") }
      if let x = request.input(0), isShortSoftmax(x.shape, axis: op.axis) {
        return .refused("oneDNN: slow for rows of \(x.shape[op.axis])")
      }
      (axis, logarithm) = (op.axis, 0)
    case let op as LogSoftmax: (axis, logarithm) = (op.axis, 1)
    default: return .unrelated
    }
    guard request.isFloat, request.postOperations.isEmpty, let x = request.input(0) else {
      return .refused("oneDNN: an operand is empty")
    }
    let outer = x.shape[..<axis].reduce(1, *)
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    return offer { () throws(Diagnostic) in
      OneDNNKernel(
        primitive: try OneDNNPrimitive {
          qdnn_softmax_create(logarithm, outer, x.shape[axis], inner, $0, $1)
        }, overwritesInput: true)
    }
  }

  /// Functions of one number. The ones that can be fused must be computed here when they are not, so
  /// that fusing changes no bit; clamps have the same bits everywhere (``ChainKernel``). `ElementWiseLog` is left out: oneDNN's is off by 4e-6.
  private static func elementWise(_ request: KernelRequest) -> KernelOffer {
    let (function, alpha, beta): (qdnn_function, Float, Float)
    switch request.op {
    case is HardSwish: (function, alpha, beta) = (.hard_swish, 0, 0)
    case is Sigmoid: (function, alpha, beta) = (.sigmoid, 0, 0)
    case is Tanh: (function, alpha, beta) = (.tanh, 0, 0)
    case is ElementWiseExp: (function, alpha, beta) = (.exp, 0, 0)
    case let op as Gelu:
      (function, alpha, beta) = (op.approximate == .tanh ? .gelu_tanh : .gelu_erf, 0, 0)
    case let op as Swish: (function, alpha, beta) = (.swish, op.a, 0)
    case let op as Elu: (function, alpha, beta) = (.elu, op.alpha, 0)
    case is Mish: (function, alpha, beta) = (.mish, 0, 0)
    default: return .unrelated
    }
    guard request.isFloat, request.postOperations.isEmpty else {
      return .refused("oneDNN: an operand is empty or not float32")
    }
    let count = request.outputs[0].count
    return offer { () throws(Diagnostic) in
      OneDNNKernel(
        primitive: try OneDNNPrimitive {
          qdnn_eltwise_create(function, alpha, beta, count, $0, $1)
        }, overwritesInput: true)
    }
  }

  /// Calls `body` with the floats of two constants, nil where there is none.
  static func withFloats<Result>(
    _ first: Bytes?, _ second: Bytes?,
    _ body: (UnsafePointer<Float>?, UnsafePointer<Float>?) -> Result
  ) -> Result {
    let (first, second) = (first?.aligned(to: 4), second?.aligned(to: 4))
    return withExtendedLifetime((first, second)) {
      body(
        first?.base.assumingMemoryBound(to: Float.self),
        second?.base.assumingMemoryBound(to: Float.self))
    }
  }
}
