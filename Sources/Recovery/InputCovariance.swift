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
  /// Where groups read one channel each, sums of all groups lie side by side: [depth][group] and
  /// [depth][depth][group]. Else [group][depth] and [group][depth][depth].
  private let isChannelwise: Bool
  private let drifts: Bool

  /// Variance over the square of the mean below which an input is taken for constant: sums in single precision
  /// tell no more.
  private static let leastVariance = 1e-5

  private struct Half: Sendable {
    var count = 0
    var sums: [Double]
    var products: [Float]
    /// Of float inputs less quantized ones; empty where no float inputs are added.
    var driftSums: [Double]
    var driftProducts: [Float]

    mutating func merge(_ other: Half) {
      if other.count == 0 { return }
      if count == 0 {
        self = other
        return
      }
      count += other.count
      for index in sums.indices { sums[index] += other.sums[index] }
      for index in products.indices { products[index] += other.products[index] }
      for index in driftSums.indices { driftSums[index] += other.driftSums[index] }
      for index in driftProducts.indices { driftProducts[index] += other.driftProducts[index] }
    }
  }

  /// The sums of one half or of both together, added where they are read: large ones are not copied.
  private struct Total {
    let count: Int
    private let first: Half
    private let second: Half?

    init(_ halves: [Half]) {
      let filled = halves.filter { $0.count > 0 }
      count = filled.reduce(0) { $0 + $1.count }
      first = filled.first ?? halves[0]
      second = filled.count > 1 ? filled[1] : nil
    }

    func sum(_ index: Int) -> Double { second.map { first.sums[index] + $0.sums[index] } ?? first.sums[index] }

    func product(_ index: Int) -> Float {
      second.map { first.products[index] + $0.products[index] } ?? first.products[index]
    }

    func driftSum(_ index: Int) -> Double {
      second.map { first.driftSums[index] + $0.driftSums[index] } ?? first.driftSums[index]
    }

    func driftProduct(_ index: Int) -> Float {
      second.map { first.driftProducts[index] + $0.driftProducts[index] } ?? first.driftProducts[index]
    }
  }

  /// No sums yet; `drifts`: float inputs come with the quantized ones.
  init(_ patches: Patches, drifts: Bool) {
    groups = patches.groups
    depth = patches.depth
    isChannelwise = patches.isChannelwise
    self.drifts = drifts
    // Memory for the numbers of a half is taken when its first sample comes.
    let none = Half(sums: [], products: [], driftSums: [], driftProducts: [])
    halves = [none, none]
  }

  private mutating func begin(_ half: Int) {
    guard halves[half].sums.isEmpty else { return }
    func zeros<Number: Numeric>(_ size: Int) -> [Number] { [Number](repeating: 0, count: size) }
    halves[half].sums = zeros(groups * depth)
    halves[half].products = zeros(groups * depth * depth)
    guard drifts else { return }
    halves[half].driftSums = zeros(groups * depth)
    halves[half].driftProducts = zeros(groups * depth * depth)
  }

  private func place(_ group: Int, _ a: Int) -> Int { isChannelwise ? a * groups + group : group * depth + a }

  private func place(_ group: Int, _ a: Int, _ b: Int) -> Int {
    isChannelwise ? (a * depth + b) * groups + group : (group * depth + a) * depth + b
  }

  /// Adds the patches of the sample of a rank, with those of the float graph at the same positions; `held` floats of
  /// them are gathered at a time.
  mutating func add(
    _ input: UnsafePointer<Float>, float: UnsafePointer<Float>? = nil, _ patches: Patches, positions: [Int],
    rank: Int, held: Int = 8 << 20
  ) throws(Diagnostic) {
    let (rows, depth) = (positions.count, depth)
    guard rows > 0 else { return }
    begin(rank & 1)
    halves[rank & 1].count += rows
    if isChannelwise {
      addChannels(input, float, patches, positions, &halves[rank & 1])
      return
    }
    let slab = max(1, min(rows, held / depth))
    let gathered = SharedFloats(count: slab * depth)
    let drifts = float.map { _ in SharedFloats(count: slab * depth) }
    for (group, start) in (0..<groups).lazy.flatMap({ group in
      stride(from: 0, to: rows, by: slab).lazy.map { (group, $0) }
    }) {
      let chosen = positions[start..<min(start + slab, rows)]
      let rows = chosen.count
      patches.gather(input, positions: chosen, group: group, into: gathered.base)
      Self.addColumns(gathered.base, rows, depth, group, &halves[rank & 1].sums)
      try Self.addProducts(gathered.base, gathered.base, rows, depth, group, &halves[rank & 1].products)
      guard let float, let drifts else { continue }
      patches.gather(float, positions: chosen, group: group, into: drifts.base)
      let (y, d) = (gathered.base, drifts.base)
      for index in 0..<rows * depth { d[index] -= y[index] }
      Self.addColumns(drifts.base, rows, depth, group, &halves[rank & 1].driftSums)
      try Self.addProducts(drifts.base, gathered.base, rows, depth, group, &halves[rank & 1].driftProducts)
    }
  }

  /// As ``add(_:float:_:positions:rank:)`` where groups read one channel each: all channels at once.
  private func addChannels(
    _ input: UnsafePointer<Float>, _ float: UnsafePointer<Float>?, _ patches: Patches, _ positions: [Int],
    _ half: inout Half
  ) {
    let (groups, depth) = (groups, depth)
    let buffers = (SharedFloats(count: groups * depth), SharedFloats(count: groups * depth))
    let (y, d) = (buffers.0.base, buffers.1.base)
    half.sums.withUnsafeMutableBufferPointer { sums in
      half.products.withUnsafeMutableBufferPointer { products in
        half.driftSums.withUnsafeMutableBufferPointer { driftSums in
          half.driftProducts.withUnsafeMutableBufferPointer { driftProducts in
            guard let sum = sums.baseAddress, let product = products.baseAddress else { return }
            for position in positions {
              patches.channels(input, position: position, into: y)
              for index in 0..<groups * depth { sum[index] += Double(y[index]) }
              for a in 0..<depth {
                // The lower triangle: the other is the same.
                for b in 0...a {
                  Self.addProduct(y + a * groups, y + b * groups, groups, to: product + (a * depth + b) * groups)
                }
              }
              guard let float, let driftSum = driftSums.baseAddress, let drift = driftProducts.baseAddress else {
                continue
              }
              patches.channels(float, position: position, into: d)
              for index in 0..<groups * depth { d[index] -= y[index] }
              for index in 0..<groups * depth { driftSum[index] += Double(d[index]) }
              for a in 0..<depth {
                for b in 0..<depth {
                  Self.addProduct(d + a * groups, y + b * groups, groups, to: drift + (a * depth + b) * groups)
                }
              }
            }
          }
        }
      }
    }
  }

  @inline(__always)
  private static func addProduct(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int, to sum: UnsafeMutablePointer<Float>
  ) {
    for index in 0..<count { sum[index] += a[index] * b[index] }
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
    let whole = Total(halves)
    let number = Double(max(whole.count, 1))
    let means = (0..<groups * depth).map { whole.sum(place($0 / depth, $0 % depth)) / number }
    let parts = halves.map { Total([$0]) }
    let isHalved = halves.allSatisfy { $0.count > 0 }
    var values = [Float](repeating: 0, count: groups * depth * depth)
    for group in 0..<groups {
      func moment(_ half: Total, _ a: Int, _ b: Int) -> Double {
        // The mean of both triangles, so that rounding in products does not make it lopsided.
        let products =
          isChannelwise
          ? 2 * Double(half.product(place(group, max(a, b), min(a, b))))
          : Double(half.product(place(group, a, b))) + Double(half.product(place(group, b, a)))
        let count = Double(max(half.count, 1))
        guard centred else { return products / (2 * count) }
        let (ma, mb) = (means[group * depth + a], means[group * depth + b])
        let sums = half.sum(place(group, a)) * mb + half.sum(place(group, b)) * ma
        return products / (2 * count) - sums / count + ma * mb
      }
      var (power, noise) = (0.0, 0.0)
      for a in 0..<depth {
        for b in 0...a {
          let value = moment(whole, a, b)
          values[(group * depth + a) * depth + b] = Float(value)
          guard a != b, isHalved else { continue }
          power += value * value
          let difference = moment(parts[0], a, b) - moment(parts[1], a, b)
          noise += difference * difference / 4
        }
      }
      let kept = isHalved ? (power > 0 ? max(0, 1 - noise / power) : 0) : 0
      for a in 0..<depth {
        for b in 0..<a {
          let value = values[(group * depth + a) * depth + b] * Float(kept)
          values[(group * depth + a) * depth + b] = value
          values[(group * depth + b) * depth + a] = value
        }
        // What is left of a constant is rounding.
        let diagonal = (group * depth + a) * depth + a
        let square = means[group * depth + a] * means[group * depth + a]
        values[diagonal] = Double(values[diagonal]) > Self.leastVariance * square ? max(values[diagonal], 0) : 0
      }
    }
    return InputCovariance(groups: groups, depth: depth, values: values, means: means)
  }

  /// The drift about the means, shrunk towards zero by what the two halves of the samples disagree on; nil
  /// where no float inputs were added.
  func drift(centred: Bool) -> InputDrift? {
    guard halves.allSatisfy({ !$0.driftProducts.isEmpty && $0.count > 0 }) else { return nil }
    let whole = Total(halves)
    let parts = halves.map { Total([$0]) }
    var values = [Float](repeating: 0, count: groups * depth * depth)
    for group in 0..<groups {
      let start = group * depth
      func moment(_ half: Total, _ a: Int, _ b: Int) -> Double {
        let count = Double(half.count)
        let product = Double(half.driftProduct(place(group, a, b))) / count
        guard centred else { return product }
        return product - half.driftSum(place(group, a)) * half.sum(place(group, b)) / (count * count)
      }
      var (power, noise) = (0.0, 0.0)
      for a in 0..<depth {
        for b in 0..<depth {
          let value = moment(whole, a, b)
          values[(start + a) * depth + b] = Float(value)
          let difference = moment(parts[0], a, b) - moment(parts[1], a, b)
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
