import Calibration
import IR

/// Finds for each grid of a weight the scale of least output error (sequential MSE): candidates from 1.05
/// times the present scale downwards, error (w - q)^T H (w - q) with H the covariance of the inputs. Grids
/// of a block see the part of H that is theirs.
struct ScaleSearch {
  let matrix: WeightMatrix
  let covariance: InputCovariance
  let candidates: Int
  let jobs: Int

  /// The encoding with the scales found; zero stays where it is on every grid.
  func search(_ weights: [Float], _ encoding: Encoding) -> Encoding {
    let grids = RowGrids(encoding, matrix)
    let (rows, depth) = (matrix.rows, matrix.depth)
    // Which runs of a row's elements share a grid, and which rows have grids of their own.
    let total = matrix.rowCount
    let count = encoding.channels.count
    let costs = parallelMap(total, jobs: jobs) { row -> [Double] in
      rowCosts(weights, grids, row: row, group: row / rows, count: count)
    }
    var sums = [Double](repeating: 0, count: count * candidates)
    for row in 0..<total {
      // A row tells of its own grids only: (grid, candidate) pairs in the order of first use.
      var place = 0
      var previous: Int32 = -1
      for k in 0..<depth {
        let grid = grids.grids[row * depth + k]
        guard grid != previous else { continue }
        previous = grid
        for candidate in 0..<candidates {
          sums[Int(grid) * candidates + candidate] += costs[row][place + candidate]
        }
        place += candidates
      }
    }
    var result = encoding
    for grid in 0..<count {
      var best = 0
      for candidate in 1..<candidates
      where sums[grid * candidates + candidate] < sums[grid * candidates + best] { best = candidate }
      result.channels[grid].scale = encoding.channels[grid].scale * share(best)
    }
    return result
  }

  /// What the present scale is multiplied by.
  private func share(_ candidate: Int) -> Float {
    Float(1.05 * (1 - 0.8 * Double(candidate) / Double(candidates - 1)))
  }

  private func rowCosts(
    _ weights: [Float], _ grids: RowGrids, row: Int, group: Int, count: Int
  ) -> [Double] {
    let depth = matrix.depth
    var result: [Double] = []
    var start = 0
    while start < depth {
      let grid = grids.grids[row * depth + start]
      var end = start + 1
      while end < depth, grids.grids[row * depth + end] == grid { end += 1 }
      for candidate in 0..<candidates {
        result.append(cost(weights, grids, row, group, start..<end, share(candidate)))
      }
      start = end
    }
    return result
  }

  private func cost(
    _ weights: [Float], _ grids: RowGrids, _ row: Int, _ group: Int, _ run: Range<Int>, _ share: Float
  ) -> Double {
    let depth = matrix.depth
    let grid = Int(grids.grids[row * depth + run.lowerBound])
    let scale = grids.scales[row * depth + run.lowerBound] * share
    let (low, high) = (grids.low[grid], grids.high[grid])
    var errors = [Float](repeating: 0, count: run.count)
    for (place, k) in run.enumerated() {
      let w = weights[row * depth + k]
      errors[place] = w - min(max((w / scale).rounded(.toNearestOrEven), low), high) * scale
    }
    var sum = 0.0
    covariance.values.withUnsafeBufferPointer { values in
      errors.withUnsafeBufferPointer { errors in
        guard let all = values.baseAddress, let first = errors.baseAddress else { return }
        let h = all + group * depth * depth
        // Far apart, products add little but time: long rows count their variances only.
        if run.count > 1536 {
          for (place, k) in run.enumerated() {
            sum += Double(errors[place] * errors[place]) * Double(h[k * depth + k])
          }
          return
        }
        for (place, k) in run.enumerated() where errors[place] != 0 {
          let line = h + k * depth + run.lowerBound
          var part = SIMD16<Float>()
          var index = 0
          while index + 16 <= errors.count {
            part +=
              UnsafeRawPointer(line + index).loadUnaligned(as: SIMD16<Float>.self)
              * UnsafeRawPointer(first + index).loadUnaligned(as: SIMD16<Float>.self)
            index += 16
          }
          var whole = part.sum()
          while index < errors.count {
            whole += line[index] * errors[index]
            index += 1
          }
          sum += Double(whole * errors[place])
        }
      }
    }
    return sum
  }
}
