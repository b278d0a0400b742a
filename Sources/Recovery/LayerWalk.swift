import Calibration
import IR
import Operators
import Quantizer
import Runtime

/// Goes through the layers of a quantized graph in order and improves each on what the layers before it,
/// quantized and improved, give: scales and rounding of its weight, then its bias.
struct LayerWalk {
  /// The float graph whose function is to be met; every layer has a bias of its own.
  let float: Graph
  let options: RecoveryOptions
  let quantizer: QuantizerOptions
  let samples: SampleSet
  /// Bytes that may be kept for all samples together.
  let cache: Int
  /// Weights that an override gave: they keep their codes.
  let givenWeights: Set<String>
  /// Biases that an override gave.
  let givenBiases: Set<String>
  /// Told the name of the layer that is worked on.
  var progress: (@Sendable (_ layer: String, _ done: Int, _ total: Int) -> Void)?
  /// What an earlier run found of layer number i.
  var known: (_ index: Int, _ layer: String) throws(Diagnostic) -> LayerUpdate? = { (_, _) throws(Diagnostic) in nil }
  /// Keeps what was found of layer number i.
  var keep: (_ index: Int, LayerUpdate) throws(Diagnostic) -> Void = { (_, _) throws(Diagnostic) in }

  /// Whether weights are rounded by data.
  private var rounds: Bool { options.algorithms.contains(.gptq) || options.algorithms.contains(.adaround) }
  /// Whether weights follow what quantization changed in their inputs.
  fileprivate var follows: Bool { rounds && follow > 0 }
  fileprivate var follow: Double { options.algorithms.contains(.gptq) ? options.follow : options.learnedFollow }
  private var corrects: Bool { options.algorithms.contains(.biasCorrection) || rounds }

  /// The updates of all layers of `quantized`, a materialised graph of ``float``; notes tell what was left
  /// out.
  func run(_ quantized: Graph, notes: inout [Diagnostic]) throws(Diagnostic) -> [LayerUpdate] {
    let simulated = quantized.withFloatInsidePairs()
    // The float graph keeps four bytes where the other has codes.
    let hasFloat = options.algorithms.contains(.adaround) || follows
    let runner = StageRunner(simulated, samples, simulate: true, limit: hasFloat ? cache / 4 : cache)
    let layers = Layer.layersWithStates(of: quantized).filter { quantized[$0.weight].type.element.isFixedPoint }
    var floatNodes: [String: Int] = [:]
    for (index, node) in float.nodes.enumerated() { floatNodes[node.name] = floatNodes[node.name] ?? index }
    let floatLayers = Dictionary(grouping: Layer.layersWithStates(of: float)) { $0.node }
    let pairs = layers.compactMap { layer in
      floatNodes[layer.name].flatMap { floatLayers[$0] }?.first { $0.readsStates == layer.readsStates }
        .map { (quantized: layer, float: $0) }
    }
    let targets =
      corrects
      ? try samples.channelMoments(
        of: pairs.filter { !$0.float.readsStates }.map(\.float.output) + postTargets(pairs.map(\.float)), in: float)
      : [:]
    let floatRunner = hasFloat ? StageRunner(float, samples, simulate: false, limit: cache - cache / 4) : nil
    let readers = float.consumers()
    var updates: [LayerUpdate] = []
    var done = Set<TensorID>()
    for (index, pair) in pairs.enumerated() {
      progress?(pair.float.name, index, pairs.count)
      try Cancellation.check()
      // Sums of codes have no means of their own: a model quantized at run time multiplies them with scales that
      // follow the sample.
      if readers[pair.float.result.index].contains(where: { (float[$0].op as? Cast)?.to.isInteger == true }) {
        notes.append(note(pair.float, "its results become integers: they are sums of codes"))
        continue
      }
      if let update = try known(index, pair.float.name) {
        try apply(update, to: pair.quantized, runner)
        updates.append(update)
        done.insert(pair.quantized.weight)
        continue
      }
      try runner.advance(to: pair.quantized.node)
      var update = LayerUpdate(node: pair.float.name)
      let work = LayerWork(walk: self, index: index, layer: pair.quantized, float: pair.float, runner: runner)
      if !done.contains(pair.quantized.weight), rounds || options.algorithms.contains(.seqmse) {
        if givenWeights.contains(float[pair.float.weight].name) {
          notes.append(note(pair.float, "an override gives its weight, which is not rounded anew"))
        } else if let weight = try work.rounded(floatRunner) {
          update.weight = weight
        } else {
          notes.append(
            note(pair.float, "\(float.nodes[pair.float.node].op.typeName) of this form is not rounded by data"))
        }
      }
      done.insert(pair.quantized.weight)
      try apply(LayerUpdate(node: update.node, weight: update.weight), to: pair.quantized, runner)
      if corrects { update.bias = try corrected(pair, work, targets, runner, &notes) }
      try apply(LayerUpdate(node: update.node, bias: update.bias), to: pair.quantized, runner)
      try keep(index, update)
      updates.append(update)
    }
    return updates
  }

  private func note(_ layer: Layer, _ message: String) -> Diagnostic {
    Diagnostic("layer-left-alone", message, at: .init(node: layer.name), severity: .note)
  }

  private func postTargets(_ layers: [Layer]) -> [TensorID] {
    layers.filter(matchesBehind).map(\.result)
  }

  /// Whether means are compared behind the activation. Behind a clamp they move with the bias, the less the more
  /// positions are cut off; other activations may turn them around, and a mean met there would say nothing.
  private func matchesBehind(_ layer: Layer) -> Bool {
    options.biasMatch == .post && float.clamp(behind: layer) != nil
  }

  /// The bias that puts the means of a layer back; nil where it has none of its own.
  private func corrected(
    _ pair: (quantized: Layer, float: Layer), _ work: LayerWork, _ targets: [TensorID: ChannelMoments],
    _ runner: StageRunner, _ notes: inout [Diagnostic]
  ) throws(Diagnostic) -> [Float]? {
    guard let bias = pair.float.bias, pair.quantized.bias != nil, let constant = float[bias].constant else {
      return nil
    }
    if givenBiases.contains(float[bias].name) {
      notes.append(note(pair.float, "an override gives its bias, which is not corrected"))
      return nil
    }
    var values = constant.floats()
    if matchesBehind(pair.float), let target = targets[pair.float.result]?.mean {
      var before: (values: [Float], means: [Double])?
      for _ in 0..<Self.postSteps {
        let means = try work.means(of: pair.quantized.result, upTo: pair.quantized.lastNode + 1)
        var found: [Double]?
        if let before { found = slopes(from: before.values, before.means, to: values, means) }
        before = (values, means)
        values = shifted(values, from: means, to: target, slopes: found)
        try apply(LayerUpdate(node: pair.float.name, bias: values), to: pair.quantized, runner)
      }
      return limited(values, pair.quantized, runner)
    }
    guard let target = targets[pair.float.output]?.mean else { return nil }
    let means = try work.means(of: pair.quantized.output, upTo: pair.quantized.node + 1)
    return limited(shifted(values, from: means, to: target), pair.quantized, runner)
  }

  /// Runs of a layer that find the bias behind its clamp.
  private static let postSteps = 4

  /// How much each mean moved with its bias, 0.1 to 1: behind a clamp less than the bias itself.
  private func slopes(
    from oldValues: [Float], _ oldMeans: [Double], to values: [Float], _ means: [Double]
  ) -> [Double] {
    guard means.count == values.count, oldMeans.count == values.count else { return values.map { _ in 1 } }
    return values.indices.map { index in
      let step = Double(values[index] - oldValues[index])
      guard step != 0 else { return 1 }
      return min(max((means[index] - oldMeans[index]) / step, 0.1), 1)
    }
  }

  private func shifted(
    _ values: [Float], from means: [Double], to target: [Double], slopes: [Double]? = nil
  ) -> [Float] {
    guard means.count == values.count, target.count == values.count else { return values }
    return values.indices.map {
      Float(Double(values[$0]) + (target[$0] - means[$0]) / (slopes?[$0] ?? 1))
    }
  }

  /// The values as far as 32 bits hold them.
  private func limited(_ values: [Float], _ layer: Layer, _ runner: StageRunner) -> [Float] {
    guard let bias = layer.bias, let encoding = runner.graph[bias].encoding, encoding.bitwidth == 32 else {
      return values
    }
    return values.indices.map { index in
      let scale = encoding.channels[encoding.channels.count == 1 ? 0 : index].scale
      let limit = 0x1.fffffcp30 * scale
      return min(max(values[index], -limit), limit)
    }
  }

  /// Puts what was found into the graph that is run.
  private func apply(_ update: LayerUpdate, to layer: Layer, _ runner: StageRunner) throws(Diagnostic) {
    if let weight = update.weight {
      var tensor = runner.graph[layer.weight]
      tensor.encoding = weight.encoding
      let codes = weight.encoding.quantized(weight.values, shape: tensor.type.shape)
      tensor.type = TensorType(weight.encoding.storage, tensor.type.shape)
      tensor.constant = Constant(type: tensor.type, bytes: codes)
      runner.replace(layer.weight, with: tensor)
    }
    guard let values = update.bias, let bias = layer.bias else { return }
    var tensor = runner.graph[bias]
    let shape = tensor.type.shape
    guard let old = tensor.encoding else {
      tensor.constant = Constant(values, shape: shape)
      tensor.type = TensorType(.float32, shape)
      runner.replace(bias, with: tensor)
      return
    }
    var encoding = old
    if old.bitwidth != 32 {
      encoding =
        old.axis == nil
        ? try quantizer.biasCalibrator(bitwidth: old.bitwidth).encoding(
          min: Double(values.min() ?? 0), max: Double(values.max() ?? 0))
        : RangeToEncoding.perChannel(
          values.map { min($0, 0)...max($0, 0) }, axis: 0, bitwidth: old.bitwidth)
    }
    tensor.encoding = encoding
    tensor.type = TensorType(encoding.storage, shape)
    tensor.constant = Constant(type: tensor.type, bytes: encoding.quantized(values, shape: shape))
    runner.replace(bias, with: tensor)
  }
}

/// One layer at work.
struct LayerWork {
  let walk: LayerWalk
  let index: Int
  /// In the graph that is run, and in the float graph.
  let layer: Layer
  let float: Layer
  let runner: StageRunner

  /// Means over all samples and positions of a tensor's channels.
  func means(of tensor: TensorID, upTo end: Int) throws(Diagnostic) -> [Double] {
    let channels = runner.graph[tensor].type.shape.last ?? 1
    let moments = try runner.reduce(
      [tensor], upTo: end, elements: channels, into: ChannelMoments(channels: channels),
      { (sum: inout ChannelMoments, _: Int, values: [Bytes]) throws(Diagnostic) in
        let bytes = values[0].aligned(to: 4)
        withExtendedLifetime(bytes) { sum.add(bytes.buffer.assumingMemoryBound(to: Float.self)) }
      }, merge: { $0.merge($1) })
    return moments.mean
  }

  /// Products of inputs are taken of runs of a row of this length at most: they need the square of it. Longer
  /// rows are cut into equal parts, which are rounded as if their inputs had nothing to do with one another.
  static let longestRow = 4608

  /// The weight rounded as the options say; nil for operators that have no matrix.
  func rounded(_ floatRunner: StageRunner?) throws(Diagnostic) -> LayerUpdate.WeightUpdate? {
    let graph = runner.graph
    let node = graph.nodes[layer.node]
    let (shape, input) = (graph[layer.weight].type.shape, graph[layer.input].type.shape)
    let output = graph[layer.output].type.shape
    guard let whole = WeightMatrix(node.op, weight: shape, input: input, states: layer.readsStates),
      let patches = Patches(node.op, weight: shape, input: input, output: output, states: layer.readsStates),
      patches.positions > 0, var encoding = graph[layer.weight].encoding,
      let source = walk.float[float.weight].constant
    else { return nil }
    let matrix = whole.cut(Self.longestRow)
    let weights = matrix.arranged(source.floats())
    let algorithms = walk.options.algorithms
    // What a recurrence makes is no sum of products.
    if algorithms.contains(.adaround), patches.positions * whole.rowCount != output.reduce(1, *) { return nil }
    var sums = walk.options.usesCovariance ? try inputMoments(patches.cut(like: matrix), floatRunner) : nil
    let isCorrected = layer.bias != nil
    var covariance = sums?.covariance(centred: isCorrected)
    let drift = walk.follows ? sums?.drift(centred: isCorrected) : nil
    sums = nil
    if algorithms.contains(.seqmse), let covariance {
      let search = ScaleSearch(
        matrix: matrix, covariance: covariance, candidates: walk.options.scaleCandidates, jobs: walk.samples.jobs)
      encoding = search.search(weights, encoding)
    }
    let rounding = covariance.map {
      IntegerRounding(matrix: matrix, covariance: $0, damping: walk.options.damping, jobs: walk.samples.jobs)
    }
    covariance = nil
    var wanted = weights
    if let rounding, let drift {
      wanted = rounding.followed(weights, drift, share: walk.follow)
    }
    let grids = RowGrids(encoding, matrix)
    var found: [Float]
    if algorithms.contains(.gptq), let rounding {
      found = rounding.round(wanted, grids, sweeps: walk.options.sweeps)
    } else if algorithms.contains(.adaround), let floatRunner {
      let start = walk.options.startsFromData ? rounding?.round(wanted, grids, sweeps: walk.options.sweeps) : nil
      // Rows are learned whole: their outputs are what counts.
      func joined(_ values: [Float]) -> [Float] { whole.arranged(matrix.stored(values)) }
      found = matrix.arranged(
        whole.stored(
          try learned(
            joined(weights), joined(wanted), from: start.map(joined), RowGrids(encoding, whole), whole, patches,
            floatRunner)))
    } else {
      found = weights.indices.map { grids.nearest(weights[$0], $0) }
    }
    for index in found.indices { found[index] *= grids.scales[index] }
    return LayerUpdate.WeightUpdate(
      name: walk.float[float.weight].name, values: matrix.stored(found), encoding: encoding)
  }

  /// Second moments of the layer's quantized inputs; with the float graph, of what they differ by from
  /// its inputs.
  private func inputMoments(_ patches: Patches, _ floatRunner: StageRunner?) throws(Diagnostic) -> CovarianceSums {
    let isLearned = walk.options.algorithms.isDisjoint(with: [.seqmse, .gptq])
    let wanted = max(min(walk.options.positions, isLearned ? Self.learnedPositions : .max), 32 * patches.depth)
    let each = (wanted + walk.samples.count - 1) / walk.samples.count
    let (seed, index) = (walk.options.seed, index)
    let elements = patches.groups * patches.depth * patches.depth
    @Sendable func positions(_ rank: Int) -> [Int] {
      var generator = SeededGenerator(seed: seed, index, rank)
      return patches.chosen(each, &generator)
    }
    let empty = CovarianceSums(patches, drifts: walk.follows)
    guard walk.follows, let floatRunner else {
      return try runner.reduce(
        [layer.input], upTo: layer.inputEnd, elements: elements, into: empty,
        { (sum: inout CovarianceSums, rank: Int, values: [Bytes]) throws(Diagnostic) in
          let bytes = values[0].aligned(to: 4)
          try sum.add(
            bytes.base.assumingMemoryBound(to: Float.self), patches, positions: positions(rank), rank: rank)
          withExtendedLifetime(bytes) {}
        }, merge: { $0.merge($1) })
    }
    try floatRunner.advance(to: float.node)
    return try runner.reduce(
      [layer.input], upTo: layer.inputEnd, beside: floatRunner, [float.input], upTo: float.inputEnd,
      elements: 2 * elements, into: empty,
      { (sum: inout CovarianceSums, rank: Int, values: [Bytes], floats: [Bytes]) throws(Diagnostic) in
        let (bytes, float) = (values[0].aligned(to: 4), floats[0].aligned(to: 4))
        try sum.add(
          bytes.base.assumingMemoryBound(to: Float.self), float: float.base.assumingMemoryBound(to: Float.self),
          patches, positions: positions(rank), rank: rank)
        withExtendedLifetime((bytes, float)) {}
      }, merge: { $0.merge($1) })
  }
}

extension Graph {
  /// The graph with the tensors inside fused pairs as floats without a grid, so that a part of it can be
  /// run that ends inside a pair.
  func withFloatInsidePairs() -> Graph {
    var result = self
    for id in fusedIntermediates().keys {
      result[id].encoding = nil
      result[id].type = result[id].type.logical
    }
    return result
  }
}
