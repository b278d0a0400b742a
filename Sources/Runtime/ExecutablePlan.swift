import COneDNN
import Glibc
import IR

/// Steps with their memory; what both backends give out.
struct ExecutablePlan: Plan {
  let inputTypes: [TensorType]
  let inputNames: [String]
  let outputs: [Operand]
  let constants: [Bytes]
  let buffers: [PlannedBuffer]
  let arenaBytes: Int
  let plannedSteps: [PlannedStep]

  var steps: [StepReport] { plannedSteps.map(\.report) }

  var constantBytes: Int {
    constants.map(\.count).reduce(0, +)
      + plannedSteps.map { $0.kernel?.constantBytes ?? 0 }.reduce(0, +)
  }

  func makeWorker() throws(Diagnostic) -> any PlanWorker { try ExecutableWorker(self) }
}

extension ExecutablePlan {
  /// Lays out the memory of placed steps and lets go of constants that only packed kernels used.
  init(
    _ graph: Graph, steps: [PlannedStep], outputs: [Operand], buffers: [PlannedBuffer], constants: [Bytes]
  ) throws(Diagnostic) {
    var (buffers, constants) = (buffers, constants)
    guard let arena = layOut(&buffers) else {
      throw Diagnostic("out-of-memory", "activations of the graph exceed the address space")
    }
    var used = Set<Int>()
    let operands = steps.flatMap { $0.inputs.compactMap { $0 } + $0.outputs + $0.taps.map(\.operand) } + outputs
    for operand in operands {
      if case .constant(let index) = operand.location { used.insert(index) }
    }
    for index in constants.indices where !used.contains(index) { constants[index] = Bytes([UInt8]()) }
    self.init(
      inputTypes: graph.inputs.map { graph[$0].type.logical }, inputNames: graph.inputs.map { graph[$0].name },
      outputs: outputs, constants: constants, buffers: buffers, arenaBytes: arena, plannedSteps: steps)
  }
}

extension PlanOptions {
  /// Throws where the graph breaks a rule or a tap does not exist.
  func check(_ graph: Graph) throws(Diagnostic) {
    if let problem = Diagnostic.combining(graph.verify()) { throw problem }
    for tap in taps where !graph.tensors.indices.contains(tap.index) {
      throw Diagnostic("bad-tap", "there is no tensor \(tap.index)", kind: .internal)
    }
  }
}

/// One arena, and the steps bound to its addresses.
final class ExecutableWorker: PlanWorker {
  private let plan: ExecutablePlan
  private let arena: UnsafeMutableRawPointer
  private let context: KernelContext
  /// Views of every step, nil where they depend on the caller's inputs.
  private var bound: [BoundStep?] = []

  var measuresSteps = false {
    didSet { stepNanoseconds = plan.plannedSteps.map { _ in 0 } }
  }
  private(set) var stepNanoseconds: [UInt64] = []

  private struct BoundStep {
    var inputs: [TensorView?]
    var outputs: [MutableTensorView]
  }

  /// Allocates the arena.
  init(_ plan: ExecutablePlan) throws(Diagnostic) {
    self.plan = plan
    let scratchpad = plan.plannedSteps.compactMap(\.kernel).filter(\.usesOneDNN).map(\.scratchpadBytes)
    context = KernelContext(
      oneDNN: scratchpad.isEmpty
        ? nil : try OneDNNWorker(scratchpadBytes: scratchpad.max() ?? 0))
    guard let memory = qdnn_pages_allocate(plan.arenaBytes) else {
      throw Diagnostic("out-of-memory", "no memory for \(plan.arenaBytes) bytes of activations")
    }
    arena = memory
    bound = plan.plannedSteps.map { step in
      let locations = step.inputs.map { $0?.location } + step.outputs.map(\.location)
      let usesInputs = locations.contains { if case .input = $0 { true } else { false } }
      return usesInputs ? nil : bind(step, [])
    }
  }

  deinit { free(arena) }

  func run(
    _ inputs: [Bytes], tap: ((TensorID, TensorView) throws(Diagnostic) -> Void)?
  ) throws(Diagnostic) -> [Bytes] {
    let inputs = try checked(inputs)
    for (index, step) in plan.plannedSteps.enumerated() {
      let start = measuresSteps ? nanoseconds() : 0
      do throws(Diagnostic) {
        try run(step, bound[index] ?? bind(step, inputs), inputs, tap)
      } catch {
        throw error.inNode(step.report.node)
      }
      if measuresSteps { stepNanoseconds[index] += nanoseconds() - start }
    }
    return plan.outputs.map { output in
      let source = address(output.location, inputs)
      return Bytes(count: output.type.byteCount) { target in
        target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: target.count))
      }
    }
  }

  /// The inputs, aligned; throws where number or sizes are wrong.
  private func checked(_ inputs: [Bytes]) throws(Diagnostic) -> [Bytes] {
    guard inputs.count == plan.inputTypes.count else {
      throw Diagnostic(
        "bad-input", "\(inputs.count) inputs are given, the graph has \(plan.inputTypes.count)")
    }
    for (index, type) in plan.inputTypes.enumerated() where inputs[index].count != type.byteCount {
      throw Diagnostic(
        "bad-input", "\(inputs[index].count) bytes are given, \(type) has \(type.byteCount)",
        at: Diagnostic.Location(tensor: plan.inputNames[index]))
    }
    return inputs.map { $0.aligned(to: 16) }
  }

  private func run(
    _ step: PlannedStep, _ views: BoundStep, _ inputs: [Bytes],
    _ tap: ((TensorID, TensorView) throws(Diagnostic) -> Void)?
  ) throws(Diagnostic) {
    if let kernel = step.kernel { try kernel.run(views.inputs, views.outputs, context) }
    for simulation in step.simulations {
      let floats = address(simulation.operand.location, inputs).assumingMemoryBound(to: Float.self)
      simulation.grid.applyInPlace(
        UnsafeMutablePointer(mutating: floats), shape: simulation.operand.type.shape)
    }
    guard let tap else { return }
    for shown in step.taps {
      let bytes = UnsafeRawBufferPointer(
        start: address(shown.operand.location, inputs), count: shown.operand.type.byteCount)
      try tap(shown.tensor, TensorView(type: shown.operand.type, bytes: bytes))
    }
  }

  private func bind(_ step: PlannedStep, _ inputs: [Bytes]) -> BoundStep {
    BoundStep(
      inputs: step.inputs.map { operand in
        operand.map {
          TensorView(
            type: $0.type,
            bytes: UnsafeRawBufferPointer(
              start: address($0.location, inputs), count: $0.type.byteCount))
        }
      },
      outputs: step.outputs.map {
        MutableTensorView(
          type: $0.type,
          bytes: UnsafeMutableRawBufferPointer(
            start: UnsafeMutableRawPointer(mutating: address($0.location, inputs)),
            count: $0.type.byteCount))
      })
  }

  private func address(_ location: Location, _ inputs: [Bytes]) -> UnsafeRawPointer {
    switch location {
    case .buffer(let index): UnsafeRawPointer(arena + plan.buffers[index].offset)
    case .constant(let index): plan.constants[index].base
    case .input(let index): inputs[index].base
    }
  }

  private func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

extension Encoding {
  /// Quantizes and dequantizes a dense tensor in its place. By way of a small copy: loops whose
  /// source and target are the same memory are not vectorised.
  func simulateInPlace(_ values: UnsafeMutablePointer<Float>, shape: [Int]) {
    let block = 1024
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { buffer in
      guard let copy = buffer.baseAddress else { return }
      forEachChannelRun(shape: shape) { channel, start, count in
        var first = start
        while first < start + count {
          let length = min(block, start + count - first)
          copy.update(from: values + first, count: length)
          simulate(copy, into: values + first, count: length, channel: channel)
          first += length
        }
      }
    }
  }
}
