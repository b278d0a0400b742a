import Calibration
import Glibc
import IR
import Runtime
import Synchronization

extension LayerWork {
  /// Positions that roundings are learned from, at most.
  private static let learnedPositions = 32_768

  /// The whole numbers of steps learned by gradients (AdaRound, Nagel et al. 2004.10568).
  ///
  /// Each weight is rounded down or up: floor(w / s) + h(V), h a rectified sigmoid, V learned by Adam so
  /// that the layer's result, activation included, on quantized inputs meets the float network's. A term
  /// draws h to 0 or 1. Rows do not depend on one another: blocks of them are learned in parallel, over
  /// batches that are the same for all.
  func learned(
    _ weights: [Float], _ grids: RowGrids, _ matrix: WeightMatrix, _ patches: Patches,
    _ floatRunner: StageRunner
  ) throws(Diagnostic) -> [Float] {
    try floatRunner.advance(to: float.node)
    let data = try rows(patches, matrix, floatRunner)
    let options = walk.options
    let bias = try biasBefore(weights, grids, matrix, data)
    let clamp = walk.float.clamp(behind: float)
    let piece = max(1, min(64, matrix.rows))
    let pieces = (matrix.rows + piece - 1) / piece
    let failure = Mutex(Diagnostic?.none)
    let found = parallelMap(matrix.groups * pieces, jobs: walk.samples.jobs) { place -> [Float] in
      let (group, part) = (place / pieces, place % pieces)
      let first = group * matrix.rows + part * piece
      let block = first..<min(first + piece, (group + 1) * matrix.rows)
      var learner = RoundingLearner(
        weights: weights, grids: grids, rows: block, depth: matrix.depth, bias: Array(bias[block]),
        clamp: clamp, options: options)
      do throws(Diagnostic) {
        try learner.run(data, group: group)
      } catch {
        failure.withLock { $0 = $0 ?? error }
      }
      return learner.rounded
    }
    if let error = failure.withLock({ $0 }) { throw error }
    return found.flatMap { $0 }
  }

  /// The bias that puts the means back for weights rounded to nearest, before learning.
  private func biasBefore(
    _ weights: [Float], _ grids: RowGrids, _ matrix: WeightMatrix, _ data: LayerRows
  ) throws(Diagnostic) -> [Float] {
    let old = float.bias.flatMap { walk.float[$0].constant?.floats() } ?? []
    return (0..<matrix.rowCount).map { row in
      let group = row / matrix.rows
      var sum = 0.0
      for k in 0..<matrix.depth {
        let index = row * matrix.depth + k
        let rounded = grids.nearest(weights[index], index) * grids.scales[index]
        sum +=
          Double(weights[index]) * data.floatMeans[group * matrix.depth + k]
          - Double(rounded) * data.means[group * matrix.depth + k]
      }
      return Float(Double(old.isEmpty ? 0 : old[row]) + sum)
    }
  }

  /// Quantized inputs and float results at drawn positions of all samples, in a drawn order.
  private func rows(
    _ patches: Patches, _ matrix: WeightMatrix, _ floatRunner: StageRunner
  ) throws(Diagnostic) -> LayerRows {
    let (depth, groups) = (matrix.depth, matrix.groups)
    let channels = matrix.rowCount
    // At most 512 MB, whatever may be kept: the result must not depend on the memory at hand.
    let wanted = max(1, min(Self.learnedPositions, (512 << 20) / (4 * (2 * groups * depth + channels))))
    let each = max(1, min(patches.positions, (wanted + walk.samples.count - 1) / walk.samples.count))
    let total = each * walk.samples.count
    var order = Array(0..<total)
    var generator = SeededGenerator(seed: walk.options.seed, index, -1)
    for place in stride(from: total - 1, to: 0, by: -1) {
      order.swapAt(place, Int(generator.next() % UInt64(place + 1)))
    }
    let places = order
    let (seed, number) = (walk.options.seed, index)
    let inputs = SharedFloats(count: total * groups * depth)
    let floatInputs = SharedFloats(count: total * groups * depth)
    let results = SharedFloats(count: total * channels)
    @Sendable func positions(_ rank: Int) -> [Int] {
      var generator = SeededGenerator(seed: seed, number, rank)
      return patches.chosen(each, &generator)
    }
    @Sendable func put(_ bytes: Bytes, _ rank: Int, into target: SharedFloats) {
      let ready = bytes.aligned(to: 4)
      let chosen = positions(rank)
      var gathered = [Float](repeating: 0, count: chosen.count * depth)
      gathered.withUnsafeMutableBufferPointer { gathered in
        guard let from = gathered.baseAddress else { return }
        for group in 0..<groups {
          patches.gather(
            ready.base.assumingMemoryBound(to: Float.self), positions: chosen, group: group, into: from)
          for row in chosen.indices {
            let place = group * total + places[rank * each + row]
            (target.base + place * depth).update(from: from + row * depth, count: depth)
          }
        }
      }
      withExtendedLifetime(ready) {}
    }
    try runner.forEach([layer.input], upTo: layer.node) { (rank: Int, values: [Bytes]) throws(Diagnostic) in
      put(values[0], rank, into: inputs)
    }
    try floatRunner.forEach([float.input, float.result], upTo: float.lastNode + 1) {
      (rank: Int, values: [Bytes]) throws(Diagnostic) in
      put(values[0], rank, into: floatInputs)
      let ready = values[1].aligned(to: 4)
      let from = ready.base.assumingMemoryBound(to: Float.self)
      for (row, position) in positions(rank).enumerated() {
        (results.base + places[rank * each + row] * channels).update(
          from: from + position * channels, count: channels)
      }
      withExtendedLifetime(ready) {}
    }
    return LayerRows(
      count: total, depth: depth, channels: channels, inputs: inputs, results: results,
      means: inputs.means(groups: groups, rows: total, depth: depth),
      floatMeans: floatInputs.means(groups: groups, rows: total, depth: depth))
  }
}

/// What a layer's rounding is learned from.
struct LayerRows: Sendable {
  /// Positions.
  let count: Int
  let depth: Int
  let channels: Int
  /// [group][position][depth] and [position][channel].
  let inputs: SharedFloats
  let results: SharedFloats
  /// Means of the inputs, [group][depth]: quantized and float.
  let means: [Double]
  let floatMeans: [Double]
}

/// Floats that threads fill at different places. `@unchecked Sendable`: nobody reads before all have
/// written, and no two write the same place.
final class SharedFloats: @unchecked Sendable {
  let base: UnsafeMutablePointer<Float>
  let count: Int

  init(count: Int) {
    self.count = count
    base = .allocate(capacity: max(count, 1))
    base.initialize(repeating: 0, count: max(count, 1))
  }

  deinit { base.deallocate() }

  func means(groups: Int, rows: Int, depth: Int) -> [Double] {
    var result = [Double](repeating: 0, count: groups * depth)
    for group in 0..<groups {
      for row in 0..<rows {
        let x = base + (group * rows + row) * depth
        for k in 0..<depth { result[group * depth + k] += Double(x[k]) }
      }
    }
    return result.map { $0 / Double(max(rows, 1)) }
  }
}

extension Graph {
  /// The least and largest value that the activation fused behind a layer lets through, by channel; nil
  /// where it is none that clamps.
  func clamp(behind layer: Layer) -> (low: Float, high: [Float])? {
    guard layer.result != layer.output, let channels = self[layer.output].type.shape.last else { return nil }
    var low = -Float.infinity
    var high = [Float](repeating: .infinity, count: channels)
    var tensor = layer.output
    let fused = fusedIntermediates()
    while let next = fused[tensor] {
      let node = self[next]
      guard let range = activationBounds(node, in: self) else { return nil }
      low = max(low, range.low)
      for c in 0..<channels { high[c] = min(high[c], range.high.count == 1 ? range.high[0] : range.high[c]) }
      tensor = node.outputs[0]
    }
    return (low, high)
  }
}

/// Learns the rounding of some rows of one group. Elements lie in vectors of sixteen; the last may have
/// some to spare, whose slope is 0.
private struct RoundingLearner {
  typealias Floats = VectorMath.Floats
  let rows: Range<Int>
  let depth: Int
  let bias: [Float]
  let clamp: (low: Float, high: [Float])?
  let options: RecoveryOptions
  private let count: Int
  private let scales: [Floats]
  private let low: [Floats]
  private let high: [Floats]
  /// floor(w / s), and what is learned.
  private let floors: [Floats]
  private var variables: [Floats]
  private var sigmoids: [Floats]

  private static let (stretchLow, stretchHigh): (Float, Float) = (-0.1, 1.1)
  private static let width = stretchHigh - stretchLow

  init(
    weights: [Float], grids: RowGrids, rows: Range<Int>, depth: Int, bias: [Float],
    clamp: (low: Float, high: [Float])?, options: RecoveryOptions
  ) {
    self.rows = rows
    self.depth = depth
    self.bias = bias
    self.options = options
    self.clamp = clamp.map { ($0.low, Array($0.high[rows])) }
    count = rows.count * depth
    let first = rows.lowerBound * depth
    let number = (count + 15) / 16
    func vectors(_ value: (Int) -> Float) -> [Floats] {
      (0..<number).map { place in
        var vector = Floats(repeating: 0)
        for lane in 0..<16 where place * 16 + lane < rows.count * depth {
          vector[lane] = value(first + place * 16 + lane)
        }
        return vector
      }
    }
    scales = vectors { grids.scales[$0] }
    low = vectors { grids.low[Int(grids.grids[$0])] }
    high = vectors { grids.high[Int(grids.grids[$0])] }
    floors = vectors { (weights[$0] / grids.scales[$0]).rounded(.down) }
    variables = vectors { index in
      let step = weights[index] / grids.scales[index]
      // h(V) is the fraction: the weight starts where it is.
      let share = (step - step.rounded(.down) - Self.stretchLow) / Self.width
      return -logf(1 / share - 1)
    }
    sigmoids = variables
  }

  /// The whole numbers that the present state says.
  var rounded: [Float] {
    (0..<count).map { index in
      let (place, lane) = (index / 16, index % 16)
      let code = floors[place][lane] + (variables[place][lane] >= 0 ? 1 : 0)
      return min(max(code, low[place][lane]), high[place][lane])
    }
  }

  mutating func run(_ data: LayerRows, group: Int) throws(Diagnostic) {
    let outputsCount = rows.count
    let batch = min(options.batchPositions, data.count)
    var soft = [Floats](repeating: Floats(repeating: 0), count: floors.count)
    var slope = soft
    var gradient = soft
    var first = soft
    var second = soft
    var outputs = [Float](repeating: 0, count: batch * outputsCount)
    let inputs = UnsafePointer(data.inputs.base + group * data.count * depth)
    var start = 0
    let warm = Int(options.warmStart * Double(options.iterations))
    for iteration in 0..<options.iterations {
      if start + batch > data.count { start = 0 }
      soften(&soft, &slope)
      let x = inputs + start * depth
      var failure: Diagnostic?
      soft.withUnsafeBytes { weights in
        outputs.withUnsafeMutableBufferPointer { y in
          gradient.withUnsafeMutableBytes { target in
            guard let w = weights.baseAddress?.assumingMemoryBound(to: Float.self), let result = y.baseAddress,
              let g = target.baseAddress?.assumingMemoryBound(to: Float.self)
            else { return }
            do throws(Diagnostic) {
              try multiply(
                MatrixView(x, stride: depth), MatrixView(w, stride: depth, transposed: true), rows: batch,
                columns: outputsCount, depth: depth, into: result, targetStride: outputsCount)
              errors(result, data, start: start, batch: batch)
              try multiply(
                MatrixView(result, stride: outputsCount, transposed: true), MatrixView(x, stride: depth),
                rows: outputsCount, columns: depth, depth: batch, into: g, targetStride: depth)
            } catch {
              failure = error
            }
          }
        }
      }
      if let failure { throw failure }
      let isWarm = iteration < warm
      let share = isWarm ? 0 : Double(iteration - warm) / Double(max(1, options.iterations - warm))
      let beta = options.betaEnd + 0.5 * (options.betaStart - options.betaEnd) * (1 + cos(share * .pi))
      step(iteration + 1, gradient, slope, &first, &second, beta: isWarm ? nil : Float(beta))
      start += batch
    }
  }

  /// Soft-rounded weights, and their slope by the variables.
  private mutating func soften(_ soft: inout [Floats], _ slope: inout [Floats]) {
    let (zero, one) = (Floats(repeating: 0), Floats(repeating: 1))
    for index in floors.indices {
      let sigmoid = VectorMath.sigmoid(variables[index])
      sigmoids[index] = sigmoid
      let stretched = sigmoid * Self.width + Self.stretchLow
      let code = floors[index] + stretched.clamped(lowerBound: zero, upperBound: one)
      let limited = code.clamped(lowerBound: low[index], upperBound: high[index])
      soft[index] = limited * scales[index]
      let isFree = (stretched .> zero) .& (stretched .< one) .& (code .== limited)
      slope[index] = zero.replacing(with: sigmoid * (1 - sigmoid) * Self.width, where: isFree)
    }
  }

  /// Turns results into the derivative of the loss by them.
  private func errors(_ y: UnsafeMutablePointer<Float>, _ data: LayerRows, start: Int, batch: Int) {
    let count = rows.count
    let factor = 2 / Float(batch)
    bias.withUnsafeBufferPointer { bias in
      for row in 0..<batch {
        let target = data.results.base + (start + row) * data.channels + rows.lowerBound
        let own = y + row * count
        guard let clamp else {
          for c in 0..<count { own[c] = factor * (own[c] + bias[c] - target[c]) }
          continue
        }
        clamp.high.withUnsafeBufferPointer { high in
          for c in 0..<count {
            let value = own[c] + bias[c]
            own[c] = value > clamp.low && value < high[c] ? factor * (value - target[c]) : 0
          }
        }
      }
    }
  }

  /// One step of Adam (Kingma, Ba 1412.6980).
  private mutating func step(
    _ number: Int, _ gradient: [Floats], _ slope: [Floats], _ first: inout [Floats], _ second: inout [Floats],
    beta: Float?
  ) {
    let rate = Float(options.learningRate) / (1 - powf(0.9, Float(number)))
    let correction = 1 / (1 - powf(0.999, Float(number)))
    let weight = Float(options.regularization)
    let (one, tiny) = (Floats(repeating: 1), Floats(repeating: 1e-20))
    for index in variables.indices {
      var g = gradient[index] * scales[index] * slope[index]
      if let beta {
        let centred = 2 * (sigmoids[index] * Self.width + Self.stretchLow) - 1
        let size = centred.replacing(with: -centred, where: centred .< 0)
        // Derivative of 1 - |2h - 1|^beta by V.
        let power = VectorMath.exp2(VectorMath.log2(pointwiseMax(size, tiny)) * (beta - 1))
        g -= one.replacing(with: -one, where: centred .< 0) * power * slope[index] * (weight * 2 * beta)
      }
      first[index] = 0.9 * first[index] + 0.1 * g
      second[index] = 0.999 * second[index] + 0.001 * g * g
      variables[index] -= rate * first[index] / ((second[index] * correction).squareRoot() + 1e-8)
    }
  }
}
