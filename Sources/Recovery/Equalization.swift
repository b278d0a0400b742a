import Calibration
import Glibc
import IR
import Operators
import Quantizer
import Runtime

/// What equalization did to one pair of layers.
public struct EqualizedPair: Sendable, Hashable {
  /// The layer whose channels were multiplied, and the one whose weights were divided.
  public var producer: String
  public var consumer: String
  /// Channels, and the least and largest factor.
  public var channels: Int
  public var least: Double
  public var largest: Double
  /// What became of a clamp from above between them: `bounds`, `relu`, or nil where there is none.
  public var clamp: String?
  /// Channels whose high bias the second layer absorbed.
  public var absorbed = 0
}

/// What ``equalized(_:quantizer:options:samples:)`` did.
public struct EqualizationReport: Sendable, Hashable {
  /// Pairs that were scaled, in the order of the graph.
  public var pairs: [EqualizedPair] = []
  /// Layers behind which nothing was scaled, and why.
  public var skipped: [[String]] = []
  /// Channels found dead (zero) and constant ones folded into the next layer, by layer.
  public var deadChannels: [[String]] = []
  /// SQNR of the graph's outputs before against after, in dB; nil without samples, infinite where equal.
  public var floatSQNR: Double?
}

/// Equalizes the channels of neighbouring layers (`cle`): removes dead channels, multiplies each channel
/// of a layer's output and divides the next layer's weights by the same factor so that weights and
/// activations lose little when they are quantized, and absorbs high biases.
///
/// The function stays but for what dead channels within the threshold, absorption beyond the samples and
/// a Relu in place of a Relu6 change. The result tells by ``IR/Graph/channelScales`` what was multiplied.
/// Without samples the range objective works on the statistics of folded BatchNorms, where there are any.
///
/// Throws `override-on-equalized` where an override gives what would be scaled, `cle-needs-samples` for
/// the noise objective without samples. Sources: Nagel et al. 1906.04721; the noise objective is the
/// project's own (quantization.md 6).
public func equalized(
  _ graph: Graph, quantizer: QuantizerOptions, options: RecoveryOptions, samples: SampleSet?
) throws(Diagnostic) -> (graph: Graph, report: EqualizationReport, notes: [Diagnostic]) {
  var session = EqualizationSession(graph: graph, quantizer: quantizer, options: options, samples: samples)
  try session.run()
  return (session.graph, session.report, session.notes)
}

private struct EqualizationSession {
  var graph: Graph
  let source: Graph
  let quantizer: QuantizerOptions
  let options: RecoveryOptions
  let samples: SampleSet?
  var report = EqualizationReport()
  var notes: [Diagnostic] = []

  init(graph: Graph, quantizer: QuantizerOptions, options: RecoveryOptions, samples: SampleSet?) {
    self.graph = graph
    source = graph
    self.quantizer = quantizer
    self.options = options
    self.samples = samples
  }

  private var objective: EqualizationObjective { options.objective ?? (samples == nil ? .range : .noise) }

  mutating func run() throws(Diagnostic) {
    if objective == .noise, samples == nil {
      throw Diagnostic(
        "cle-needs-samples", "cle with the noise objective needs --input_list",
        hint: "set cle.objective to range, or give samples", kind: .usage)
    }
    try removeDeadChannels()
    let layers = Layer.layers(of: graph)
    let (boundaries, skipped) = try graph.boundaries(layers, relu6: options.relu6)
    report.skipped = skipped.map { [$0.layer, $0.reason] }
    guard !boundaries.isEmpty else {
      notes.append(
        Diagnostic(
          "option-without-effect",
          "cle changed nothing: no two layers follow each other with nothing but Relu and the like between them"
            + (skipped.first.map { "; \($0.layer): \($0.reason)" } ?? ""), severity: .warning))
      return
    }
    let moments = try measured(layers, boundaries)
    let scales =
      objective == .noise
      ? noiseScales(layers, boundaries, moments) : rangeScales(layers, boundaries, moments)
    apply(scales, layers, boundaries, moments)
    absorb(scales, layers, boundaries, moments)
    splitClamps()
    if let samples {
      report.floatSQNR = try samples.outputSQNR(of: graph, against: source)
    }
    addNotes()
  }

  // MARK: Dead channels

  private mutating func removeDeadChannels() throws(Diagnostic) {
    guard let samples, options.deadChannelThreshold > 0 else { return }
    let moments = try samples.channelMoments(of: graph.inputs, in: graph.withoutNodes())
    var ranges: [TensorID: [ClosedRange<Double>]] = [:]
    for (id, seen) in moments {
      // Beyond what the samples hold by their own range on each side: other inputs may go further.
      let low = Double(seen.minimum.min() ?? 0)
      let high = Double(seen.maximum.max() ?? 0)
      let width = high - low
      ranges[id] = seen.sum.map { _ in min(low - width, 0)...max(high + width, 0) }
    }
    let (cleared, dead) = graph.removingDeadChannels(inputs: ranges, threshold: options.deadChannelThreshold)
    graph = cleared
    report.deadChannels = dead.removed.map { [$0.layer, "\($0.zero)", "\($0.folded)"] }
    let zero = dead.removed.reduce(0) { $0 + $1.zero }
    let folded = dead.removed.reduce(0) { $0 + $1.folded }
    guard zero + folded + dead.kept > 0 else { return }
    notes.append(
      Diagnostic(
        "dead-channels",
        "\(zero) channels that are zero whatever comes in were cleared, \(folded) constant ones folded into the "
          + "next layer, \(dead.kept) constant ones stay: "
          + dead.removed.map { "\($0.layer) \($0.zero + $0.folded)" }.joined(separator: ", "),
        severity: .note))
  }

  // MARK: What is known of the tensors

  private func measured(
    _ layers: [Layer], _ boundaries: [Boundary]
  ) throws(Diagnostic) -> [TensorID: ChannelMoments] {
    guard let samples else { return momentsFromBatchNorms(layers, boundaries) }
    var wanted = Set(graph.outputs)
    var clamps: [TensorID: ClosedRange<Float>] = [:]
    for layer in layers { wanted.insert(layer.input) }
    for boundary in boundaries { wanted.formUnion(boundary.tensors) }
    let producers = graph.producers()
    for output in graph.outputs {
      if let node = producers[output.index].map({ graph[$0] }), let input = node.inputs[0] { wanted.insert(input) }
    }
    for node in graph.nodes {
      if node.op is ElementWiseMultiply { wanted.formUnion(node.inputs.compactMap { $0 }) }
      guard node.op is Relu || node.op is ReluMinMax, let input = node.inputs[0],
        let bounds = activationBounds(node, in: graph), let high = bounds.high.first
      else { continue }
      wanted.insert(input)
      clamps[input] = bounds.low...max(high, bounds.low)
    }
    let floats = wanted.filter { graph[$0].constant == nil }
    return try samples.channelMoments(
      of: floats.sorted { $0.index < $1.index }, in: graph, clamps: clamps)
  }

  /// Ends of the channels at the boundaries as the folded BatchNorms tell them, three deviations about
  /// the mean, behind the activation.
  private func momentsFromBatchNorms(
    _ layers: [Layer], _ boundaries: [Boundary]
  ) -> [TensorID: ChannelMoments] {
    var result: [TensorID: ChannelMoments] = [:]
    for boundary in boundaries {
      let layer = layers[boundary.producer]
      guard let normed = graph.batchNorms[graph[layer.output].name], normed.beta.count == boundary.channels else {
        continue
      }
      var moments = ChannelMoments(channels: boundary.channels)
      moments.count = 1
      let bounds = graph.clamp(behind: layer)
      for c in 0..<boundary.channels {
        let (beta, reach) = (normed.beta[c], 3 * abs(normed.gamma[c]))
        let (low, high) = (bounds?.low ?? -.infinity, bounds?.high[c] ?? .infinity)
        moments.minimum[c] = min(max(beta - reach, low), high)
        moments.maximum[c] = min(max(beta + reach, low), high)
      }
      result[layer.result] = moments
    }
    return result
  }

  // MARK: Objectives

  private func noiseScales(
    _ layers: [Layer], _ boundaries: [Boundary], _ moments: [TensorID: ChannelMoments]
  ) -> [[Double]] {
    let importance = Importance(graph, layers, moments)
    let byConsumer = Dictionary(
      boundaries.enumerated().map { ($0.element.consumer, $0.offset) }, uniquingKeysWith: { first, _ in first })
    let byProducer = Dictionary(
      boundaries.enumerated().map { ($0.element.producer, $0.offset) }, uniquingKeysWith: { first, _ in first })
    var noises: [LayerNoise] = []
    for (index, layer) in layers.enumerated() where byConsumer[index] != nil || byProducer[index] != nil {
      guard let weights = ChannelWeights(layer, of: graph) else { continue }
      var largest: [UInt64: Int] = [:]
      var entries: [(input: Int32, output: Int32, magnitude: Double)] = []
      largest.reserveCapacity(weights.values.count)
      weights.forEach { place, o, c in
        let key = UInt64(UInt32(o)) << 32 | UInt64(UInt32(c))
        let magnitude = Double(abs(weights.values[place]))
        if let known = largest[key] {
          entries[known].magnitude = max(entries[known].magnitude, magnitude)
        } else {
          largest[key] = entries.count
          entries.append((Int32(c), Int32(o), magnitude))
        }
      }
      let isRow = layer.isRow(in: graph)
      noises.append(
        LayerNoise(
          entries: entries, importance: importance.channels(layer.output, count: weights.outputChannels),
          taps: Double(weights.values.count) / Double(max(entries.count, 1)),
          variance: moments[layer.input]?.variance ?? [Double](repeating: 1, count: weights.inputChannels),
          steps: Double((1 << (quantizer.weightsBitwidth - 1)) - 1),
          isPerChannel: isRow ? quantizer.perRow : quantizer.perChannel,
          inputBoundary: byConsumer[index], outputBoundary: byProducer[index]))
    }
    let tensors = boundaries.map { boundary in
      let layer = layers[boundary.producer]
      let seen = moments[layer.result]
      let channels = boundary.channels
      let low = seen.map { $0.minimum.map { min(Double($0), 0) } } ?? [Double](repeating: 0, count: channels)
      let high = seen.map { $0.maximum.map { max(Double($0), 0) } } ?? [Double](repeating: 0, count: channels)
      let weights = ChannelWeights(layer, of: graph)
      let produced = weights?.outputRanges() ?? []
      let consumed = ChannelWeights(layers[boundary.consumer], of: graph)?.inputRanges(channels) ?? []
      // A channel that never left zero has no noise of its own.
      let weighed = importance.channels(layer.result, count: channels)
      return BoundaryNoise(
        low: low, high: high, importance: (0..<channels).map { high[$0] > low[$0] ? weighed[$0] : 0 },
        steps: Double((1 << quantizer.actBitwidth) - 1),
        isFree: (0..<channels).map { c in
          c < produced.count && produced[c] > 0 && c < consumed.count && consumed[c] > 0
        })
    }
    return NoiseModel(layers: noises, boundaries: tensors, jobs: samples?.jobs ?? 1)
      .minimised(steps: options.equalizationSteps, start: rangeScales(layers, boundaries, moments))
  }

  /// s = (r2 / (r1 (a t)^lambda))^(1 / (2 + lambda)), sweep by sweep to a standstill: r1 and r2 are the
  /// ranges of the weights on both sides, a that of the activation, t the scale so far.
  private func rangeScales(
    _ layers: [Layer], _ boundaries: [Boundary], _ moments: [TensorID: ChannelMoments]
  ) -> [[Double]] {
    var total = boundaries.map { [Double](repeating: 1, count: $0.channels) }
    var weights = layers.map { ChannelWeights($0, of: graph) }
    for _ in 0..<200 {
      var largest = 0.0
      for (b, boundary) in boundaries.enumerated() {
        guard let before = weights[boundary.producer], let behind = weights[boundary.consumer] else { continue }
        let r1 = before.outputRanges()
        let r2 = behind.inputRanges(boundary.channels)
        let seen = moments[layers[boundary.producer].result]
        let lambda = seen == nil ? 0 : options.rangeLambda
        let used = (0..<boundary.channels).filter { c in
          r1[c] > 0 && r2[c] > 0 && seen.map { max($0.maximum[c], -$0.minimum[c]) > 0 } ?? true
        }
        let whole1 = used.reduce(0.0) { max($0, r1[$1]) }
        let whole2 = used.reduce(0.0) { max($0, r2[$1]) }
        let factors = (0..<boundary.channels).map { c -> Double in
          let reach = seen.map { Double(max($0.maximum[c], -$0.minimum[c])) } ?? 1
          guard r1[c] > 0, r2[c] > 0 else { return 1 }
          // Never seen to hold anything: it must not stand out on either side.
          guard reach > 0 else { return whole1 > 0 ? (r2[c] * whole1 / (r1[c] * whole2)).squareRoot() : 1 }
          return pow(r2[c] / (r1[c] * pow(reach * total[b][c], lambda)), 1 / (2 + lambda))
        }
        largest = factors.reduce(largest) { max($0, abs(log($1))) }
        weights[boundary.producer]?.scaleOutputs(by: factors)
        weights[boundary.consumer]?.divideInputs(by: factors)
        for c in factors.indices { total[b][c] *= factors[c] }
      }
      if largest < 1e-4 { break }
    }
    return total
  }

  // MARK: Application

  private mutating func apply(
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
      if let bias = graph.biasValues(producer), producer.bias != nil {
        graph.setBias(producer, bias.indices.map { Float(Double(bias[$0]) * factors[$0]) })
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

  /// Bounds of the clamps that change, by node; empty for none at all.
  private var clamps: [Int: [Float]] = [:]

  /// Puts Relu, and ElementWiseMinimum with the bounds, in the place of clamps from above.
  private mutating func splitClamps() {
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
  private mutating func absorb(
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
      guard let weights = ChannelWeights(consumer, of: graph), !weights.isPadded, consumer.bias != nil,
        producer.bias != nil, let own = graph.biasValues(producer), let next = graph.biasValues(consumer)
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

  // MARK: Report

  private mutating func addNotes() {
    for pair in report.pairs {
      var text = "\(pair.producer) -> \(pair.consumer): \(pair.channels) channels scaled by "
      text += "\(short(pair.least)) to \(short(pair.largest))"
      if let clamp = pair.clamp {
        text += clamp == "relu" ? "; the clamp became a Relu" : "; the clamp became a bound a channel"
      }
      if pair.absorbed > 0 { text += "; \(pair.absorbed) high biases absorbed" }
      notes.append(Diagnostic("equalized", text, severity: .note))
    }
    if !report.skipped.isEmpty {
      notes.append(
        Diagnostic(
          "equalization-skipped",
          "\(report.skipped.count) layers were not scaled: "
            + report.skipped.map { "\($0[0]): \($0[1])" }.joined(separator: "; "), severity: .note))
    }
    if let quality = report.floatSQNR {
      notes.append(
        Diagnostic(
          "equalization-float",
          "the float outputs changed by cle: "
            + (quality.isInfinite ? "not at all" : "SQNR \(short(quality)) dB against those before"),
          severity: .note))
    }
  }

  private func short(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return "\(value)" }
    let digits = max(0, 3 - Int(log10(abs(value)).rounded(.up)))
    let unit = pow(10, Double(digits))
    return "\((value * unit).rounded() / unit)"
  }
}

extension Layer {
  /// Whether its weight follows the per-row option.
  func isRow(in graph: Graph) -> Bool {
    if case .weight(_, perRow: true) = graph.nodes[node].op.quantization.input(1) { true } else { false }
  }
}

extension Graph {
  /// The graph's inputs alone, as outputs.
  func withoutNodes() -> Graph {
    var result = self
    result.nodes = []
    result.outputs = inputs
    return result
  }
}

extension SampleSet {
  /// SQNR in dB of the outputs of a graph against another's, on at most 32 samples; infinite where they are
  /// equal.
  func outputSQNR(of graph: Graph, against reference: Graph) throws(Diagnostic) -> Double {
    let mine = try backend.prepare(graph, options: PlanOptions(simulate: false))
    let theirs = try backend.prepare(reference, options: PlanOptions(simulate: false))
    let (a, b) = (try mine.makeWorker(), try theirs.makeWorker())
    var (signal, noise) = (0.0, 0.0)
    for rank in 0..<min(count, 32) {
      let inputs = try load(rank)
      let (x, y) = (try a.run(inputs), try b.run(inputs))
      for (place, id) in reference.outputs.enumerated() where reference[id].type.element.logical == .float32 {
        for (p, q) in zip(x[place].array(of: Float.self), y[place].array(of: Float.self)) {
          signal += Double(q) * Double(q)
          noise += Double(p - q) * Double(p - q)
        }
      }
    }
    return noise > 0 ? 10 * log10(signal / noise) : .infinity
  }
}
