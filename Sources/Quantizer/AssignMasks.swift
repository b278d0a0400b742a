import Calibration
import IR
import Operators

extension Assigner {
  /// Finds how far the grids of masked tensors must reach, and brings constant masks to there: a mask
  /// is as good as minus infinity as soon as it lies the mask's distance below every value it can meet.
  mutating func placeMasks(_ statistics: Statistics?, _ ids: [String: TensorID]) {
    let paths = graph.softmaxPaths()
    guard !paths.isEmpty else { return }
    var masked: [(id: TensorID, path: SoftmaxPath, values: MaskedValues)] = []
    for tensor in statistics?.tensors ?? [] where tensor.masked.count > 0 {
      guard let id = ids[tensor.name], let path = paths[id] else { continue }
      masked.append((id, path, tensor.masked))
    }
    for (id, path, values) in masked {
      let floor: Double
      if path.isFinal, let least = values.leastRowMaximum {
        floor = Double(least) - options.maskDistance / path.factor
      } else {
        floor = operandFloor(path)
      }
      observed[id]?.floor = floor
      noteMask(id, values.count, floor)
    }
    for index in graph.tensors.indices where graph.tensors[index].constant != nil {
      let id = TensorID(index)
      guard let path = paths[id] else { continue }
      clampMask(id, below: Masking.deep / path.factor, to: operandFloor(path))
    }
    clampFactors(paths)
  }

  /// The floor of an operand alone: below what the others can make up for.
  private func operandFloor(_ path: SoftmaxPath) -> Double {
    let reach = path.others.reduce(options.maskDistance) { sum, other in
      sum + other.factor * spread(other.tensor, deep: Masking.deep / other.factor)
    }
    return -reach / path.factor
  }

  /// Width of the range of a tensor without what is masked in it, zero included.
  private func spread(_ id: TensorID, deep: Double) -> Double {
    if let constant = graph[id].constant {
      let live = constant.floats().map(Double.init).filter { $0 > deep && $0.isFinite }
      return max(live.max() ?? 0, 0) - min(live.min() ?? 0, 0)
    }
    guard let range = observed[id]?.range else { return 0 }
    return max(range.upperBound, 0) - min(range.lowerBound, 0)
  }

  private mutating func noteMask(_ id: TensorID, _ count: Int, _ floor: Double) {
    notes.append(
      Diagnostic(
        "mask", "\(count) masked values count as \(Float(floor)): only a Softmax reads them",
        at: .init(tensor: graph[id].name), severity: .note))
  }

  /// Raises what lies below `deep` in a constant.
  private mutating func clampMask(_ id: TensorID, below deep: Double, to floor: Double) {
    guard let constant = graph[id].constant, graph[id].state != .float else { return }
    var values = constant.floats()
    var count = 0
    for place in values.indices where Double(values[place]) <= deep {
      values[place] = Float(floor)
      count += 1
    }
    guard count > 0 else { return }
    graph[id].constant = Constant(values, shape: constant.type.shape)
    noteMask(id, count, floor)
  }

  /// Constant factors such as those of `(1 - mask) * -3.4e38`: where all of one is deep, its product
  /// with a mask of ones and zeros is a mask operand.
  private mutating func clampFactors(_ paths: [TensorID: SoftmaxPath]) {
    var floors: [TensorID: Double] = [:]
    var factors: [TensorID: [(node: Int, slot: Int)]] = [:]
    for (index, node) in graph.nodes.enumerated()
    where node.op is ElementWiseBinary<MultiplyFunction> {
      guard let path = paths[node.outputs[0]] else { continue }
      for (slot, input) in node.inputs.enumerated() {
        guard let id = input, let values = graph[id].constant?.floats(), !values.isEmpty,
          values.allSatisfy({ Double($0) <= Masking.deep / path.factor })
        else { continue }
        factors[id, default: []].append((index, slot))
        floors[id] = min(floors[id] ?? 0, operandFloor(path))
      }
    }
    let readers = graph.consumers()
    var names = NameTable(graph)
    for (id, uses) in factors.sorted(by: { $0.key.index < $1.key.index }) {
      guard let floor = floors[id], graph[id].state != .float else { continue }
      var target = id
      if uses.count < readers[id.index].count || graph.outputs.contains(id) {
        // Somebody else reads the constant as it is.
        var copy = graph[id]
        copy.name = names.unique(copy.name)
        target = graph.add(copy)
        wasOpen.append(copy.state == .open)
        for use in uses { graph.nodes[use.node].inputs[use.slot] = target }
      }
      clampMask(target, below: 0, to: floor)
    }
  }
}
