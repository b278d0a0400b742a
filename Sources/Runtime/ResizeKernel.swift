import CKernels
import IR
import Operators

/// The terms of each element of a resized axis, in `Float`.
private struct FloatTable: Sendable {
  let taps: Int
  let indices: [Int32]
  let weights: [Float]

  init(_ table: ResamplingTable) {
    taps = table.taps
    indices = table.indices.map { Int32($0) }
    weights = table.weights.map { Float($0) }
    isPick = taps == 1
    isIdentity = false
  }

  /// Every element of an axis itself.
  init(identity size: Int) {
    taps = 1
    indices = (0..<size).map { Int32($0) }
    weights = [Float](repeating: 1, count: size)
    isPick = true
    isIdentity = true
  }

  /// Whether elements are only picked, with a weight of 1.
  let isPick: Bool
  /// Whether every element is picked once, in order.
  let isIdentity: Bool
}

/// Resizes two neighbouring axes of [outer, height, width, inner]: rows first, then the elements of the row
/// that they give.
struct ResizeKernel: ElementKernel {
  private let outer: Int
  private let height: Int
  private let width: Int
  private let inner: Int
  private let rows: FloatTable
  private let columns: FloatTable

  var name: String { "native resize" }

  fileprivate init(shape: [Int], first axis: Int, _ rows: ResamplingTable?, _ columns: ResamplingTable?) {
    outer = shape[..<axis].reduce(1, *)
    height = shape[axis]
    width = axis + 1 < shape.count ? shape[axis + 1] : 1
    inner = axis + 2 < shape.count ? shape[(axis + 2)...].reduce(1, *) : 1
    self.rows = rows.map { FloatTable($0) } ?? FloatTable(identity: height)
    self.columns = columns.map { FloatTable($0) } ?? FloatTable(identity: width)
  }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    let (row, outHeight) = (width * inner, rows.indices.count / rows.taps)
    let outRow = columns.indices.count / columns.taps * inner
    withUnsafeTemporaryAllocation(of: Float.self, capacity: row) { buffer in
      guard let line = buffer.baseAddress else { return }
      for block in 0..<outer {
        let image = x + block * height * row
        for place in 0..<outHeight {
          let target = y + (block * outHeight + place) * outRow
          if rows.isPick {
            resize(image + Int(rows.indices[place]) * row, target)
          } else {
            blend(image, place, line)
            resize(UnsafePointer(line), target)
          }
        }
      }
    }
  }

  /// The weighted sum of rows.
  private func blend(
    _ image: UnsafePointer<Float>, _ place: Int, _ line: UnsafeMutablePointer<Float>
  ) {
    let row = width * inner
    for tap in 0..<rows.taps {
      let (source, weight) = (
        image + Int(rows.indices[place * rows.taps + tap]) * row, rows.weights[place * rows.taps + tap]
      )
      if tap == 0 {
        for index in 0..<row { line[index] = weight * source[index] }
      } else {
        for index in 0..<row { line[index] += weight * source[index] }
      }
    }
  }

  /// The columns of one row.
  private func resize(_ line: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>) {
    if columns.isIdentity {
      target.update(from: line, count: width * inner)
      return
    }
    qk_resample(
      line, target, columns.indices.count / columns.taps, columns.taps, columns.indices, columns.weights, inner)
  }
}

/// Maker of resizing kernels.
func makeResizeKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? any Resampling, let x = request.input(0) else { return .unrelated }
  if let refusal = request.floatRefusal { return refusal }
  let tables = op.tables(x.shape)
  guard !tables.values.contains(where: { $0.isOutside.contains(true) }) else {
    return .refused("native: elements lie outside of the crop")
  }
  let axes = tables.keys.sorted()
  guard let first = axes.first, axes.count == 1 || axes == [first, first + 1] else {
    return .refused("native: axes \(axes) are not two neighbours")
  }
  return .kernel(
    ResizeKernel(shape: x.shape, first: first, tables[first], axes.count > 1 ? tables[first + 1] : nil))
}
