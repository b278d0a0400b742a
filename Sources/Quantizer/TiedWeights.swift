import Calibration
import IR

extension Graph {
  /// Whether a weight's encoding can be that of data too: one grid, of a width that activations have.
  func carriesData(_ id: TensorID) -> Bool {
    guard let encoding = self[id].encoding, self[id].state == .given else { return false }
    return encoding.axis == nil && OperandWidths.activations.contains(encoding.bitwidth)
  }

  /// Float constants that are somebody's weight and that another operator moves as data: an embedding that the last
  /// layer reads too. With their uses as weight, in the order of the graph.
  func weightsReadAsData() -> [(id: TensorID, uses: [ConstantUse])] {
    var uses: [TensorID: [ConstantUse]] = [:]
    var order: [TensorID] = []
    var isMoved = Set<TensorID>()
    for (index, node) in nodes.enumerated() {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, self[id].constant != nil, self[id].type.element == .float32 else { continue }
        let role = node.op.quantization.input(slot)
        if case .weight = role {
          if uses[id] == nil { order.append(id) }
          uses[id, default: []].append(ConstantUse(node: index, slot: slot, role: role))
        }
        if node.outputs.indices.contains(where: { node.op.quantization.ties(input: slot, output: $0) }) {
          isMoved.insert(id)
        }
      }
    }
    return order.filter(isMoved.contains).map { ($0, uses[$0] ?? []) }
  }
}

extension Assigner {
  /// Encodings of weights that are read as data too, before those of activations: what moves them takes the weight's
  /// grid where that is one for the whole tensor, so that the values are stored once.
  mutating func assignTiedWeights() throws(Diagnostic) {
    guard !options.includeDataInvariantOps else { return }
    let inner = graph.innerTensorsOfFusedPairs()
    for (id, uses) in graph.weightsReadAsData() where graph[id].state == .open {
      let isFloat = uses.contains { use in
        graph.nodes[use.node].outputs.contains { graph[inner[$0] ?? $0].state == .float }
      }
      guard !isFloat, let constant = graph[id].constant, try weightAxis(id, uses) == -1,
        OperandWidths.activations.contains(graph[id].bitwidth ?? options.weightsBitwidth)
      else { continue }
      let calibrator = options.paramCalibrator(
        bitwidth: graph[id].bitwidth, schema: options.schemas[graph[id].name])
      let work = WeightWork(id: id, constant: constant, axis: -1, calibrator: calibrator)
      let found: WeightResult
      if let known = memo?[weight: id] { found = known } else { found = try work.result(graph, jobs: jobs).get() }
      memo?[weight: id] = found
      give(id, found.encoding, .calibrated)
      tiedWeights[id] = found
    }
  }

  /// Notes of weights that are stored a second time for those who read them as data.
  mutating func noteWeightsStoredTwice() {
    for (id, uses) in graph.weightsReadAsData() {
      guard let encoding = graph[id].encoding else { continue }
      let rules = rules
      for node in graph.nodes {
        for slot in node.inputs.indices where node.inputs[slot] == id {
          guard case .fixed(let other) = rules.need(node, slot), other != encoding else { continue }
          let user = graph.nodes[uses[0].node].name
          notes.append(
            Diagnostic(
              "weight-stored-twice",
              "it is the weight of \(user), \(encoding.words), and stored again as data of \(node.name), \(other.words)",
              at: .init(tensor: graph[id].name),
              hint: encoding.axis == nil ? nil : "data has one grid: what is moved does not keep the channels",
              severity: .note))
        }
      }
    }
  }
}

extension Encoding {
  /// `8 bits, a grid a channel`.
  fileprivate var words: String {
    let grids = blocks != nil ? "a grid a block" : axis != nil ? "a grid a channel" : "one grid"
    return "\(bitwidth) bits, \(grids)"
  }
}
