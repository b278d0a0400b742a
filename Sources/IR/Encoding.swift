/// Scale and offset of one grid: `real = (q + offset) * scale`, q on the unsigned grid.
public struct ScaleOffset: Sendable, Hashable {
  /// Step between neighbouring codes; finite and positive.
  public var scale: Float
  /// Minus the zero point on the unsigned grid, as QNN and AIMET 0.6.1 store it (-128 for symmetric
  /// 8 bit).
  public var offset: Int32

  /// Makes a grid from its two numbers.
  public init(scale: Float, offset: Int32) {
    self.scale = scale
    self.offset = offset
  }
}

/// Blocks inside the channels of an encoding: runs of neighbouring elements along an axis share a grid.
public struct EncodingBlocks: Sendable, Hashable {
  /// Axis along which blocks follow each other; another one than the channel axis.
  public var axis: Int
  /// Elements of a block along ``axis``; the last block of a channel may have fewer.
  public var size: Int
  /// Where the grids are low-power ones: what they are products of.
  public var lowPower: LowPowerScales?

  /// Makes the record of blocks of `size` elements along `axis`.
  public init(axis: Int, size: Int, lowPower: LowPowerScales? = nil) {
    self.axis = axis
    self.size = size
    self.lowPower = lowPower
  }

  /// Number of blocks along an axis of `length` elements; 0 for a size below 1.
  public func count(length: Int) -> Int {
    size > 0 ? length / size + (length % size == 0 ? 0 : 1) : 0
  }
}

/// The parts of a low-power blockwise encoding (LPBQ): the scale of a block is that of its channel times
/// a small whole number, so that codes times factor are codes of a wider grid a channel.
///
/// Source: AIMET's LPBQ; QNN's blockwise expansion.
public struct LowPowerScales: Sendable, Hashable {
  /// Scale of each channel: the step of the wider grid.
  public var channelScales: [Float]
  /// Factor of each block in the order [channel][block], 1 to 2^(decompressedBitwidth - bitwidth).
  public var factors: [Int]
  /// Bits of a code times its factor.
  public var decompressedBitwidth: Int

  /// Makes the record.
  public init(channelScales: [Float], factors: [Int], decompressedBitwidth: Int) {
    self.channelScales = channelScales
    self.factors = factors
    self.decompressedBitwidth = decompressedBitwidth
  }

  /// The grids of the blocks for codes of `bitwidth` bits, in the order of ``factors``; nil where the
  /// factors do not divide into channels.
  public func grids(bitwidth: Int) -> [ScaleOffset]? {
    guard (2...32).contains(bitwidth), !channelScales.isEmpty,
      factors.count % channelScales.count == 0
    else { return nil }
    let blocks = factors.count / channelScales.count
    let offset = Int32(truncatingIfNeeded: -(1 << (bitwidth - 1)))
    return factors.enumerated().map { index, factor in
      ScaleOffset(
        scale: Float(Double(channelScales[index / blocks]) * Double(factor)), offset: offset)
    }
  }
}

/// How a tensor, each channel of one, or each block of a channel maps to integers.
///
/// Source: QNN's scale-offset encodings; min and max are always derived, in Double.
public struct Encoding: Sendable, Hashable {
  /// What has a grid of its own.
  public enum Granularity: String, Sendable, Hashable, CaseIterable {
    case perTensor, perChannel, perBlock
    /// Per block, each scale a whole multiple of its channel's.
    case lowPowerBlocks
  }

  /// Bits of a stored code, 2 to 32.
  public var bitwidth: Int
  /// Whether the grid is symmetric about zero; such tensors are stored as signed fixed point.
  public var symmetric: Bool
  /// Lowest and highest code in use on the unsigned grid (1 for strict symmetric, restricted steps).
  public var codeMin: Int
  public var codeMax: Int
  /// Channel axis where there is a grid per channel or block, nil per tensor.
  public var axis: Int?
  /// Blocks inside the channels, nil where a channel has one grid.
  public var blocks: EncodingBlocks?
  /// One grid; or one per index along ``axis``; or, with ``blocks``, one per block in the order
  /// [channel][block].
  public var channels: [ScaleOffset]

  /// Makes an encoding; the codes default to the whole grid of `bitwidth`.
  public init(
    bitwidth: Int, symmetric: Bool = false, axis: Int? = nil, blocks: EncodingBlocks? = nil,
    channels: [ScaleOffset], codeMin: Int = 0, codeMax: Int? = nil
  ) {
    self.bitwidth = bitwidth
    self.symmetric = symmetric
    self.axis = axis
    self.blocks = blocks
    self.channels = channels
    self.codeMin = codeMin
    self.codeMax = codeMax ?? (1 << bitwidth) - 1
  }

  /// Makes a low-power blockwise encoding; its grids are the products of `scales`. Factors that do not
  /// divide into channels give an encoding without grids, which ``problem(shape:)`` refuses.
  public init(
    bitwidth: Int, axis: Int, blockAxis: Int, blockSize: Int, lowPower scales: LowPowerScales,
    codeMin: Int = 0, codeMax: Int? = nil
  ) {
    self.init(
      bitwidth: bitwidth, symmetric: true, axis: axis,
      blocks: EncodingBlocks(axis: blockAxis, size: blockSize, lowPower: scales),
      channels: scales.grids(bitwidth: bitwidth) ?? [], codeMin: codeMin, codeMax: codeMax)
  }

  /// What has a grid of its own.
  public var granularity: Granularity {
    guard axis != nil else { return .perTensor }
    guard let blocks else { return .perChannel }
    return blocks.lowPower == nil ? .perBlock : .lowPowerBlocks
  }

  /// The encoding of the tensor transposed: axis i of the result is axis `order[i]` of this one. The
  /// order of the grids stays.
  public func permuted(_ order: [Int]) -> Encoding {
    var result = self
    result.axis = axis.flatMap { order.firstIndex(of: $0) }
    if let blocks, let moved = order.firstIndex(of: blocks.axis) { result.blocks?.axis = moved }
    return result
  }

  /// Bytes of the codes of a tensor of `shape` with two a byte: each channel begins with a byte of its
  /// own.
  public static func packedByteCount(shape: [Int], axis: Int?) -> Int {
    let channels = axis.flatMap { shape.indices.contains($0) ? shape[$0] : nil } ?? 1
    guard channels > 0 else { return 0 }
    return channels * ((shape.reduce(1, *) / channels + 1) / 2)
  }

  /// The axis along which the blocks of a weight lie: that of its inputs, beside the channel axis as the
  /// operators lay weights out ([..., inputs, channels], [channels, inputs], [..., channels, inputs]).
  public static func inputAxis(channelAxis: Int, rank: Int) -> Int {
    channelAxis == rank - 1 ? rank - 2 : channelAxis + 1
  }

  /// Number of blocks in each channel of a tensor of `shape`, 1 where there are none.
  public func blocksPerChannel(shape: [Int]) -> Int {
    guard let blocks, shape.indices.contains(blocks.axis) else { return 1 }
    return blocks.count(length: shape[blocks.axis])
  }

  /// The largest scale among the grids of a channel of `count` channels.
  public func largestScale(channel: Int, of count: Int) -> Float {
    guard axis != nil, count > 0 else { return channels.first?.scale ?? 0 }
    let each = channels.count / count
    return channels[(channel * each)..<((channel + 1) * each)].reduce(0) { max($0, $1.scale) }
  }

  /// Real value of the lowest code of a grid; `channel` is its index in ``channels``.
  public func minimum(channel: Int = 0) -> Double {
    let grid = channels[channel]
    return Double(codeMin + Int(grid.offset)) * Double(grid.scale)
  }

  /// Real value of the highest code of a grid; `channel` is its index in ``channels``.
  public func maximum(channel: Int = 0) -> Double {
    let grid = channels[channel]
    return Double(codeMax + Int(grid.offset)) * Double(grid.scale)
  }

  /// The type a tensor with this encoding is stored in: at least a byte a code.
  public var storage: DataType { .fixedPoint(bitwidth: bitwidth, signed: symmetric || bitwidth == 32) }

  /// The type in which two codes share a byte, nil where the codes do not have 4 bits.
  public var packedStorage: DataType? { bitwidth == 4 ? (symmetric ? .sfixed4 : .ufixed4) : nil }

  /// What is added to an unsigned code to store it: -2^(bw-1) for signed storage, else 0.
  public var storageShift: Int {
    symmetric || bitwidth == 32 ? -(1 << (bitwidth - 1)) : 0
  }

  /// The offset as reports show it: on the unsigned grid, -128 for symmetric 8 bit; 0 for the 32-bit
  /// grid of a bias, which has no unsigned form in use.
  public func shownOffset(channel: Int = 0) -> Int {
    Int(channels[channel].offset) - (bitwidth == 32 ? storageShift : 0)
  }

  /// The reason this cannot be a valid encoding of a tensor of `shape`, nil where it can.
  public func problem(shape: [Int]) -> String? {
    if !(2...32).contains(bitwidth) { return "bitwidth \(bitwidth) is outside 2 to 32" }
    if codeMin < 0 || codeMax >= 1 << bitwidth || codeMin >= codeMax {
      return "codes \(codeMin) to \(codeMax) do not fit \(bitwidth) bits"
    }
    if let axis {
      guard shape.indices.contains(axis) else { return "channel axis \(axis) is outside the shape" }
      if let blocks {
        if let problem = problem(blocks, axis: axis, shape: shape) { return problem }
      } else if channels.count != shape[axis] {
        return "\(channels.count) channel encodings for \(shape[axis]) channels"
      }
    } else if blocks != nil {
      return "blocks without a channel axis"
    } else if channels.count != 1 {
      return "\(channels.count) encodings without a channel axis"
    }
    for grid in channels where !(grid.scale.isFinite && grid.scale > 0) {
      return "scale \(grid.scale) is not positive and finite"
    }
    return nil
  }

  private func problem(_ blocks: EncodingBlocks, axis: Int, shape: [Int]) -> String? {
    guard shape.indices.contains(blocks.axis) else {
      return "block axis \(blocks.axis) is outside the shape"
    }
    if blocks.axis == axis { return "axis \(axis) is both channel axis and block axis" }
    let length = shape[blocks.axis]
    if !(1...max(length, 1)).contains(blocks.size) {
      return "blocks of \(blocks.size) elements on an axis of \(length)"
    }
    let (expected, overflow) = shape[axis].multipliedReportingOverflow(by: blocks.count(length: length))
    if overflow || channels.count != expected {
      return "\(channels.count) block encodings for \(shape[axis]) channels of "
        + "\(blocks.count(length: length)) blocks"
    }
    return blocks.lowPower.flatMap { problem($0, channels: shape[axis]) }
  }

  private func problem(_ scales: LowPowerScales, channels count: Int) -> String? {
    let bits = scales.decompressedBitwidth - bitwidth
    if !symmetric { return "low-power blocks that are not symmetric" }
    if !(1...8).contains(bits) || scales.decompressedBitwidth > 32 {
      return "\(bitwidth) bits cannot be decompressed to \(scales.decompressedBitwidth)"
    }
    if scales.channelScales.count != count {
      return "\(scales.channelScales.count) channel scales for \(count) channels"
    }
    if scales.factors.count != channels.count {
      return "\(scales.factors.count) factors for \(channels.count) blocks"
    }
    for scale in scales.channelScales where !(scale.isFinite && scale > 0) {
      return "scale \(scale) is not positive and finite"
    }
    for factor in scales.factors where !(1...(1 << bits)).contains(factor) {
      return "factor \(factor) is outside 1 to \(1 << bits)"
    }
    return count == 0 || scales.grids(bitwidth: bitwidth) == channels
      ? nil : "the scales of the blocks are not those of the channels times the factors"
  }
}

/// Where an encoding came from; the precedence is the order of the cases.
public enum EncodingSource: String, Sendable, Hashable, CaseIterable {
  case override, source, spread, fixed, calibrated, computed
}

/// What is decided about a tensor before the materialising pass.
public enum QuantizationState: String, Sendable, Hashable {
  /// Nothing: calibration will give it an encoding.
  case open
  /// It has an encoding.
  case given
  /// It stays float by choice.
  case float
}
