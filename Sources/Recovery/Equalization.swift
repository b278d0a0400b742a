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

/// One equalization: the graph as it becomes, and what there is to say.
struct EqualizationSession {
  var graph: Graph
  let source: Graph
  let quantizer: QuantizerOptions
  let options: RecoveryOptions
  let samples: SampleSet?
  var report = EqualizationReport()
  var notes: [Diagnostic] = []
  /// Bounds of the clamps that change, by node; empty for none at all.
  var clamps: [Int: [Float]] = [:]

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
