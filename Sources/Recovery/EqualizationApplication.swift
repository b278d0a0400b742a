import IR
import Operators

extension EqualizationSession {
  mutating func apply(
    _ scales: [[Double]], _ layers: [Layer], _ boundaries: [Boundary], _ moments: [TensorID: ChannelMoments]
  ) {
    for (b, boundary) in boundaries.enumerated() {
      // As floats, so that both sides and the record have the same numbers.
      let factors = scales[b].map { Double(Float($0)) }
      let (producer, consumer) = (layers[boundary.producer], layers[boundary.consumer])
      if var weights = ChannelWeights(producer, of: graph) {
        weights.scaleOutputs(by: factors)
        graph.setWeight(producer, weights.values)
      }
      if let bias = graph.biasValues(producer), let id = producer.bias {
        graph.setBias(producer, bias.indices.map { Float(Double(bias[$0]) * factors[$0]) })
        graph.scaleShifts(of: id, by: factors)
      }
      if var weights = ChannelWeights(consumer, of: graph) {
        weights.divideInputs(by: factors)
        graph.setWeight(consumer, weights.values)
      }
      for id in boundary.tensors {
        let last = graph[id].type.shape.last ?? 1
        let old = graph.channelScales[graph[id].name]
        graph.channelScales[graph[id].name] = (0..<last).map {
          Float(factors[$0 % factors.count] * Double(old?[$0] ?? 1))
        }
        graph.scaleShifts(of: id, by: factors)
      }
      let name = graph[producer.output].name
      if let normed = graph.batchNorms[name], normed.beta.count == factors.count {
        graph.batchNorms[name] = BatchNormStatistics(
          beta: normed.beta.indices.map { Float(Double(normed.beta[$0]) * factors[$0]) },
          gamma: normed.gamma.indices.map { Float(Double(normed.gamma[$0]) * factors[$0]) })
      }
      var pair = EqualizedPair(
        producer: producer.name, consumer: consumer.name, channels: boundary.channels,
        least: factors.min() ?? 1, largest: factors.max() ?? 1)
      if let clamp = boundary.clampNode { pair.clamp = scaleClamp(clamp, factors, moments) }
      report.pairs.append(pair)
    }
  }

  /// Scales a clamp from above, a bound a channel; what became of it.
  private mutating func scaleClamp(
    _ index: Int, _ factors: [Double], _ moments: [TensorID: ChannelMoments]
  ) -> String {
    let node = graph.nodes[index]
    guard let bounds = activationBounds(node, in: graph), let input = node.inputs[0] else { return "bounds" }
    let reached = moments[input].map { seen in
      seen.maximum.indices.contains { seen.maximum[$0] >= bounds.high[bounds.high.count == 1 ? 0 : $0] }
    }
    if options.relu6 == .relu || (options.relu6 == .auto && reached == false) {
      clamps[index] = []
      return "relu"
    }
    clamps[index] = factors.indices.map { c in
      Float(Double(bounds.high[bounds.high.count == 1 ? 0 : c]) * factors[c])
    }
    return "bounds"
  }

  /// Puts Relu, and ElementWiseMinimum with the bounds, in the place of clamps from above.
  mutating func splitClamps() {
    var names = NameTable(graph)
    var nodeNames = Set(graph.nodes.map(\.name))
    var nodes: [Node] = []
    for (index, node) in graph.nodes.enumerated() {
      guard let bounds = clamps[index], let input = node.inputs[0], let output = node.outputs.first else {
        nodes.append(node)
        continue
      }
      let isMinimum = node.op is ElementWiseMinimum
      if bounds.isEmpty {
        // A bound that is never reached: Relu alone, or nothing but the tensor's name.
        nodes.append(
          Node(
            name: node.name,
            op: isMinimum ? ReluMinMax(minValue: -.infinity, maxValue: .infinity) as any Operator : Relu(),
            inputs: [input], outputs: [output]))
        continue
      }
      let constant = Tensor(
        name: names.unique("\(graph[output].name).bound"), type: TensorType(.float32, [bounds.count]),
        constant: Constant(bounds, shape: [bounds.count]))
      let bound = graph.add(constant)
      if isMinimum {
        nodes.append(Node(name: node.name, op: node.op, inputs: [input, bound], outputs: [output]))
        continue
      }
      var rectified = Tensor(name: names.unique("\(graph[output].name).relu"), type: graph[output].type)
      rectified.bitwidth = graph[output].bitwidth
      let middle = graph.add(rectified)
      graph.channelScales[graph[middle].name] = graph.channelScales[graph[output].name]
      graph.channelShifts[graph[middle].name] = graph.channelShifts[graph[output].name]
      var name = "\(node.name).bound"
      while !nodeNames.insert(name).inserted { name += "_" }
      nodes.append(Node(name: node.name, op: Relu(), inputs: [input], outputs: [middle]))
      nodes.append(Node(name: name, op: ElementWiseMinimum(), inputs: [middle, bound], outputs: [output]))
    }
    graph.nodes = nodes
    graph = graph.compacted()
  }

  // MARK: High biases

  /// Moves the part of a bias that an activation never cuts, beta - 3 |gamma| of the folded BatchNorm,
  /// into the next layer's bias. Only where that layer does not pad; with samples never beyond the least
  /// value that they showed, and on `auto` only where the range becomes narrower.
  mutating func absorb(
    _ scales: [[Double]], _ layers: [Layer], _ boundaries: [Boundary], _ moments: [TensorID: ChannelMoments]
  ) {
    guard options.absorption != .off else { return }
    var missing: [String] = []
    for (b, boundary) in boundaries.enumerated() {
      let (producer, consumer) = (layers[boundary.producer], layers[boundary.consumer])
      // Relu or a clamp directly between them: elsewhere nothing is cut, or it is not the bias alone.
      guard boundary.nodes.count == 1, graph.nodes[boundary.nodes[0]].op is Relu || boundary.clampNode != nil
      else { continue }
      guard let normed = graph.batchNorms[graph[producer.output].name], normed.beta.count == boundary.channels
      else {
        missing.append(producer.name)
        continue
      }
      guard let weights = ChannelWeights(consumer, of: graph), !weights.isPadded, let nextBias = consumer.bias,
        let ownBias = producer.bias, let own = graph.biasValues(producer), let next = graph.biasValues(consumer)
      else { continue }
      let seen = moments[producer.result]
      let moved = (0..<boundary.channels).map { c -> Double in
        var part = max(0, Double(normed.beta[c]) - 3 * Double(abs(normed.gamma[c])))
        if options.absorption == .auto, let seen, samples != nil {
          part = min(part, max(0, Double(seen.minimum[c]) * scales[b][c]))
        }
        return part
      }
      if options.absorption == .auto {
        guard let seen, samples != nil else { continue }
        let old = (0..<boundary.channels).reduce(0.0) { max($0, Double(seen.maximum[$1]) * scales[b][$1]) }
        let new = (0..<boundary.channels).reduce(0.0) {
          max($0, Double(seen.maximum[$1]) * scales[b][$1] - moved[$1])
        }
        guard new < 0.99 * old else { continue }
      }
      guard moved.contains(where: { $0 > 0 }) else { continue }
      graph.setBias(producer, own.indices.map { Float(Double(own[$0]) - moved[$0]) })
      var sums = next.map { Double($0) }
      weights.forEach { place, o, c in sums[o] += Double(weights.values[place]) * moved[c % moved.count] }
      graph.setBias(consumer, sums.map { Float($0) })
      for id in boundary.tensors + [ownBias] { graph.shift(id, by: moved) }
      graph.shift(nextBias, by: zip(next, sums).map { Double($0) - $1 })
      graph.batchNorms[graph[producer.output].name]?.beta = normed.beta.indices.map {
        Float(Double(normed.beta[$0]) - moved[$0])
      }
      if let clamp = boundary.clampNode, let bounds = clamps[clamp], !bounds.isEmpty {
        clamps[clamp] = bounds.indices.map { Float(Double(bounds[$0]) - moved[$0]) }
      }
      report.pairs[b].absorbed = moved.count { $0 > 0 }
    }
    guard !missing.isEmpty else { return }
    notes.append(
      Diagnostic(
        "hba-statistics",
        "Invalid model for HBA quantization algorithm. No BatchNorm was folded into "
          + missing.joined(separator: ", "),
        hint: "high biases stay where they are; cle.absorb: false says so",
        severity: options.absorption == .on ? .warning : .note))
  }
}

extension Graph {
  /// Notes that something was taken away from each channel of a tensor.
  fileprivate mutating func shift(_ id: TensorID, by moved: [Double]) {
    let old = channelShifts[self[id].name]
    channelShifts[self[id].name] = moved.indices.map { Float(moved[$0] + Double(old?[$0] ?? 0)) }
  }

  /// Lets what was noted follow the scales of the channels.
  fileprivate mutating func scaleShifts(of id: TensorID, by factors: [Double]) {
    guard let old = channelShifts[self[id].name] else { return }
    channelShifts[self[id].name] = old.indices.map { Float(Double(old[$0]) * factors[$0 % factors.count]) }
  }
}
