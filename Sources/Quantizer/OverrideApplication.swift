import EncodingFiles
import IR

/// Which widths the operands of an integer operator can have together.
enum OperandWidths {
  /// Widths of weights by that of the operator's output; its inputs are converted to that.
  static let weights = [8: [4, 8], 16: [4, 8, 16]]
  /// Widths of activations: the outputs above.
  static let activations = weights.keys.sorted()
  /// Widths of weights beside any output.
  static let allWeights = Set(weights.values.joined()).sorted()
  /// Widths of biases, beside any of the above.
  static let biases = [8, 32]
}

extension OverrideApplication {
  /// Gives a tensor what an entry says of it, or collects the reason why not.
  mutating func apply(_ index: Int, _ id: TensorID) {
    let entry = file.entries[index]
    let role = parameters[id]?.first?.role
    switch entry.kind {
    case .float:
      decided[id] = index
      setFloat(id, entry.bitwidth)
    case .int:
      if entry.bitwidth == 32, role == .bias, !entry.isPrecisionOnly {
        biases[id] = index
        return
      }
      if entry.bitwidth == 32, role == nil, graph[id].constant == nil {
        integers[id] = index
        return
      }
      decided[id] = index
      guard hasLegalWidth(entry, id, role) else { return }
      if entry.isPrecisionOnly {
        setPrecision(id, entry.bitwidth)
      } else if let encoding = encoding(entry, id, role) {
        setGiven(id, encoding)
      }
    }
  }

  /// Decides the width of a tensor and leaves its range to calibration.
  private mutating func setPrecision(_ id: TensorID, _ bitwidth: Int) {
    graph[id].bitwidth = bitwidth
    report.precisions[graph[id].name] = bitwidth
  }

  private mutating func setGiven(_ id: TensorID, _ encoding: Encoding) {
    graph[id].encoding = encoding
    graph[id].encodingSource = .override
    graph[id].state = .given
    graph[id].bitwidth = nil
  }

  private mutating func setFloat(_ id: TensorID, _ bitwidth: Int?) {
    graph[id].encoding = nil
    graph[id].encodingSource = .override
    graph[id].state = .float
    graph[id].bitwidth = bitwidth
    if let bitwidth { report.floatBitwidths[graph[id].name] = bitwidth }
  }

  private mutating func hasLegalWidth(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Bool {
    let (kind, allowed): (String, [Int]) =
      switch role {
      case .weight: ("a weight", OperandWidths.allWeights)
      case .bias: ("a bias", OperandWidths.biases)
      default: ("an activation", OperandWidths.activations)
      }
    if allowed.contains(entry.bitwidth) { return true }
    let list = allowed.map(String.init).joined(separator: ", ")
    if entry.bitwidth == 32 {
      errors.append(
        finding(
          "override-int32",
          "\(kind) cannot be a 32-bit integer: only biases and operators without weights can", entry,
          tensor: id))
    } else {
      errors.append(
        finding(
          "override-bitwidth", "\(kind) cannot have \(entry.bitwidth) bits, only \(list)", entry,
          tensor: id))
    }
    return false
  }

  /// The grids of an entry along the axis that the operator gives; nil after an error.
  private mutating func encoding(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Encoding? {
    switch entry.granularity {
    case .perTensor: break
    case .perChannel:
      guard let axis = channelAxis(entry, id, role) else { return nil }
      if case .weight = role, !entry.symmetric {
        errors.append(
          finding(
            "override-asymmetric-channels",
            "the encodings of a weight's channels must be symmetric with offset "
              + "\(-(1 << (entry.bitwidth - 1)))", entry, tensor: id))
        return nil
      }
      // A single channel is the whole tensor, which the older layouts cannot tell apart.
      return made(entry, axis: entry.grids.count == 1 ? nil : axis)
    case .perBlock, .lowPowerBlocks: return blockEncoding(entry, id, role)
    }
    return made(entry, axis: nil)
  }

  /// The grids of blocks along the inputs of a weight; nil after an error.
  private mutating func blockEncoding(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Encoding? {
    let type = graph[id].type
    guard case .weight(let channel, _) = role, type.rank > 1, let size = entry.blockSize else {
      errors.append(finding("override-blocks", "only weights can have blocks", entry, tensor: id))
      return nil
    }
    let axis = channel < 0 ? channel + type.rank : channel
    let blockAxis = Encoding.inputAxis(channelAxis: axis, rank: type.rank)
    var encoding = made(entry, axis: axis)
    encoding.blocks = EncodingBlocks(axis: blockAxis, size: size)
    if case .lowPowerBlocks(let scales) = entry.granularity {
      encoding.blocks?.lowPower = LowPowerScales(
        channelScales: scales.channelScales, factors: scales.factors,
        decompressedBitwidth: scales.decompressedBitwidth)
    }
    if let problem = encoding.problem(shape: type.shape) {
      errors.append(
        finding(
          "override-blocks",
          "\(problem): the tensor is \(type) with its channels on axis \(axis) and blocks along axis "
            + "\(blockAxis)", entry, tensor: id))
      return nil
    }
    return encoding
  }

  private func made(_ entry: EncodingEntry, axis: Int?) -> Encoding {
    Encoding(
      bitwidth: entry.bitwidth, symmetric: entry.symmetric, axis: axis, channels: entry.grids,
      codeMin: entry.strict ? 1 : 0)
  }

  /// The axis of an encoding per channel; nil after an error where the tensor has none or another
  /// number of channels.
  private mutating func channelAxis(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Int? {
    let shape = graph[id].type.shape
    let count = entry.grids.count
    var axis: Int?
    switch role {
    case .weight(let channel, _): axis = channel < 0 ? channel + shape.count : channel
    case .bias: axis = shape.count == 1 ? 0 : nil
    default: break
    }
    guard let axis, shape.indices.contains(axis) else {
      errors.append(
        finding(
          "override-channels",
          "\(count) encodings are given, but 1 is expected: only weights and biases have channels",
          entry, tensor: id))
      return nil
    }
    guard shape[axis] == count else {
      errors.append(
        finding(
          "override-channels",
          "\(count) encodings are given, but 1 or \(shape[axis]) are expected: the tensor is "
            + "\(graph[id].type) with its channels on axis \(axis)", entry, tensor: id))
      return nil
    }
    return axis
  }

  /// 32-bit entries of biases: taken where they are the product of input and weight, else a warning.
  mutating func applyBiases() {
    let producers = graph.producers()
    for (id, index) in biases.sorted(by: { $0.key.index < $1.key.index }) {
      let entry = file.entries[index]
      decided[id] = index
      let before = errors.count
      let encoding = encoding(entry, id, .bias)
      guard let encoding, errors.count == before else { continue }
      var problem: String?
      for use in parameters[id] ?? [] where problem == nil {
        problem = biasProblem(encoding, id, use, producers)
      }
      if let problem {
        setPrecision(id, 32)
        report.diagnostics.append(
          finding(
            "override-bias", "\(problem); the computed scale is taken", entry, tensor: id,
            severity: .warning))
      } else {
        setGiven(id, encoding)
      }
    }
  }

  /// How a 32-bit bias differs from input scale times weight scale for one user, nil where it does not.
  private func biasProblem(
    _ encoding: Encoding, _ id: TensorID, _ use: ConstantUse, _ producers: [NodeID?]
  ) -> String? {
    let node = graph.nodes[use.node]
    guard encoding.symmetric else { return "a 32-bit bias has no zero point" }
    guard node.inputs.count > 1, let x = node.inputs[0], let w = node.inputs[1],
      let input = givenEncoding(x, producers), input.axis == nil, let weight = graph[w].encoding
    else { return "the encodings of input and weight of \(node.name) are not both given" }
    guard let first = input.channels.first else { return nil }
    let channels = graph[id].type.count
    for channel in 0..<channels {
      let grid = encoding.channels[encoding.axis == nil ? 0 : channel]
      let own = weight.axis == nil ? 0 : channel
      guard weight.channels.indices.contains(own), weight.channels.count % channels == 0 || weight.blocks == nil
      else { return "the weight has fewer channels" }
      let step =
        weight.blocks == nil
        ? weight.channels[own].scale : weight.largestScale(channel: own, of: channels)
      let expected = Double(first.scale) * Double(step)
      if abs(Double(grid.scale) - expected) > 1e-5 * expected {
        return "scale \(grid.scale) of channel \(channel) is not input x weight, \(Float(expected))"
      }
    }
    return nil
  }

  /// The encoding given for a tensor, or for what data-invariant operators made it of.
  private func givenEncoding(_ id: TensorID, _ producers: [NodeID?]) -> Encoding? {
    var id = id
    while graph[id].encoding == nil {
      guard graph[id].state == .open, let made = producers[id.index],
        let slot = graph[made].outputs.firstIndex(of: id),
        case .sameAsInput(let input) = graph[made].op.quantization.output(slot),
        graph[made].inputs.indices.contains(input), let source = graph[made].inputs[input]
      else { return nil }
      id = source
    }
    return graph[id].encoding
  }

  /// Operators without weights whose float operands are all given as 32-bit integers compute in int32;
  /// any other 32-bit activation is an error.
  mutating func applyIntegerNodes() {
    guard !integers.isEmpty else { return }
    var explained: [TensorID: String] = [:]
    var covered = Set<TensorID>()
    for node in graph.nodes {
      let operands = (node.inputs.compactMap { $0 } + node.outputs).filter {
        graph[$0].type.element == .float32
      }
      let given = operands.filter { integers[$0] != nil }
      guard !given.isEmpty else { continue }
      if let other = operands.first(where: { integers[$0] == nil }) {
        let reason =
          parameters[other] == nil
          ? "\(graph[other].name) of \(node.name) is not given as 32-bit integer too"
          : "\(node.name) has weights"
        for id in given where explained[id] == nil { explained[id] = reason }
      } else if !computesInIntegers(node) {
        for id in given where explained[id] == nil {
          explained[id] = "\(node.op.typeName) of \(node.name) cannot compute in 32-bit integers"
        }
      } else {
        report.int32Nodes.append(node.name)
        graph.integerNodes.insert(node.name)
        covered.formUnion(given)
      }
    }
    for (id, index) in integers.sorted(by: { $0.key.index < $1.key.index }) {
      decided[id] = index
      if covered.contains(id) { continue }
      errors.append(
        finding(
          "override-int32",
          "an activation can be a 32-bit integer only where all inputs and outputs of an operator "
            + "without weights are: \(explained[id] ?? "no operator reads or makes it")",
          file.entries[index], tensor: id))
    }
  }

  /// Whether an operator takes and gives 32-bit integers.
  private func computesInIntegers(_ node: Node) -> Bool {
    func whole(_ type: TensorType) -> TensorType {
      type.element == .float32 ? TensorType(.int32, type.shape) : type
    }
    let types = node.inputs.enumerated().map { slot, id in
      id.map {
        node.op.quantization.input(slot) == .unquantized
          ? graph[$0].type.logical : whole(graph[$0].type.logical)
      }
    }
    guard let results = try? node.op.infer(types) else { return false }
    return results == graph.outputTypes(node).map(whole)
  }

  /// Operators whose output, weight and bias are float together.
  private static let tripleTypes: Set<String> = [
    "Conv2d", "Conv3d", "TransposeConv2d", "TransposeConv3d", "DepthWiseConv2d", "FullyConnected",
    "MatMul",
  ]

  /// Where one of output, weight and bias is float by override, all three are.
  mutating func applyFloatTriples() {
    for node in graph.nodes where Self.tripleTypes.contains(node.op.typeName) {
      let output = node.outputs.first.map { inner[$0] ?? $0 }
      let operands = node.inputs.dropFirst().compactMap { $0 }.filter { parameters[$0] != nil }
      let bias = node.inputs.count > 2 ? node.inputs[2] : nil
      let all = ([output].compactMap { $0 } + operands).filter { graph[$0].type.element == .float32 }
      guard let first = all.first(where: { graph[$0].state == .float && decided[$0] != nil }) else {
        continue
      }
      let width = report.floatBitwidths[graph[first].name]
      for id in all where graph[id].state != .float {
        if let index = decided[id] {
          report.diagnostics.append(
            finding(
              "override-float-triple",
              "it becomes float because \(graph[first].name) of \(node.name) is", file.entries[index],
              tensor: id, severity: .warning))
        }
        report.precisions[graph[id].name] = nil
        setFloat(id, id == bias ? nil : width)
        decided[id] = decided[id] ?? decided[first]
      }
    }
  }

  /// Weights must have a width that the operator can compute with beside its output's.
  mutating func checkCombinations() {
    for problem in graph.operandWidthProblems() {
      guard let weight = problem.location.tensor.flatMap({ graph.tensor(named: $0) }) else { continue }
      let output = graph.nodes.first { $0.name == problem.location.node }?.outputs.first
      let index = decided[weight] ?? output.flatMap { decided[inner[$0] ?? $0] }
      guard let index else { continue }
      var found = problem
      found.location.path = file.entries[index].path
      errors.append(found)
    }
  }

  /// Tensors that no entry decided about become float, but for those that a decision reaches: tensors
  /// tied to a decided one, insides of fused pairs, biases of quantized layers.
  mutating func leaveMissingFloat() {
    leaveUnnamedWeightsFloat()
    var reached = Set(decided.keys)
    for (index, tensor) in graph.tensors.enumerated() where tensor.state == .given {
      reached.insert(TensorID(index))
    }
    spread(&reached)
    for node in graph.nodes {
      guard let output = node.outputs.first, reached.contains(inner[output] ?? output),
        graph[inner[output] ?? output].state != .float
      else { continue }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, node.op.quantization.input(slot) == .bias else { continue }
        // Without a grid of its own it is 32 bits wide, which needs no calibration.
        if reached.insert(id).inserted, graph[id].state == .open { setPrecision(id, 32) }
      }
    }
    for (index, tensor) in graph.tensors.enumerated() {
      let id = TensorID(index)
      guard tensor.type.element == .float32, tensor.state == .open, inner[id] == nil,
        !reached.contains(id)
      else { continue }
      graph[id].state = .float
      report.missingFloat.append(tensor.name)
    }
  }

  /// A weight that the file does not name is float, and with it the operator's output and bias.
  private mutating func leaveUnnamedWeightsFloat() {
    for node in graph.nodes where Self.tripleTypes.contains(node.op.typeName) {
      let weights = node.inputs.enumerated().compactMap { slot, id -> TensorID? in
        guard let id, graph[id].constant != nil, case .weight = node.op.quantization.input(slot),
          graph[id].state == .open, graph[id].bitwidth == nil, decided[id] == nil
        else { return nil }
        return id
      }
      guard let first = weights.first, graph[first].type.element == .float32 else { continue }
      let output = node.outputs.first.map { inner[$0] ?? $0 }
      let bias = node.inputs.count > 2 ? node.inputs[2] : nil
      for id in weights + [output, bias].compactMap({ $0 }) where graph[id].state != .float {
        if let index = decided[id] {
          report.diagnostics.append(
            finding(
              "override-float-triple",
              "it becomes float because \(graph[first].name) of \(node.name), which the file does not name, is",
              file.entries[index], tensor: id, severity: .warning))
        } else {
          report.missingFloat.append(graph[id].name)
        }
        report.precisions[graph[id].name] = nil
        graph[id].encoding = nil
        graph[id].encodingSource = nil
        graph[id].state = .float
        graph[id].bitwidth = nil
      }
    }
  }

  /// Adds what data-invariant operators tie to the tensors reached, in both directions.
  private func spread(_ reached: inout Set<TensorID>) {
    let open = { (id: TensorID) in graph[id].state != .float }
    var changed = true
    while changed {
      changed = false
      for node in graph.nodes {
        for (slot, output) in node.outputs.enumerated() {
          guard case .sameAsInput(let input) = node.op.quantization.output(slot),
            node.inputs.indices.contains(input), let source = node.inputs[input]
          else { continue }
          if reached.contains(source), open(source), reached.insert(output).inserted { changed = true }
          if reached.contains(output), open(output), reached.insert(source).inserted { changed = true }
        }
      }
    }
  }
}

extension Graph {
  /// Names of tensors whose encoding or width an override decided.
  public var decidedByOverride: Set<String> {
    Set(tensors.filter { $0.encodingSource == .override || $0.bitwidth != nil }.map(\.name))
  }

  /// Operators whose weight has a width that they cannot compute with beside that of their output, where
  /// an override decided one of the two: `override-combination`, naming node and weight. `decided` are
  /// the tensors of ``decidedByOverride`` before calibration, which forgets where a width came from.
  public func operandWidthProblems(decided: Set<String> = []) -> [Diagnostic] {
    let inner = innerTensorsOfFusedPairs()
    func width(_ id: TensorID) -> Int? {
      self[id].encoding?.bitwidth ?? (self[id].state == .open ? self[id].bitwidth : nil)
    }
    func isOverride(_ id: TensorID) -> Bool {
      self[id].encodingSource == .override || self[id].bitwidth != nil || decided.contains(self[id].name)
    }
    var found: [Diagnostic] = []
    for node in nodes {
      guard let output = node.outputs.first.map({ inner[$0] ?? $0 }), let made = width(output) else { continue }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, case .weight = node.op.quantization.input(slot), let own = width(id),
          isOverride(id) || isOverride(output), let allowed = OperandWidths.weights[made],
          !allowed.contains(own)
        else { continue }
        let list = allowed.map(String.init).joined(separator: " or ")
        found.append(
          Diagnostic(
            "override-combination",
            "a weight of \(own) bits is not supported beside an output of \(made) bits (\(self[output].name)): "
              + "only \(list)", at: .init(node: node.name, tensor: self[id].name),
            hint: "give the output 16 bits, or the weight \(list)"))
      }
    }
    return found
  }
}
