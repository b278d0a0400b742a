import EncodingFiles
import IR

extension OverrideApplication {
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
      } else if !graph.computesInIntegers(node) {
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

  /// Where one of output, weight and bias is float by override, all three are. Weights that are not float
  /// themselves stay as they are here: ``Assigner/settleFloatTriples()`` makes them float, unless they are kept
  /// quantized (`--keep_weights_quantized`).
  mutating func applyFloatTriples() {
    for node in graph.nodes {
      guard let triple = graph.floatTriple(of: node, inner: inner) else { continue }
      let isFloat = { [graph, decided] (id: TensorID) in graph[id].state == .float && decided[id] != nil }
      guard let first = triple.all.first(where: isFloat) else { continue }
      let weights = triple.weights.contains(where: isFloat) ? triple.weights : []
      let width = report.floatBitwidths[graph[first].name]
      let why = "it becomes float because \(graph[first].name) of \(node.name) is"
      for id in makeFloat([triple.output] + weights, because: why) { setFloat(id, width) }
      for id in makeFloat([triple.bias].compactMap { $0 }, because: why) { setFloat(id, nil) }
      for id in [triple.output] + weights + [triple.bias].compactMap({ $0 }) {
        decided[id] = decided[id] ?? decided[first]
      }
    }
  }

  /// Those of some tensors that are not float yet, with a warning for each that an entry gave something else.
  private mutating func makeFloat(_ ids: [TensorID], because reason: String) -> [TensorID] {
    let found = ids.filter { graph[$0].state != .float }
    for id in found {
      if let index = decided[id] {
        report.diagnostics.append(
          finding("override-float-triple", reason, file.entries[index], tensor: id, severity: .warning))
      }
      report.precisions[graph[id].name] = nil
    }
    return found
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
    for node in graph.nodes {
      guard let triple = graph.floatTriple(of: node, inner: inner) else { continue }
      let weights = triple.weights.filter {
        graph[$0].state == .open && graph[$0].bitwidth == nil && decided[$0] == nil
      }
      guard let first = weights.first else { continue }
      let ids = makeFloat(
        weights + [triple.output] + [triple.bias].compactMap { $0 },
        because: "it becomes float because \(graph[first].name) of \(node.name), which the file does not name, is")
      for id in ids {
        if decided[id] == nil { report.missingFloat.append(graph[id].name) }
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
