import EncodingFiles
import IR
import Quantizer
import Runtime

/// What more precision a suggestion gives one layer.
public struct RaisedLayer: Sendable, Hashable {
  /// Name of the layer's first operator, or of the graph input.
  public var layer: String
  public var operatorName: String
  /// Share of the estimated noise of the outputs that it made.
  public var share: Double
  /// The tensors that are raised, in order of their names.
  public var tensors: [RaisedTensor]
}

/// A tensor that is to be more precise.
public struct RaisedTensor: Sendable, Hashable {
  public var name: String
  /// Whether it is a constant.
  public var isParameter: Bool
  /// Bits of its codes; nil: it becomes float.
  public var bitwidth: Int?
}

/// The layers to raise, and what that gives.
public struct OverrideSuggestion: Sendable {
  /// In the order of their gain, most first.
  public var raised: [RaisedLayer]
  /// Layers that could be raised.
  public var layerCount: Int
  /// Signal to noise of the outputs in dB: as it was, as asked for, and with the suggestion.
  public var before: Double
  public var target: Double?
  public var after: Double
  /// Every number of raised layers that was tried, with what it gave.
  public var tried: [(layers: Int, sqnr: Double)]
  /// Samples that it was measured on.
  public var sampleCount: Int

  /// What it says as entries of an encodings file: widths alone, ranges are calibrated.
  public func entries(floatBitwidth: Int) -> [EncodingEntry] {
    raised.flatMap(\.tensors).map { tensor in
      EncodingEntry(
        name: tensor.name, section: tensor.isParameter ? .param : .activation,
        kind: tensor.bitwidth == nil ? .float : .int, bitwidth: tensor.bitwidth ?? floatBitwidth)
    }
  }

  /// Whether the target was reached; true without one.
  public var reachesTarget: Bool { target.map { after >= $0 } ?? true }
}

/// Finds the smallest set of layers that must be more precise for the outputs to be as good as asked for.
///
/// Each layer's noise is measured at the outputs with that layer alone quantized (weights and activations
/// apart, mean errors taken out where bias correction will do so); noises of layers add up well enough to
/// rank them. Layers are raised in that order; how many are needed is found by quantizing the whole
/// network again, with a number of layers that doubles and then halves its step.
public struct OverrideSearch: Sendable {
  /// Makes encodings for a float graph, some of whose tensors have widths or stay float.
  public typealias Quantize = (Graph) throws(Diagnostic) -> QuantizationResult

  /// Signal to noise of the outputs in dB that is to be reached; nil: as near to that of all layers
  /// raised as ``budget`` allows, or within ``margin`` of it.
  public var target: Double?
  /// Most layers that are raised without a target, as a share of those that could be.
  public var budget = 1.0 / 3
  /// dB below all layers raised that are good enough without a target.
  public var margin = 1.0
  /// Whether quantizing corrects mean errors, so that they do not count.
  public var ignoresMeans = false
  /// A unit (weights, activation) is raised with its layer if it makes at least this share of its noise.
  public var unitShare = 0.1
  /// Bits of tensors that become float.
  public var floatBitwidth = 32

  /// A search for a target.
  public init(target: Double? = nil) { self.target = target }

  /// Most runs of all samples that a search takes besides quantizing, for a progress bar.
  public func runs(_ graph: Graph) -> Int {
    let layers = graph.layers().count
    let doublings = Int.bitWidth - layers.leadingZeroBitCount
    return 2 * layers + 2 * doublings + 3
  }

  /// Searches. `graph` is what is quantized, `reference` the float graph whose outputs count; `samples`
  /// have the inputs of `graph`. The result is the same for any number of jobs and order of the samples.
  public func run(
    _ graph: Graph, reference: Graph, samples: MeasurementSamples, quantize: Quantize
  ) throws(Diagnostic) -> OverrideSuggestion {
    let base = try quantize(graph)
    let noise = try OutputNoise(reference: reference, variant: base.graph)
    let units = try ranked(base.graph, float: graph, noise, samples)
    var tried: [(layers: Int, sqnr: Double)] = []
    func sqnr(_ count: Int) throws(Diagnostic) -> Double {
      if let known = tried.first(where: { $0.layers == count }) { return known.sqnr }
      let result = count == 0 ? base : try quantize(try raising(units.prefix(count).map(\.raised), in: graph))
      let fixed = try result.materialized()
      let ratio = try OutputNoise(reference: reference, variant: fixed)
        .ratios(of: 1, samples: samples) { (_) throws(Diagnostic) in fixed }
      tried.append((count, decibels(noiseRatio: ratio[0])))
      return decibels(noiseRatio: ratio[0])
    }
    let before = try sqnr(0)
    var limit = units.count
    var wanted = target
    if target == nil {
      limit = min(units.count, max(1, Int(Double(units.count) * budget)))
      wanted = units.isEmpty ? nil : try sqnr(units.count) - margin
    }
    let count = try smallest(upTo: limit, reaching: wanted ?? -.infinity, sqnr)
    return OverrideSuggestion(
      raised: units.prefix(count).map(\.raised), layerCount: units.count, before: before, target: target,
      after: try sqnr(count), tried: tried.sorted { $0.layers < $1.layers }, sampleCount: samples.count)
  }

  /// The graph with a suggestion applied as qquantize applies it.
  private func raising(_ layers: [RaisedLayer], in graph: Graph) throws(Diagnostic) -> Graph {
    let suggestion = OverrideSuggestion(
      raised: layers, layerCount: 0, before: 0, after: 0, tried: [], sampleCount: 0)
    let file = EncodingFile(generation: .keyed, entries: suggestion.entries(floatBitwidth: floatBitwidth))
    return try applyOverrides(graph, file, policy: .strict, missing: .calibrate, unfuse: false).0
  }

  /// The smallest number of layers that reaches a value: doubled until it does, then bisected.
  private func smallest(
    upTo limit: Int, reaching target: Double, _ sqnr: (Int) throws(Diagnostic) -> Double
  ) throws(Diagnostic) -> Int {
    if try sqnr(0) >= target { return 0 }
    var (low, high) = (0, min(2, limit))
    while high < limit, try sqnr(high) < target { (low, high) = (high, min(2 * high, limit)) }
    while high - low > 1 {
      let middle = (low + high) / 2
      if try sqnr(middle) >= target { high = middle } else { low = middle }
    }
    return high
  }

  /// Layers by the noise that they alone make at the outputs, most first.
  private func ranked(
    _ base: Graph, float: Graph, _ noise: OutputNoise, _ samples: MeasurementSamples
  ) throws(Diagnostic) -> [RaisableLayer] {
    let layers = base.layers().compactMap { RaisableLayer($0, base) }
    guard !layers.isEmpty else { return [] }
    let bare = base.withFloatConstants(of: float)
    let matched = ignoresMeans ? try meanMatched(bare, base, layers, samples) : [:]
    let parts = layers.flatMap { layer in
      [(layer, isWeights: true), (layer, isWeights: false)].filter { layer.has(weights: $0.isWeights) }
    }
    let ratios = try noise.ratios(of: parts.count, samples: samples) { index in
      let (layer, isWeights) = parts[index]
      var variant = bare
      for id in isWeights ? layer.layer.parameters : layer.layer.activations { variant[id] = base[id] }
      if isWeights { for (id, bias) in matched[layer.layer.name] ?? [:] { variant[id].constant = bias } }
      return variant
    }
    var result = layers
    for (part, ratio) in zip(parts, ratios) {
      guard let place = result.firstIndex(where: { $0.layer.name == part.0.layer.name }) else { continue }
      if part.isWeights { result[place].weightNoise = ratio } else { result[place].activationNoise = ratio }
    }
    let total = result.reduce(0) { $0 + $1.noise }
    for place in result.indices { result[place].decide(unitShare: unitShare, total: total) }
    return result.enumerated().filter { $0.element.noise > 0 }.sorted { first, second in
      let (a, b) = (first.element, second.element)
      return a.noise == b.noise ? first.offset < second.offset : a.noise > b.noise
    }.map(\.element)
  }
}

/// A layer that can be more precise.
struct RaisableLayer {
  let layer: Layer
  /// Names and widths of the weights and of the tensor handed on.
  private let weights: [(name: String, bitwidth: Int)]
  private let biases: [String]
  private let activations: [(name: String, bitwidth: Int)]
  var weightNoise = 0.0
  var activationNoise = 0.0
  private(set) var raised: RaisedLayer

  var noise: Double { weightNoise + activationNoise }

  /// nil where nothing in it has an encoding that could be wider.
  init?(_ layer: Layer, _ graph: Graph) {
    self.layer = layer
    var (weights, biases): ([(String, Int)], [String]) = ([], [])
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, layer.parameters.contains(id), let encoding = graph[id].encoding,
          graph[id].encodingSource != .override, graph[id].encodingSource != .source
        else { continue }
        switch node.op.quantization.input(slot) {
        case .weight: weights.append((graph[id].name, encoding.bitwidth))
        case .bias: biases.append(graph[id].name)
        case .activation, .unquantized: break
        }
      }
    }
    self.weights = weights
    self.biases = biases
    activations = layer.activations.filter { graph[$0].name == layer.output }.compactMap { id in
      guard let encoding = graph[id].encoding, graph[id].encodingSource == .calibrated else { return nil }
      return (graph[id].name, encoding.bitwidth)
    }
    raised = RaisedLayer(layer: layer.name, operatorName: layer.operatorName, share: 0, tensors: [])
    guard !weights.isEmpty || !activations.isEmpty else { return nil }
  }

  /// Whether it has a unit of that kind.
  func has(weights isWeights: Bool) -> Bool { isWeights ? !weights.isEmpty : !activations.isEmpty }

  /// Chooses the widths that raising the layer means: the next of 8, 16 and float.
  mutating func decide(unitShare: Double, total: Double) {
    raised.share = total > 0 ? noise / total : 0
    var found: [String: RaisedTensor] = [:]
    func raise(_ unit: [(name: String, bitwidth: Int)], isParameter: Bool) {
      for (name, bitwidth) in unit {
        let next = bitwidth < 8 ? 8 : bitwidth < 16 ? 16 : nil
        found[name] = RaisedTensor(name: name, isParameter: isParameter, bitwidth: next)
      }
    }
    if weightNoise > 0, weightNoise >= unitShare * noise { raise(weights, isParameter: true) }
    // Weights of 16 bits need a result of 16 bits.
    let needsWide = found.values.contains { $0.bitwidth == 16 } && activations.contains { $0.bitwidth < 16 }
    if needsWide || (activationNoise > 0 && activationNoise >= unitShare * noise) {
      raise(activations, isParameter: false)
    }
    // Float is a matter of the whole operator: its result, its weight and its bias.
    if found.values.contains(where: { $0.bitwidth == nil }), !weights.isEmpty {
      for name in weights.map(\.name) + biases {
        found[name] = RaisedTensor(name: name, isParameter: true, bitwidth: nil)
      }
      for (name, _) in activations { found[name] = RaisedTensor(name: name, isParameter: false, bitwidth: nil) }
    }
    raised.tensors = found.values.sorted { $0.name < $1.name }
  }
}

extension Graph {
  /// An annotated graph with the constants of its float graph and without encodings.
  func withFloatConstants(of float: Graph) -> Graph {
    var values: [String: Constant] = [:]
    for tensor in float.tensors { values[tensor.name] = tensor.constant }
    var result = withoutEncodings(of: tensors.indices.map(TensorID.init).filter { self[$0].encoding != nil })
    for index in result.tensors.indices where result.tensors[index].constant != nil {
      guard let value = values[result.tensors[index].name], value.type == result.tensors[index].type
      else { continue }
      result.tensors[index].constant = value
    }
    return result
  }
}
