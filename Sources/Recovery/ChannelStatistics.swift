import IR
import Runtime

/// What a tensor's channels (its last axis) held over all samples and positions.
struct ChannelMoments: Sendable {
  /// Positions seen, in all samples.
  var count = 0
  var sum: [Double]
  var squares: [Double]
  var minimum: [Float]
  var maximum: [Float]
  /// Positions where a channel is zero, which every grid holds.
  var zeros: [Int]
  /// Positions strictly inside the clamp behind the tensor.
  var inside: [Int]
  let clamp: ClosedRange<Float>?

  init(channels: Int, clamp: ClosedRange<Float>? = nil) {
    sum = [Double](repeating: 0, count: channels)
    squares = sum
    zeros = [Int](repeating: 0, count: channels)
    minimum = [Float](repeating: .infinity, count: channels)
    maximum = [Float](repeating: -.infinity, count: channels)
    inside = [Int](repeating: 0, count: clamp == nil ? 0 : channels)
    self.clamp = clamp
  }

  /// Adds the rows of a dense tensor whose last axis has the channels.
  mutating func add(_ values: UnsafeBufferPointer<Float>) {
    let channels = sum.count
    guard channels > 0, let base = values.baseAddress else { return }
    let rows = values.count / channels
    count += rows
    sum.withUnsafeMutableBufferPointer { sum in
      squares.withUnsafeMutableBufferPointer { squares in
        minimum.withUnsafeMutableBufferPointer { low in
          maximum.withUnsafeMutableBufferPointer { high in
            for row in 0..<rows {
              let x = base + row * channels
              for c in 0..<channels {
                let value = x[c]
                let wide = Double(value)
                sum[c] += wide
                squares[c] += wide * wide
                low[c] = value < low[c] ? value : low[c]
                high[c] = value > high[c] ? value : high[c]
              }
            }
          }
        }
      }
    }
    zeros.withUnsafeMutableBufferPointer { zeros in
      for row in 0..<rows {
        let x = base + row * channels
        for c in 0..<channels { zeros[c] &+= x[c] == 0 ? 1 : 0 }
      }
    }
    guard let clamp else { return }
    let (low, high) = (clamp.lowerBound, clamp.upperBound)
    inside.withUnsafeMutableBufferPointer { inside in
      for row in 0..<rows {
        let x = base + row * channels
        for c in 0..<channels { inside[c] &+= x[c] > low && x[c] < high ? 1 : 0 }
      }
    }
  }

  mutating func merge(_ other: ChannelMoments) {
    count += other.count
    for c in sum.indices {
      sum[c] += other.sum[c]
      squares[c] += other.squares[c]
      minimum[c] = min(minimum[c], other.minimum[c])
      maximum[c] = max(maximum[c], other.maximum[c])
    }
    for c in zeros.indices { zeros[c] += other.zeros[c] }
    for c in inside.indices { inside[c] += other.inside[c] }
  }

  /// Mean of each channel.
  var mean: [Double] { sum.map { $0 / Double(max(count, 1)) } }

  /// Variance of each channel about its mean.
  var variance: [Double] {
    zip(sum, squares).map { sum, squares in
      let number = Double(max(count, 1))
      return max(0, squares / number - (sum / number) * (sum / number))
    }
  }

  /// Share of the positions where each channel is not zero.
  var shareOfNumbers: [Double] { zeros.map { 1 - Double($0) / Double(max(count, 1)) } }

  /// Share of the positions strictly inside the clamp, 1 where there is none.
  var shareInside: [Double] {
    inside.isEmpty ? sum.map { _ in 1 } : inside.map { Double($0) / Double(max(count, 1)) }
  }
}

extension SampleSet {
  /// Runs a graph over all samples and adds up the channels of some tensors as they stand in it; clamps
  /// tell the range strictly inside of which values are counted. Encodings are applied with `simulate`.
  func channelMoments(
    of tensors: [TensorID], in graph: Graph, clamps: [TensorID: ClosedRange<Float>] = [:],
    simulate: Bool = false, progress: (@Sendable () -> Void)? = nil
  ) throws(Diagnostic) -> [TensorID: ChannelMoments] {
    let wanted = tensors.filter { graph[$0].type.rank > 0 && graph[$0].type.element.logical == .float32 }
    var slots: [TensorID: Int] = [:]
    for (slot, id) in wanted.enumerated() { slots[id] = slot }
    let places = slots
    let empty = wanted.map {
      ChannelMoments(channels: graph[$0].type.shape.last ?? 1, clamp: clamps[$0])
    }
    let inputs = graph.inputs
    let taps = Set(wanted.filter { !inputs.contains($0) })
    let plan = try backend.prepare(graph, options: PlanOptions(simulate: simulate, taps: taps))
    let sums = try reduce(
      chunks: chunks(elements: empty.reduce(0) { $0 + 4 * $1.sum.count }), into: empty,
      worker: { () throws(Diagnostic) in try plan.makeWorker() },
      { (sums: inout [ChannelMoments], worker: any PlanWorker, rank: Int) throws(Diagnostic) in
        let sample = try load(rank)
        for (id, bytes) in zip(inputs, sample) {
          guard let slot = places[id] else { continue }
          let ready = bytes.aligned(to: 4)
          withExtendedLifetime(ready) { sums[slot].add(ready.buffer.assumingMemoryBound(to: Float.self)) }
        }
        // The tap may not capture an inout parameter.
        var local = sums
        sums = []
        defer { sums = local }
        _ = try worker.run(
          sample,
          tap: { (id: TensorID, view: TensorView) throws(Diagnostic) in
            if let slot = places[id] { local[slot].add(view.elements(as: Float.self)) }
          })
        progress?()
      },
      merge: { total, next in
        for slot in total.indices { total[slot].merge(next[slot]) }
      })
    var result: [TensorID: ChannelMoments] = [:]
    for (id, moments) in zip(wanted, sums) { result[id] = moments }
    return result
  }
}
