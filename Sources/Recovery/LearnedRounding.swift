import Calibration
import Glibc
import IR
import Runtime
import Synchronization

extension LayerWork {
  /// Positions that roundings are learned from, at most.
  static let learnedPositions = 32_768

  /// The whole numbers of steps learned by gradients (AdaRound, Nagel et al. 2004.10568): of `wanted`, what
  /// the float network's weights became to make up for quantized inputs.
  ///
  /// Each weight takes one of two whole numbers side by side, b + h(V), h a rectified sigmoid, V learned by
  /// Adam so that the layer's result, activation included, on quantized inputs meets the float network's. A
  /// term draws h to 0 or 1. Without a `start` b is floor(w / s), as published. With whole numbers to start
  /// from, the pair holds that of the start, h begins near it, and a row that learning did not make better
  /// keeps its start. Rows do not depend on one another: blocks of them are learned in parallel, over batches
  /// that are the same for all.
  func learned(
    _ weights: [Float], _ wanted: [Float], from start: [Float]?, _ grids: RowGrids, _ matrix: WeightMatrix,
    _ patches: Patches, _ floatRunner: StageRunner
  ) throws(Diagnostic) -> [Float] {
    try floatRunner.advance(to: float.node)
    let data = try rows(patches, matrix, floatRunner)
    let options = walk.options
    let bias = biasBefore(weights, start ?? nearest(wanted, grids), grids, matrix, data)
    let clamp = walk.float.clamp(behind: float)
    let piece = max(1, min(64, matrix.rows))
    let pieces = (matrix.rows + piece - 1) / piece
    let failure = Mutex(Diagnostic?.none)
    let found = parallelMap(matrix.groups * pieces, jobs: walk.samples.jobs) { place -> [Float] in
      let (group, part) = (place / pieces, place % pieces)
      let first = group * matrix.rows + part * piece
      let block = first..<min(first + piece, (group + 1) * matrix.rows)
      var learner = RoundingLearner(
        weights: wanted, start: start, grids: grids, rows: block, depth: matrix.depth, bias: Array(bias[block]),
        clamp: clamp, options: options)
      do throws(Diagnostic) {
        try learner.run(data, group: group)
        return try learner.best(data, group: group)
      } catch {
        failure.withLock { $0 = $0 ?? error }
        return []
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
    return found.flatMap { $0 }
  }

  private func nearest(_ weights: [Float], _ grids: RowGrids) -> [Float] {
    weights.indices.map { grids.nearest(weights[$0], $0) }
  }

  /// The bias that puts the means back for weights rounded to `whole` numbers of steps, before learning.
  private func biasBefore(
    _ weights: [Float], _ whole: [Float], _ grids: RowGrids, _ matrix: WeightMatrix, _ data: LayerRows
  ) -> [Float] {
    let old = float.bias.flatMap { walk.float[$0].constant?.floats() } ?? []
    return (0..<matrix.rowCount).map { row in
      let group = row / matrix.rows
      var sum = 0.0
      for k in 0..<matrix.depth {
        let index = row * matrix.depth + k
        let rounded = whole[index] * grids.scales[index]
        sum +=
          Double(weights[index]) * data.floatMeans[group * matrix.depth + k]
          - Double(rounded) * data.means[group * matrix.depth + k]
      }
      return Float(Double(old.isEmpty ? 0 : old[row]) + sum)
    }
  }

  /// Groups whose patches are gathered together: their values lie side by side.
  private static let groupsAtOnce = 16

  private static func blocks(_ groups: Int) -> [Range<Int>] {
    stride(from: 0, to: groups, by: groupsAtOnce).map { $0..<min($0 + groupsAtOnce, groups) }
  }

  /// How many samples, the first in their canonical order, and how many positions of each are learned from,
  /// where a position has so many floats. At most 512 MB, whatever may be kept and however many samples there
  /// are: the result must not depend on the memory at hand.
  static func drawn(samples: Int, positions: Int, floats: Int) -> (samples: Int, positions: Int) {
    let wanted = max(1, min(learnedPositions, (512 << 20) / (4 * floats)))
    let used = min(samples, wanted)
    return (used, max(1, min(positions, (wanted + used - 1) / used)))
  }

  /// Quantized inputs and float results at drawn positions of the samples, in a drawn order.
  private func rows(
    _ patches: Patches, _ matrix: WeightMatrix, _ floatRunner: StageRunner
  ) throws(Diagnostic) -> LayerRows {
    let (depth, groups) = (matrix.depth, matrix.groups)
    let channels = matrix.rowCount
    let (used, each) = Self.drawn(
      samples: walk.samples.count, positions: patches.positions, floats: groups * depth + channels)
    let total = each * used
    var order = Array(0..<total)
    var generator = SeededGenerator(seed: walk.options.seed, index, -1)
    for place in stride(from: total - 1, to: 0, by: -1) {
      order.swapAt(place, Int(generator.next() % UInt64(place + 1)))
    }
    let places = order
    let (seed, number) = (walk.options.seed, index)
    let inputs = SharedFloats(count: total * groups * depth)
    let results = SharedFloats(count: total * channels)
    // A sum of the inputs for each sample, added up in their order.
    let sums = SharedFloats(count: used * groups * depth)
    let floatSums = SharedFloats(count: used * groups * depth)
    @Sendable func positions(_ rank: Int) -> [Int] {
      var generator = SeededGenerator(seed: seed, number, rank)
      return patches.chosen(each, &generator)
    }
    try runner.forEach([layer.input], upTo: layer.node, first: used) {
      (rank: Int, values: [Bytes]) throws(Diagnostic) in
      let ready = values[0].aligned(to: 4)
      let chosen = positions(rank)
      let sum = sums.base + rank * groups * depth
      sum.initialize(repeating: 0, count: groups * depth)
      for block in Self.blocks(groups) {
        for (row, position) in chosen.enumerated() {
          let place = inputs.base + (block.lowerBound * total + places[rank * each + row]) * depth
          patches.gather(
            ready.base.assumingMemoryBound(to: Float.self), position: position, groups: block, into: place,
            groupStride: total * depth)
          for group in block {
            let (from, to) = (place + (group - block.lowerBound) * total * depth, sum + group * depth)
            for k in 0..<depth { to[k] += from[k] }
          }
        }
      }
      withExtendedLifetime(ready) {}
    }
    try floatRunner.forEach([float.input, float.result], upTo: float.lastNode + 1, first: used) {
      (rank: Int, values: [Bytes]) throws(Diagnostic) in
      let (ready, made) = (values[0].aligned(to: 4), values[1].aligned(to: 4))
      let chosen = positions(rank)
      let sum = floatSums.base + rank * groups * depth
      sum.initialize(repeating: 0, count: groups * depth)
      var patch = [Float](repeating: 0, count: Self.groupsAtOnce * depth)
      patch.withUnsafeMutableBufferPointer { patch in
        guard let place = patch.baseAddress else { return }
        for block in Self.blocks(groups) {
          for position in chosen {
            patches.gather(
              ready.base.assumingMemoryBound(to: Float.self), position: position, groups: block, into: place,
              groupStride: depth)
            let to = sum + block.lowerBound * depth
            for k in 0..<block.count * depth { to[k] += place[k] }
          }
        }
      }
      let from = made.base.assumingMemoryBound(to: Float.self)
      for (row, position) in chosen.enumerated() {
        (results.base + places[rank * each + row] * channels).initialize(
          from: from + position * channels, count: channels)
      }
      withExtendedLifetime((ready, made)) {}
    }
    return LayerRows(
      count: total, depth: depth, channels: channels, inputs: inputs, results: results,
      means: sums.means(samples: used, of: groups * depth, rows: total),
      floatMeans: floatSums.means(samples: used, of: groups * depth, rows: total))
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

  /// Memory for `count` floats, all of which are to be written before they are read.
  init(count: Int) {
    self.count = count
    base = .allocate(capacity: max(count, 1))
  }

  deinit { base.deallocate() }

  /// Means over all rows of sums of `count` values that every sample has, [sample][value].
  func means(samples: Int, of count: Int, rows: Int) -> [Double] {
    var result = [Double](repeating: 0, count: count)
    for sample in 0..<samples {
      for index in 0..<count { result[index] += Double(base[sample * count + index]) }
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

/// Learns the rounding of some rows of one group.
private struct RoundingLearner {
  let rows: Range<Int>
  let depth: Int
  let bias: [Float]
  let clamp: (low: Float, high: [Float])?
  let options: RecoveryOptions
  private let scales: [Float]
  private let low: [Float]
  private let high: [Float]
  /// The whole numbers that learning starts from, if any.
  private let start: [Float]?
  /// The lower of an element's two whole numbers, and what is learned.
  private let floors: [Float]
  private var variables: [Float]
  private var sigmoids: [Float]

  private static let stretchLow: Float = -0.1
  private static let stretchHigh: Float = 1.1
  private static let width: Float = stretchHigh - stretchLow
  /// How far h begins from the number that learning starts from.
  private static let startDistance: Float = 0.1
  /// Positions that the start and what was learned are compared on, at most.
  private static let comparedPositions = 8192

  init(
    weights: [Float], start: [Float]?, grids: RowGrids, rows: Range<Int>, depth: Int, bias: [Float],
    clamp: (low: Float, high: [Float])?, options: RecoveryOptions
  ) {
    self.rows = rows
    self.depth = depth
    self.bias = bias
    self.options = options
    self.clamp = clamp.map { ($0.low, Array($0.high[rows])) }
    let elements = rows.lowerBound * depth..<rows.upperBound * depth
    scales = elements.map { grids.scales[$0] }
    low = elements.map { grids.low[Int(grids.grids[$0])] }
    high = elements.map { grids.high[Int(grids.grids[$0])] }
    let begin = start.map { whole in elements.map { whole[$0] } }
    self.start = begin
    var floors = [Float](repeating: 0, count: elements.count)
    variables = elements.enumerated().map { place, index in
      let step = weights[index] / grids.scales[index]
      var floor = step.rounded(.down)
      // h(V) is the fraction: the weight starts where it is.
      var fraction = step - floor
      if let whole = begin?[place] {
        floor = whole > step ? whole - 1 : whole
        fraction = whole > step ? 1 - Self.startDistance : Self.startDistance
      }
      floors[place] = floor
      return -logf(Self.width / (fraction - Self.stretchLow) - 1)
    }
    self.floors = floors
    sigmoids = variables
  }

  /// The whole numbers that the present state says.
  var rounded: [Float] {
    floors.indices.map { min(max(floors[$0] + (variables[$0] >= 0 ? 1 : 0), low[$0]), high[$0]) }
  }

  mutating func run(_ data: LayerRows, group: Int) throws(Diagnostic) {
    let outputsCount = rows.count
    let batch = min(options.batchPositions, data.count)
    var soft = [Float](repeating: 0, count: floors.count)
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
      soft.withUnsafeBufferPointer { weights in
        outputs.withUnsafeMutableBufferPointer { y in
          gradient.withUnsafeMutableBufferPointer { target in
            guard let w = weights.baseAddress, let result = y.baseAddress, let g = target.baseAddress else {
              return
            }
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

  /// The whole numbers of the rows: what was learned where its results are nearer to the float network's than
  /// the start's.
  func best(_ data: LayerRows, group: Int) throws(Diagnostic) -> [Float] {
    guard let start else { return rounded }
    var best = rounded
    let (learned, before) = (try losses(best, data, group: group), try losses(start, data, group: group))
    for row in 0..<rows.count where learned[row] >= before[row] {
      for index in row * depth..<(row + 1) * depth { best[index] = start[index] }
    }
    return best
  }

  /// Sums of squared errors of each row's results with whole numbers of steps as weights.
  private func losses(_ whole: [Float], _ data: LayerRows, group: Int) throws(Diagnostic) -> [Double] {
    let (count, own) = (rows.count, min(data.count, Self.comparedPositions))
    let batch = min(options.batchPositions, own)
    let weights = whole.indices.map { whole[$0] * scales[$0] }
    let y = SharedFloats(count: batch * count)
    var sums = [Double](repeating: 0, count: count)
    for first in stride(from: 0, to: own, by: batch) {
      let size = min(batch, own - first)
      let x = UnsafePointer(data.inputs.base + (group * data.count + first) * depth)
      var failure: Diagnostic?
      weights.withUnsafeBufferPointer { weights in
        guard let w = weights.baseAddress else { return }
        do throws(Diagnostic) {
          try multiply(
            MatrixView(x, stride: depth), MatrixView(w, stride: depth, transposed: true), rows: size, columns: count,
            depth: depth, into: y.base, targetStride: count)
        } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      for row in 0..<size {
        let target = data.results.base + (first + row) * data.channels + rows.lowerBound
        for c in 0..<count {
          var value = y.base[row * count + c] + bias[c]
          if let clamp { value = min(max(value, clamp.low), clamp.high[c]) }
          sums[c] += Double((value - target[c]) * (value - target[c]))
        }
      }
    }
    return sums
  }

  /// Soft-rounded weights, and their slope by the variables.
  private mutating func soften(_ soft: inout [Float], _ slope: inout [Float]) {
    let count = self.floors.count
    variables.withUnsafeBufferPointer { variables in
      sigmoids.withUnsafeMutableBufferPointer { sigmoids in
        for index in 0..<count { sigmoids[index] = VectorMath.sigmoid(variables[index]) }
      }
    }
    let (ownFloors, ownLow, ownHigh, ownScales) = (self.floors, self.low, self.high, self.scales)
    let (floors, low, high, scales) = (ownFloors.span, ownLow.span, ownHigh.span, ownScales.span)
    sigmoids.withUnsafeBufferPointer { sigmoids in
      soft.withUnsafeMutableBufferPointer { soft in
        slope.withUnsafeMutableBufferPointer { slope in
          for index in 0..<count {
            let sigmoid = sigmoids[index]
            let stretched = sigmoid * Self.width + Self.stretchLow
            let inside = VectorMath.clamped(stretched, 0, 1)
            let code = floors[unchecked: index] + inside
            let limited = VectorMath.clamped(code, low[unchecked: index], high[unchecked: index])
            soft[index] = limited * scales[unchecked: index]
            let gain = sigmoid * (1 - sigmoid) * Self.width
            let free = stretched == inside ? gain : 0
            slope[index] = code == limited ? free : 0
          }
        }
      }
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
        let low = clamp.low
        clamp.high.withUnsafeBufferPointer { high in
          for c in 0..<count {
            let value = own[c] + bias[c]
            // Products, not a branch: so the loop becomes vector instructions.
            let above: Float = value > low ? factor : 0
            let below: Float = value < high[c] ? 1 : 0
            own[c] = (value - target[c]) * above * below
          }
        }
      }
    }
  }

  /// One step of Adam (Kingma, Ba 1412.6980).
  private mutating func step(
    _ number: Int, _ gradient: [Float], _ slope: [Float], _ first: inout [Float], _ second: inout [Float],
    beta: Float?
  ) {
    let rate = Float(options.learningRate) / (1 - powf(0.9, Float(number)))
    let correction = 1 / (1 - powf(0.999, Float(number)))
    let (exponent, weight) = ((beta ?? 2) - 1, Float(beta == nil ? 0 : options.regularization) * 2 * (beta ?? 0))
    let count = variables.count
    let (ownScales, ownSigmoids) = (self.scales, self.sigmoids)
    let (gradient, slope, scales, sigmoids) = (gradient.span, slope.span, ownScales.span, ownSigmoids.span)
    variables.withUnsafeMutableBufferPointer { variables in
      first.withUnsafeMutableBufferPointer { first in
        second.withUnsafeMutableBufferPointer { second in
          for index in 0..<count {
            // Derivative of 1 - |2h - 1|^beta by V.
            let centred = 2 * (sigmoids[unchecked: index] * Self.width + Self.stretchLow) - 1
            let size = abs(centred) < 1e-20 ? 1e-20 : abs(centred)
            let power = VectorMath.exp2(VectorMath.log2(size) * exponent)
            let pull = (centred < 0 ? -weight : weight) * power
            let g = (gradient[unchecked: index] * scales[unchecked: index] - pull) * slope[unchecked: index]
            let mean = 0.9 * first[index] + 0.1 * g
            let square = 0.999 * second[index] + 0.001 * g * g
            first[index] = mean
            second[index] = square
            variables[index] -= rate * mean / (VectorMath.squareRoot(square * correction) + 1e-8)
          }
        }
      }
    }
  }
}
