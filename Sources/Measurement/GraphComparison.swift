import Calibration
import IR

/// One of the ways to look at what quantization does to a tensor.
public enum ComparisonView: String, Sendable, Hashable, CaseIterable {
  /// The tensor alone quantized, on float data.
  case isolation
  /// The whole quantized graph against the float graph.
  case atOnce = "at-once"
  /// Each layer calibrated and run on the already quantized outputs of those before.
  case layerByLayer = "layer-by-layer"
}

/// The grid of a tensor, for display.
public struct GridSummary: Sendable, Hashable {
  public var bitwidth: Int
  public var isSymmetric: Bool
  /// Grids: 1 per tensor.
  public var count: Int
  /// Real values of the lowest and highest code; the widest of all grids.
  public var minimum: Double
  public var maximum: Double
  /// Largest step of all grids.
  public var scale: Double
  /// Offset of the first grid, as reports show it.
  public var offset: Int
  /// Where the encoding came from.
  public var source: EncodingSource?

  /// The summary of an encoding; nil where there is none.
  public init?(_ tensor: Tensor) {
    guard let encoding = tensor.encoding, !encoding.channels.isEmpty else { return nil }
    bitwidth = encoding.bitwidth
    isSymmetric = encoding.symmetric
    count = encoding.channels.count
    minimum = encoding.channels.indices.lazy.map { encoding.minimum(channel: $0) }.min() ?? 0
    maximum = encoding.channels.indices.lazy.map { encoding.maximum(channel: $0) }.max() ?? 0
    scale = Double(encoding.channels.lazy.map(\.scale).max() ?? 0)
    offset = encoding.shownOffset()
    source = tensor.encodingSource
  }
}

/// What became of one activation.
public struct TensorComparison: Sendable {
  /// The reference's name.
  public var name: String
  /// Name of the layer that makes it, and the names of its operators.
  public var layer: String
  public var operatorName: String
  public var grid: GridSummary?
  public var errors: [ComparisonView: TensorErrors] = [:]
  /// Least SQNR of the layer's weights, in dB; nil without quantized weights.
  public var weightSQNR: Double?
  /// What the layer adds to the noise: noise to signal of this tensor less the largest of those it is
  /// made from, all at once; nil where that was not measured.
  public var addedNoise: Double?
  /// What quantizing this layer alone does to the outputs, and what leaving it float does.
  public var sensitivity: LayerSensitivity?
  /// Whether it is an output of the reference, or what a Softmax at the end reads.
  public var isOutput: Bool
  /// Values of the reference, times what equalization multiplied them by; and of the container.
  public var before: HistogramObserver?
  public var after: HistogramObserver?

  /// What it is sorted by: the share of the outputs' noise where sensitivity was measured, else
  /// ``addedNoise``.
  public var damage: Double { sensitivity?.share ?? addedNoise ?? 0 }
}

/// What became of one constant.
public struct ParameterComparison: Sendable {
  public var name: String
  /// Name of the layer that reads it first.
  public var layer: String
  public var grid: GridSummary?
  /// Against the reference's values, scales of equalization divided out.
  public var errors: TensorErrors?
  /// Ranges of the reference's channels and of the container's, as each has them; empty where the
  /// constant has no channel axis.
  public var rangesBefore: [ClosedRange<Float>] = []
  public var rangesAfter: [ClosedRange<Float>] = []
  /// Whether equalization scaled it.
  public var isScaled: Bool
}

/// What is to be measured.
public struct ComparisonOptions: Sendable {
  public var views: Set<ComparisonView> = Set(ComparisonView.allCases)
  /// Histograms before and after.
  public var histograms = false
  /// One layer quantized at a time, and one layer float at a time.
  public var sensitivity = false
  /// What the container was calibrated with, for the layer-by-layer view.
  public var recordedOptions: [String: String] = [:]

  /// All views, nothing else.
  public init() {}
}

/// A container against its float reference, tensor by tensor.
public struct GraphComparison: Sendable {
  /// Activations in order of the reference.
  public var tensors: [TensorComparison]
  /// Constants in order of the reference.
  public var parameters: [ParameterComparison]
  public var match: GraphMatch
  /// The views that were measured.
  public var views: [ComparisonView]
  public var hasSensitivity: Bool
  public var sampleCount: Int
  /// By name in the container, channels that are constant in the reference and that the container computes
  /// nothing for; they are left out of the measures.
  public var removedChannels: [String: [Int]] = [:]

  /// Notes about what was left out.
  public var notes: [Diagnostic] {
    let count = removedChannels.values.reduce(0) { $0 + $1.count }
    guard count > 0 else { return [] }
    let names = removedChannels.keys.sorted()
    let shown = names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", ..." : "")
    return [
      Diagnostic(
        "removed-channels",
        "\(count) channels of \(names.count) \(names.count == 1 ? "tensor" : "tensors") are constant in the reference and "
          + "removed in the container; they are not compared: \(shown)", severity: .note)
    ]
  }

  /// Activations by damage, most first; equal ones in order of the reference.
  public var byDamage: [TensorComparison] {
    tensors.enumerated().sorted { first, second in
      let (a, b) = (first.element.damage, second.element.damage)
      return a == b ? first.offset < second.offset : a > b
    }.map(\.element)
  }

  /// What ``TensorComparison/damage`` is here, in words.
  public var damageMeaning: String {
    hasSensitivity
      ? "share of the noise of the outputs, of all layers quantized one at a time"
      : "noise to signal that the layer adds to that of its inputs, all at once"
  }

  /// Signal to noise of the outputs (before a Softmax at the end) in dB in a view: the inverse of the mean of their ratios; nil where it
  /// was not measured.
  public func outputSQNR(_ view: ComparisonView) -> Double? {
    let found = tensors.filter(\.isOutput).compactMap { $0.errors[view]?.noiseRatio }
    return found.isEmpty ? nil : decibels(noiseRatio: found.reduce(0, +) / Double(found.count))
  }

  /// How many runs of all samples a comparison takes, for a progress bar.
  public static func runs(_ container: Graph, _ options: ComparisonOptions) -> Int {
    let annotated = container.annotatedFloat()
    var count = 1
    if options.views.contains(.layerByLayer), container.hasEncodings {
      count += 2 + annotated.sequentialRuns
    }
    if options.sensitivity { count += Sensitivity.runs(annotated) }
    return count
  }

  /// Compares a container with a float reference over samples. The samples' inputs are those of the
  /// container. The result is the same for any number of jobs and any order of the samples; memory does
  /// not grow with their number.
  ///
  /// Throws `reference-quantized`, `no-common-tensor`, `reference-input` where the graphs do not take the
  /// same samples, and what running throws.
  public static func measure(
    reference: Graph, container: Graph, options: ComparisonOptions, samples: MeasurementSamples
  ) throws(Diagnostic) -> GraphComparison {
    guard !reference.hasFixedPoint else {
      throw Diagnostic(
        "reference-quantized", "the reference is quantized itself",
        hint: "give the float container or the .onnx that it was made from")
    }
    let match = try GraphMatch(reference: reference, container: container)
    var result = GraphComparison(
      tensors: [], parameters: [], match: match, views: [], hasSensitivity: false,
      sampleCount: samples.count)
    var candidates: [(view: ComparisonView, graph: Graph, tensors: [TensorID?])] = [
      (.atOnce, container, match.activations.map(\.container))
    ]
    let isQuantized = container.hasEncodings
    if options.views.contains(.layerByLayer), isQuantized {
      let graph = try layerByLayer(container, options.recordedOptions, samples)
      var byName: [String: TensorID] = [:]
      for (index, tensor) in graph.tensors.enumerated() { byName[tensor.name] = TensorID(index) }
      candidates.append(
        (.layerByLayer, graph, match.activations.map { byName[container[$0.container].name] }))
    }
    let run = ComparisonRun(
      reference: reference, container: container, pairs: match.activations,
      candidates: candidates.map { ($0.graph, $0.tensors) },
      isolates: options.views.contains(.isolation) && isQuantized, histograms: options.histograms)
    let found = try run.measure(samples)
    for (row, pair) in match.activations.enumerated()
    where !pair.emptyChannels.isEmpty && found.emptyChannels[row].areConstant {
      result.removedChannels[container[pair.container].name] = pair.emptyChannels
    }
    result.parameters = ParameterComparison.all(
      match, reference: reference, container: container, removed: result.removedChannels)
    result.tensors = rows(match, reference: reference, container: container, parameters: result.parameters)
    for index in result.tensors.indices {
      for (place, candidate) in candidates.enumerated() where options.views.contains(candidate.view) {
        result.tensors[index].errors[candidate.view] = found.candidates[place][index].errors
      }
      if run.isolates, result.tensors[index].grid != nil {
        result.tensors[index].errors[.isolation] = found.isolated[index].errors
      }
      result.tensors[index].before = found.before.isEmpty ? nil : found.before[index]
      result.tensors[index].after = found.after.isEmpty ? nil : found.after[index]
    }
    let measured = Set(candidates.map(\.view) + (run.isolates ? [.isolation] : []))
    result.views = ComparisonView.allCases.filter { measured.contains($0) && options.views.contains($0) }
    result.addNoise(container, ratios: found.candidates[0].map { $0.errors?.noiseRatio })
    if options.sensitivity, isQuantized {
      let layers = try Sensitivity.measure(
        reference: reference, container: container, match: match, samples: samples)
      for index in result.tensors.indices {
        result.tensors[index].sensitivity = layers[container[match.activations[index].container].name]
      }
      result.hasSensitivity = true
    }
    return result
  }

  /// Rows without measurements.
  private static func rows(
    _ match: GraphMatch, reference: Graph, container: Graph, parameters: [ParameterComparison]
  ) -> [TensorComparison] {
    let layers = container.annotatedFloat().layers()
    let annotated = container.annotatedFloat()
    var layerOf: [String: Layer] = [:]
    for layer in layers { for id in layer.activations { layerOf[annotated[id].name] = layer } }
    var weights: [String: Double] = [:]
    for parameter in parameters where parameter.grid != nil && !parameter.rangesBefore.isEmpty {
      guard let sqnr = parameter.errors?.sqnr else { continue }
      weights[parameter.layer] = min(weights[parameter.layer] ?? .infinity, sqnr)
    }
    let outputs = Set(match.outputs)
    return match.activations.enumerated().map { index, pair in
      let layer = layerOf[container[pair.container].name]
      return TensorComparison(
        name: pair.name, layer: layer?.name ?? pair.name, operatorName: layer?.operatorName ?? "",
        grid: GridSummary(container[pair.container]),
        weightSQNR: layer.flatMap { weights[$0.name] }, isOutput: outputs.contains(index))
    }
  }

  /// What every layer adds to the noise of what it reads.
  private mutating func addNoise(_ container: Graph, ratios: [Double?]) {
    let annotated = container.annotatedFloat()
    var ratio: [String: Double] = [:]
    for (pair, found) in zip(match.activations, ratios) {
      ratio[container[pair.container].name] = found
    }
    var sources: [String: [String]] = [:]
    for node in annotated.nodes {
      let read = node.inputs.compactMap { $0 }.filter { annotated[$0].constant == nil }
        .flatMap { sources[annotated[$0].name] ?? [annotated[$0].name] }
      for output in node.outputs where ratio[annotated[output].name] == nil {
        // Not compared (inside a fused pair, say): what reads it reads what it is made from.
        sources[annotated[output].name] = read
      }
      for output in node.outputs {
        guard let own = ratio[annotated[output].name] else { continue }
        sources[annotated[output].name] = [annotated[output].name]
        let before = read.compactMap { ratio[$0] }.max() ?? 0
        set(annotated[output].name, container, max(own - before, 0))
      }
    }
    for input in annotated.inputs {
      if let own = ratio[annotated[input].name] { set(annotated[input].name, container, own) }
    }
  }

  private mutating func set(_ name: String, _ container: Graph, _ added: Double) {
    for (index, pair) in match.activations.enumerated() where container[pair.container].name == name {
      tensors[index].addedNoise = added
    }
  }
}

extension Graph {
  /// Whether any tensor has an encoding.
  public var hasEncodings: Bool { tensors.contains { $0.encoding != nil } }

  /// Whether any tensor is stored in codes. A float16 graph has none: it may be what others are measured against.
  public var hasFixedPoint: Bool { tensors.contains { $0.type.element.isFixedPoint } }
}

extension ParameterComparison {
  /// All constants that both graphs have.
  static func all(
    _ match: GraphMatch, reference: Graph, container: Graph, removed: [String: [Int]] = [:]
  ) -> [ParameterComparison] {
    let users = container.constantUsers()
    let inner = container.fusedIntermediates()
    func removedChannels(_ id: TensorID?) -> Set<Int> {
      guard let id else { return [] }
      if let own = removed[container[id].name] { return Set(own) }
      return inner[id].flatMap { container[$0].outputs.first }.map(removedChannels) ?? []
    }
    return match.parameters.map { pair in
      let shape = reference[pair.reference].type.shape
      let readers = users[pair.container] ?? []
      let scaling = ParameterScaling(of: pair.container, in: container, users: readers)
      let (before, after) = (reference.realValues(of: pair.reference), container.realValues(of: pair.container))
      var sums = ErrorSums()
      var pairs = (before, scaling.removed(after, shape: shape))
      if let (node, slot) = readers.first, case .weight(let given, _) = node.op.quantization.input(slot),
        let input = node.inputs[0],
        let kept = kept(
          shape, channelAxis: given < 0 ? given + shape.count : given, output: removedChannels(node.outputs.first),
          input: removedChannels(input), inputCount: container[input].type.shape.last ?? 0)
      {
        pairs.0 = zip(pairs.0, kept).filter(\.1).map(\.0)
        pairs.1 = zip(pairs.1, kept).filter(\.1).map(\.0)
      }
      sums.add(reference: pairs.0, other: pairs.1)
      var result = ParameterComparison(
        name: pair.name, layer: readers.first?.node.name ?? "", grid: GridSummary(container[pair.container]),
        errors: sums.errors, isScaled: !scaling.isIdentity)
      if let (node, slot) = readers.first, case .weight(let given, _) = node.op.quantization.input(slot) {
        let axis = given < 0 ? given + shape.count : given
        if shape.indices.contains(axis), !before.isEmpty {
          result.rangesBefore = channelExtrema(before, shape: shape, axis: axis)
          result.rangesAfter = channelExtrema(after, shape: shape, axis: axis)
        }
      }
      return result
    }
  }

  private static func channelExtrema(_ values: [Float], shape: [Int], axis: Int) -> [ClosedRange<Float>] {
    let inner = denseStrides(shape)[axis]
    let count = shape[axis]
    var low = [Float](repeating: .infinity, count: count)
    var high = [Float](repeating: -.infinity, count: count)
    for (index, value) in values.enumerated() where value.isFinite {
      let channel = index / inner % count
      low[channel] = min(low[channel], value)
      high[channel] = max(high[channel], value)
    }
    return zip(low, high).map { $0 <= $1 ? $0...$1 : 0...0 }
  }
}
