import IR
import Operators

/// Turns a graph into a plan that computes in integers where it can. Tensors with a grid of codes are held as
/// these; all others, and copies of codes for operators without an integer form, as real values.
struct IntegerPlanBuilder {
  private let graph: Graph
  private let options: PlanOptions
  private let isPlain: Bool
  private let makers: [KernelMaker]

  private var fusedIntermediates: [TensorID: NodeID] = [:]

  private var steps: [PlannedStep] = []
  private var buffers: [PlannedBuffer] = []
  private var constants: [Bytes] = []
  private var codes: [TensorID: Location] = [:]
  private var values: [TensorID: Location] = [:]
  /// Why the node at hand does not run in integers.
  private var refusal = ""

  /// A builder; `isPlain` takes the plain evaluation of every integer operation, `makers` are offered the
  /// nodes that run on real values, before their reference kernels.
  init(_ graph: Graph, _ options: PlanOptions, isPlain: Bool, makers: [KernelMaker]) {
    self.graph = graph
    self.options = options
    self.isPlain = isPlain
    self.makers = makers
  }

  /// Builds the plan.
  mutating func build() throws(Diagnostic) -> ExecutablePlan {
    try options.check(graph)
    fusedIntermediates = graph.fusedIntermediates()
    try placeEntries()
    var absorbed = Set<Int>()
    for (index, node) in graph.nodes.enumerated() where !absorbed.contains(index) {
      let followers = followers(of: node)
      if try placeView(node) { continue }
      if try placeInteger(node, followers) {
        absorbed.formUnion(followers)
        continue
      }
      try placeOnValues(node)
    }
    var outputs: [Operand] = []
    for id in graph.outputs { outputs.append(try valueOperand(id)) }
    for output in outputs { keep(output.location, until: .max) }
    return try ExecutablePlan(graph, steps: steps, outputs: outputs, buffers: buffers, constants: constants)
  }

  // MARK: Tensors

  /// The grid of a tensor that is held as codes.
  private func codeGrid(_ id: TensorID) -> CodeGrid? {
    guard fusedIntermediates[id] == nil, graph[id].type.element.logical == .float32 else { return nil }
    return graph[id].encoding.flatMap { CodeGrid($0) }
  }

  private mutating func allocate(_ byteCount: Int) -> Location {
    buffers.append(
      PlannedBuffer(byteCount: byteCount, firstStep: steps.count, lastStep: steps.count))
    return .buffer(buffers.count - 1)
  }

  private mutating func keep(_ location: Location, until step: Int) {
    if case .buffer(let index) = location {
      buffers[index].lastStep = max(buffers[index].lastStep, step)
    }
  }

  /// The type of a tensor's codes.
  private func codeType(_ id: TensorID) -> TensorType {
    TensorType(codeGrid(id)?.element ?? .uint8, graph[id].type.shape)
  }

  /// The codes of a tensor, for the step to come.
  private mutating func codeOperand(_ id: TensorID) throws(Diagnostic) -> Operand {
    if codes[id] == nil, graph[id].constant != nil, let encoding = graph[id].encoding {
      let offset = Int(encoding.channels[0].offset)
      let steps = graph[id].constantSteps() ?? []
      let isWide = codeGrid(id)?.isWide ?? false
      constants.append(
        isWide
          ? Bytes(steps.map { UInt16(truncatingIfNeeded: $0 - offset) })
          : Bytes(steps.map { UInt8(truncatingIfNeeded: $0 - offset) }))
      codes[id] = .constant(constants.count - 1)
    }
    guard let location = codes[id] else {
      throw Diagnostic("integer-plan", "codes are missing", at: .init(tensor: graph[id].name), kind: .internal)
    }
    keep(location, until: steps.count)
    return Operand(location: location, type: codeType(id))
  }

  /// The real values of a tensor, for the step to come: codes are dequantized first.
  private mutating func valueOperand(_ id: TensorID) throws(Diagnostic) -> Operand {
    let type = graph[id].type.logical
    if values[id] == nil, let constant = graph[id].constant {
      let grid = fusedIntermediates[id] == nil ? graph[id].valueGrid : nil
      constants.append(graph[id].preparedValue(constant, on: grid))
      values[id] = .constant(constants.count - 1)
    }
    if values[id] == nil, codes[id] != nil, let grid = codeGrid(id) {
      let source = try codeOperand(id)
      let target = Operand(location: allocate(type.byteCount), type: type)
      append(DequantizeKernel(grid: grid), "Dequantize", graph[id].name, [source], [target])
      values[id] = target.location
    }
    guard let location = values[id] else {
      throw Diagnostic("integer-plan", "values are missing", at: .init(tensor: graph[id].name), kind: .internal)
    }
    keep(location, until: steps.count)
    return Operand(location: location, type: type)
  }

  /// Shows a tensor to the caller where it is tapped.
  private mutating func tapped(_ id: TensorID) throws(Diagnostic) {
    guard options.taps.contains(id) else { return }
    let operand = try valueOperand(id)
    append(nil, "Tap", graph[id].name, [operand], [operand], taps: [Tap(tensor: id, operand: operand)])
  }

  // MARK: Steps

  /// Adds a step; outputs and temporaries have been allocated for it.
  private mutating func append(
    _ kernel: (any Kernel)?, _ kind: String, _ name: String, _ inputs: [Operand?], _ outputs: [Operand],
    fused: [String] = [], refusals: [String] = [], macs: Int = 0, isDequantized: Bool = false,
    simulations: [Simulation] = [], taps: [Tap] = []
  ) {
    var all = outputs
    for size in kernel?.temporaries ?? [] {
      all.append(Operand(location: allocate(size), type: TensorType(.uint8, [size])))
    }
    var report = StepReport(
      node: name, operatorName: kind, fused: fused, kernel: kernel?.name ?? "none", refusals: refusals,
      macs: macs)
    report.isDequantized = isDequantized
    steps.append(
      PlannedStep(
        kernel: kernel, inputs: inputs, outputs: all, simulations: simulations, taps: taps, report: report))
  }

  /// Graph inputs become codes where they have a grid; taps of constants and inputs.
  private mutating func placeEntries() throws(Diagnostic) {
    for tensor in options.taps.sorted(by: { $0.index < $1.index }) where graph[tensor].constant != nil {
      try tapped(tensor)
    }
    for (index, id) in graph.inputs.enumerated() {
      let type = graph[id].type.logical
      let source = Operand(location: .input(index), type: type)
      if let grid = codeGrid(id) {
        let target = Operand(location: allocate(codeType(id).byteCount), type: codeType(id))
        if type.count > 0 { append(QuantizeKernel(grid: grid), "Input", graph[id].name, [source], [target]) }
        codes[id] = target.location
      } else if let grid = graph[id].valueGrid, type.count > 0 {
        let target = Operand(location: allocate(type.byteCount), type: type)
        append(
          CopyKernel(), "Input", graph[id].name, [source], [target],
          simulations: [Simulation(operand: target, grid: grid)])
        values[id] = target.location
      } else {
        values[id] = source.location
      }
      try tapped(id)
    }
  }

  /// A node that shares memory with its input; false where it is none.
  private mutating func placeView(_ node: Node) throws(Diagnostic) -> Bool {
    guard graph.isView(node), let input = node.inputs.first ?? nil else { return false }
    let output = node.outputs[0]
    let (from, to) = (codeGrid(input), codeGrid(output))
    let isFloat = graph[output].type.logical.element == .float32
    switch (from, to) {
    case (let from?, let to?):
      guard from == to || (!from.isWide && !to.isWide && conversionTable(from, to) == nil) else { return false }
      codes[output] = try codeOperand(input).location
    case (nil, nil):
      guard !isFloat || fusedIntermediates[output] != nil || graph[output].valueGrid == nil else { return false }
      values[output] = try valueOperand(input).location
    case (_?, nil):
      guard fusedIntermediates[output] != nil || graph[output].valueGrid == nil else { return false }
      values[output] = try valueOperand(input).location
    case (nil, let to?):
      let source = try valueOperand(input)
      let target = Operand(location: allocate(codeType(output).byteCount), type: codeType(output))
      append(QuantizeKernel(grid: to), node.op.typeName, node.name, [source], [target])
      codes[output] = target.location
    }
    try tapped(output)
    return true
  }

  // MARK: Integers

  /// The nodes that are quantized together with a node, in order.
  private func followers(of node: Node) -> [Int] {
    var result: [Int] = []
    var tensor = node.outputs[0]
    while node.outputs.count == 1, let next = fusedIntermediates[tensor] {
      result.append(next.index)
      tensor = graph[next].outputs[0]
    }
    return result
  }

  private func operand(_ id: TensorID) -> IntegerRequest.Operand {
    IntegerRequest.Operand(tensor: graph[id], codes: codeGrid(id))
  }

  private func request(_ node: Node, _ followers: [Int]) -> IntegerRequest {
    let last = followers.last.map { graph.nodes[$0] } ?? node
    return IntegerRequest(
      op: node.op, inputs: node.inputs.map { $0.map(operand) }, outputs: last.outputs.map(operand),
      followers: followers.map { index in
        let follower = graph.nodes[index]
        let second = follower.inputs.count > 1 ? follower.inputs[1] : nil
        let values = second.flatMap { id in
          graph[id].constant.map { constant in
            (
              graph[id].preparedValue(constant, on: graph[id].valueGrid).array(of: Float.self),
              constant.type.shape
            )
          }
        }
        return IntegerRequest.Follower(op: follower.op, constant: values)
      })
  }

  private func offer(_ request: IntegerRequest) -> IntegerOffer {
    for make in integerMakers {
      switch make(request) {
      case .unrelated: continue
      case let offer: return offer
      }
    }
    return .unrelated
  }

  private mutating func placeInteger(_ node: Node, _ followers: [Int]) throws(Diagnostic) -> Bool {
    let (operation, reads): (any IntegerOperation, [Int])
    switch offer(request(node, followers)) {
    case .operation(let made, let read): (operation, reads) = (made, read)
    case .refused(let reason):
      refusal = reason
      return false
    case .unrelated:
      refusal = "integer: no kernel for \(node.op.typeName)"
      return false
    }
    var inputs: [Operand?] = []
    for (slot, id) in node.inputs.enumerated() {
      guard let id, reads.contains(slot) else {
        inputs.append(nil)
        continue
      }
      inputs.append(codeGrid(id) == nil ? try valueOperand(id) : try codeOperand(id))
    }
    let last = followers.last.map { graph.nodes[$0] } ?? node
    try placeBetween(node, followers, operation, inputs)
    var outputs: [Operand] = []
    for id in last.outputs {
      let target = Operand(location: allocate(codeType(id).byteCount), type: codeType(id))
      codes[id] = target.location
      outputs.append(target)
    }
    var refusals: [String] = []
    var kernel: any Kernel = PlainIntegerKernel(operation: operation)
    if !isPlain {
      switch operation.fastKernel() {
      case .kernel(let fast): kernel = fast
      case .plain(let reason): refusals = [reason]
      }
    }
    // Inputs that a dequantized tap used meanwhile are still needed here.
    for case let input? in inputs { keep(input.location, until: steps.count) }
    append(
      kernel, node.op.typeName, node.name, inputs, outputs, fused: followers.map { graph.nodes[$0].name },
      refusals: refusals, macs: node.op.macs(graph.inputTypes(node), graph.outputTypes(node)))
    for id in last.outputs { try tapped(id) }
    return true
  }

  /// Tapped tensors between a node and the activations behind it, computed apart.
  private mutating func placeBetween(
    _ node: Node, _ followers: [Int], _ operation: any IntegerOperation, _ inputs: [Operand?]
  ) throws(Diagnostic) {
    let between = [node.outputs[0]] + followers.dropLast().map { graph.nodes[$0].outputs[0] }
    guard !followers.isEmpty, between.contains(where: options.taps.contains) else { return }
    let wide = operation as? WideAccumulation
    if let accumulation = wide?.sums ?? operation as? IntegerAccumulation {
      let type = graph[between[0]].type.logical
      let target = Operand(location: allocate(type.byteCount), type: type)
      for case let input? in inputs { keep(input.location, until: steps.count) }
      append(TotalsKernel(operation: accumulation, wide: wide), node.op.typeName, node.name, inputs, [target])
      values[between[0]] = target.location
      try tapped(between[0])
    } else {
      try placeOnValues(node, isBetween: true)
    }
    for index in followers.dropLast() { try placeOnValues(graph.nodes[index], isBetween: true) }
  }

  // MARK: Real values

  /// A node on real values; its results are quantized where they have a grid. `isBetween`: only to show what
  /// lies inside of a fused pair, by the reference kernels, which have the same bits everywhere.
  private mutating func placeOnValues(_ node: Node, isBetween: Bool = false) throws(Diagnostic) {
    var inputs: [Operand?] = []
    for id in node.inputs {
      guard let id else {
        inputs.append(nil)
        continue
      }
      inputs.append(try valueOperand(id))
    }
    var refusals: [String] = []
    // Numbers that come from integers are quantized here for the first time.
    let floats = node.inputs.compactMap { $0 }.filter { graph[$0].type.logical.element == .float32 }
    let isQuantized = !floats.isEmpty && (floats + node.outputs).contains { graph[$0].encoding != nil }
    let isDequantized = isQuantized && !isBetween && !graph.isView(node)
    if isDequantized { refusals.append(refusal) }
    let kernel = isBetween ? ReferenceKernel(op: node.op) : floatKernel(node, &refusals)
    for consumed in kernel.consumedInputs where inputs.indices.contains(consumed) { inputs[consumed] = nil }
    // Dequantized inputs were placed before; the step to come reads them all.
    for case let input? in inputs { keep(input.location, until: steps.count) }
    var outputs: [Operand] = []
    var simulations: [Simulation] = []
    for id in node.outputs {
      let type = graph[id].type.logical
      let target = Operand(location: allocate(type.byteCount), type: type)
      values[id] = target.location
      outputs.append(target)
      if codeGrid(id) == nil, fusedIntermediates[id] == nil, let grid = graph[id].valueGrid, type.count > 0 {
        simulations.append(Simulation(operand: target, grid: grid))
      }
    }
    append(
      kernel, node.op.typeName, node.name, inputs, outputs, refusals: refusals,
      macs: node.op.macs(graph.inputTypes(node), graph.outputTypes(node)), isDequantized: isDequantized,
      simulations: simulations)
    for (id, source) in zip(node.outputs, outputs) {
      if let grid = codeGrid(id) {
        values[id] = nil
        keep(source.location, until: steps.count)
        let target = Operand(location: allocate(codeType(id).byteCount), type: codeType(id))
        append(QuantizeKernel(grid: grid), "Quantize", graph[id].name, [source], [target])
        codes[id] = target.location
      }
      try tapped(id)
    }
  }

  /// The first kernel over real values that takes a node.
  private mutating func floatKernel(_ node: Node, _ refusals: inout [String]) -> any Kernel {
    if graph.isView(node) { return CopyKernel() }
    let request = KernelRequest(
      op: node.op, inputs: graph.inputTypes(node), outputs: graph.outputTypes(node),
      constants: node.inputs.map { id in
        guard let id, graph[id].constant != nil, case .constant(let index)? = values[id] else { return nil }
        return constants[index]
      }, postOperations: [])
    for maker in makers {
      switch maker.make(request) {
      case .kernel(let kernel): return kernel
      case .refused(let reason): refusals.append(reason)
      case .unrelated: break
      }
    }
    return ReferenceKernel(op: node.op)
  }
}
