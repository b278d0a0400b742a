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

/// The running sums behind an ``InputCovariance``: of samples of even and of odd rank, so that their
/// difference tells how sure the sums are.
struct CovarianceSums: Sendable {
  let groups: Int
  let depth: Int
  private var halves: [Half]

  private struct Half: Sendable {
    var count = 0
    var sums: [Double]
    var products: [Float]

    /// Adds the patches of a sample.
    mutating func add(
      _ input: UnsafePointer<Float>, _ patches: Patches, positions: [Int], groups: Int, depth: Int
    ) throws(Diagnostic) {
      let rows = positions.count
      count += rows
      var gathered = [Float](repeating: 0, count: rows * depth)
      var failure: Diagnostic?
      gathered.withUnsafeMutableBufferPointer { gathered in
        sums.withUnsafeMutableBufferPointer { sums in
          products.withUnsafeMutableBufferPointer { products in
            guard let x = gathered.baseAddress, let allSums = sums.baseAddress,
              let allProducts = products.baseAddress
            else { return }
            for group in 0..<groups {
              patches.gather(input, positions: positions, group: group, into: x)
              let sum = allSums + group * depth
              for row in 0..<rows {
                let values = x + row * depth
                for k in 0..<depth { sum[k] += Double(values[k]) }
              }
              let total = allProducts + group * depth * depth
              if depth < 16 {
                for row in 0..<rows {
                  let values = x + row * depth
                  for a in 0..<depth {
                    let value = values[a]
                    for b in 0..<depth { total[a * depth + b] += value * values[b] }
                  }
                }
                continue
              }
              do throws(Diagnostic) {
                try multiply(
                  MatrixView(x, stride: depth, transposed: true), MatrixView(x, stride: depth),
                  rows: depth, columns: depth, depth: rows, into: total, targetStride: depth, accumulates: true)
              } catch {
                failure = error
                return
              }
            }
          }
        }
      }
      if let failure { throw failure }
    }

    mutating func merge(_ other: Half) {
      count += other.count
      for index in sums.indices { sums[index] += other.sums[index] }
      for index in products.indices { products[index] += other.products[index] }
    }
  }

  init(groups: Int, depth: Int) {
    self.groups = groups
    self.depth = depth
    let half = Half(
      sums: [Double](repeating: 0, count: groups * depth),
      products: [Float](repeating: 0, count: groups * depth * depth))
    halves = [half, half]
  }

  /// Adds the patches of the sample of a rank.
  mutating func add(
    _ input: UnsafePointer<Float>, _ patches: Patches, positions: [Int], rank: Int
  ) throws(Diagnostic) {
    guard !positions.isEmpty else { return }
    try halves[rank & 1].add(input, patches, positions: positions, groups: groups, depth: depth)
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
}
