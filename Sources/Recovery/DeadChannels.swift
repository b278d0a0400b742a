import IR
import Operators

/// What removing dead channels did.
struct DeadChannelReport {
  /// Channels that are zero whatever comes in, and constant ones folded into the next layer, by layer.
  var removed: [(layer: String, zero: Int, folded: Int)] = []
  /// Constant channels that stay: a layer behind them pads, or something else reads them.
  var kept = 0
}

extension Graph {
  /// Clears channels that hold one value for all inputs within `inputs` (channel ranges of the graph's
  /// inputs): their weights, biases, and the weights of the layers that read them, become zero. A value
  /// other than zero goes into the biases of those layers, where none of them pads.
  ///
  /// Such channels (weights of 1e-12 behind a Relu6, say) would take part in ranges and in equalization
  /// though they carry nothing. Layers that share weights, or whose weights are given, stay.
  func removingDeadChannels(
    inputs: [TensorID: [ClosedRange<Double>]], threshold: Float
  ) -> (graph: Graph, report: DeadChannelReport) {
    var result = self
    var report = DeadChannelReport()
    let layers = Layer.layers(of: self)
    var byNode: [Int: Layer] = [:]
    for layer in layers { byNode[layer.node] = layer }
    let readers = consumers()
    let outputs = Set(self.outputs)
    var intervals = Intervals()
    for (id, ranges) in inputs { intervals[id] = ranges }
    let byLast = Dictionary(layers.map { ($0.lastNode, $0) }, uniquingKeysWith: { first, _ in first })
    for index in nodes.indices {
      intervals.follow(result.nodes[index], byNode[index], in: result)
      guard let layer = byLast[index], result.isOpen(layer, readers), let ranges = intervals[layer.result],
        !outputs.contains(layer.result), let bias = result.biasValues(layer), layer.bias != nil
      else { continue }
      let next = result.layersBehind(layer.result, readers, byNode)
      var values = bias
      guard var weights = ChannelWeights(layer, of: result), weights.outputChannels == ranges.count else { continue }
      let before = weights.outputRanges()
      var (zero, folded) = (Set<Int>(), [Int: Double]())
      for (c, range) in ranges.enumerated()
      where range.upperBound - range.lowerBound < Double(threshold) && range.upperBound.isFinite {
        let value = (range.lowerBound + range.upperBound) / 2
        if abs(value) < Double(threshold) {
          if before[c] > 0 || values[c] != 0 { zero.insert(c) }
        } else if let next, !next.isEmpty, next.allSatisfy({ $0.isExact && $0.layer.bias != nil }) {
          folded[c] = value
        } else {
          report.kept += 1
        }
      }
      guard !zero.isEmpty || !folded.isEmpty else { continue }
      let cleared = zero.union(folded.keys)
      weights.scaleOutputs(by: ranges.indices.map { cleared.contains($0) ? 0 : 1 })
      for c in cleared { values[c] = 0 }
      result.setWeight(layer, weights.values)
      result.setBias(layer, values)
      intervals[layer.result] = ranges.indices.map { cleared.contains($0) ? 0...0 : ranges[$0] }
      for reader in next ?? [] { result.clearInputs(of: reader.layer, cleared, folded) }
      report.removed.append((layer.name, zero.count, folded.count))
    }
    return (result, report)
  }

  /// Whether nothing else has a say in a layer's weight and bias.
  func isOpen(_ layer: Layer, _ readers: [[NodeID]]) -> Bool {
    guard self[layer.weight].state == .open, readers[layer.weight.index].count == 1,
      self[layer.weight].type.element == .float32
    else { return false }
    guard let bias = layer.bias else { return true }
    return self[bias].state == .open && readers[bias.index].count == 1 && self[bias].constant != nil
      && self[bias].type.element == .float32
  }

  /// The layers that read a tensor, directly or through a mean over positions, and whether a constant
  /// channel reaches them whole (no padding); nil where something else reads it.
  private func layersBehind(
    _ tensor: TensorID, _ readers: [[NodeID]], _ byNode: [Int: Layer]
  ) -> [(layer: Layer, isExact: Bool)]? {
    var found: [(layer: Layer, isExact: Bool)] = []
    for reader in readers[tensor.index] {
      guard let layer = byNode[reader.index], layer.input == tensor, isOpen(layer, readers),
        let weights = ChannelWeights(layer, of: self)
      else { return nil }
      found.append((layer, !weights.isPadded))
    }
    return found
  }

  /// Zeros what reads some channels; values of constant ones go into the bias.
  private mutating func clearInputs(of layer: Layer, _ channels: Set<Int>, _ folded: [Int: Double]) {
    guard var weights = ChannelWeights(layer, of: self), let old = biasValues(layer) else { return }
    var bias = old.map { Double($0) }
    var values = weights.values
    weights.forEach { index, o, c in
      guard channels.contains(c) else { return }
      if let value = folded[c], o < bias.count { bias[o] += Double(values[index]) * value }
      values[index] = 0
    }
    weights.values = values
    setWeight(layer, values)
    if !folded.isEmpty { setBias(layer, bias.map { Float($0) }) }
  }
}
