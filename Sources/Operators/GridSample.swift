import IR

/// What lies beyond the borders of an image that is sampled.
public enum SamplePadding: String, Sendable { case zeros, border, reflection }

/// Samples images (or volumes) at given places: input [N, ..., C], grid [N, ..., D] of places from -1 to 1,
/// the last axis first; output [N, grid's ..., C]. Source: QNN operator definition GridSample; volumes and
/// the cubic are ONNX's.
public struct GridSample: Operator {
  public static let typeName = "GridSample"
  public var mode: Interpolation
  public var padding: SamplePadding
  /// Whether -1 and 1 are the centers of the outermost pixels; otherwise they are their edges.
  public var alignCorners: Bool

  /// Makes the operator.
  public init(mode: Interpolation = .linear, padding: SamplePadding = .zeros, alignCorners: Bool = false) {
    self.mode = mode
    self.padding = padding
    self.alignCorners = alignCorners
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    mode = try choice(&attributes, "mode", .linear)
    padding = try choice(&attributes, "padding_mode", .zeros)
    alignCorners = try attributes.bool("align_corners", default: false)
  }
  public var attributes: [Attribute] {
    [
      Attribute("mode", .string(mode.rawValue)), Attribute("padding_mode", .string(padding.rawValue)),
      Attribute("align_corners", .bool(alignCorners)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    try requireFloats(inputs, Self.typeName)
    let (x, grid) = (try required(inputs, 0, "input"), try required(inputs, 1, "grid"))
    try check(
      (3...5).contains(x.rank) && grid.rank == x.rank && grid.shape[0] == x.shape[0]
        && grid.shape[x.rank - 1] == x.rank - 2, "grid \(grid) does not fit \(x)")
    try check(x.shape[1..<(x.rank - 1)].allSatisfy { $0 > 0 }, "\(x) has no pixels")
    return [TensorType(.float32, grid.shape.dropLast() + [x.shape[x.rank - 1]])]
  }
  /// Places are coordinates: a grid of 8 bits would not tell pixels apart.
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.activation, .unquantized]) }

  /// A term of the weighted sum along one axis: the pixel, nil beyond the border, and its weight.
  private typealias Tap = (index: Int?, weight: Double)

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, grid) = (try required(inputs, 0), try required(inputs, 1).elements(as: Float.self))
    let shape = x.type.shape
    let (axes, channels) = (shape.count - 2, shape[shape.count - 1])
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let count = outputs[0].type.count / max(channels, 1)
    let image = shape[1...axes].reduce(1, *)
    let strides = denseStrides(Array(shape[1...axes]))
    var sums = [Double](repeating: 0, count: channels)
    for position in 0..<count {
      var terms: [Tap] = [(position / (count / shape[0]) * image, 1)]
      for axis in 0..<axes {
        let place = grid[position * axes + axes - 1 - axis]
        let taps = taps(Double(place), shape[axis + 1])
        terms = terms.flatMap { term in
          taps.map { tap in
            guard let base = term.index, let index = tap.index else { return (nil, 0) }
            return (base + index * strides[axis], term.weight * tap.weight)
          }
        }
      }
      for channel in sums.indices { sums[channel] = 0 }
      for case let (index?, weight) in terms {
        for channel in sums.indices { sums[channel] += weight * Double(from[index * channels + channel]) }
      }
      for channel in sums.indices { to[position * channels + channel] = Float(sums[channel]) }
    }
  }

  private func taps(_ normal: Double, _ size: Int) -> [Tap] {
    let length = Double(size)
    guard normal.isFinite else { return [(nil, 0)] }
    var place = alignCorners ? (normal + 1) / 2 * (length - 1) : ((normal + 1) * length - 1) / 2
    place = min(max(place, -0x1p31), 0x1p31)
    if mode == .nearest { place = place.rounded(.toNearestOrEven) }
    let bounds = alignCorners ? (0, length - 1) : (-0.5, length - 0.5)
    if place < bounds.0 || place > bounds.1 {
      switch padding {
      case .border: place = min(max(place, 0), length - 1)
      case .reflection: place = GridSample.reflected(place, bounds)
      case .zeros: break
      }
    }
    let base = place.rounded(.down)
    let rest = place - base
    switch mode {
    case .nearest: return [(pixel(Int(place.rounded(.towardZero)), size, bounds), 1)]
    case .linear:
      return [(pixel(Int(base), size, bounds), 1 - rest), (pixel(Int(base) + 1, size, bounds), rest)]
    case .cubic:
      return (-1...2).map {
        (pixel(Int(base) + $0, size, bounds), ResamplingTable.cubic(Double($0) - rest, -0.75))
      }
    }
  }

  private func pixel(_ index: Int, _ size: Int, _ bounds: (Double, Double)) -> Int? {
    switch padding {
    case .zeros: return (0..<size).contains(index) ? index : nil
    case .border: return min(max(index, 0), size - 1)
    case .reflection: return min(max(Int(GridSample.reflected(Double(index), bounds)), 0), size - 1)
    }
  }

  private static func reflected(_ place: Double, _ bounds: (Double, Double)) -> Double {
    let range = bounds.1 - bounds.0
    guard range > 0 else { return bounds.0 }
    let isLow = place < bounds.0
    guard isLow || place > bounds.1 else { return place }
    let distance = isLow ? bounds.0 - place : place - bounds.1
    let turns = (distance / range).rounded(.down)
    let rest = distance - turns * range
    let isEven = turns.truncatingRemainder(dividingBy: 2) == 0
    return isLow == isEven ? bounds.0 + rest : bounds.1 - rest
  }
}

/// A parameter that is one of a few words.
func choice<Choice: RawRepresentable<String>>(
  _ attributes: inout AttributeReader, _ name: String, _ fallback: Choice
) throws(Diagnostic) -> Choice {
  let word = try attributes.string(name, default: fallback.rawValue)
  guard let known = Choice(rawValue: word) else {
    throw Diagnostic("bad-parameter", "\(attributes.operatorName) has no \(name) \(word)")
  }
  return known
}
