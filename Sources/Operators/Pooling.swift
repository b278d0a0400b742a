import IR

/// Largest value of each window, channel-last; padding never wins. Input [N, ..., C].
/// Source: QNN operator definitions PoolMax2d, PoolMax3d.
public struct MaximumPool<Space: SpatialAxes>: Operator {
  public static var typeName: String { "PoolMax\(Space.suffix)" }
  public var filterSize: [Int]
  public var stride: [Int]
  /// [before, after] of each spatial axis: of images [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]

  /// Makes a pool; windows have a size a spatial axis.
  public init(filterSize: [Int], stride: [Int], padAmount: [Int], dilation: [Int] = Space.ones) {
    self.filterSize = filterSize
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    filterSize = try attributes.ints("filter_size")
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: Space.ones)
  }

  public var attributes: [Attribute] {
    [
      Attribute("filter_size", .ints(filterSize)), Attribute("stride", .ints(stride)),
      Attribute("pad_amount", .ints(padAmount)), Attribute("dilation", .ints(dilation)),
    ]
  }

  /// The window.
  public var geometry: WindowGeometry {
    WindowGeometry(filter: filterSize, stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try pooledType(inputs, geometry, Self.typeName, Space.count)]
  }

  public var quantization: QuantizationRule { .dataInvariant }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let channels = x.type.shape.last ?? 1
    guard let xp = x.elements(as: Float.self).baseAddress,
      let yp = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    forEachTap(inThreeAxes(x.type.shape), inThreeAxes(outputs[0].type.shape), geometry.inThreeAxes) {
      for c in 0..<channels { yp[$0 * channels + c] = -.infinity }
    } tap: { position, pixel, _ in
      let (out, values) = (yp + position * channels, xp + pixel * channels)
      for c in 0..<channels where values[c] > out[c] || values[c].isNaN { out[c] = values[c] }
    }
  }
}

/// Largest values of windows over images.
public typealias PoolMax2d = MaximumPool<TwoAxes>
/// Largest values of windows over volumes.
public typealias PoolMax3d = MaximumPool<ThreeAxes>

/// Where the largest value of each window lies: its int64 index in the input taken as [N, C, ...] in
/// row-major order, or with each channel in column-major order. Input [N, ..., C], the result likewise.
public struct MaximumPoolIndices<Space: SpatialAxes>: Operator {
  public static var typeName: String { "PoolMaxIndices\(Space.suffix)" }
  /// The windows.
  public var pool: MaximumPool<Space>
  /// Whether the first spatial axis runs fastest within a channel.
  public var isColumnMajor: Bool

  /// Makes the operator.
  public init(_ pool: MaximumPool<Space>, isColumnMajor: Bool = false) {
    self.pool = pool
    self.isColumnMajor = isColumnMajor
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    pool = try MaximumPool(attributes: &attributes)
    isColumnMajor = try attributes.bool("column_major", default: false)
  }

  public var attributes: [Attribute] {
    pool.attributes + [Attribute("column_major", .bool(isColumnMajor))]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [TensorType(.int64, try pool.infer(inputs)[0].shape)]
  }

  public var quantization: QuantizationRule { QuantizationRule(outputs: [.unquantized]) }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let xs = inThreeAxes(x.type.shape)
    let (channels, plane) = (xs[4], xs[1] * xs[2] * xs[3])
    let y = outputs[0].elements(as: Int.self)
    guard let xp = x.elements(as: Float.self).baseAddress else { return }
    var best = [Float](repeating: 0, count: channels)
    forEachTap(xs, inThreeAxes(outputs[0].type.shape), pool.geometry.inThreeAxes) {
      for c in 0..<channels {
        best[c] = -.infinity
        y[$0 * channels + c] = 0
      }
    } tap: { position, pixel, _ in
      let (image, place) = (pixel / plane, pixel % plane)
      let inner =
        isColumnMajor
        ? (place % xs[3] * xs[2] + place / xs[3] % xs[2]) * xs[1] + place / xs[3] / xs[2] : place
      for c in 0..<channels where xp[pixel * channels + c] > best[c] {
        best[c] = xp[pixel * channels + c]
        y[position * channels + c] = (image * channels + c) * plane + inner
      }
    }
  }
}

/// Places of the largest values of windows over images.
public typealias PoolMaxIndices2d = MaximumPoolIndices<TwoAxes>
/// Places of the largest values of windows over volumes.
public typealias PoolMaxIndices3d = MaximumPoolIndices<ThreeAxes>

/// Mean of each window, channel-last. Source: QNN operator definitions PoolAvg2d, PoolAvg3d.
public struct AveragePool<Space: SpatialAxes>: Operator {
  public static var typeName: String { "PoolAvg\(Space.suffix)" }
  public var filterSize: [Int]
  public var stride: [Int]
  /// [before, after] of each spatial axis: of images [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  /// Whether padding counts in the divisor.
  public var countPadForEdges: Bool

  /// Makes a pool; windows have a size a spatial axis.
  public init(
    filterSize: [Int], stride: [Int], padAmount: [Int], dilation: [Int] = Space.ones,
    countPadForEdges: Bool = false
  ) {
    self.filterSize = filterSize
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
    self.countPadForEdges = countPadForEdges
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    filterSize = try attributes.ints("filter_size")
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: Space.ones)
    countPadForEdges = try attributes.bool("count_pad_for_edges", default: false)
  }

  public var attributes: [Attribute] {
    [
      Attribute("filter_size", .ints(filterSize)), Attribute("stride", .ints(stride)),
      Attribute("pad_amount", .ints(padAmount)), Attribute("dilation", .ints(dilation)),
      Attribute("count_pad_for_edges", .bool(countPadForEdges)),
    ]
  }

  /// The window.
  public var geometry: WindowGeometry {
    WindowGeometry(filter: filterSize, stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try pooledType(inputs, geometry, Self.typeName, Space.count)]
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let ys = inThreeAxes(outputs[0].type.shape)
    let channels = ys[4]
    guard outputs[0].type.count > 0, let xp = x.elements(as: Float.self).baseAddress,
      let yp = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    var counts = [Int](repeating: 0, count: ys[0] * ys[1] * ys[2] * ys[3])
    let xs = inThreeAxes(x.type.shape)
    let window = geometry.inThreeAxes
    forEachTap(xs, ys, window) {
      for c in 0..<channels { yp[$0 * channels + c] = 0 }
    } tap: { position, pixel, _ in
      let (out, values) = (yp + position * channels, xp + pixel * channels)
      for c in 0..<channels { out[c] += values[c] }
      counts[position] += 1
    }
    let sizes = (0..<3).map { windowSizes(window, $0, xs[$0 + 1], ys[$0 + 1]) }
    for position in counts.indices {
      var divisor = counts[position]
      if countPadForEdges {
        let (column, row) = (position % ys[3], position / ys[3] % ys[2])
        divisor = sizes[0][position / ys[3] / ys[2] % ys[1]] * sizes[1][row] * sizes[2][column]
      }
      for c in 0..<channels {
        let sum = yp[position * channels + c]
        yp[position * channels + c] = divisor > 0 ? sum / Float(divisor) : 0
      }
    }
  }

  /// For each window along an axis its positions inside the padded input.
  private func windowSizes(_ window: WindowGeometry, _ axis: Int, _ input: Int, _ output: Int) -> [Int] {
    (0..<output).map { place in
      taps(
        place * window.stride[axis], window.dilation[axis], window.filter[axis],
        window.pads[2 * axis] + input + window.pads[2 * axis + 1]
      ).count
    }
  }
}

/// Means of windows over images.
public typealias PoolAvg2d = AveragePool<TwoAxes>
/// Means of windows over volumes.
public typealias PoolAvg3d = AveragePool<ThreeAxes>

private func pooledType(
  _ inputs: [TensorType?], _ geometry: WindowGeometry, _ name: String, _ axes: Int
) throws(Diagnostic) -> TensorType {
  let x = try required(inputs, 0, "input")
  try requireFloat(x, name)
  try check(x.rank == axes + 2, "\(name) needs rank \(axes + 2), has \(x)")
  try check(geometry.filter.count == axes, "\(name) needs \(axes) window sizes")
  let sizes = try geometry.outputSizes(Array(x.shape[1...axes]))
  return TensorType(x.element, [x.shape[0]] + sizes + [x.shape[axes + 1]])
}
