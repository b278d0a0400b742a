import IR

/// Transposed convolution, channel-last: the gradient of a convolution with respect to its input. Input
/// [N, H, W, Cin], weight [KH, KW, Cin / group, Cout] (output channels group by group, not flipped), bias
/// [Cout]. Source: QNN operator definition TransposeConv2d.
public struct TransposeConv2d: Operator {
  public static let typeName = "TransposeConv2d"
  public var stride: [Int]
  /// What is cut off: [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  /// Rows and columns added at the bottom and at the right.
  public var outputPadding: [Int]
  public var group: Int

  /// Makes the operator.
  public init(
    stride: [Int] = [1, 1], padAmount: [Int] = [0, 0, 0, 0], dilation: [Int] = [1, 1],
    outputPadding: [Int] = [0, 0], group: Int = 1
  ) {
    self.stride = stride
    self.padAmount = padAmount
    self.dilation = dilation
    self.outputPadding = outputPadding
    self.group = group
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    stride = try attributes.ints("stride")
    padAmount = try attributes.ints("pad_amount")
    dilation = try attributes.ints("dilation", default: [1, 1])
    outputPadding = try attributes.ints("output_padding", default: [0, 0])
    group = try attributes.int("group", default: 1)
  }

  public var attributes: [Attribute] {
    [
      Attribute("stride", .ints(stride)), Attribute("pad_amount", .ints(padAmount)),
      Attribute("dilation", .ints(dilation)), Attribute("output_padding", .ints(outputPadding)),
      Attribute("group", .int(group)),
    ]
  }

  /// The window over the output.
  public func geometry(weight: [Int]) -> WindowGeometry {
    WindowGeometry(filter: Array(weight[0...1]), stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let w = try required(inputs, 1, "weight")
    try requireFloats(inputs, Self.typeName)
    try check(x.rank == 4 && w.rank == 4, "\(Self.typeName) needs rank 4, has \(x) and \(w)")
    try check(
      group > 0 && x.shape[3] % group == 0 && w.shape[3] % group == 0
        && w.shape[2] * group == x.shape[3], "weight \(w) does not fit \(x) in \(group) groups")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [w.shape[3]], "bias \(bias) does not fit \(w)")
    }
    let small = 0..<(1 << 31)
    try check(
      stride.count == 2 && dilation.count == 2 && padAmount.count == 4 && outputPadding.count == 2
        && (stride + dilation + w.shape[0...1]).allSatisfy { $0 > 0 && small.contains($0) }
        && (padAmount + outputPadding).allSatisfy(small.contains),
      "stride \(stride), dilation \(dilation), padding \(padAmount) or \(outputPadding) is not valid")
    var sizes: [Int] = []
    for axis in 0..<2 {
      let reach = dilation[axis] * (w.shape[axis] - 1) + 1
      let size =
        (x.shape[axis + 1] - 1) * stride[axis] + reach - padAmount[2 * axis]
        - padAmount[2 * axis + 1] + outputPadding[axis]
      try check(size > 0 && x.shape[axis + 1] > 0, "padding \(padAmount) leaves nothing of \(x)")
      sizes.append(size)
    }
    return [TensorType(.float32, [x.shape[0]] + sizes + [w.shape[3]])]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let x = inputs[0], let w = inputs[1] else { return 0 }
    return x.shape[0] * x.shape[1] * x.shape[2] * w.count
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: 3, perRow: false), .bias], fusion: .convolution)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (xv, wv) = (try required(inputs, 0), try required(inputs, 1))
    let (xs, ws, ys) = (xv.type.shape, wv.type.shape, outputs[0].type.shape)
    let (x, w) = (xv.elements(as: Float.self), wv.elements(as: Float.self))
    let bias = (inputs.count > 2 ? inputs[2] : nil)?.elements(as: Float.self)
    let y = outputs[0].elements(as: Float.self)
    let (perIn, perOut) = (ws[2], ws[3] / group)
    var sums = [Double](repeating: 0, count: ws[3])
    for n in 0..<ys[0] {
      for oy in 0..<ys[1] {
        for ox in 0..<ys[2] {
          for channel in sums.indices { sums[channel] = bias.map { Double($0[channel]) } ?? 0 }
          for ky in 0..<ws[0] {
            let ty = oy + padAmount[0] - ky * dilation[0]
            guard ty >= 0, ty % stride[0] == 0, ty / stride[0] < xs[1] else { continue }
            for kx in 0..<ws[1] {
              let tx = ox + padAmount[2] - kx * dilation[1]
              guard tx >= 0, tx % stride[1] == 0, tx / stride[1] < xs[2] else { continue }
              let pixel = ((n * xs[1] + ty / stride[0]) * xs[2] + tx / stride[1]) * xs[3]
              let tap = (ky * ws[1] + kx) * perIn * ws[3]
              for channel in sums.indices {
                let start = pixel + channel / perOut * perIn
                for input in 0..<perIn {
                  sums[channel] += Double(x[start + input]) * Double(w[tap + input * ws[3] + channel])
                }
              }
            }
          }
          let out = ((n * ys[1] + oy) * ys[2] + ox) * ys[3]
          for channel in sums.indices { y[out + channel] = Float(sums[channel]) }
        }
      }
    }
  }
}
