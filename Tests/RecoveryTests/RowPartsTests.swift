import IR
import Operators
import Runtime
import Testing

@testable import Recovery

/// Rows that are cut into parts, and sums that are kept small.
@Suite struct RowPartsTests {
  @Test(arguments: RoundingTests.forms.indices, 1...5)
  func partsAreRunsOfRows(form: Int, limit: Int) throws {
    let (name, op, inputShape, weightShape) = RoundingTests.forms[form]
    var random = Random(seed: 41, form)
    let types = [TensorType(.float32, inputShape), TensorType(.float32, weightShape)]
    let output = try op.infer(types)[0].shape
    let whole = try #require(WeightMatrix(op, weight: weightShape, input: inputShape))
    let matrix = whole.cut(limit)
    let count = (whole.depth + limit - 1) / limit
    #expect(matrix.depth <= limit && matrix.groups == whole.groups * count && matrix.rows == whole.rows)

    let w = random.normals(weightShape.reduce(1, *))
    let (rows, parts) = (whole.arranged(w), matrix.arranged(w))
    #expect(matrix.stored(parts) == w, "\(name)")
    let patches = try #require(Patches(op, weight: weightShape, input: inputShape, output: output))
    let x = random.normals(inputShape.reduce(1, *))
    let positions = Array(0..<patches.positions)
    for group in 0..<matrix.groups {
      var all = [Float](repeating: 0, count: positions.count * whole.depth)
      var own = [Float](repeating: .nan, count: positions.count * matrix.depth)
      patches.gather(x, positions: positions, group: group / count, into: &all)
      patches.cut(like: matrix).gather(x, positions: positions, group: group, into: &own)
      let first = group % count * matrix.depth
      for k in 0..<matrix.depth {
        let isFilling = first + k >= whole.depth
        for position in positions {
          let expected = isFilling ? 0 : all[position * whole.depth + first + k]
          #expect(own[position * matrix.depth + k] == expected, "\(name)")
        }
        for row in 0..<whole.rows where !isFilling {
          let number = group / count * whole.rows + row
          #expect(
            parts[(group * matrix.rows + row) * matrix.depth + k] == rows[number * whole.depth + first + k], "\(name)")
        }
      }
    }
  }

  /// However many patches are held, the sums are the same but for rounding; one half alone is the whole.
  @Test(arguments: [1, 40, 1000], [1, 2]) func sumsOfSlabs(held: Int, samples: Int) throws {
    var random = Random(seed: 43)
    let (rows, depth) = (37, 20)
    let patches = try #require(
      Patches(FullyConnected(), weight: [1, depth], input: [rows, depth], output: [rows, 1]))
    let (quantized, float) = (random.normals(rows * depth), random.normals(rows * depth))
    func sums(_ held: Int) throws -> CovarianceSums {
      var result = CovarianceSums(patches, drifts: true)
      for rank in 0..<samples {
        try result.add(quantized, float: float, patches, positions: Array(0..<rows), rank: rank, held: held)
      }
      return result
    }
    let (small, large) = (try sums(held), try sums(1 << 20))
    let (h, other) = (small.covariance(centred: true), large.covariance(centred: true))
    #expect(zip(h.values, other.values).allSatisfy { abs($0 - $1) < 1e-4 })
    #expect(h.values.contains { $0 > 0.1 })
    let (drift, same) = (small.drift(centred: true), large.drift(centred: true))
    #expect((drift == nil) == (samples == 1) && (same == nil) == (samples == 1))
    #expect(zip(drift?.values ?? [], same?.values ?? []).allSatisfy { abs($0 - $1) < 1e-4 })
  }

  /// Where two sums of all samples would be too large, one takes the even ranks and one the odd ones.
  @Test func largeSumsAreOfOneKind() throws {
    let samples = try SampleSet(count: 5, jobs: 1, backend: ReferenceBackend()) { (_: Int) in [Bytes([Float(0)])] }
    #expect(samples.chunks(elements: 10) == [[0], [1], [2], [3], [4]])
    #expect(samples.chunks(elements: 10 << 20) == [[0], [1, 2], [3, 4]])
    #expect(samples.chunks(elements: 1 << 30) == [[0, 2, 4], [1, 3]])
    #expect(samples.first(1).chunks(elements: 1 << 30) == [[0]])
  }
}
