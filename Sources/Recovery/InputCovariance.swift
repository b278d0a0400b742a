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

/// The running sums behind an ``InputCovariance``.
struct CovarianceSums: Sendable {
  let groups: Int
  let depth: Int
  var count = 0
  var sums: [Double]
  var products: [Double]

  init(groups: Int, depth: Int) {
    self.groups = groups
    self.depth = depth
    sums = [Double](repeating: 0, count: groups * depth)
    products = [Double](repeating: 0, count: groups * depth * depth)
  }

  /// Adds the patches of one sample.
  mutating func add(
    _ input: UnsafePointer<Float>, _ patches: Patches, positions: [Int]
  ) throws(Diagnostic) {
    let rows = positions.count
    guard rows > 0 else { return }
    count += rows
    let (depth, groups) = (depth, groups)
    var gathered = [Float](repeating: 0, count: rows * depth)
    var product = [Float](repeating: 0, count: depth * depth)
    var failure: Diagnostic?
    gathered.withUnsafeMutableBufferPointer { gathered in
      product.withUnsafeMutableBufferPointer { product in
        sums.withUnsafeMutableBufferPointer { sums in
          products.withUnsafeMutableBufferPointer { products in
            guard let x = gathered.baseAddress, let p = product.baseAddress, let allSums = sums.baseAddress,
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
                    let value = Double(values[a])
                    for b in 0..<depth { total[a * depth + b] += value * Double(values[b]) }
                  }
                }
                continue
              }
              do throws(Diagnostic) {
                try multiply(
                  MatrixView(x, stride: depth, transposed: true), MatrixView(x, stride: depth),
                  rows: depth, columns: depth, depth: rows, into: p, targetStride: depth)
              } catch {
                failure = error
                return
              }
              for index in 0..<(depth * depth) { total[index] += Double(p[index]) }
            }
          }
        }
      }
    }
    if let failure { throw failure }
  }

  mutating func merge(_ other: CovarianceSums) {
    count += other.count
    for index in sums.indices { sums[index] += other.sums[index] }
    for index in products.indices { products[index] += other.products[index] }
  }

  /// Moments about the mean, or about zero.
  func covariance(centred: Bool) -> InputCovariance {
    let number = Double(max(count, 1))
    let means = sums.map { $0 / number }
    var values = [Float](repeating: 0, count: products.count)
    for group in 0..<groups {
      for a in 0..<depth {
        for b in 0..<depth {
          let index = (group * depth + a) * depth + b
          // The mean of both triangles, so that rounding in products does not make it lopsided.
          let mirrored = (group * depth + b) * depth + a
          let moment = (products[index] + products[mirrored]) / (2 * number)
          let mean = centred ? means[group * depth + a] * means[group * depth + b] : 0
          values[index] = Float(moment - mean)
        }
        let diagonal = (group * depth + a) * depth + a
        values[diagonal] = max(values[diagonal], 0)
      }
    }
    return InputCovariance(groups: groups, depth: depth, values: values, means: means)
  }
}
