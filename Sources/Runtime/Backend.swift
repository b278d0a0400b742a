import IR

/// What a plan is prepared for.
public struct PlanOptions: Sendable {
  /// Whether encodings are applied: activations are quantized and dequantized after the node that
  /// makes them, constants once. Without it encodings are ignored; fixed-point constants are
  /// dequantized either way.
  public var simulate: Bool
  /// Tensors that the caller wants to see. They are computed as they stand in the graph, at the price
  /// of fusions around them; all other tensors keep their bits.
  public var taps: Set<TensorID>

  /// Makes options; by default encodings are applied and no tensor is tapped.
  public init(simulate: Bool = true, taps: Set<TensorID> = []) {
    self.simulate = simulate
    self.taps = taps
  }
}

/// What a plan does in one step.
public struct StepReport: Sendable, Hashable {
  /// Name of the node, or of the first one where several are computed at once.
  public var node: String
  /// QNN name of its operator.
  public var operatorName: String
  /// Names of the nodes computed in the same step, in order.
  public var fused: [String]
  /// The kernel that computes it, `oneDNN brgconv:avx512_core` say.
  public var kernel: String
  /// Why kernels that come before it were not taken.
  public var refusals: [String]
  /// Multiply-accumulate operations of one run.
  public var macs: Int
  /// Whether an operator on fixed point runs on dequantized numbers, for want of an integer kernel;
  /// always false where a backend computes in float anyway.
  public var isDequantized = false
}

/// A way to run graphs.
public protocol Backend: Sendable {
  /// Short name, as options of programs spell it.
  var name: String { get }
  /// Name with version and instruction set, for reports.
  var description: String { get }
  /// Chooses kernels, packs constants and lays out memory; throws where the graph is not valid or a
  /// tap does not exist. The plan keeps what it needs of the graph.
  func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan
}

/// A graph made ready: immutable, shared by any number of workers.
public protocol Plan: Sendable {
  /// Bytes of activations that one worker allocates.
  var arenaBytes: Int { get }
  /// Bytes of constants that all workers share.
  var constantBytes: Int { get }
  /// The steps in the order of execution.
  var steps: [StepReport] { get }
  /// Makes a worker, best on the thread that will use it.
  func makeWorker() throws(Diagnostic) -> any PlanWorker
}

/// Memory and handles for one run at a time; confined to one thread.
public protocol PlanWorker: AnyObject {
  /// Runs the graph once.
  ///
  /// - Parameters:
  ///   - inputs: dense elements of the graph's inputs, in order, in their logical types.
  ///   - tap: called with every tapped tensor as soon as it is computed (constants and graph inputs
  ///     first); the view is valid during the call.
  /// - Returns: dense copies of the graph's outputs, in order, in their logical types.
  func run(
    _ inputs: [Bytes], tap: ((TensorID, TensorView) throws(Diagnostic) -> Void)?
  ) throws(Diagnostic) -> [Bytes]
  /// Whether ``stepNanoseconds`` is filled; costs about 50 ns a step.
  var measuresSteps: Bool { get set }
  /// Time spent in each step (kernel, simulation and taps) since measuring was switched on.
  var stepNanoseconds: [UInt64] { get }
}

extension PlanWorker {
  /// Runs the graph once without taps.
  public func run(_ inputs: [Bytes]) throws(Diagnostic) -> [Bytes] { try run(inputs, tap: nil) }
}

/// Runs every operator by its own plain reference kernel: the oracle of the other backends.
public struct ReferenceBackend: Backend {
  public let name = "reference"
  public var description: String { "reference kernels" }

  /// Makes the backend.
  public init() {}

  public func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan {
    var builder = PlanBuilder(graph, options, makers: [], fuses: false)
    return try builder.build()
  }
}

/// Runs on the processor by oneDNN, with loops of our own where oneDNN has nothing or is slow, and by
/// the reference kernels elsewhere. One thread a worker; results have the same bits for any number of
/// workers and for any taps, but may differ between instruction sets in the last bits.
public struct OneDNNBackend: Backend {
  public let name = "onednn"
  public var description: String {
    "oneDNN \(OneDNN.version), \(OneDNN.instructionSet)"
  }

  /// Makes the backend.
  public init() {}

  public func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan {
    let makers = OneDNN.kernelMakers + nativeKernelMakers
    var builder = PlanBuilder(graph, options, makers: makers, fuses: true)
    return try builder.build()
  }
}
