import IR

/// Ranges and distribution of one weight, at the real values of its codes where it is quantized.
public struct WeightSummary: Sendable {
  /// What is told of a set of values.
  public struct Range: Sendable, Hashable {
    public var min: Double
    public var max: Double
    public var mean: Double
    /// Root of the mean square.
    public var rms: Double
  }

  public let name: String
  public let shape: [Int]
  /// The channel axis.
  public let axis: Int
  public let whole: Range
  /// One for each index along ``axis``.
  public let channels: [Range]
  /// Counts of equal bins from the smallest to the largest value.
  public let histogram: [Int]

  /// Number of bins of ``histogram``.
  public static let bins = 32

  /// The weights of a graph with their channel axes, each once, in the order of the nodes.
  public static func weights(of graph: Graph) -> [(tensor: TensorID, axis: Int)] {
    var seen = Set<TensorID>()
    var found: [(TensorID, Int)] = []
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil,
          case .weight(let axis, _) = node.op.quantization.input(slot), seen.insert(id).inserted
        else { continue }
        found.append((id, axis < 0 ? axis + graph[id].type.rank : axis))
      }
    }
    return found
  }

  /// The summary of a constant; nil where there is no value to tell about.
  public init?(_ graph: Graph, _ id: TensorID, axis: Int) {
    let tensor = graph[id]
    guard let constant = tensor.constant, constant.type.count > 0,
      tensor.type.shape.indices.contains(axis)
    else { return nil }
    let values: [Float]
    if let encoding = tensor.encoding, constant.type.element.isFixedPoint {
      values = encoding.dequantized(constant.integers() ?? [], shape: tensor.type.shape)
    } else {
      values = constant.floats()
    }
    name = tensor.name
    shape = tensor.type.shape
    self.axis = axis
    let inner = denseStrides(shape)[axis]
    let count = shape[axis]
    var parts = [Sums](repeating: Sums(), count: count)
    for (index, value) in values.enumerated() where value.isFinite {
      parts[index / inner % count].add(Double(value))
    }
    var total = Sums()
    for part in parts { total.add(part) }
    channels = parts.map(\.range)
    whole = total.range
    var counts = [Int](repeating: 0, count: WeightSummary.bins)
    let width = (whole.max - whole.min) / Double(WeightSummary.bins)
    for value in values where value.isFinite {
      let bin = width > 0 ? Int((Double(value) - whole.min) / width) : 0
      counts[min(max(bin, 0), WeightSummary.bins - 1)] += 1
    }
    histogram = counts
  }

  private struct Sums {
    var (least, most) = (Double.infinity, -Double.infinity)
    var (sum, squares) = (0.0, 0.0)
    var count = 0

    mutating func add(_ value: Double) {
      least = min(least, value)
      most = max(most, value)
      sum += value
      squares += value * value
      count += 1
    }

    mutating func add(_ other: Sums) {
      least = min(least, other.least)
      most = max(most, other.most)
      sum += other.sum
      squares += other.squares
      count += other.count
    }

    var range: Range {
      guard count > 0 else { return Range(min: 0, max: 0, mean: 0, rms: 0) }
      return Range(
        min: least, max: most, mean: sum / Double(count),
        rms: (squares / Double(count)).squareRoot())
    }
  }
}
