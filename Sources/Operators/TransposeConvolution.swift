import IR

/// Transposed convolution, channel-last: the gradient of a convolution with respect to its input. Input
/// [N, ..., Cin], weight [K..., Cin / group, Cout] (output channels group by group, not flipped), bias
/// [Cout]. Source: QNN operator definitions TransposeConv2d, TransposeConv3d.
public struct TransposeConvolution<Space: SpatialAxes>: Operator {
  public static var typeName: String { "TransposeConv\(Space.suffix)" }
  public var stride: [Int]
  /// What is cut off, [before, after] an axis: of images [top, bottom, left, right].
  public var padAmount: [Int]
  public var dilation: [Int]
  /// What is added at the end of each spatial axis.
  public var outputPadding: [Int]
  public var group: Int

  /// Makes the operator.
  public init(
    stride: [Int] = Space.ones, padAmount: [Int] = Space.noPads, dilation: [Int] = Space.ones,
    outputPadding: [Int] = Space.ones.map { _ in 0 }, group: Int = 1
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
    dilation = try attributes.ints("dilation", default: Space.ones)
    outputPadding = try attributes.ints("output_padding", default: Space.ones.map { _ in 0 })
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
    WindowGeometry(
      filter: Array(weight.prefix(Space.count)), stride: stride, dilation: dilation, pads: padAmount)
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    let w = try required(inputs, 1, "weight")
    try requireFloats(inputs, Self.typeName)
    let count = Space.count
    try check(
      x.rank == count + 2 && w.rank == count + 2,
      "\(Self.typeName) needs rank \(count + 2), has \(x) and \(w)")
    let (channels, filters) = (x.shape[count + 1], w.shape[count + 1])
    try check(
      group > 0 && channels % group == 0 && filters % group == 0
        && w.shape[count] * group == channels,
      "weight \(w) does not fit \(x) in \(group) groups")
    if inputs.count > 2, let bias = inputs[2] {
      try check(bias.shape == [filters], "bias \(bias) does not fit \(w)")
    }
    let small = 0..<(1 << 31)
    try check(
      stride.count == count && dilation.count == count && padAmount.count == 2 * count
        && outputPadding.count == count
        && (stride + dilation + w.shape.prefix(count)).allSatisfy { $0 > 0 && small.contains($0) }
        && (padAmount + outputPadding).allSatisfy(small.contains),
      "stride \(stride), dilation \(dilation), padding \(padAmount) or \(outputPadding) is not valid")
    var sizes: [Int] = []
    for axis in 0..<count {
      let reach = dilation[axis] * (w.shape[axis] - 1) + 1
      let size =
        (x.shape[axis + 1] - 1) * stride[axis] + reach - padAmount[2 * axis]
        - padAmount[2 * axis + 1] + outputPadding[axis]
      try check(size > 0 && x.shape[axis + 1] > 0, "padding \(padAmount) leaves nothing of \(x)")
      sizes.append(size)
    }
    return [TensorType(.float32, [x.shape[0]] + sizes + [filters])]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int {
    guard let x = inputs[0], let w = inputs[1] else { return 0 }
    return x.shape.dropLast().reduce(1, *) * w.count
  }

  public var quantization: QuantizationRule {
    QuantizationRule(
      inputs: [.activation, .weight(channelAxis: Space.count + 1, perRow: false), .bias], fusion: .convolution)
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (xv, wv) = (try required(inputs, 0), try required(inputs, 1))
    let (xs, ys) = (inThreeAxes(xv.type.shape), inThreeAxes(outputs[0].type.shape))
    let (perIn, filters) = (wv.type.shape[Space.count], wv.type.shape[Space.count + 1])
    let (x, w) = (xv.elements(as: Float.self), wv.elements(as: Float.self))
    let bias = (inputs.count > 2 ? inputs[2] : nil)?.elements(as: Float.self)
    let y = outputs[0].elements(as: Float.self)
    let perOut = filters / group
    let window = geometry(weight: wv.type.shape).inThreeAxes
    var sums = (0..<y.count).map { position in bias.map { Double($0[position % filters]) } ?? 0 }
    // The window walks over the output; each of its positions is a pixel of the input.
    forEachTap(ys, xs, window) { _ in
    } tap: { pixel, target, place in
      let (from, tap, to) = (pixel * xs[4], place * perIn * filters, target * filters)
      for channel in 0..<filters {
        let first = from + channel / perOut * perIn
        var sum = 0.0
        for input in 0..<perIn {
          sum += Double(x[first + input]) * Double(w[tap + input * filters + channel])
        }
        sums[to + channel] += sum
      }
    }
    for position in sums.indices { y[position] = Float(sums[position]) }
  }
}

/// Transposed convolution of images.
public typealias TransposeConv2d = TransposeConvolution<TwoAxes>
/// Transposed convolution of volumes.
public typealias TransposeConv3d = TransposeConvolution<ThreeAxes>
