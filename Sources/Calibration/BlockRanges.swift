import IR

extension RangeToEncoding {
  /// The encoding of a dense tensor of finite values with a grid for each block of `blockSize` elements
  /// along `blockAxis` inside each index of `axis`, from the range of each block.
  ///
  /// `grid` makes scale and offset of a range; for `symmetric` encodings their offset is
  /// -2^(bitwidth-1). Throws `bad-blocks` where the blocks do not fit the shape.
  public static func perBlock(
    _ values: [Float], shape: [Int], axis: Int, blockAxis: Int, blockSize: Int, bitwidth: Int,
    symmetric: Bool = true, grid: (ClosedRange<Float>) -> ScaleOffset
  ) throws(Diagnostic) -> Encoding {
    var encoding = Encoding(
      bitwidth: bitwidth, symmetric: symmetric, axis: axis,
      blocks: EncodingBlocks(axis: blockAxis, size: blockSize), channels: [])
    let channels = shape.indices.contains(axis) ? shape[axis] : 0
    let count = channels * encoding.blocksPerChannel(shape: shape)
    encoding.channels = [ScaleOffset](repeating: ScaleOffset(scale: 1, offset: 0), count: count)
    if let problem = encoding.problem(shape: shape) { throw Diagnostic("bad-blocks", problem) }
    guard values.count == shape.reduce(1, *) else {
      throw Diagnostic("bad-blocks", "\(values.count) values for the shape \(shape)")
    }
    var low = [Float](repeating: .infinity, count: count)
    var high = [Float](repeating: -.infinity, count: count)
    encoding.forEachChannelRun(shape: shape) { block, start, length in
      for value in values[start..<(start + length)] {
        low[block] = min(low[block], value + 0)
        high[block] = max(high[block], value + 0)
      }
    }
    encoding.channels = zip(low, high).map { $0 <= $1 ? grid($0...$1) : grid(0...0) }
    return encoding
  }

  /// The same with symmetric grids by ``symmetric(min:max:bitwidth:)``.
  public static func perBlock(
    _ values: [Float], shape: [Int], axis: Int, blockAxis: Int, blockSize: Int, bitwidth: Int
  ) throws(Diagnostic) -> Encoding {
    try perBlock(
      values, shape: shape, axis: axis, blockAxis: blockAxis, blockSize: blockSize,
      bitwidth: bitwidth
    ) {
      symmetric(min: Double($0.lowerBound), max: Double($0.upperBound), bitwidth: bitwidth)
    }
  }
}

extension Encoding {
  /// The low-power form of a symmetric block-wise encoding: in each channel the largest scale becomes
  /// 2^(decompressedBitwidth - bitwidth) steps, the others the nearest whole number of steps, at
  /// least one; half goes to even.
  ///
  /// Throws `bad-blocks` where this is no symmetric block-wise encoding of a tensor of `shape`, or the
  /// widths do not fit. Source: AIMET's LPBQ.
  public func lowPower(decompressedBitwidth: Int, shape: [Int]) throws(Diagnostic) -> Encoding {
    guard let blocks, let axis, symmetric, problem(shape: shape) == nil else {
      throw Diagnostic("bad-blocks", "only symmetric block-wise encodings have a low-power form")
    }
    guard (1...8).contains(decompressedBitwidth - bitwidth) else {
      throw Diagnostic(
        "bad-blocks", "\(bitwidth) bits cannot be decompressed to \(decompressedBitwidth)")
    }
    let most = Float(1 << (decompressedBitwidth - bitwidth))
    let count = blocksPerChannel(shape: shape)
    var scales = LowPowerScales(
      channelScales: [], factors: [], decompressedBitwidth: decompressedBitwidth)
    for channel in 0..<shape[axis] {
      let steps = channels[(channel * count)..<((channel + 1) * count)].map(\.scale)
      let unit = max((steps.max() ?? 1) / most, .leastNonzeroMagnitude)
      scales.channelScales.append(unit)
      scales.factors += steps.map {
        Int(min(max(($0 / unit).rounded(.toNearestOrEven), 1), most))
      }
    }
    return Encoding(
      bitwidth: bitwidth, axis: axis, blockAxis: blocks.axis, blockSize: blocks.size,
      lowPower: scales, codeMin: codeMin, codeMax: codeMax)
  }
}
