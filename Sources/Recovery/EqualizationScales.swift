import Glibc
import IR
import Quantizer

extension EqualizationSession {
  func noiseScales(
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
      let (magnitudes, taps) = weights.magnitudes()
      let isRow = layer.isRow(in: graph)
      noises.append(
        LayerNoise(
          weights: magnitudes, importance: importance.channels(layer.output, count: weights.outputChannels),
          taps: Double(taps),
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
      // Zeros are exact: a channel has noise where it is not zero, and one that never left zero has none.
      var weighed = importance.channels(layer.result, count: channels)
      if let share = moments[layers[boundary.consumer].input]?.shareOfNumbers, share.count == channels {
        weighed = zip(weighed, share).map(*)
      }
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
  func rangeScales(
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
}
