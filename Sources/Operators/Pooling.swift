import IR

/// Largest value of each window, channel-last; padding never wins. Input [N, H, W, C].
/// Source: QNN operator definition PoolMax2d.
public struct PoolMax2d: Operator {
  public static let typeName = "PoolMax2d"
  public var filterSize: [Int]
  public var stride: [Int]
  /// [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]

  /// Makes a pool with [height, width] windows.
  public init(filterSize: [Int], stride: [Int], padAmount: [Int], dilation: [Int] = [1, 1]) {
    self.filterSize = filterSize
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    filterSize = try attributes.ints("filter_size")
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: [1, 1])
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
    [try pooledType(inputs, geometry, Self.typeName)]
  }

  public var quantization: QuantizationRule { .dataInvariant }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    forEachWindow(try required(inputs, 0), outputs[0], geometry) { pixels, _, channels, out in
      for c in 0..<channels {
        var best = -Float.infinity
        for pixel in pixels {
          let value = pixel[c]
          if value > best || value.isNaN { best = value }
        }
        out[c] = best
      }
    }
  }
}

/// Mean of each window, channel-last. Source: QNN operator definition PoolAvg2d.
public struct PoolAvg2d: Operator {
  public static let typeName = "PoolAvg2d"
  public var filterSize: [Int]
  public var stride: [Int]
  /// [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  /// Whether padding counts in the divisor.
  public var countPadForEdges: Bool

  /// Makes a pool with [height, width] windows.
  public init(
    filterSize: [Int], stride: [Int], padAmount: [Int], dilation: [Int] = [1, 1],
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
    dilation = try attributes.ints("dilation", default: [1, 1])
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
    [try pooledType(inputs, geometry, Self.typeName)]
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let countPads = countPadForEdges
    forEachWindow(try required(inputs, 0), outputs[0], geometry) { pixels, padded, channels, out in
      let divisor = Float(countPads ? padded : pixels.count)
      for c in 0..<channels {
        var sum: Float = 0
        for pixel in pixels { sum += pixel[c] }
        out[c] = divisor > 0 ? sum / divisor : 0
      }
    }
  }
}

private func pooledType(
  _ inputs: [TensorType?], _ geometry: WindowGeometry, _ name: String
) throws(Diagnostic) -> TensorType {
  let x = try required(inputs, 0, "input")
  try requireFloat(x, name)
  try check(x.rank == 4, "\(name) needs rank 4, has \(x)")
  try check(geometry.filter.count == 2, "\(name) needs two window sizes")
  let sizes = try geometry.outputSizes(Array(x.shape[1...2]))
  return TensorType(x.element, [x.shape[0]] + sizes + [x.shape[3]])
}

/// Calls `body` for every output position with the pixels of its window that lie inside the input,
/// the number of window positions inside the padded input, the channels and the output pixel.
private func forEachWindow(
  _ input: TensorView, _ output: MutableTensorView, _ geometry: WindowGeometry,
  _ body: ([UnsafePointer<Float>], Int, Int, UnsafeMutablePointer<Float>) -> Void
) {
  guard let xp = input.elements(as: Float.self).baseAddress,
    let yp = output.elements(as: Float.self).baseAddress
  else { return }
  let (xs, ys) = (input.type.shape, output.type.shape)
  let channels = xs[3]
  var pixels: [UnsafePointer<Float>] = []
  for n in 0..<ys[0] {
    for oy in 0..<ys[1] {
      for ox in 0..<ys[2] {
        pixels.removeAll(keepingCapacity: true)
        var padded = 0
        for ky in 0..<geometry.filter[0] {
          let iy = oy * geometry.stride[0] + ky * geometry.dilation[0] - geometry.pads[0]
          for kx in 0..<geometry.filter[1] {
            let ix = ox * geometry.stride[1] + kx * geometry.dilation[1] - geometry.pads[2]
            if iy < xs[1] + geometry.pads[1] && ix < xs[2] + geometry.pads[3] { padded += 1 }
            if iy < 0 || iy >= xs[1] || ix < 0 || ix >= xs[2] { continue }
            pixels.append(xp + ((n * xs[1] + iy) * xs[2] + ix) * channels)
          }
        }
        body(pixels, padded, channels, yp + ((n * ys[1] + oy) * ys[2] + ox) * channels)
      }
    }
  }
}
