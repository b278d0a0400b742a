import IR

/// 2-D convolution, channel-last: input [N, H, W, C], weight [KH, KW, C / group, M], optional bias [M],
/// output [N, OH, OW, M]. Source: QNN operator definition Conv2d.
public struct Conv2d: Operator {
  public static let typeName = "Conv2d"
  public var stride: [Int]
  /// [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  public var group: Int

  /// Makes a convolution; strides and dilations are [height, width].
  public init(
    stride: [Int] = [1, 1], padAmount: [Int] = [0, 0, 0, 0], dilation: [Int] = [1, 1],
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
    dilation = try attributes.ints("dilation", default: [1, 1])
    group = try attributes.int("group", default: 1)
  }

  public var attributes: [Attribute] {
    [
      Attribute("stride", .ints(stride)), Attribute("pad_amount", .ints(padAmount)),
      Attribute("dilation", .ints(dilation)), Attribute("group", .int(group)),
    ]
  }

  /// The window for a weight of shape [KH, KW, C / group, M].
  public func geometry(weight: [Int]) -> WindowGeometry {
    WindowGeometry(filter: [weight[0], weight[1]], stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let w = try required(inputs, 1, "weight")
    try requireFloats(inputs, Self.typeName)
    try check(x.rank == 4 && w.rank == 4, "\(Self.typeName) needs rank 4, has \(x) and \(w)")
    let (channels, filters) = (x.shape[3], w.shape[3])
    try check(
      group > 0 && channels % group == 0 && filters % group == 0 && w.shape[2] == channels / group,
      "weight \(w) does not fit input \(x) in \(group) groups")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [filters], "bias \(bias) does not fit \(filters) filters")
    }
    let sizes = try geometry(weight: w.shape).outputSizes(Array(x.shape[1...2]))
    return [TensorType(x.element, [x.shape[0]] + sizes + [filters])]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let w = inputs[1] else { return 0 }
    return outputs[0].count * w.shape[0] * w.shape[1] * w.shape[2]
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: 3, perRow: false), .bias], outputs: [.own],
      fusion: .convolution)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, w) = (try required(inputs, 0), try required(inputs, 1))
    let bias = inputs.count > 2 ? inputs[2]?.elements(as: Float.self) : nil
    convolve(
      x.elements(as: Float.self), x.type.shape, w.elements(as: Float.self), w.type.shape, bias,
      outputs[0].elements(as: Float.self), outputs[0].type.shape, geometry(weight: w.type.shape),
      group: group)
  }
}

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

/// The plain convolution loop: for every output position the filters accumulate tap by tap.
private func convolve(
  _ x: UnsafeBufferPointer<Float>, _ xs: [Int], _ w: UnsafeBufferPointer<Float>, _ ws: [Int],
  _ bias: UnsafeBufferPointer<Float>?, _ y: UnsafeMutableBufferPointer<Float>, _ ys: [Int],
  _ geometry: WindowGeometry, group: Int
) {
  guard let xp = x.baseAddress, let wp = w.baseAddress, let yp = y.baseAddress else { return }
  let (height, width, channels) = (xs[1], xs[2], xs[3])
  let (filters, perGroup) = (ys[3], ws[2])
  let filtersPerGroup = filters / group
  for n in 0..<ys[0] {
    for oy in 0..<ys[1] {
      for ox in 0..<ys[2] {
        let out = yp + ((n * ys[1] + oy) * ys[2] + ox) * filters
        for f in 0..<filters { out[f] = bias?[f] ?? 0 }
        for ky in 0..<ws[0] {
          let iy = oy * geometry.stride[0] + ky * geometry.dilation[0] - geometry.pads[0]
          if iy < 0 || iy >= height { continue }
          for kx in 0..<ws[1] {
            let ix = ox * geometry.stride[1] + kx * geometry.dilation[1] - geometry.pads[2]
            if ix < 0 || ix >= width { continue }
            let pixel = xp + ((n * height + iy) * width + ix) * channels
            let tap = wp + (ky * ws[1] + kx) * perGroup * filters
            if perGroup == 1 && filtersPerGroup == 1 {
              for f in 0..<filters { out[f] += pixel[f] * tap[f] }
              continue
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
      }
    }
  }
}
