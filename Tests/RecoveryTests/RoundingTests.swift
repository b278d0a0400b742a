import IR
import Operators
import Testing

@testable import Recovery

/// Rounding by the covariance of inputs, and what it stands on.
@Suite struct RoundingTests {
  /// The operators that have a matrix, with input and weight shapes.
  static let forms: [(name: String, op: any Operator, input: [Int], weight: [Int])] = [
    ("conv", Conv2d(stride: [2, 1], padAmount: [1, 0, 2, 1], dilation: [1, 2]), [2, 7, 8, 6], [3, 2, 6, 5]),
    ("grouped", Conv2d(padAmount: [1, 1, 1, 1], group: 2), [1, 5, 5, 6], [3, 3, 3, 4]),
    ("depthwise", DepthWiseConv2d(stride: [1, 2], padAmount: [0, 1, 1, 1]), [1, 6, 6, 3], [3, 3, 1, 6]),
    ("dense", FullyConnected(), [4, 7], [5, 7]),
    ("product", MatMul(), [2, 3, 7], [7, 5]),
    (
      "transposed",
      TransposeConv2d(stride: [2, 3], padAmount: [1, 0, 2, 1], dilation: [1, 2], outputPadding: [1, 0]),
      [2, 4, 5, 6], [3, 2, 6, 5]
    ),
    ("grouped transposed", TransposeConv2d(stride: [2, 2], group: 2), [1, 3, 4, 6], [2, 2, 3, 4]),
    ("volume", Conv3d(stride: [1, 2, 1], padAmount: [1, 1, 0, 1, 1, 0]), [2, 4, 5, 3, 2], [3, 2, 3, 2, 4]),
    ("transposed volume", TransposeConv3d(stride: [2, 1, 2]), [1, 2, 3, 2, 4], [3, 2, 2, 4, 3]),
    ("transposed product", MatMul(transposeIn1: true), [3, 7], [5, 7]),
  ]

  /// Rows times patches are what the operator computes, in its order.
  @Test(arguments: forms.indices)
  func rowsTimesPatchesAreTheOperator(form: Int) throws {
    let (name, op, inputShape, weightShape) = Self.forms[form]
    var random = Random(seed: 5, form)
    let x = random.normals(inputShape.reduce(1, *))
    let w = random.normals(weightShape.reduce(1, *))
    let types = [TensorType(.float32, inputShape), TensorType(.float32, weightShape)]
    let output = try op.infer(types)[0].shape
    let matrix = try #require(WeightMatrix(op, weight: weightShape, input: inputShape))
    let patches = try #require(Patches(op, weight: weightShape, input: inputShape, output: output))
    #expect(matrix.stored(matrix.arranged(w)) == w)
    let rows = matrix.arranged(w)
    var expected = [Float](repeating: 0, count: output.reduce(1, *))
    let (xb, wb) = (Bytes(x), Bytes(w))
    try expected.withUnsafeMutableBytes { target in
      try op.evaluate(
        [TensorView(type: types[0], bytes: xb.buffer), TensorView(type: types[1], bytes: wb.buffer)],
        [MutableTensorView(type: TensorType(.float32, output), bytes: target)])
    }
    #expect(patches.positions * matrix.rowCount == expected.count, "\(name)")
    var gathered = [Float](repeating: 0, count: patches.positions * matrix.depth)
    for group in 0..<matrix.groups {
      patches.gather(x, positions: Array(0..<patches.positions), group: group, into: &gathered)
      for position in 0..<patches.positions {
        for row in 0..<matrix.rows {
          let number = group * matrix.rows + row
          let sum = (0..<matrix.depth).reduce(Float(0)) {
            $0 + rows[number * matrix.depth + $1] * gathered[position * matrix.depth + $1]
          }
          #expect(abs(sum - expected[position * matrix.rowCount + number]) < 1e-4, "\(name)")
        }
      }
    }
  }

  private func positive(_ size: Int, _ random: inout Random) -> [Float] {
    let a = random.normals(size * (size + 3))
    var result = [Float](repeating: 0, count: size * size)
    for i in 0..<size {
      for j in 0..<size {
        result[i * size + j] = (0..<(size + 3)).reduce(0) { $0 + a[i * (size + 3) + $1] * a[j * (size + 3) + $1] }
      }
    }
    return result
  }

  /// Sizes on both sides of a block's.
  @Test(arguments: [1, 2, 9, 64, 65, 150], [1, 2])
  func theFactorMultipliesBack(size: Int, jobs: Int) throws {
    var random = Random(seed: 3, size)
    let a = positive(size, &random)
    let l = cholesky(a, size, least: 1e-9, jobs: jobs)
    let largest = a.map(abs).max() ?? 1
    for i in 0..<size {
      for j in 0...i {
        let (a0, b0) = (i * (i + 1) / 2, j * (j + 1) / 2)
        let sum = (0...j).reduce(0.0) { $0 + Double(l[a0 + $1]) * Double(l[b0 + $1]) }
        #expect(abs(sum - Double(a[i * size + j])) < 1e-5 * Double(largest))
      }
    }
  }

  private func cost(_ w: [Float], _ z: [Float], _ s: Float, _ h: [Float]) -> Double {
    let e = zip(w, z).map { Double($0) - Double($1 * s) }
    var sum = 0.0
    for i in e.indices { for j in e.indices { sum += e[i] * Double(h[i * e.count + j]) * e[j] } }
    return sum
  }

  private func rounded(
    _ w: [Float], depth: Int, _ h: [Float], _ encoding: Encoding, jobs: Int = 1
  ) throws -> (whole: [Float], nearest: [Float]) {
    let matrix = try #require(
      WeightMatrix(FullyConnected(), weight: [w.count / depth, depth], input: [1, depth]))
    let grids = RowGrids(encoding, matrix)
    let covariance = InputCovariance(
      groups: 1, depth: depth, values: h, means: [Double](repeating: 0, count: depth))
    let whole = IntegerRounding(matrix: matrix, covariance: covariance, damping: 1e-6, jobs: jobs)
      .round(w, grids, sweeps: 30)
    return (whole, w.indices.map { grids.nearest(w[$0], $0) })
  }

  /// Inputs of a layer in the float graph and in the quantized one, `samples` by `rows` by `depth`: channels
  /// mixed a little, scaled, and with noise, as what layers before made of them.
  private func inputs(
    samples: Int, rows: Int, depth: Int, _ random: inout Random
  ) -> (float: [[Float]], quantized: [[Float]]) {
    let mixing = random.normals(depth * depth).map { $0 * 0.05 }
    var (float, quantized): ([[Float]], [[Float]]) = ([], [])
    for _ in 0..<samples {
      let x = random.normals(rows * depth)
      let noise = random.normals(rows * depth)
      float.append(x)
      quantized.append(
        x.indices.map { index in
          let row = index / depth * depth
          let mixed = (0..<depth).reduce(Float(0)) { $0 + x[row + $1] * mixing[$1 * depth + index % depth] }
          return 0.8 * x[index] + mixed + 0.1 * noise[index] + 0.3
        })
    }
    return (float, quantized)
  }

  private func moments(
    _ float: [[Float]], _ quantized: [[Float]], depth: Int
  ) throws -> (covariance: InputCovariance, drift: InputDrift) {
    let rows = float[0].count / depth
    let patches = try #require(
      Patches(FullyConnected(), weight: [1, depth], input: [rows, depth], output: [rows, 1]))
    var sums = CovarianceSums(patches, drifts: true)
    for (rank, pair) in zip(quantized, float).enumerated() {
      try sums.add(pair.0, float: pair.1, patches, positions: Array(0..<rows), rank: rank)
    }
    return (sums.covariance(centred: true), try #require(sums.drift(centred: true)))
  }

  /// Weights that follow what quantization changed in the inputs meet the float outputs better; on both
  /// sides of the length from which a library multiplies.
  @Test(arguments: [3, 12, 40])
  func weightsFollowTheirInputs(depth: Int) throws {
    var random = Random(seed: 17, depth)
    let (float, quantized) = inputs(samples: 20, rows: 50, depth: depth, &random)
    let (covariance, drift) = try moments(float, quantized, depth: depth)
    let rows = 6
    let w = random.normals(rows * depth)
    let matrix = try #require(WeightMatrix(FullyConnected(), weight: [rows, depth], input: [1, depth]))
    let grids = RowGrids(
      Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 0.05, offset: -128)]), matrix)
    /// Mean square of what the outputs differ by, about its mean.
    func error(_ drift: InputDrift?, _ follow: Double) -> Double {
      let rounding = IntegerRounding(matrix: matrix, covariance: covariance, damping: 1e-4, jobs: 2)
      let wanted = drift.map { rounding.followed(w, $0, share: follow) } ?? w
      let whole = rounding.round(wanted, grids, sweeps: 30)
      var total = 0.0
      for row in 0..<rows {
        var (sum, squares, count) = (0.0, 0.0, 0.0)
        for (x, y) in zip(float, quantized) {
          for start in stride(from: 0, to: x.count, by: depth) {
            let difference = (0..<depth).reduce(0.0) {
              let index = row * depth + $1
              return $0 + Double(w[index] * x[start + $1]) - Double(whole[index] * 0.05 * y[start + $1])
            }
            sum += difference
            squares += difference * difference
            count += 1
          }
        }
        total += squares / count - (sum / count) * (sum / count)
      }
      return total
    }
    let (none, half, whole) = (error(drift, 0), error(drift, 0.5), error(drift, 1))
    #expect(none == error(nil, 1))
    #expect(half < 0.6 * none)
    #expect(whole < half)
  }

  /// Where no input varies nothing is known of them: weights stay and are rounded to nearest.
  @Test(arguments: [Float(0), 1e-19, 5, 3e4], [9, 24])
  func constantInputsTellNothing(value: Float, depth: Int) throws {
    var random = Random(seed: 31, depth)
    let quantized = (0..<8).map { _ in [Float](repeating: value, count: 300 * depth) }
    let float = quantized.map { row in
      zip(row, random.normals(row.count)).map { $0 * (1 + 0.001 * $1) + 1e-20 * $1 }
    }
    let (covariance, drift) = try moments(float, quantized, depth: depth)
    let w = random.normals(2 * depth)
    let matrix = try #require(WeightMatrix(FullyConnected(), weight: [2, depth], input: [1, depth]))
    let grids = RowGrids(
      Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 0.05, offset: -128)]), matrix)
    let rounding = IntegerRounding(matrix: matrix, covariance: covariance, damping: 0.01, jobs: 1)
    #expect(rounding.followed(w, drift, share: 1) == w)
    #expect(rounding.round(w, grids, sweeps: 3) == w.indices.map { grids.nearest(w[$0], $0) })
  }

  /// Moments of every form are those of its gathered patches, whatever way they are added up.
  @Test(arguments: forms.indices)
  func momentsAreThoseOfPatches(form: Int) throws {
    let (name, op, inputShape, weightShape) = Self.forms[form]
    var random = Random(seed: 29, form)
    let types = [TensorType(.float32, inputShape), TensorType(.float32, weightShape)]
    let output = try op.infer(types)[0].shape
    let patches = try #require(Patches(op, weight: weightShape, input: inputShape, output: output))
    let depth = patches.depth
    // The same sample in both halves, so that nothing is doubted.
    let quantized = random.normals(inputShape.reduce(1, *))
    let float = zip(quantized, random.normals(quantized.count)).map { 0.7 * $0 + 0.3 * $1 }
    let positions = Array(stride(from: 0, to: patches.positions, by: 2))
    var sums = CovarianceSums(patches, drifts: true)
    for rank in 0..<2 { try sums.add(quantized, float: float, patches, positions: positions, rank: rank) }
    let (covariance, drift) = (sums.covariance(centred: false), try #require(sums.drift(centred: false)))
    for group in 0..<patches.groups {
      var y = [Float](repeating: 0, count: positions.count * depth)
      var x = y
      patches.gather(quantized, positions: positions, group: group, into: &y)
      patches.gather(float, positions: positions, group: group, into: &x)
      for a in 0..<depth {
        for b in 0..<depth {
          var (product, drifted): (Float, Float) = (0, 0)
          for start in stride(from: 0, to: y.count, by: depth) {
            product += y[start + a] * y[start + b]
            drifted += (x[start + a] - y[start + a]) * y[start + b]
          }
          let (index, count) = ((group * depth + a) * depth + b, Float(positions.count))
          #expect(abs(covariance.values[index] - product / count) < 1e-4, "\(name)")
          #expect(abs(drift.values[index] - drifted / count) < 1e-4, "\(name)")
        }
      }
    }
  }

  /// What one half of the samples says and the other does not is not believed; no drift gives none.
  @Test func aDriftThatSamplesDoNotShareIsNotFollowed() throws {
    var random = Random(seed: 23)
    let depth = 8
    let float = (0..<4).map { _ in random.normals(3 * depth) }
    let noisy = float.map { x in zip(x, random.normals(x.count)).map { $0 + 0.2 * $1 } }
    let raw = (0..<4).map { sample in zip(float[sample], noisy[sample]).map { $0 - $1 } }
    let power = raw.joined().reduce(0) { $0 + abs($1) } / Float(4 * 3 * depth)
    let drift = try moments(float, noisy, depth: depth).drift
    #expect((drift.values.map(abs).max() ?? 1) < 0.5 * power)
    #expect(try moments(float, float, depth: depth).drift.values.allSatisfy { $0 == 0 })
  }

  /// Against all combinations of whole numbers about the weights: never worse than the nearest ones, no
  /// single step is better, and close to the best.
  @Test(arguments: 0..<20)
  func roundingIsNearTheBest(seed: Int) throws {
    var random = Random(seed: 11, seed)
    let depth = 5
    let h = positive(depth, &random)
    let w = random.normals(depth)
    let scale: Float = 0.4
    let encoding = Encoding(bitwidth: 4, symmetric: true, channels: [ScaleOffset(scale: scale, offset: -8)])
    let (whole, nearest) = try rounded(w, depth: depth, h, encoding)
    let found = cost(w, whole, scale, h)
    #expect(found <= cost(w, nearest, scale, h) * 1.0001)
    for index in 0..<depth {
      for step in [-1, 1] as [Float] {
        var other = whole
        other[index] += step
        guard (-8...7).contains(other[index]) else { continue }
        #expect(cost(w, other, scale, h) >= found * 0.9999)
      }
    }
    var best = Double.infinity
    for code in 0..<1024 {
      var z = nearest
      var rest = code
      for index in 0..<depth {
        z[index] = min(max(z[index] + Float(rest % 4) - 2, -8), 7)
        rest /= 4
      }
      best = min(best, cost(w, z, scale, h))
    }
    #expect(found <= best * 3)
  }

  @Test func uncorrelatedInputsGiveTheNearestNumbers() throws {
    var random = Random(seed: 1)
    let depth = 20
    var h = [Float](repeating: 0, count: depth * depth)
    for index in 0..<depth { h[index * depth + index] = Float(1 + index) }
    let w = random.normals(3 * depth)
    let encoding = Encoding(
      bitwidth: 4, symmetric: true, axis: 0,
      channels: [0.1, 0.3, 0.5].map { ScaleOffset(scale: $0, offset: -8) })
    let (whole, nearest) = try rounded(w, depth: depth, h, encoding)
    #expect(whole == nearest)
  }

  @Test func threadsChangeNothing() throws {
    var random = Random(seed: 8)
    let (rows, depth) = (50, 70)
    let h = positive(depth, &random)
    let w = random.normals(rows * depth)
    let encoding = Encoding(bitwidth: 4, symmetric: true, channels: [ScaleOffset(scale: 0.3, offset: -8)])
    #expect(
      try rounded(w, depth: depth, h, encoding, jobs: 1).whole
        == rounded(w, depth: depth, h, encoding, jobs: 3).whole)
  }

  /// The scales found cost no more than the first candidate's, in every form of grid.
  @Test(arguments: [nil, 0, 1] as [Int?])
  func searchedScalesCostLess(axis: Int?) throws {
    var random = Random(seed: 21)
    let (rows, depth) = (4, 12)
    let h = positive(depth, &random)
    var w = random.normals(rows * depth)
    w[5] = 9
    let matrix = try #require(WeightMatrix(FullyConnected(), weight: [rows, depth], input: [1, depth]))
    let start = ScaleOffset(scale: 9 / 7, offset: -8)
    var encoding = Encoding(bitwidth: 4, symmetric: true, channels: [start])
    if let axis {
      encoding.axis = 0
      encoding.channels = [ScaleOffset](repeating: start, count: rows)
      if axis == 1 {
        encoding.blocks = EncodingBlocks(axis: 1, size: 4)
        encoding.channels = [ScaleOffset](repeating: start, count: rows * 3)
      }
    }
    let covariance = InputCovariance(
      groups: 1, depth: depth, values: h, means: [Double](repeating: 0, count: depth))
    let found = ScaleSearch(matrix: matrix, covariance: covariance, candidates: 40, jobs: 2).search(w, encoding)
    func total(_ encoding: Encoding) -> Double {
      let grids = RowGrids(encoding, matrix)
      return (0..<rows).reduce(0) { sum, row in
        let e = (0..<depth).map { k -> Float in
          let index = row * depth + k
          return w[index] - grids.nearest(w[index], index) * grids.scales[index]
        }
        return sum + cost(e, [Float](repeating: 0, count: depth), 1, h)
      }
    }
    #expect(total(found) < total(encoding))
    #expect(found.channels.count == encoding.channels.count)
    #expect(found.channels.allSatisfy { $0.offset == -8 })
  }
}
