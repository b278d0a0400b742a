import Foundation
import IR
import Operators
import Quantizer
import Runtime
import Synchronization
import Testing

@testable import Recovery

/// Scales, rounding and biases, layer by layer.
@Suite struct RecoverTests {
  private func quantizer(_ bits: Int = 4, perChannel: Bool = true) -> QuantizerOptions {
    var options = QuantizerOptions()
    options.weightsBitwidth = bits
    options.biasBitwidth = 32
    options.perChannel = perChannel
    options.perRow = perChannel
    return options
  }

  private func options(_ algorithms: RecoveryAlgorithm...) -> RecoveryOptions {
    var options = RecoveryOptions()
    options.algorithms = Set(algorithms)
    options.iterations = 200
    options.batchPositions = 64
    return options
  }

  /// Memory does not grow with the samples: neither where a position holds much nor where a sample has one.
  @Test(arguments: [(16, 196, 600), (100_000, 1, 25_000), (100_000, 3136, 64), (1, 1, 1 << 30), (3, 50_000, 9)])
  func learnedPositions(samples: Int, positions: Int, floats: Int) {
    let drawn = LayerWork.drawn(samples: samples, positions: positions, floats: floats)
    #expect((1...samples).contains(drawn.samples) && (1...positions).contains(drawn.positions))
    let total = drawn.samples * drawn.positions
    #expect(total == 1 || 4 * total * floats <= 2 * (512 << 20))
    #expect(total >= min(samples * positions, 16_000, (512 << 20) / (4 * floats) / 2))
  }

  private func recover(
    _ graph: Graph, _ quantizer: QuantizerOptions, _ options: RecoveryOptions, jobs: Int = 1, order: [Int]? = nil,
    cache: Int = 1 << 30, checkpoint: Checkpoint? = nil
  ) throws -> QuantizationResult {
    let (set, load) = try samples(graph, count: 16, jobs: jobs, order: order)
    let seen = try statistics(graph, load, count: 16, quantizer)
    return try recovered(
      graph, statistics: seen, quantizer: quantizer, options: options, samples: set, cache: cache,
      checkpoint: checkpoint)
  }

  private func plain(_ graph: Graph, _ quantizer: QuantizerOptions) throws -> Graph {
    let seen = try statistics(graph, try samples(graph, count: 16).load, count: 16, quantizer)
    return try assignEncodings(graph, statistics: seen, options: quantizer).materialized()
  }

  /// Every algorithm brings the outputs nearer to the float network's on data it did not see.
  @Test(arguments: [
    [RecoveryAlgorithm.biasCorrection], [.gptq], [.adaround], [.seqmse, .gptq], [.gptq, .biasCorrection],
  ])
  func outputsComeNearer(algorithms: [RecoveryAlgorithm]) throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 2))
    let quantizer = quantizer()
    var options = options()
    options.algorithms = Set(algorithms)
    let before = try quality(plain(graph, quantizer), against: graph)
    let after = try quality(recover(graph, quantizer, options).materialized(), against: graph)
    #expect(after > before + (algorithms == [.biasCorrection] ? 0.3 : 1.5), "\(before) dB -> \(after) dB")
  }

  /// Learned rounding starts from the rounding by covariance, unless told not to.
  @Test(arguments: RoundingStart.allCases)
  func learnedRoundingStartsFromCovariance(start: RoundingStart) throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 2))
    var learned = options(.adaround)
    learned.iterations = 1
    learned.learnedStart = start
    learned.positions = 100
    var rounded = options(.gptq)
    rounded.positions = 100
    let one = try recover(graph, quantizer(), learned).materialized()
    let other = try recover(graph, quantizer(), rounded).materialized()
    #expect((one.text(inlineLimit: .max) == other.text(inlineLimit: .max)) == (start == .gptq))
  }

  /// Rows whose learning goes astray keep what they started from.
  @Test(arguments: RoundingStart.allCases)
  func learningThatGoesAstrayDoesNoHarm(start: RoundingStart) throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 2))
    var astray = options(.adaround)
    (astray.learningRate, astray.iterations, astray.learnedStart) = (50, 7, start)
    let rounded = try quality(recover(graph, quantizer(), options(.gptq)).materialized(), against: graph)
    let found = try quality(recover(graph, quantizer(), astray).materialized(), against: graph)
    #expect((found > rounded - 1) == (start == .gptq), "\(rounded) dB -> \(found) dB")
  }

  /// Options about weights have their effect on weights that are rounded by data, too.
  @Test func roundedWeightsAreNoIdleOptions() throws {
    var quantizer = quantizer()
    quantizer.paramCalibration = .mse
    let result = try recover(NetworkMaker.separable(), quantizer, options(.gptq))
    #expect(!result.notes.contains { $0.code == "option-without-effect" }, "\(result.notes)")
  }

  private func lstm(_ directions: Int = 1, inputs: Int = 6, hidden: Int = 4) throws -> Graph {
    var maker = NetworkMaker(seed: 4, input: [9, 1, 3])
    let rows = 4 * hidden
    // Inputs that go together: nothing else is to be gained.
    try maker.add(MatMul(), maker.constant(maker.random.normals(3 * inputs, 0.6), [3, inputs], "mix"))
    let input = maker.constant(
      maker.random.normals(directions * rows * inputs, 0.4), [directions, rows, inputs], "w")
    let recurrent = maker.constant(
      maker.random.normals(directions * rows * hidden, 0.4), [directions, rows, hidden], "r")
    try maker.add(Lstm(hiddenSize: hidden, direction: directions == 2 ? .bidirectional : .forward), input, recurrent)
    return maker.finish()
  }

  /// The second weight of a recurrence is no bias: it keeps its grids.
  @Test func recurrencesKeepTheirWeights() throws {
    let result = try recover(lstm(), quantizer(8), options(.biasCorrection, .gptq)).materialized()
    #expect(result.verify() == [])
    let id = try #require(result.tensor(named: "r"))
    #expect(result[id].encoding?.channels.count == 16)
  }

  /// Both weights of a recurrence are rounded by what they are multiplied with, in each direction.
  @Test(arguments: [1, 2]) func recurrencesAreRounded(directions: Int) throws {
    let graph = try lstm(directions, inputs: 12, hidden: 16)
    var quantizer = quantizer(4)
    quantizer.actBitwidth = 16
    let simple = try plain(graph, quantizer)
    let result = try recover(graph, quantizer, options(.gptq))
    let rounded = try result.materialized()
    for name in ["w", "r"] {
      let (old, new) = (try #require(simple.tensor(named: name)), try #require(rounded.tensor(named: name)))
      #expect(simple[old].constant?.integers() != rounded[new].constant?.integers(), "\(name)")
    }
    #expect(!result.notes.contains { $0.code == "layer-left-alone" })
    let (before, after) = (try quality(simple, against: graph), try quality(rounded, against: graph))
    #expect(after > before + 1, "\(before) dB -> \(after) dB")
    // The products are not the output, which gradients would have to meet.
    let learned = try recover(graph, quantizer, options(.adaround))
    #expect(learned.notes.count { $0.code == "layer-left-alone" } == 2)
  }

  /// Behind an activation that is no clamp means may fall where the bias grows: they are compared before it.
  @Test func meansBehindCurvesAreNotMatched() throws {
    var maker = NetworkMaker(seed: 8, input: [1, 8, 8, 3])
    try maker.conv(8)
    try maker.add(Prelu(), maker.constant((0..<8).map { Float($0 - 6) / 3 }, [8], "slopes"))
    try maker.conv(6)
    try maker.add(HardSwish())
    try maker.conv(4)
    let graph = maker.finish()
    var (post, pre) = (options(.biasCorrection), options(.biasCorrection))
    (post.biasMatch, pre.biasMatch) = (.post, .pre)
    let quantizer = quantizer(4, perChannel: false)
    let found = try recover(graph, quantizer, post).materialized()
    #expect(try found.text(inlineLimit: .max) == recover(graph, quantizer, pre).materialized().text(inlineLimit: .max))
    let before = try quality(plain(graph, quantizer), against: graph)
    #expect(try quality(found, against: graph) > before)
  }

  /// Sums of codes that a network quantized at run time makes integers keep their means.
  @Test func sumsOfCodesAreLeftAlone() throws {
    var maker = NetworkMaker(seed: 6, input: [1, 8])
    try maker.dense(6)
    try maker.add(Relu())
    try maker.dense(4)
    try maker.add(Cast(to: .int32))
    try maker.add(Cast(to: .float32))
    let graph = maker.finish()
    let result = try recover(graph, quantizer(8), options(.biasCorrection, .gptq))
    let notes = result.notes.filter { $0.code == "layer-left-alone" }
    #expect(notes.map(\.location.node) == ["n2"])
    let (old, new) = (try #require(graph.tensor(named: "b2")), try #require(result.graph.tensor(named: "b2")))
    #expect(result.graph[new].constant?.floats() == graph[old].constant?.floats())
  }

  /// Means before the activation, or after it, are those of the float network on the samples.
  @Test(arguments: [BiasMatch.pre, .post])
  func meansAreThoseOfTheFloatNetwork(match: BiasMatch) throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 2))
    var options = options(.biasCorrection)
    options.biasMatch = match
    let quantizer = quantizer(4, perChannel: false)
    let result = try recover(graph, quantizer, options)
    let set = try samples(graph, count: 16).set
    let fixed = try result.materialized().withFloatInsidePairs()
    let last = try #require(Layer.layers(of: graph).last)
    let wanted = match == .pre ? last.output : last.result
    let target = try #require(set.channelMoments(of: [wanted], in: graph)[wanted]?.mean)
    let id = try #require(fixed.tensor(named: graph[wanted].name))
    var open = fixed
    open[id].encoding = nil
    open[id].type = open[id].type.logical
    let found = try #require(set.channelMoments(of: [id], in: open, simulate: true)[id]?.mean)
    let simple = try plain(graph, quantizer).withFloatInsidePairs()
    let other = try #require(simple.tensor(named: graph[wanted].name))
    let uncorrected = try #require(set.channelMoments(of: [other], in: simple, simulate: true)[other]?.mean)
    func distance(_ means: [Double]) -> Double { zip(means, target).reduce(0) { $0 + abs($1.0 - $1.1) } }
    // Biases have steps too: input scale times weight scale.
    #expect(distance(found) < 0.05 * distance(uncorrected), "\(distance(found)) of \(distance(uncorrected))")
  }

  /// The same codes for any number of threads, order of samples and memory.
  @Test(arguments: [[RecoveryAlgorithm.gptq, .seqmse], [.adaround], [.biasCorrection]])
  func resultsDependOnContentAlone(algorithms: [RecoveryAlgorithm]) throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 2))
    var options = options()
    options.algorithms = Set(algorithms)
    options.iterations = 20
    options.positions = 100
    let one = try recover(graph, quantizer(), options).materialized()
    let many = try recover(graph, quantizer(), options, jobs: 3, order: (0..<16).reversed()).materialized()
    let small = try recover(graph, quantizer(), options, jobs: 2, cache: 1).materialized()
    for other in [many, small] { #expect(one.text(inlineLimit: .max) == other.text(inlineLimit: .max)) }
    options.seed = 5
    let drawn = try recover(graph, quantizer(), options).materialized()
    #expect((drawn.text(inlineLimit: .max) == one.text(inlineLimit: .max)) == (algorithms == [.biasCorrection]))
  }

  /// Weights and biases that an override gave keep what they have.
  @Test func givenEncodingsStay() throws {
    var graph = try NetworkMaker.separable()
    let weight = try #require(graph.tensor(named: "w2"))
    let encoding = Encoding(bitwidth: 4, symmetric: true, channels: [ScaleOffset(scale: 0.25, offset: -8)])
    graph[weight].encoding = encoding
    graph[weight].encodingSource = .override
    graph[weight].state = .given
    let before = try #require(graph[weight].constant).floats()
    let result = try recover(graph, quantizer(), options(.gptq))
    let found = result.graph[try #require(result.graph.tensor(named: "w2"))]
    #expect(found.encoding == encoding && found.encodingSource == .override)
    #expect(try #require(found.constant).floats() == before)
    #expect(result.notes.contains { $0.code == "layer-left-alone" && $0.location.node == "n2" })
  }

  /// Layers without a bias get one, shared biases become two, given ones stay.
  @Test func everyLayerHasItsBias() throws {
    var graph = try NetworkMaker.separable()
    let layers = Layer.layers(of: graph)
    graph.nodes[layers[0].node].inputs[2] = nil
    let result = graph.withOwnBiases { _ in true }
    let bias = try #require(Layer.layers(of: result)[0].bias)
    #expect(result[bias].name == "n0.bias" && result[bias].constant?.floats() == [Float](repeating: 0, count: 8))
    let recovered = try recover(graph, quantizer(), options(.biasCorrection)).materialized()
    #expect(recovered.tensor(named: "n0.bias") != nil && recovered.verify().isEmpty)
  }

  @Test func interruptedRunsGoOn() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("checkpoint-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let graph = try NetworkMaker.separable()
    let written = Mutex(0)
    func checkpoint(limit: Int, key: String = "k") -> Checkpoint {
      Checkpoint(folder: folder.path, key: key) { (bytes, path) throws(Diagnostic) in
        let count = written.withLock { (value: inout Int) -> Int in
          value += 1
          return value
        }
        if count > limit { throw Diagnostic("full", "stopped", kind: .output) }
        _ = FileManager.default.createFile(atPath: path, contents: Data(bytes.buffer))
      }
    }
    let whole = try recover(graph, quantizer(), options(.gptq)).materialized()
    #expect(throws: Diagnostic.self) {
      try recover(graph, quantizer(), options(.gptq), checkpoint: checkpoint(limit: 3))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count == 3)
    let resumed = try recover(graph, quantizer(), options(.gptq), checkpoint: checkpoint(limit: 100)).materialized()
    #expect(resumed.text(inlineLimit: .max) == whole.text(inlineLimit: .max))
    #expect(written.withLock { $0 } == 4 + 3)
    let failure = #expect(throws: Diagnostic.self) {
      try recover(graph, quantizer(), options(.gptq), checkpoint: checkpoint(limit: 100, key: "other"))
    }
    #expect(failure?.code == "checkpoint")
    let first = folder.appendingPathComponent("layer-0000.json")
    for damage in ["", "{}", "[1]"] {
      try Data(damage.utf8).write(to: first)
      #expect(throws: Diagnostic.self) {
        try recover(graph, quantizer(), options(.gptq), checkpoint: checkpoint(limit: 100))
      }
    }
  }

  /// The mean of a clipped normal number, by summing its density.
  @Test(arguments: [
    (0.0, 1.0, 0.0, 6.0), (2, 3, 0, 6), (-4, 0.5, 0, 1), (1, 2, -.infinity, .infinity), (3, 1, 0, .infinity),
  ])
  func clippedMeans(mean: Double, deviation: Double, low: Double, high: Double) {
    let steps = 200_000
    var sum = 0.0
    for index in 0..<steps {
      let z = (Double(index) + 0.5) / Double(steps) * 20 - 10
      let weight = exp(-z * z / 2) / (2 * Double.pi).squareRoot() * 20 / Double(steps)
      sum += min(max(mean + deviation * z, low), high) * weight
    }
    #expect(abs(clippedMean(mean, deviation, low, high) - sum) < 1e-6)
  }

  /// From BatchNorm statistics alone: the noise of the mean is less than without.
  @Test func biasesAreCorrectedWithoutSamples() throws {
    var maker = NetworkMaker(seed: 9, input: [1, 16, 16, 8])
    try maker.conv(16, pad: false)
    try maker.add(Relu())
    try maker.conv(8, kernel: 1, pad: false)
    var graph = maker.finish()
    let (set, load) = try samples(graph, count: 16)
    let conv = try #require(graph.tensor(named: "t0"))
    let seen = try #require(set.channelMoments(of: [conv], in: graph)[conv])
    graph.batchNorms["t0"] = BatchNormStatistics(
      beta: seen.mean.map { Float($0) }, gamma: seen.variance.map { Float($0.squareRoot()) })
    let quantizer = quantizer(4, perChannel: false)
    let statistics = try statistics(graph, load, count: 16, quantizer)
    let result = try analyticallyCorrected(graph, statistics: statistics, quantizer: quantizer, jobs: 1)
    func error(_ fixed: Graph) throws -> Double {
      let target = try #require(set.channelMoments(of: graph.outputs, in: graph)[graph.outputs[0]]?.mean)
      let found = try #require(
        set.channelMoments(of: fixed.outputs, in: fixed, simulate: true)[fixed.outputs[0]]?.mean)
      return zip(found, target).reduce(0) { $0 + abs($1.0 - $1.1) }
    }
    let before = try error(assignEncodings(graph, statistics: statistics, options: quantizer).graph)
    #expect(try error(result.graph) < 0.6 * before)
    #expect(result.notes.contains { $0.code == "layer-left-alone" && $0.message.contains("n0") })
  }

  /// A bound a channel behind a Relu: one grid for the three, the bounds on it, both backends agree.
  @Test func boundsByChannelRunEverywhere() throws {
    var maker = NetworkMaker(seed: 14, input: [1, 6, 6, 4])
    try maker.conv(6)
    try maker.add(Relu())
    try maker.add(ElementWiseMinimum(), maker.constant([0.2, 0.5, 1, 2, 3, 0.1], [6], "bounds"))
    try maker.conv(4)
    let graph = maker.finish()
    let fixed = try plain(graph, quantizer(8))
    let grids = ["t0", "t1", "t2", "bounds"].compactMap { fixed.tensor(named: $0).flatMap { fixed[$0].encoding } }
    #expect(grids.count == 4 && Set(grids).count == 1)
    #expect(try quality(fixed, against: graph) > 25)
    let input = try samples(graph).load(0)
    let a = try ReferenceBackend().prepare(fixed, options: PlanOptions()).makeWorker().run(input)[0]
    let b = try OneDNNBackend().prepare(fixed, options: PlanOptions()).makeWorker().run(input)[0]
    let step = try #require(fixed[fixed.outputs[0]].encoding?.channels[0].scale)
    for (p, q) in zip(a.array(of: Float.self), b.array(of: Float.self)) { #expect(abs(p - q) <= 1.01 * step) }
  }

  @Test func badParametersAreUsageErrors() {
    let changes: [(inout RecoveryOptions) -> Void] = [
      { $0.algorithms = [.gptq, .adaround] }, { $0.damping = 0 }, { $0.iterations = 0 }, { $0.betaEnd = 30 },
      { $0.equalizationSteps = 0 }, { $0.scaleCandidates = 1 }, { $0.positions = 0 }, { $0.warmStart = 2 },
      { $0.learningRate = -1 }, { $0.rangeLambda = -1 }, { $0.batchPositions = 0 }, { $0.sweeps = -1 },
    ]
    for change in changes {
      var options = RecoveryOptions()
      change(&options)
      let failure = #expect(throws: Diagnostic.self) { try options.validate() }
      #expect(failure?.kind == .usage)
    }
  }
}
