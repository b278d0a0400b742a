import IR
import Operators

/// Turns a graph into a plan: fuses, chooses kernels, shares memory.
struct PlanBuilder {
  private let graph: Graph
  private let options: PlanOptions
  private let makers: [KernelMaker]
  private let fuses: Bool

  private var consumers: [[NodeID]] = []
  private var isGraphOutput: [Bool] = []
  private var fusedIntermediates: [TensorID: NodeID] = [:]

  private var constants: [Bytes] = []
  private var constantIndex: [TensorID: Int] = [:]

  /// A builder that offers every node to `makers` in turn, and to the reference kernel last.
  init(_ graph: Graph, _ options: PlanOptions, makers: [KernelMaker], fuses: Bool) {
    self.graph = graph
    self.options = options
    self.makers = makers
    self.fuses = fuses
  }

  /// Builds the plan.
  mutating func build() throws(Diagnostic) -> ExecutablePlan {
    if let problem = Diagnostic.combining(graph.verify()) { throw problem }
    for tap in options.taps where !graph.tensors.indices.contains(tap.index) {
      throw Diagnostic("bad-tap", "there is no tensor \(tap.index)", kind: .internal)
    }
    consumers = graph.consumers()
    isGraphOutput = graph.tensors.map { _ in false }
    for id in graph.outputs { isGraphOutput[id.index] = true }
    fusedIntermediates = graph.fusedIntermediates()

    var groups = try chooseKernels()
    groups.sort { $0.position < $1.position }
    return try place(groups)
  }

  // MARK: Encodings and constants

  /// The grid that is applied to a tensor after it is made, nil where there is none.
  private func simulatedGrid(_ id: TensorID) -> ValueGrid? {
    let tensor = graph[id]
    guard options.simulate, fusedIntermediates[id] == nil, tensor.type.element.logical == .float32
    else { return nil }
    if let encoding = tensor.encoding { return .encoding(encoding) }
    let isHalf =
      tensor.type.element == .float16 || (tensor.state == .float && tensor.bitwidth == 16)
    return isHalf ? .half : nil
  }

  /// Index of the prepared value of a constant: fixed point dequantized, encodings applied.
  private mutating func prepareConstant(_ id: TensorID) -> Int {
    if let index = constantIndex[id] { return index }
    guard let constant = graph[id].constant else {
      preconditionFailure("only constants are prepared")
    }
    let shape = constant.type.shape
    let bytes: Bytes
    if let encoding = graph[id].encoding, constant.type.element.isFixedPoint {
      bytes = Bytes(encoding.dequantized(constant))
    } else if constant.type.element == .float16 {
      bytes = Bytes(constant.floats())
    } else if let grid = simulatedGrid(id), constant.type.count > 0 {
      // A half-precision constant as it will be stored: numbers beyond the range at its end.
      let stored = grid == .half ? Constant(constant.halved().floats(), shape: shape) : constant
      let source = stored.materialized().aligned(to: 4)
      bytes = Bytes(count: source.count) { target in
        let floats = target.bindMemory(to: Float.self)
        guard let to = floats.baseAddress else { return }
        grid.apply(source.base.assumingMemoryBound(to: Float.self), into: to, shape: shape)
      }
    } else {
      bytes = constant.materialized().aligned(to: max(constant.type.element.byteWidth, 1))
    }
    constants.append(bytes)
    constantIndex[id] = constants.count - 1
    return constants.count - 1
  }

  /// Lets go of the value of a constant that a kernel has packed; who else needs it prepares it again.
  private mutating func release(_ id: TensorID) {
    guard let index = constantIndex.removeValue(forKey: id) else { return }
    constants[index].discardPages()
    constants[index] = Bytes([UInt8]())
    graph[id].constant?.stored.discardPages()
  }

  // MARK: Fusion and kernels

  /// Nodes computed in one step.
  private struct Group {
    /// Indices of the nodes, in order.
    var nodes: [Int]
    /// Inputs of the first node, then the addend of a fused sum; nil where absent or packed.
    var inputs: [TensorID?]
    var outputs: [TensorID]
    /// nil where the output is its input under another type.
    var kernel: (any Kernel)?
    var refusals: [String]
    /// Runs in place of its last node.
    var position: Int { nodes[nodes.count - 1] }
  }

  /// A node that can be computed behind another one.
  private struct Link {
    var node: Int
    var operation: PostOperation
    var addend: TensorID?
  }

  private mutating func chooseKernels() throws(Diagnostic) -> [Group] {
    var groups: [Group] = []
    var absorbed = Set<Int>()
    for (index, node) in graph.nodes.enumerated() where !absorbed.contains(index) {
      if isView(node) {
        groups.append(
          Group(nodes: [index], inputs: [node.inputs[0]], outputs: node.outputs, refusals: []))
        continue
      }
      let chain = fuses ? links(behind: index, absorbed) : []
      let group = chooseKernel(index, node, chain)
      absorbed.formUnion(group.nodes)
      groups.append(group)
    }
    return groups
  }

  /// The nodes that may be computed behind a convolution or matrix product: elementwise ones, each
  /// the only reader of a tensor that nobody else sees and that is not simulated.
  private func links(behind first: Int, _ absorbed: Set<Int>) -> [Link] {
    switch graph.nodes[first].op {
    case is Conv2d, is Conv3d, is DepthWiseConv2d, is FullyConnected, is MatMul: break
    default: return []
    }
    var result: [Link] = []
    var tensor = graph.nodes[first].outputs[0]
    while !isGraphOutput[tensor.index], !options.taps.contains(tensor),
      simulatedGrid(tensor) == nil, consumers[tensor.index].count == 1,
      let reader = consumers[tensor.index].first, !absorbed.contains(reader.index)
    {
      let node = graph[reader]
      var addend: TensorID?
      let operation: PostOperation
      switch node.op {
      case is Relu: operation = .relu(slope: 0)
      case let op as LeakyRelu: operation = .relu(slope: op.alpha)
      case let op as ReluMinMax: operation = .clip(op.minValue, op.maxValue)
      case is HardSwish: operation = .hardSwish
      case is ElementWiseAdd:
        addend = node.inputs[0] == tensor ? node.inputs[1] : node.inputs[0]
        guard let other = addend, !result.contains(where: { $0.addend != nil }),
          graph[other].type.logical == graph[tensor].type.logical
        else { return result }
        operation = .sum
      default: return result
      }
      result.append(Link(node: reader.index, operation: operation, addend: addend))
      tensor = node.outputs[0]
    }
    return result
  }

  /// The first kernel that takes the node with as much of the chain as possible.
  private mutating func chooseKernel(_ index: Int, _ node: Node, _ chain: [Link]) -> Group {
    var values = node.inputs.map { id -> Bytes? in
      guard let id, graph[id].constant != nil else { return nil }
      return constants[prepareConstant(id)]
    }
    var refusals: [String] = []
    for length in stride(from: chain.count, through: 0, by: -1) {
      let links = chain.prefix(length)
      let addend = links.compactMap(\.addend)
      let request = KernelRequest(
        op: node.op, inputs: graph.inputTypes(node), outputs: graph.outputTypes(node),
        constants: values, postOperations: links.map(\.operation))
      for maker in makers {
        switch maker.make(request) {
        case .kernel(let kernel):
          var inputs = node.inputs + addend
          for consumed in kernel.consumedInputs where inputs.indices.contains(consumed) {
            if consumed < node.inputs.count { inputs[consumed] = nil }
          }
          let nodes = [index] + links.map(\.node)
          values = []
          for slot in kernel.consumedInputs where slot < node.inputs.count {
            if let id = node.inputs[slot] { release(id) }
          }
          return Group(
            nodes: nodes, inputs: inputs, outputs: graph.nodes[nodes[nodes.count - 1]].outputs,
            kernel: kernel, refusals: refusals)
        case .refused(let reason): if !refusals.contains(reason) { refusals.append(reason) }
        case .unrelated: break
        }
      }
    }
    return Group(
      nodes: [index], inputs: node.inputs, outputs: node.outputs,
      kernel: ReferenceKernel(op: node.op), refusals: refusals)
  }

  /// Whether a node's output has the bytes of its input, in the same order.
  private func isView(_ node: Node) -> Bool {
    guard node.outputs.count == 1, let id = node.inputs.first ?? nil else { return false }
    let (input, output) = (graph[id].type.logical, graph[node.outputs[0]].type.logical)
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

  // MARK: Memory

  /// State while steps are given memory.
  private struct Placement {
    var buffers: [PlannedBuffer] = []
    var locations: [Location?]
    /// The grid that a tensor's values lie on.
    var grids: [ValueGrid?]
    /// Last step that reads a tensor; `Int.max` for graph outputs.
    var lastUse: [Int]

    mutating func allocate(_ type: TensorType, at step: Int) -> Location {
      buffers.append(
        PlannedBuffer(byteCount: type.byteCount, firstStep: step, lastStep: step))
      return .buffer(buffers.count - 1)
    }

    mutating func assign(_ tensor: TensorID, _ location: Location) {
      locations[tensor.index] = location
      if case .buffer(let index) = location {
        buffers[index].lastStep = max(buffers[index].lastStep, lastUse[tensor.index])
      }
    }
  }

  private mutating func place(_ groups: [Group]) throws(Diagnostic) -> ExecutablePlan {
    var placement = Placement(
      locations: graph.tensors.map { _ in nil }, grids: graph.tensors.map { _ in nil },
      lastUse: graph.tensors.map { _ in 0 })
    // Step 0 is the entry of the inputs.
    for (index, group) in groups.enumerated() {
      for case let id? in group.inputs { placement.lastUse[id.index] = index + 1 }
    }
    for id in graph.outputs { placement.lastUse[id.index] = .max }

    var steps: [PlannedStep] = []
    placeEntries(&placement, &steps)
    for (index, group) in groups.enumerated() {
      placeGroup(group, at: index + 1, &placement, &steps)
    }
    let outputs = graph.outputs.compactMap { operand($0, &placement) }
    guard let arena = layOut(&placement.buffers) else {
      throw Diagnostic("out-of-memory", "activations of the graph exceed the address space")
    }

    // Constants that only packed kernels used are let go.
    var used = Set<Int>()
    let operands =
      steps.flatMap { $0.inputs.compactMap { $0 } + $0.outputs + $0.taps.map(\.operand) } + outputs
    for operand in operands {
      if case .constant(let index) = operand.location { used.insert(index) }
    }
    for index in constants.indices where !used.contains(index) {
      constants[index] = Bytes([UInt8]())
    }

    return ExecutablePlan(
      inputTypes: graph.inputs.map { graph[$0].type.logical },
      inputNames: graph.inputs.map { graph[$0].name }, outputs: outputs, constants: constants,
      buffers: placement.buffers, arenaBytes: arena, plannedSteps: steps)
  }

  /// A tensor at its place; constants are placed here when they are first needed.
  private mutating func operand(_ id: TensorID, _ placement: inout Placement) -> Operand? {
    if placement.locations[id.index] == nil, graph[id].constant != nil {
      placement.locations[id.index] = .constant(prepareConstant(id))
      placement.grids[id.index] = simulatedGrid(id)
    }
    guard let location = placement.locations[id.index] else { return nil }
    return Operand(location: location, type: graph[id].type.logical)
  }

  /// Taps of constants and the entry of graph inputs: read where the caller has them, or copied where
  /// an encoding is applied.
  private mutating func placeEntries(_ placement: inout Placement, _ steps: inout [PlannedStep]) {
    for tensor in options.taps.sorted(by: { $0.index < $1.index })
    where graph[tensor].constant != nil {
      if let operand = operand(tensor, &placement) {
        steps.append(
          entryStep(
            tensor, "Constant", nil, operand, operand, taps: [Tap(tensor: tensor, operand: operand)]
          ))
      }
    }
    for (index, id) in graph.inputs.enumerated() {
      let type = graph[id].type.logical
      let source = Operand(location: .input(index), type: type)
      let taps = options.taps.contains(id)
      guard let grid = simulatedGrid(id), type.count > 0 else {
        placement.assign(id, .input(index))
        if taps {
          steps.append(
            entryStep(id, "Input", nil, source, source, taps: [Tap(tensor: id, operand: source)]))
        }
        continue
      }
      let target = Operand(location: placement.allocate(type, at: 0), type: type)
      placement.assign(id, target.location)
      placement.grids[id.index] = grid
      var step = entryStep(
        id, "Input", CopyKernel(), source, target,
        taps: taps ? [Tap(tensor: id, operand: target)] : [])
      step.simulations = [Simulation(operand: target, grid: grid)]
      steps.append(step)
    }
  }

  private func entryStep(
    _ id: TensorID, _ kind: String, _ kernel: (any Kernel)?, _ input: Operand, _ output: Operand,
    taps: [Tap]
  ) -> PlannedStep {
    PlannedStep(
      kernel: kernel, inputs: [input], outputs: [output], simulations: [], taps: taps,
      report: StepReport(
        node: graph[id].name, operatorName: kind, fused: [], kernel: kernel?.name ?? "none",
        refusals: [], macs: 0))
  }

  private mutating func placeGroup(
    _ group: Group, at step: Int, _ placement: inout Placement, _ steps: inout [PlannedStep]
  ) {
    var inputs: [Operand?] = []
    for id in group.inputs { inputs.append(id.flatMap { operand($0, &placement) }) }
    let last = graph.nodes[group.position]
    var simulations: [(TensorID, ValueGrid)] = []
    for id in group.outputs {
      if let grid = simulatedGrid(id), graph[id].type.count > 0 {
        placement.grids[id.index] = grid
        if !staysOnGrid(group, last, grid, placement) { simulations.append((id, grid)) }
      }
    }

    var kernel = group.kernel
    if kernel == nil {
      if let input = inputs[0], simulations.isEmpty {
        placement.assign(group.outputs[0], input.location)
      } else {
        kernel = CopyKernel()
      }
    }
    if let kernel {
      for (slot, id) in group.outputs.enumerated() {
        let shared = slot == 0 ? reusable(kernel, group, inputs, at: step, placement) : nil
        placement.assign(id, shared ?? placement.allocate(graph[id].type.logical, at: step))
      }
    }

    var outputs: [Operand] = []
    for id in group.outputs { if let output = operand(id, &placement) { outputs.append(output) } }
    let taps = zip(group.outputs, outputs).filter { options.taps.contains($0.0) }.map {
      Tap(tensor: $0.0, operand: $0.1)
    }
    if kernel == nil && taps.isEmpty { return }
    let first = graph.nodes[group.nodes[0]]
    let macs = group.nodes.map { index in
      let node = graph.nodes[index]
      return node.op.macs(graph.inputTypes(node), graph.outputTypes(node))
    }
    steps.append(
      PlannedStep(
        kernel: kernel, inputs: inputs, outputs: outputs,
        simulations: simulations.map { id, grid in
          Simulation(operand: outputs[group.outputs.firstIndex(of: id) ?? 0], grid: grid)
        }, taps: taps,
        report: StepReport(
          node: first.name, operatorName: first.op.typeName,
          fused: group.nodes.dropFirst().map { graph.nodes[$0].name },
          kernel: kernel?.name ?? "none", refusals: group.refusals,
          macs: macs.reduce(0, +))))
  }

  /// Whether applying a grid would change nothing, because the node only moves or selects values
  /// that lie on the same grid already. (q * scale) / scale rounds to q again below 2^22.
  private func staysOnGrid(
    _ group: Group, _ node: Node, _ grid: ValueGrid, _ placement: Placement
  ) -> Bool {
    guard group.nodes.count == 1 else { return false }
    if case .encoding(let encoding) = grid {
      guard encoding.axis == nil, encoding.channels.count == 1,
        abs(encoding.codeMin + Int(encoding.channels[0].offset)) < 1 << 22,
        abs(encoding.codeMax + Int(encoding.channels[0].offset)) < 1 << 22
      else { return false }
    }
    let moved: [TensorID?]
    switch node.op.quantization.output(0) {
    case .sameAsInput(let input): moved = [node.inputs[input]]
    case .tiedToInputs: moved = node.inputs
    default: moved = node.op is Convert ? [node.inputs[0]] : []
    }
    guard !moved.isEmpty else { return false }
    return moved.allSatisfy { id in
      guard let id else { return false }
      if placement.locations[id.index] == nil { return false }
      return placement.grids[id.index] == grid
    }
  }

  /// The memory of the input that output 0 may take over, nil where something else still needs it.
  private func reusable(
    _ kernel: any Kernel, _ group: Group, _ inputs: [Operand?], at step: Int,
    _ placement: Placement
  ) -> Location? {
    guard let slot = kernel.inPlaceInput, let source = inputs[slot],
      case .buffer(let buffer) = source.location,
      source.type.byteCount == graph[group.outputs[0]].type.logical.byteCount,
      placement.buffers[buffer].lastStep <= step,
      !inputs.enumerated().contains(where: {
        $0.offset != slot && $0.element?.location == source.location
      })
    else { return nil }
    return source.location
  }
}
