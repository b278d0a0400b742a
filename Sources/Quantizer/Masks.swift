import Calibration
import IR
import Operators

/// How attention masks are told from values: what a Softmax alone reads, and lies so far below the
/// largest value of its row that it leaves nothing, need not be represented.
///
/// Source: the project's quantization specification, section 3, masks.
public enum Masking {
  /// Distance from the largest value of a row, in the unit of the Softmax's input: e^-40 = 4e-18.
  public static let distance = 40.0
  /// What an addend, or a branch of a select, holds below this counts as a mask whatever its row holds.
  public static let deep = -1000.0
}

/// The way from a tensor to the Softmax that alone reads it.
struct SoftmaxPath: Hashable {
  /// The tensor's axis along which the Softmax works; nil where the way does not keep rows.
  var axis: Int?
  /// The Softmax reads values this many times as large.
  var factor: Double
  /// Whether nothing is added or selected on the way: the rows are the Softmax's.
  var isFinal: Bool
  /// Tensors that are added on the way or selected instead, each with its own factor.
  var others: [Other]

  /// The other operand of an addition or selection.
  struct Other: Hashable {
    var tensor: TensorID
    var factor: Double
  }

  /// Where both ways are taken, what holds for both.
  func meeting(_ other: SoftmaxPath) -> SoftmaxPath {
    SoftmaxPath(
      axis: axis == other.axis ? axis : nil, factor: min(factor, other.factor),
      isFinal: isFinal && other.isFinal,
      others: others + other.others.filter { !others.contains($0) })
  }
}

extension Graph {
  /// Tensors that reach nothing but a Softmax: what lies far below the largest value of its row counts as
  /// masked there, however far it is.
  public func tensorsOnlySoftmaxReads() -> Set<TensorID> { Set(softmaxPaths().keys) }

  /// For every float tensor that reaches nothing but a Softmax (through additions, selections, moved
  /// data and positive constant factors) its way there. Empty for graphs without a Softmax.
  func softmaxPaths() -> [TensorID: SoftmaxPath] {
    guard nodes.contains(where: { $0.op is Softmax }) else { return [:] }
    let readers = consumers()
    let border = Set(outputs)
    var paths: [TensorID: SoftmaxPath] = [:]
    func find(_ id: TensorID) {
      guard self[id].type.element == .float32, !border.contains(id), !readers[id.index].isEmpty
      else { return }
      var found: SoftmaxPath?
      for reader in Set(readers[id.index]).sorted(by: { $0.index < $1.index }) {
        let node = self[reader]
        for slot in node.inputs.indices where node.inputs[slot] == id {
          guard let path = path(from: slot, of: node, paths) else { return }
          found = found?.meeting(path) ?? path
        }
      }
      paths[id] = found
    }
    for node in nodes.reversed() { for output in node.outputs { find(output) } }
    for id in inputs { find(id) }
    for index in tensors.indices where tensors[index].constant != nil { find(TensorID(index)) }
    return paths
  }

  /// The way from input `slot` of a node; nil where it does not lead to a Softmax.
  private func path(
    from slot: Int, of node: Node, _ paths: [TensorID: SoftmaxPath]
  ) -> SoftmaxPath? {
    guard let id = node.inputs[slot], node.outputs.count == 1 else { return nil }
    if let softmax = node.op as? Softmax, slot == 0, softmax.beta > 0 {
      return SoftmaxPath(
        axis: softmax.axis, factor: Double(softmax.beta), isFinal: true, others: [])
    }
    guard var path = paths[node.outputs[0]] else { return nil }
    let (shape, made) = (self[id].type.shape, self[node.outputs[0]].type.shape)
    /// The axis of a broadcast operand.
    func aligned() -> Int? {
      guard let axis = path.axis else { return nil }
      let own = axis - (made.count - shape.count)
      return shape.indices.contains(own) && shape[own] == made[axis] ? own : nil
    }
    switch node.op {
    case is ElementWiseBinary<AddFunction>, is ElementWiseSelect:
      let first = node.op is ElementWiseSelect ? 1 : 0
      guard slot >= first else { return nil }
      path.axis = aligned()
      path.isFinal = false
      for other in node.inputs.indices.dropFirst(first) where other != slot {
        guard let tensor = node.inputs[other] else { continue }
        path.others.append(.init(tensor: tensor, factor: path.factor))
      }
    case is ElementWiseBinary<MultiplyFunction>, is ElementWiseBinary<DivideFunction>:
      let isQuotient = node.op is ElementWiseBinary<DivideFunction>
      guard slot == 0 || !isQuotient, let other = node.inputs[1 - slot],
        let values = self[other].constant?.floats(), let least = values.min(),
        let largest = values.max(), least > 0, largest.isFinite
      else { return nil }
      let factor = isQuotient ? 1 / Double(largest) : Double(least)
      path.axis = aligned()
      path.factor *= factor
    case is ElementWiseBinary<MaximumFunction>:
      guard let other = node.inputs[1 - slot], self[other].constant != nil else { return nil }
      path.axis = aligned()
    case is Reshape:
      // Rows stay rows where the axis and all behind it keep their sizes.
      let own = path.axis.map { $0 + shape.count - made.count }
      if let axis = path.axis, let own, own >= 0, shape[own...] == made[axis...][...] {
        path.axis = own
      } else {
        path.axis = nil
      }
    case let transpose as Transpose: path.axis = path.axis.map { transpose.perm[$0] }
    case is Expand: path.axis = aligned()
    case is Tile: path.axis = nil
    default:
      guard case .sameAsInput(slot) = node.op.quantization.output(0) else { return nil }
      (path.axis, path.isFinal) = (nil, false)
    }
    // Rows that the way does not keep cannot be looked at.
    if path.axis == nil { path.isFinal = false }
    return path
  }
}

/// What was left out of a tensor because a Softmax behind it turns it into nothing. A monoid.
public struct MaskedValues: Sendable, Hashable {
  /// How many values.
  public var count = 0
  /// Least of the rows' largest values, over rows with such values whose largest value is none.
  public var leastRowMaximum: Float?

  /// Nothing was left out.
  public init() {}

  /// Adds what was left out elsewhere.
  public mutating func merge(_ other: MaskedValues) {
    count += other.count
    if let more = other.leastRowMaximum {
      leastRowMaximum = leastRowMaximum.map { min($0, more) } ?? more
    }
  }
}

/// Copies the values of a tensor that are not masked. Owned by one worker, its memory used again.
final class MaskFilter {
  private var kept: UnsafeMutableBufferPointer<Float> = .allocate(capacity: 0)

  deinit { kept.deallocate() }

  /// The values of a dense tensor that `path` does not mask, valid until the next call, and what was
  /// left out. NaN and positive infinities stay.
  func unmasked(
    _ values: UnsafeBufferPointer<Float>, shape: [Int], path: SoftmaxPath
  ) -> (values: UnsafeBufferPointer<Float>, masked: MaskedValues) {
    if kept.count < values.count {
      kept.deallocate()
      kept = .allocate(capacity: values.count)
      kept.initialize(repeating: 0)
    }
    var count = 0
    var masked = MaskedValues()
    let deep = Float(Masking.deep / path.factor)
    func add(_ value: Float, _ isMasked: Bool) {
      if isMasked {
        masked.count += 1
      } else {
        kept[count] = value
        count += 1
      }
    }
    if path.isFinal, let axis = path.axis, shape.indices.contains(axis), !values.isEmpty {
      let distance = Float(Masking.distance / path.factor)
      let length = shape[axis]
      let inner = shape[(axis + 1)...].reduce(1, *)
      for row in 0..<(values.count / length) {
        let start = row / inner * length * inner + row % inner
        var most = -Float.infinity
        for index in 0..<length { most = max(most, values[start + index * inner]) }
        let floor = most <= deep ? .infinity : most - distance
        let before = masked.count
        for index in 0..<length {
          let value = values[start + index * inner]
          add(value, value < floor)
        }
        if masked.count > before, floor.isFinite {
          masked.leastRowMaximum = min(masked.leastRowMaximum ?? most, most)
        }
      }
    } else {
      for value in values { add(value, value <= deep) }
    }
    return (UnsafeBufferPointer(rebasing: kept[..<count]), masked)
  }
}
