import IR

/// Convolution, channel-last: input [N, ..., C], weight [K..., C / group, M], optional bias [M], output
/// [N, ..., M]. Source: QNN operator definitions Conv2d, Conv3d.
public struct Convolution<Space: SpatialAxes>: Operator {
  public static var typeName: String { "Conv\(Space.suffix)" }
  public var stride: [Int]
  /// [before, after] of the first spatial axis, then of the next: of images [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  public var group: Int

  /// Makes a convolution; strides and dilations have an entry a spatial axis, 1 by default.
  public init(
    stride: [Int] = Space.ones, padAmount: [Int] = Space.noPads, dilation: [Int] = Space.ones,
    group: Int = 1
  ) {
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
    self.group = group
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: Space.ones)
    group = try attributes.int("group", default: 1)
  }

  public var attributes: [Attribute] {
    [
      Attribute("stride", .ints(stride)), Attribute("pad_amount", .ints(padAmount)),
      Attribute("dilation", .ints(dilation)), Attribute("group", .int(group)),
    ]
  }

  /// The window for a weight of shape [K..., C / group, M].
  public func geometry(weight: [Int]) -> WindowGeometry {
    WindowGeometry(
      filter: Array(weight.prefix(Space.count)), stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let w = try required(inputs, 1, "weight")
    try requireFloats(inputs, Self.typeName)
    let rank = Space.count + 2
    try check(
      x.rank == rank && w.rank == rank, "\(Self.typeName) needs rank \(rank), has \(x) and \(w)")
    let (channels, filters) = (x.shape[rank - 1], w.shape[rank - 1])
    try check(
      group > 0 && channels % group == 0 && filters % group == 0
        && w.shape[rank - 2] == channels / group,
      "weight \(w) does not fit input \(x) in \(group) groups")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [filters], "bias \(bias) does not fit \(filters) filters")
    }
    let sizes = try geometry(weight: w.shape).outputSizes(Array(x.shape[1...Space.count]))
    return [TensorType(x.element, [x.shape[0]] + sizes + [filters])]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let w = inputs[1] else { return 0 }
    return outputs[0].count * w.shape.dropLast().reduce(1, *)
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: Space.count + 1, perRow: false), .bias],
      outputs: [.own], fusion: .convolution)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, w) = (try required(inputs, 0), try required(inputs, 1))
    let bias = inputs.count > 2 ? inputs[2]?.elements(as: Float.self) : nil
    let geometry = geometry(weight: w.type.shape).inThreeAxes
    convolve(
      x.elements(as: Float.self), inThreeAxes(x.type.shape), w.elements(as: Float.self),
      [1, 1, 1] + w.type.shape.suffix(2), bias, outputs[0].elements(as: Float.self),
      inThreeAxes(outputs[0].type.shape), geometry, group: group)
  }
}

/// Convolution of images.
public typealias Conv2d = Convolution<TwoAxes>
/// Convolution of volumes.
public typealias Conv3d = Convolution<ThreeAxes>

/// Depthwise convolution: as ``Conv2d`` with one group a channel; weight [KH, KW, 1, C * multiplier].
/// Source: QNN operator definition DepthWiseConv2d.
public struct DepthWiseConv2d: Operator {
  public static let typeName = "DepthWiseConv2d"
  public var stride: [Int]
  /// [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]

  /// Makes a depthwise convolution; strides and dilations are [height, width].
  public init(
    stride: [Int] = [1, 1], padAmount: [Int] = [0, 0, 0, 0], dilation: [Int] = [1, 1]
  ) {
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: [1, 1])
  }

  public var attributes: [Attribute] {
    [
      Attribute("stride", .ints(stride)), Attribute("pad_amount", .ints(padAmount)),
      Attribute("dilation", .ints(dilation)),
    ]
  }

  /// The same convolution written as a grouped one.
  public func grouped(channels: Int) -> Conv2d {
    Conv2d(stride: stride, padAmount: padAmount, dilation: dilation, group: channels)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try check(x.rank == 4 && x.shape[3] > 0, "\(Self.typeName) needs rank 4 and channels, has \(x)")
    return try grouped(channels: x.shape[3]).infer(inputs)
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    grouped(channels: 1).macs(inputs, outputs)
  }

  public var quantization: QuantizationRule { grouped(channels: 1).quantization }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    try grouped(channels: x.type.shape[3]).evaluate(inputs, outputs)
  }
}

/// The plain convolution loop over [N, D, H, W, C]: for every output position the filters accumulate tap
/// by tap.
private func convolve(
  _ x: UnsafeBufferPointer<Float>, _ xs: [Int], _ w: UnsafeBufferPointer<Float>, _ ws: [Int],
  _ bias: UnsafeBufferPointer<Float>?, _ y: UnsafeMutableBufferPointer<Float>, _ ys: [Int],
  _ geometry: WindowGeometry, group: Int
) {
  guard let xp = x.baseAddress, let wp = w.baseAddress, let yp = y.baseAddress else { return }
  let channels = xs[4]
  let (filters, perGroup) = (ys[4], ws[3])
  let filtersPerGroup = filters / group
  forEachTap(xs, ys, geometry) { position in
    let out = yp + position * filters
    for f in 0..<filters { out[f] = bias?[f] ?? 0 }
  } tap: { position, pixelIndex, tapIndex in
    let (out, pixel) = (yp + position * filters, xp + pixelIndex * channels)
    let tap = wp + tapIndex * perGroup * filters
    if perGroup == 1 && filtersPerGroup == 1 {
      for f in 0..<filters { out[f] += pixel[f] * tap[f] }
      return
    }
    for g in 0..<group {
      for c in 0..<perGroup {
        let value = pixel[g * perGroup + c]
        let row = tap + c * filters + g * filtersPerGroup
        let target = out + g * filtersPerGroup
        for f in 0..<filtersPerGroup { target[f] += value * row[f] }
      }
    }
  }
}
