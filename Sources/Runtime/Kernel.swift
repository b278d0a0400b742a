import IR

/// Code that computes one step, with everything fixed that can be fixed beforehand. Immutable and
/// shared by all workers.
protocol Kernel: Sendable {
  /// For reports.
  var name: String { get }
  /// Inputs whose constants were packed when the kernel was made: it gets nil for them.
  var consumedInputs: Set<Int> { get }
  /// The input that may lie in the memory of output 0, or has to be copied there; nil if none may.
  var inPlaceInput: Int? { get }
  /// Whether it needs ``KernelContext/oneDNN``.
  var usesOneDNN: Bool { get }
  /// Bytes of oneDNN's scratchpad.
  var scratchpadBytes: Int { get }
  /// Bytes of packed constants.
  var constantBytes: Int { get }
  /// Bytes of memory that a run needs for itself, piece by piece; they follow the outputs.
  var temporaries: [Int] { get }
  /// Computes the outputs. Inputs are the node's operands, then the addend of a fused sum.
  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic)
}

extension Kernel {
  var consumedInputs: Set<Int> { [] }
  var inPlaceInput: Int? { nil }
  var usesOneDNN: Bool { false }
  var scratchpadBytes: Int { 0 }
  var constantBytes: Int { 0 }
  var temporaries: [Int] { [] }
}

/// A kernel from the elements of input 0 to those of output 0, of one width; nothing happens where there are none.
protocol ElementKernel: Kernel {
  /// `Float`, or an integer as wide where elements are only moved.
  associatedtype Element
  func run(_ source: UnsafePointer<Element>, _ target: UnsafeMutablePointer<Element>)
}

extension ElementKernel {
  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let source = inputs[0]?.elements(as: Element.self).baseAddress,
      let target = outputs[0].elements(as: Element.self).baseAddress
    else { return }
    run(source, target)
  }
}

/// What a worker lends to its kernels.
struct KernelContext {
  /// nil where the plan has no oneDNN kernel.
  let oneDNN: OneDNNWorker?
}

/// A node fused behind a convolution or matrix product, applied element by element.
enum PostOperation: Sendable, Hashable {
  case relu(slope: Float)
  case clip(Float, Float)
  case hardSwish
  case sigmoid
  case tanh
  case gelu(tanh: Bool)
  case swish(Float)
  case elu(Float)
  case mish
  /// Adds the last input of the step.
  case sum
  /// A function with a constant for each channel, or one for all: the next of
  /// ``KernelRequest/channelValues``.
  case channels(ChannelFunction)
}

/// A function of a number and a constant of its channel.
enum ChannelFunction: Sendable, Hashable { case add, multiply, minimum, maximum }

/// A node for which a kernel is sought.
struct KernelRequest {
  let op: any Operator
  let inputs: [TensorType?]
  let outputs: [TensorType]
  /// Values of constant inputs, dense and in logical types; nil for activations.
  let constants: [Bytes?]
  /// What to compute behind the node; a kernel takes all or refuses.
  let postOperations: [PostOperation]
  /// The constants of those post-operations that have one for each channel, in their order.
  var channelValues: [Bytes] = []
  /// Whether input 0 lies there with its channels first, the Transpose in front of the node being left to
  /// the kernel.
  var isPlanar = false

  /// The type of input `index`, nil where it is absent.
  func input(_ index: Int) -> TensorType? { inputs.indices.contains(index) ? inputs[index] : nil }
  /// The constant of input `index`, nil where it is absent or an activation.
  func constant(_ index: Int) -> Bytes? {
    constants.indices.contains(index) ? constants[index] : nil
  }
  /// Whether all operands present are `float32` and hold at least one element.
  var isFloat: Bool {
    (inputs.compactMap { $0 } + outputs).allSatisfy { $0.element == .float32 && $0.count > 0 }
  }
  /// Why a loop of our own over floats does not take the request, nil where it may.
  var floatRefusal: KernelOffer? {
    isFloat && postOperations.isEmpty
      ? nil : .refused("native: an operand is empty or not float32")
  }
  /// Why a loop of our own that moves words of four bytes does not take the request, nil where it may.
  var wordRefusal: KernelOffer? {
    let isWords = outputs.allSatisfy { $0.element.byteWidth == 4 && $0.count > 0 }
    return isWords && postOperations.isEmpty
      ? nil : .refused("native: the tensor is empty or its elements have not four bytes")
  }
}

/// Answer to a request.
enum KernelOffer {
  case kernel(any Kernel)
  /// The operator is known but this case is not, for a reason.
  case refused(String)
  /// Not an operator of this maker.
  case unrelated
}

/// Makes kernels of one family.
struct KernelMaker: Sendable {
  let make: @Sendable (KernelRequest) -> KernelOffer
}

/// The operator's own plain code; takes everything.
struct ReferenceKernel: Kernel {
  let op: any Operator
  var name: String { "reference" }
  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    // An empty tensor may be long along other axes.
    guard outputs.contains(where: { $0.type.count > 0 }) else { return }
    try op.evaluate(inputs, outputs)
  }
}

/// Copies input 0 to output 0, unless both are the same memory.
struct CopyKernel: Kernel {
  var name: String { "copy" }
  var inPlaceInput: Int? { 0 }
  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let source = inputs[0]?.bytes.baseAddress, let target = outputs[0].bytes.baseAddress,
      source != UnsafeRawPointer(target)
    else { return }
    target.copyMemory(from: source, byteCount: outputs[0].bytes.count)
  }
}
