import Foundation
import IR
import Operators
import Quantizer
import Runtime
import Testing

@testable import Recovery

/// Scaling channels of neighbouring layers.
@Suite struct EqualizationTests {
  private func equalized(
    _ graph: Graph, _ change: (inout RecoveryOptions) -> Void = { _ in }, withSamples: Bool = true
  ) throws -> (graph: Graph, report: EqualizationReport, notes: [Diagnostic]) {
    var options = RecoveryOptions()
    options.algorithms = [.cle]
    options.equalizationSteps = 100
    change(&options)
    var quantizer = QuantizerOptions()
    quantizer.biasBitwidth = 32
    let set = withSamples ? try samples(graph).set : nil
    return try Recovery.equalized(graph, quantizer: quantizer, options: options, samples: set)
  }

  /// The same function with channels between layers multiplied by factors from 1e-3 to 1e3.
  private func rescaled(_ graph: Graph, seed: UInt64 = 4, by limit: Double = 1e3) throws -> Graph {
    var result = graph
    var random = Random(seed: seed)
    let layers = Layer.layers(of: graph)
    for boundary in try graph.boundaries(layers, relu6: .auto).found {
      let factors = (0..<boundary.channels).map { _ in exp((random.unit() * 2 - 1) * log(limit)) }
      let (producer, consumer) = (layers[boundary.producer], layers[boundary.consumer])
      var weights = try #require(ChannelWeights(producer, of: result))
      weights.scaleOutputs(by: factors)
      result.setWeight(producer, weights.values)
      let bias = try #require(result.biasValues(producer))
      result.setBias(producer, bias.indices.map { bias[$0] * Float(factors[$0]) })
      weights = try #require(ChannelWeights(consumer, of: result))
      weights.divideInputs(by: factors)
      result.setWeight(consumer, weights.values)
    }
    return result
  }

  private func int8(_ graph: Graph) throws -> Graph {
    var options = QuantizerOptions()
    options.biasBitwidth = 32
    let seen = try statistics(graph, try samples(graph).load, options)
    return try assignEncodings(graph, statistics: seen, options: options).materialized()
  }

  @Test(arguments: [EqualizationObjective.noise, .range], [true, false])
  func theFunctionStays(objective: EqualizationObjective, clamps: Bool) throws {
    let graph = try NetworkMaker.separable(clamp: clamps ? ReluMinMax(minValue: 0, maxValue: 1) : nil)
    let (equal, report, _) = try equalized(graph) {
      $0.objective = objective
      $0.relu6 = .bounds
    }
    #expect(report.pairs.count == 5)
    #expect(report.pairs.allSatisfy { $0.clamp == (clamps ? "bounds" : nil) })
    #expect(report.skipped.map { $0[0] } == ["n11"])
    #expect((report.floatSQNR ?? 0) > 90)
    #expect(try quality(equal, against: graph) > 80)
    #expect(equal.verify().isEmpty)
  }

  /// A network whose channels were rescaled on purpose collapses per tensor; equalization brings back what
  /// the network had.
  @Test(arguments: [EqualizationObjective.noise, .range], [1e3, 1e6])
  func rescaledChannelsComeBack(objective: EqualizationObjective, limit: Double) throws {
    let graph = try NetworkMaker.separable()
    let bad = try rescaled(graph, by: limit)
    #expect(try quality(bad, against: graph) > 80)
    let before = try quality(int8(graph), against: graph)
    let collapsed = try quality(int8(bad), against: graph)
    let after = try quality(
      int8(
        equalized(bad) { options in
          options.objective = objective
          options.equalizationSteps = 600
        }.graph), against: graph)
    #expect(before > 25)
    #expect(collapsed < 10)
    #expect(after > before - 2, "\(before) dB, rescaled \(collapsed), equalized \(after)")
  }

  /// Without samples the ranges of weights alone decide.
  @Test func withoutSamplesRangesDecide() throws {
    let bad = try rescaled(try NetworkMaker.separable())
    let equal = try equalized(bad, withSamples: false)
    #expect(equal.report.floatSQNR == nil)
    #expect(try quality(int8(equal.graph), against: bad) > quality(int8(bad), against: bad) + 10)
    #expect(throws: Diagnostic.self) { try equalized(bad, { $0.objective = .noise }, withSamples: false) }
  }

  @Test func scalesAreRecordedWithTheTensors() throws {
    let graph = try NetworkMaker.separable(clamp: ReluMinMax(minValue: 0, maxValue: 1))
    let (equal, _, _) = try equalized(graph)
    let input = try samples(graph).load(0)
    let names = ["t0", "t1", "t3", "t8", "t9"]
    let old = try values(names, of: graph, input)
    let new = try values(names, of: equal, input)
    for name in names {
      let scales = try #require(equal.channelScales[name])
      for (index, value) in try #require(new[name]).enumerated() {
        let source = try #require(old[name])[index]
        #expect(abs(value / scales[index % scales.count] - source) <= 1e-4 * max(1, abs(source)))
      }
    }
    #expect(equal.channelScales["t11"] == nil)
  }

  private func values(_ names: [String], of graph: Graph, _ input: [Bytes]) throws -> [String: [Float]] {
    var copy = graph
    copy.outputs = try names.map { try #require(graph.tensor(named: $0)) }
    let worker = try ReferenceBackend().prepare(copy, options: PlanOptions(simulate: false)).makeWorker()
    return Dictionary(uniqueKeysWithValues: zip(names, try worker.run(input).map { $0.array(of: Float.self) }))
  }

  private static let pair = """
    graph "pair" {
      input %x: float32[1, 1, 1, 2]
      const %w: float32[1, 1, 2, 2] = [1, 0.01, 0.5, -0.01]
      const %b: float32[2] = [0, 0.02]
      const %v: float32[1, 1, 2, 2] = [0.1, 0.2, 4, -8]
      %c: float32[1, 1, 1, 2] = Conv2d(%x, %w, %b) {stride: [1, 1], pad_amount: [0, 0, 0, 0]} "c"
      %r: float32[1, 1, 1, 2] = ReluMinMax(%c) {min_value: 0f, max_value: 6f} "r"
      %y: float32[1, 1, 1, 2] = Conv2d(%r, %v) {stride: [1, 1], pad_amount: [0, 0, 0, 0]} "y"
      output %y
    }
    """

  /// s = sqrt(r2 / r1): 0.2 / 1 and 8 / 0.01 without samples. Relu6 becomes Relu and a bound a channel.
  @Test func aRelu6BecomesABoundAChannel() throws {
    let graph = try Graph(text: Self.pair, registry: .standard)
    let (equal, _, _) = try equalized(graph, { $0.absorption = .off }, withSamples: false)
    let (s, t) = (Float(0.2.squareRoot()), Float(800.0.squareRoot()))
    let text = equal.text()
    #expect(text.contains("Relu(%c) \"r\""))
    #expect(text.contains("ElementWiseMinimum(%r.relu, %r.bound) \"r.bound\""))
    let bound = try #require(equal.tensor(named: "r.bound"))
    let bounds = try #require(equal[bound].constant).floats()
    #expect(zip(bounds, [6 * s, 6 * t]).allSatisfy { abs($0 - $1) < 1e-4 * $1 })
    let inner = equal.innerTensorsOfFusedPairs()
    #expect(Set(inner.keys.map { equal[$0].name }) == ["c", "r.relu"])
    #expect(Set(inner.values.map { equal[$0].name }) == ["r"])
    #expect(equal.channelScales["r"]?.count == 2 && equal.channelScales["r.relu"]?.count == 2)
  }

  /// `relu` drops the bound, `skip` leaves the layers, `auto` drops it where no sample reaches it.
  @Test(arguments: zip([Relu6Handling.relu, .skip, .auto], ["Relu", "ReluMinMax", "Relu"]))
  func relu6AsAsked(handling: Relu6Handling, expected: String) throws {
    let graph = try Graph(text: Self.pair, registry: .standard)
    let (equal, report, notes) = try equalized(graph) { $0.relu6 = handling }
    let node = try #require(equal.nodes.first { $0.name == "r" })
    #expect(node.op.typeName == expected)
    #expect(report.pairs.isEmpty == (handling == .skip))
    #expect(notes.contains { $0.code == "option-without-effect" } == (handling == .skip))
  }

  @Test func overridesOnScaledTensorsAreErrors() throws {
    var graph = try Graph(text: Self.pair, registry: .standard)
    let id = try #require(graph.tensor(named: "r"))
    graph[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.1, offset: 0)])
    graph[id].state = .given
    let failure = #expect(throws: Diagnostic.self) { try equalized(graph) }
    #expect(failure?.code == "override-on-equalized" && failure?.location.tensor == "r" && failure?.hint != nil)
  }

  /// Channels that are zero or constant whatever comes in: cleared, or folded into the next bias.
  @Test func deadChannelsAreCleared() throws {
    let text = """
      graph "dead" {
        input %x: float32[1, 1, 1, 1]
        const %w: float32[1, 1, 1, 3] = [1, 1e-12, 1e-12]
        const %b: float32[3] = [0, -1, 2]
        const %v: float32[1, 1, 3, 2] = [1, 2, 70, 80, 0.5, 0.25]
        const %d: float32[2] = [10, 20]
        %c: float32[1, 1, 1, 3] = Conv2d(%x, %w, %b) {stride: [1, 1], pad_amount: [0, 0, 0, 0]} "c"
        %r: float32[1, 1, 1, 3] = Relu(%c) "r"
        %y: float32[1, 1, 1, 2] = Conv2d(%r, %v, %d) {stride: [1, 1], pad_amount: [0, 0, 0, 0]} "y"
        output %y
      }
      """
    let graph = try Graph(text: text, registry: .standard)
    let (cleared, report) = graph.removingDeadChannels(
      inputs: [graph.inputs[0]: [-1...1]], threshold: 1e-4)
    func values(_ name: String) throws -> [Float] {
      let id = try #require(cleared.tensor(named: name))
      return try #require(cleared[id].constant).floats()
    }
    #expect(try values("w") == [1, 0, 0])
    #expect(try values("b") == [0, 0, 0])
    #expect(try values("v") == [1, 2, 0, 0, 0, 0])
    #expect(try values("d") == [11, 20.5])
    #expect(report.removed.map { "\($0.layer) \($0.zero) \($0.folded)" } == ["c 1 1"])
  }

  /// The derivative against differences, per tensor and per channel.
  @Test(arguments: [false, true])
  func theDerivativeIsThatOfTheNoise(perChannel: Bool) throws {
    var random = Random(seed: 6)
    let (inputs, middle, outputs) = (3, 4, 2)
    func layer(_ from: Int, _ to: Int, _ input: Int?, _ output: Int?) -> LayerNoise {
      LayerNoise(
        weights: ChannelMagnitudes(
          (0..<(from * to)).map { _ in Float(abs(random.normal())) + 0.1 }, depth: from, outputs: to,
          outputsOfGroup: to),
        importance: (0..<to).map { _ in random.unit() + 0.5 }, taps: 9,
        variance: (0..<from).map { _ in random.unit() + 0.5 }, steps: 7, isPerChannel: perChannel,
        inputBoundary: input, outputBoundary: output)
    }
    let model = NoiseModel(
      layers: [layer(inputs, middle, nil, 0), layer(middle, outputs, 0, nil)],
      boundaries: [
        BoundaryNoise(
          low: [0, -0.5, 0, -0.1], high: [1, 2, 0.3, 0.7], importance: [1, 0.4, 2, 1.3], steps: 255,
          isFree: [true, true, true, true])
      ], jobs: 1)
    let logs = [[0.1, -0.3, 0.2, 0.05]]
    let gradient = model.value(logs).gradient
    for c in 0..<middle {
      var (up, down) = (logs, logs)
      up[0][c] += 1e-6
      down[0][c] -= 1e-6
      let difference = (model.value(up).value - model.value(down).value) / 2e-6
      #expect(abs(gradient[0][c] - difference) < 1e-5)
    }
    let found = model.minimised(steps: 300).map { $0.map { log($0) } }
    #expect(model.value(found).value < model.value([[0, 0, 0, 0]]).value)
    // A better start is taken, a worse one is not.
    let best = found.map { $0.map { exp($0) } }
    let again = model.minimised(steps: 1, start: best).map { $0.map { log($0) } }
    #expect(model.value(again).value < model.value([[0, 0, 0, 0]]).value - 0.1)
    #expect(model.minimised(steps: 5, start: [[1e6, 1, 1, 1e-6]]) == model.minimised(steps: 5))
  }

  /// Zeros are on every grid: how often a channel is zero tells how much its noise weighs.
  @Test func channelsAreWeighedByWhereTheyAreNotZero() throws {
    var seen = ChannelMoments(channels: 2)
    [0, 1, 0, 2, 3, -1, 0, 4].withUnsafeBufferPointer { (values: UnsafeBufferPointer<Float>) in seen.add(values) }
    var twice = seen
    twice.merge(seen)
    #expect(seen.shareOfNumbers == [0.25, 1] && twice.shareOfNumbers == [0.25, 1])
    let graph = try NetworkMaker.separable()
    let set = try samples(graph).set
    var options = RecoveryOptions()
    options.equalizationSteps = 100
    let session = EqualizationSession(graph: graph, quantizer: QuantizerOptions(), options: options, samples: set)
    let layers = Layer.layers(of: graph)
    let boundaries = try graph.boundaries(layers, relu6: .auto).found
    let tensors = Set(layers.flatMap { [$0.input, $0.output, $0.result] }).sorted { $0.index < $1.index }
    var moments = try set.channelMoments(of: tensors, in: graph)
    let scales = session.noiseScales(layers, boundaries, moments)
    let input = layers[boundaries[1].consumer].input
    let count = try #require(moments[input]).count
    moments[input]?.zeros[0] = count - 1
    #expect(session.noiseScales(layers, boundaries, moments) != scales)
  }

  /// What an output's values have in common is no signal: noise weighs by how they vary.
  @Test func offsetsOfOutputsWeighNothing() throws {
    let graph = try NetworkMaker.separable()
    let layers = Layer.layers(of: graph)
    let tensors = Set(layers.flatMap { [$0.input, $0.output, $0.result] } + graph.outputs)
      .sorted { $0.index < $1.index }
    let moments = try samples(graph).set.channelMoments(of: tensors, in: graph)
    var moved = moments
    for output in graph.outputs {
      var own = try #require(moved[output])
      let count = Double(own.count)
      for c in own.sum.indices {
        own.squares[c] += 2 * 50 * own.sum[c] + 2500 * count
        own.sum[c] += 50 * count
      }
      moved[output] = own
    }
    let input = try #require(graph.inputs.first)
    let before = Importance(graph, layers, moments).channels(input, count: 1)
    let after = Importance(graph, layers, moved).channels(input, count: 1)
    #expect(zip(before, after).allSatisfy { abs($0 - $1) < 1e-6 * $0 && $0 > 0 }, "\(before) \(after)")
  }

  @Test func networksWithoutPairsAreAWarning() throws {
    var maker = NetworkMaker(seed: 2, input: [1, 4, 4, 3])
    try maker.conv(4)
    try maker.add(HardSwish())
    try maker.conv(4)
    let (_, _, notes) = try equalized(maker.finish())
    let warning = try #require(notes.first { $0.severity == .warning })
    #expect(warning.code == "option-without-effect" && warning.message.contains("HardSwish"))
  }

  /// beta - 3 |gamma| goes into the next bias; the statistics follow.
  @Test func highBiasesAreAbsorbed() throws {
    var graph = try Graph(
      text: Self.pair.replacingOccurrences(of: "ReluMinMax(%c) {min_value: 0f, max_value: 6f}", with: "Relu(%c)")
        .replacingOccurrences(of: "const %v", with: "const %d: float32[2] = [0, 0]\n  const %v")
        .replacingOccurrences(of: "Conv2d(%r, %v)", with: "Conv2d(%r, %v, %d)"), registry: .standard)
    graph.batchNorms["c"] = BatchNormStatistics(beta: [10, 1], gamma: [1, 2])
    let bias = try #require(graph.tensor(named: "b"))
    graph[bias].constant = Constant([10, 0.02], shape: [2])
    let (equal, report, _) = try equalized(graph, { $0.absorption = .on }, withSamples: false)
    #expect(report.pairs.first?.absorbed == 1)
    let scale = Double(try #require(equal.channelScales["c"])[0])
    let absorbed = try #require(equal.tensor(named: "b"))
    let moved = try #require(equal[absorbed].constant).floats()[0]
    #expect(abs(Double(moved) - 3 * scale) < 1e-3 * scale)
    // What was taken away is noted where it was, and where it went.
    for name in ["c", "r", "b"] {
      let shifts = try #require(equal.channelShifts[name], "\(name)")
      #expect(abs(Double(shifts[0]) - 7 * scale) < 1e-3 * scale && shifts[1] == 0, "\(name)")
    }
    let absorber = try #require(equal.tensor(named: "d"))
    let taken = try #require(equal[absorber].constant).floats()
    let noted = try #require(equal.channelShifts["d"])
    #expect(taken.contains { $0 != 0 } && zip(taken, noted).allSatisfy { abs($0 + $1) < 1e-5 })
    var missing = graph
    missing.batchNorms = [:]
    let notes = try equalized(missing, { $0.absorption = .on }, withSamples: false).notes
    #expect(
      notes.contains {
        $0.message.hasPrefix("Invalid model for HBA quantization algorithm.") && $0.severity == .warning
      })
  }
}
