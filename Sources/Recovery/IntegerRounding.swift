import Calibration
import IR

/// Rounds the rows of a layer to whole numbers of steps so that the error of its output is small, not
/// that of each weight.
///
/// For a row w with steps s the whole numbers z minimise (w - s z)^T H (w - s z), H the covariance of the
/// inputs. First the nearest-plane pass of GPTQ (Frantar et al. 2210.17323; Babai 1986 in other words):
/// element by element, the error of each passed on to the elements still open through a Cholesky factor
/// of H, elements of large variance first. Then coordinate descent over the whole numbers to a
/// standstill. Rows do not depend on one another, so the result is the same for any number of threads.
struct IntegerRounding {
  private let matrix: WeightMatrix
  /// Where factors are made when they are needed.
  private let covariance: InputCovariance?
  private let damping: Double
  private let jobs: Int
  /// One a group, where pieces of a group share it and all of them take no more than 256 MB.
  private let shared: [Factor]
  /// Rows handled by one piece of work.
  private let piece: Int

  init(matrix: WeightMatrix, covariance: InputCovariance, damping: Double, jobs: Int) {
    (self.matrix, self.damping, self.jobs) = (matrix, damping, jobs)
    let (depth, groups) = (matrix.depth, matrix.groups)
    piece = max(1, min(16, matrix.rows))
    let isShared = groups == 1 || (matrix.rows > piece && groups * depth * depth * 6 <= 256 << 20)
    // Large ones are made by all threads together.
    let (outside, inside) = depth > 512 ? (1, jobs) : (jobs, 1)
    shared =
      isShared
      ? parallelMap(groups, jobs: outside) {
        Factor(covariance.matrix($0), depth: depth, damping: damping, jobs: inside)
      } : []
    self.covariance = isShared ? nil : covariance
  }

  /// The weights, [group][row][depth], moved towards those that meet the float outputs best on quantized
  /// inputs (asymmetric calibration; Li et al. 2504.02692 round on that, too): by `share` (0 to 1) of what
  /// least squares say. These draw weights towards zero where inputs are noisy, layer after layer, so
  /// that a part of the way is better than the whole.
  func followed(_ weights: [Float], _ drift: InputDrift, share: Double) -> [Float] {
    inPieces { factor, group, rows in factor.followed(weights, drift.matrix(group), rows: rows, share: Float(share)) }
  }

  /// The whole numbers, [group][row][depth], for weights in the same order; `sweeps` of the descent at
  /// most.
  func round(_ weights: [Float], _ grids: RowGrids, sweeps: Int) -> [Float] {
    inPieces { factor, _, rows in factor.round(weights, grids, rows: rows, sweeps: sweeps) }
  }

  private func inPieces(_ body: @Sendable (Factor, Int, Range<Int>) -> [Float]) -> [Float] {
    let rows = matrix.rows
    let pieces = (rows + piece - 1) / piece
    @Sendable func run(_ factor: Factor, _ group: Int, _ part: Int) -> [Float] {
      let first = group * rows + part * piece
      return body(factor, group, first..<min(first + piece, (group + 1) * rows))
    }
    guard let covariance else {
      return parallelMap(matrix.groups * pieces, jobs: jobs) { index -> [Float] in
        run(shared[index / pieces], index / pieces, index % pieces)
      }.flatMap { $0 }
    }
    @Sendable func factor(_ group: Int, _ jobs: Int) -> Factor {
      Factor(covariance.matrix(group), depth: matrix.depth, damping: damping, jobs: jobs)
    }
    guard pieces > 1 else {
      return parallelMap(matrix.groups, jobs: jobs) { run(factor($0, 1), $0, 0) }.flatMap { $0 }
    }
    return (0..<matrix.groups).flatMap { group -> [Float] in
      let own = factor(group, jobs)
      return parallelMap(pieces, jobs: jobs) { run(own, group, $0) }.flatMap { $0 }
    }
  }

  /// What is needed of H for rounding the rows of a group.
  private final class Factor: Sendable {
    let depth: Int
    /// H with damping, in the order of falling diagonal reversed: the last element is rounded first.
    let damped: [Float]
    /// Rows of the lower factor L of H = L L^T, row i up to the diagonal, from i (i + 1) / 2 on; in that order.
    let lower: [Float]
    /// Place in that order -> element.
    let order: [Int]
    /// Whether no input varies, so that H tells nothing: then it stands for the unit matrix.
    let isEmpty: Bool

    init(_ matrix: ArraySlice<Float>, depth: Int, damping: Double, jobs: Int) {
      self.depth = depth
      let start = matrix.startIndex
      let diagonal = (0..<depth).map { Double(matrix[start + $0 * depth + $0]) }
      let mean = diagonal.reduce(0, +) / Double(max(depth, 1))
      isEmpty = mean < Double(Float.leastNormalMagnitude) / damping
      let added = isEmpty ? 1 : mean * damping
      order = (0..<depth).sorted { diagonal[$0] == diagonal[$1] ? $0 > $1 : diagonal[$0] < diagonal[$1] }
      var permuted = [Float](repeating: 0, count: depth * depth)
      for a in 0..<depth {
        let row = start + order[a] * depth
        if !isEmpty { for b in 0..<depth { permuted[a * depth + b] = matrix[row + order[b]] } }
        permuted[a * depth + a] += Float(added)
      }
      damped = permuted
      lower = cholesky(permuted, depth, least: added * 1e-3, jobs: jobs)
    }

    func round(_ weights: [Float], _ grids: RowGrids, rows: Range<Int>, sweeps: Int) -> [Float] {
      let number = rows.count
      let depth = depth
      var z = [Float](repeating: 0, count: number * depth)
      // Permuted weights and steps of the rows.
      var w = z
      var s = z
      for (place, row) in rows.enumerated() {
        for a in 0..<depth {
          w[place * depth + a] = weights[row * depth + order[a]]
          s[place * depth + a] = grids.scales[row * depth + order[a]]
        }
      }
      func limits(_ place: Int, _ a: Int) -> (Float, Float) {
        let grid = Int(grids.grids[(rows.lowerBound + place) * depth + order[a]])
        return (grids.low[grid], grids.high[grid])
      }
      // Babai: from the last element to the first, errors of later ones weigh on earlier ones.
      var carried = [Float](repeating: 0, count: number * depth)
      lower.withUnsafeBufferPointer { lower in
        carried.withUnsafeMutableBufferPointer { carried in
          guard let lowerBase = lower.baseAddress, let carriedBase = carried.baseAddress else { return }
          for a in stride(from: depth - 1, through: 0, by: -1) {
            let l = lowerBase + a * (a + 1) / 2
            let diagonal = l[a]
            for place in 0..<number {
              let index = place * depth + a
              let target = w[index] + carried[index] / diagonal
              let (low, high) = limits(place, a)
              let whole = min(max((target / s[index]).rounded(.toNearestOrEven), low), high)
              z[index] = whole
              let error = w[index] - whole * s[index]
              // (L^T e)_j = L_jj e_j + sum over i > j of L_ij e_i: row a of L has the weights of e_a.
              let sum = carriedBase + place * depth
              for j in 0..<a { sum[j] += error * l[j] }
            }
          }
        }
      }
      descend(&z, w, s, limits, number, sweeps)
      var result = z
      for place in 0..<number {
        for a in 0..<depth { result[place * depth + order[a]] = z[place * depth + a] }
      }
      return result
    }

    /// Some rows of weights, to which is added what makes good the drift D of the inputs: `share` times
    /// w D H^-1.
    func followed(
      _ weights: [Float], _ drift: ArraySlice<Float>, rows: Range<Int>, share: Float
    ) -> [Float] {
      if isEmpty { return Array(weights[rows.lowerBound * depth..<rows.upperBound * depth]) }
      let (depth, number, start) = (depth, rows.count, drift.startIndex)
      var moves = [Float](repeating: 0, count: number * depth)
      var column = [Float](repeating: 0, count: depth)
      moves.withUnsafeMutableBufferPointer { moves in
        column.withUnsafeMutableBufferPointer { column in
          lower.withUnsafeBufferPointer { lower in
            guard let y = moves.baseAddress, let d = column.baseAddress, let l = lower.baseAddress else { return }
            for a in 0..<depth {
              let row = start + order[a] * depth
              for b in 0..<depth { d[b] = drift[row + order[b]] }
              for place in 0..<number {
                let (to, weight) = (y + place * depth, weights[(rows.lowerBound + place) * depth + order[a]])
                for b in 0..<depth { to[b] += weight * d[b] }
              }
            }
            // L z = y, then L^T x = z.
            for a in 0..<depth {
              let row = l + a * (a + 1) / 2
              for place in 0..<number {
                let z = y + place * depth
                z[a] = (z[a] - VectorMath.dot(row, z, a, by: SIMD16<Float>.self)) / row[a]
              }
            }
            for a in stride(from: depth - 1, through: 0, by: -1) {
              let row = l + a * (a + 1) / 2
              for place in 0..<number {
                let x = y + place * depth
                let value = x[a] / row[a]
                x[a] = value
                for b in 0..<a { x[b] -= row[b] * value }
              }
            }
          }
        }
      }
      var result = Array(weights[rows.lowerBound * depth..<rows.upperBound * depth])
      for place in 0..<number {
        for a in 0..<depth { result[place * depth + order[a]] += share * moves[place * depth + a] }
      }
      return result
    }

    /// Moves single elements by whole steps as long as that lowers the error.
    private func descend(
      _ z: inout [Float], _ w: [Float], _ s: [Float], _ limits: (Int, Int) -> (Float, Float),
      _ number: Int, _ sweeps: Int
    ) {
      var error = [Float](repeating: 0, count: depth)
      var gradient = error
      for place in 0..<number {
        for a in 0..<depth {
          let index = place * depth + a
          error[a] = w[index] - z[index] * s[index]
        }
        damped.withUnsafeBufferPointer { h in
          gradient.withUnsafeMutableBufferPointer { g in
            guard let base = h.baseAddress else { return }
            for a in 0..<depth { g[a] = 0 }
            for b in 0..<depth where error[b] != 0 {
              let (row, e) = (base + b * depth, error[b])
              for a in 0..<depth { g[a] += e * row[a] }
            }
            for _ in 0..<sweeps {
              var moved = false
              for a in 0..<depth {
                let index = place * depth + a
                let row = base + a * depth
                let wanted = (g[a] / (s[index] * row[a])).rounded(.toNearestOrEven)
                guard wanted != 0, wanted.isFinite else { continue }
                let (low, high) = limits(place, a)
                let whole = min(max(z[index] + wanted, low), high)
                let step = whole - z[index]
                guard step != 0 else { continue }
                // Float noise must not let it swing between two equally good numbers.
                let change = step * s[index]
                guard change * (change * row[a] - 2 * g[a]) < -1e-6 * abs(change * g[a]) else { continue }
                z[index] = whole
                for b in 0..<depth { g[b] -= change * row[b] }
                moved = true
              }
              if !moved { break }
            }
          }
        }
      }
    }
  }
}

/// The lower factor L of a symmetric positive matrix A = L L^T; row i has i + 1 numbers and begins at
/// i (i + 1) / 2. A diagonal below `least` counts as that. Computed in Double, row by row of blocks on up to
/// `jobs` threads; the same for any.
func cholesky(_ matrix: [Float], _ size: Int, least: Double, jobs: Int) -> [Float] {
  let block = 64
  let count = size * (size + 1) / 2
  // Threads write different rows, and read rows that are done.
  nonisolated(unsafe) let lower = UnsafeMutablePointer<Double>.allocate(capacity: max(count, 1))
  defer { lower.deallocate() }
  for start in stride(from: 0, to: size, by: block) {
    let end = min(start + block, size)
    // The diagonal block, then the rows below it, which do not depend on one another.
    for row in start..<end { reduceRow(row, start..<(row + 1), matrix, size, least, lower) }
    let below = size - end
    guard below > 0 else { break }
    let pieces = (below + 31) / 32
    _ = parallelMap(pieces, jobs: size > 512 ? jobs : 1) { piece in
      for row in (end + piece * 32)..<min(end + piece * 32 + 32, size) {
        reduceRow(row, start..<end, matrix, size, least, lower)
      }
    }
  }
  return [Float](unsafeUninitializedCapacity: count) { target, filled in
    for index in 0..<count { target[index] = Float(lower[index]) }
    filled = count
  }
}

/// Some elements of a row, up to the diagonal; rows of smaller number are done up to these columns.
private func reduceRow(
  _ row: Int, _ columns: Range<Int>, _ matrix: [Float], _ size: Int, _ least: Double,
  _ lower: UnsafeMutablePointer<Double>
) {
  let own = lower + row * (row + 1) / 2
  for column in columns {
    let other = lower + column * (column + 1) / 2
    let sum = Double(matrix[row * size + column]) - dot(own, other, column)
    own[column] = column == row ? max(sum, least).squareRoot() : sum / other[column]
  }
}

private func dot(_ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, _ count: Int) -> Double {
  VectorMath.dot(a, b, count, by: SIMD8<Double>.self)
}
