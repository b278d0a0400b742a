import IR
import Operators

// Where every tensor of the chosen steps lies.

extension PlanBuilder {
  /// State while steps are given memory.
  struct Placement {
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

  mutating func place(_ groups: [Group]) throws(Diagnostic) -> ExecutablePlan {
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
    return try ExecutablePlan(graph, steps: steps, outputs: outputs, buffers: placement.buffers, constants: constants)
  }

  /// A tensor at its place; constants are placed here when they are first needed.
  mutating func operand(_ id: TensorID, _ placement: inout Placement) -> Operand? {
    if placement.locations[id.index] == nil, graph[id].constant != nil {
      placement.locations[id.index] = .constant(prepareConstant(id))
      placement.grids[id.index] = simulatedGrid(id)
    }
    guard let location = placement.locations[id.index] else { return nil }
    return Operand(location: location, type: graph[id].type.logical)
  }

  /// Taps of constants and the entry of graph inputs: read where the caller has them, or copied where
  /// an encoding is applied.
  mutating func placeEntries(_ placement: inout Placement, _ steps: inout [PlannedStep]) {
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

  func entryStep(
    _ id: TensorID, _ kind: String, _ kernel: (any Kernel)?, _ input: Operand, _ output: Operand,
    taps: [Tap]
  ) -> PlannedStep {
    PlannedStep(
      kernel: kernel, inputs: [input], outputs: [output], simulations: [], taps: taps,
      report: StepReport(
        node: graph[id].name, operatorName: kind, fused: [], kernel: kernel?.name ?? "none",
        refusals: [], macs: 0))
  }

  mutating func placeGroup(
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
    if let chain = kernel as? ChainKernel, let (_, grid) = simulations.first, let whole = chain.onGrid(grid) {
      kernel = whole
      simulations = []
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
    // Named after the node that computes most, with the others behind it.
    let first = graph.nodes[group.nodes.first { !(graph.nodes[$0].op is Transpose) } ?? group.nodes[0]]
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
          fused: group.nodes.map { graph.nodes[$0].name }.filter { $0 != first.name },
          kernel: kernel?.name ?? "none", refusals: group.refusals,
          macs: macs.reduce(0, +))))
  }

  /// Whether applying a grid would change nothing, because the node only moves or selects values
  /// that lie on the same grid already. (q * scale) / scale rounds to q again below 2^22.
  func staysOnGrid(
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
  func reusable(
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
