import IR
import Runtime

/// Second moments of what the rows of a layer are multiplied by, of each group about its mean: for a row
/// of errors e the mean squared error of the output about its mean is e^T H e.
struct InputCovariance: Sendable {
  let groups: Int
  let depth: Int
  /// [group][depth][depth], symmetric.
  var values: [Float]
  /// [group][depth].
  var means: [Double]

  /// H of one group as a dense matrix.
  func matrix(_ group: Int) -> ArraySlice<Float> {
    values[(group * depth * depth)..<((group + 1) * depth * depth)]
  }
}

/// What the float inputs x differ by from the quantized ones y, as far as y tells: E[(x - y) y^T] of each
/// group, about the means.
struct InputDrift: Sendable {
  let depth: Int
  /// [group][depth][depth]: row of x - y, column of y.
  let values: [Float]

  func matrix(_ group: Int) -> ArraySlice<Float> {
    values[(group * depth * depth)..<((group + 1) * depth * depth)]
  }
}

/// The running sums behind an ``InputCovariance`` and an ``InputDrift``: of samples of even and of odd rank,
/// so that their difference tells how sure the sums are.
struct CovarianceSums: Sendable {
  let groups: Int
  let depth: Int
  private var halves: [Half]

  private struct Half: Sendable {
    var count = 0
    var sums: [Double]
    var products: [Float]
    /// Of float inputs less quantized ones; empty where no float inputs are added.
    var driftSums: [Double]
    var driftProducts: [Float]

    mutating func merge(_ other: Half) {
      count += other.count
      for index in sums.indices { sums[index] += other.sums[index] }
      for index in products.indices { products[index] += other.products[index] }
      for index in driftSums.indices { driftSums[index] += other.driftSums[index] }
      for index in driftProducts.indices { driftProducts[index] += other.driftProducts[index] }
    }
  }

  /// No sums yet; `drifts`: float inputs come with the quantized ones.
  init(groups: Int, depth: Int, drifts: Bool) {
    self.groups = groups
    self.depth = depth
    let sums = [Double](repeating: 0, count: groups * depth)
    let products = [Float](repeating: 0, count: groups * depth * depth)
    let half = Half(
      sums: sums, products: products, driftSums: drifts ? sums : [], driftProducts: drifts ? products : [])
    halves = [half, half]
  }

  /// Adds the patches of the sample of a rank, with those of the float graph at the same positions.
  mutating func add(
    _ input: UnsafePointer<Float>, float: UnsafePointer<Float>? = nil, _ patches: Patches, positions: [Int],
    rank: Int
  ) throws(Diagnostic) {
    let (rows, depth) = (positions.count, depth)
    guard rows > 0 else { return }
    let gathered = SharedFloats(count: rows * depth)
    let drifts = float.map { _ in SharedFloats(count: rows * depth) }
    halves[rank & 1].count += rows
    for group in 0..<groups {
      patches.gather(input, positions: positions, group: group, into: gathered.base)
      Self.addColumns(gathered.base, rows, depth, group, &halves[rank & 1].sums)
      try Self.addProducts(gathered.base, gathered.base, rows, depth, group, &halves[rank & 1].products)
      guard let float, let drifts else { continue }
      patches.gather(float, positions: positions, group: group, into: drifts.base)
      let (y, d) = (gathered.base, drifts.base)
      for index in 0..<rows * depth { d[index] -= y[index] }
      Self.addColumns(drifts.base, rows, depth, group, &halves[rank & 1].driftSums)
      try Self.addProducts(drifts.base, gathered.base, rows, depth, group, &halves[rank & 1].driftProducts)
    }
  }

  private static func addColumns(
    _ x: UnsafePointer<Float>, _ rows: Int, _ depth: Int, _ group: Int, _ sums: inout [Double]
  ) {
    sums.withUnsafeMutableBufferPointer { sums in
      guard let to = sums.baseAddress.map({ $0 + group * depth }) else { return }
      for row in 0..<rows {
        let from = x + row * depth
        for k in 0..<depth { to[k] += Double(from[k]) }
      }
    }
  }

  /// Adds x^T y.
  private static func addProducts(
    _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ rows: Int, _ depth: Int, _ group: Int,
    _ products: inout [Float]
  ) throws(Diagnostic) {
    var failure: Diagnostic?
    products.withUnsafeMutableBufferPointer { products in
      guard let total = products.baseAddress.map({ $0 + group * depth * depth }) else { return }
      if depth < 16 {
        for row in 0..<rows {
          let (a, b) = (x + row * depth, y + row * depth)
          for i in 0..<depth {
            let value = a[i]
            for j in 0..<depth { total[i * depth + j] += value * b[j] }
          }
        }
        return
      }
      do throws(Diagnostic) {
        try multiply(
          MatrixView(x, stride: depth, transposed: true), MatrixView(y, stride: depth),
          rows: depth, columns: depth, depth: rows, into: total, targetStride: depth, accumulates: true)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  mutating func merge(_ other: CovarianceSums) {
    for half in halves.indices { halves[half].merge(other.halves[half]) }
  }

  /// Moments about the mean, or about zero, with the products of different inputs shrunk towards zero by
  /// what the two halves of the samples disagree on (Ledoit, Wolf 2004, with samples in the place of
  /// independent observations): few samples must not tell of relations that are not there.
  func covariance(centred: Bool) -> InputCovariance {
    var whole = halves[0]
    whole.merge(halves[1])
    let number = Double(max(whole.count, 1))
    let means = whole.sums.map { $0 / number }
    var values = [Float](repeating: 0, count: groups * depth * depth)
    for group in 0..<groups {
      func moment(_ half: Half, _ a: Int, _ b: Int) -> Double {
        // The mean of both triangles, so that rounding in products does not make it lopsided.
        let start = group * depth
        let products = Double(half.products[(start + a) * depth + b]) + Double(half.products[(start + b) * depth + a])
        let count = Double(max(half.count, 1))
        guard centred else { return products / (2 * count) }
        let (ma, mb) = (means[start + a], means[start + b])
        return products / (2 * count) - (half.sums[start + a] * mb + half.sums[start + b] * ma) / count + ma * mb
      }
      var (power, noise) = (0.0, 0.0)
      for a in 0..<depth {
        for b in 0...a {
          let value = moment(whole, a, b)
          values[(group * depth + a) * depth + b] = Float(value)
          guard a != b else { continue }
          power += value * value
          let difference = moment(halves[0], a, b) - moment(halves[1], a, b)
          noise += difference * difference / 4
        }
      }
      let isHalved = halves.allSatisfy { $0.count > 0 }
      let kept = isHalved ? (power > 0 ? max(0, 1 - noise / power) : 0) : 0
      for a in 0..<depth {
        for b in 0..<a {
          let value = values[(group * depth + a) * depth + b] * Float(kept)
          values[(group * depth + a) * depth + b] = value
          values[(group * depth + b) * depth + a] = value
        }
        let diagonal = (group * depth + a) * depth + a
        values[diagonal] = max(values[diagonal], 0)
      }
    }
    return InputCovariance(groups: groups, depth: depth, values: values, means: means)
  }

  /// The drift about the means, shrunk towards zero by what the two halves of the samples disagree on; nil
  /// where no float inputs were added.
  func drift(centred: Bool) -> InputDrift? {
    guard halves.allSatisfy({ !$0.driftProducts.isEmpty && $0.count > 0 }) else { return nil }
    var whole = halves[0]
    whole.merge(halves[1])
    var values = [Float](repeating: 0, count: groups * depth * depth)
    for group in 0..<groups {
      let start = group * depth
      func moment(_ half: Half, _ a: Int, _ b: Int) -> Double {
        let count = Double(half.count)
        let product = Double(half.driftProducts[(start + a) * depth + b]) / count
        return centred ? product - half.driftSums[start + a] * half.sums[start + b] / (count * count) : product
      }
      var (power, noise) = (0.0, 0.0)
      for a in 0..<depth {
        for b in 0..<depth {
          let value = moment(whole, a, b)
          values[(start + a) * depth + b] = Float(value)
          let difference = moment(halves[0], a, b) - moment(halves[1], a, b)
          power += value * value
          noise += difference * difference / 4
        }
      }
      let kept = power > 0 ? Float(max(0, 1 - noise / power)) : 0
      for index in start * depth..<(start + depth) * depth { values[index] *= kept }
    }
    return InputDrift(depth: depth, values: values)
  }
}
