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

/// How a tensor, or each channel of one, maps to integers.
///
/// Source: QNN's scale-offset encodings; min and max are always derived, in Double.
public struct Encoding: Sendable, Hashable {
  /// Bits of a code, 2 to 32.
  public var bitwidth: Int
  /// Whether the grid is symmetric about zero; such tensors are stored as signed fixed point.
  public var symmetric: Bool
  /// Lowest and highest code in use on the unsigned grid (1 for strict symmetric, restricted steps).
  public var codeMin: Int
  public var codeMax: Int
  /// Channel axis where there is a grid per channel, nil per tensor.
  public var axis: Int?
  /// One grid, or one per index along ``axis``.
  public var channels: [ScaleOffset]

  /// Makes an encoding; the codes default to the whole grid of `bitwidth`.
  public init(
    bitwidth: Int, symmetric: Bool = false, axis: Int? = nil, channels: [ScaleOffset],
    codeMin: Int = 0, codeMax: Int? = nil
  ) {
    self.bitwidth = bitwidth
    self.symmetric = symmetric
    self.axis = axis
    self.channels = channels
    self.codeMin = codeMin
    self.codeMax = codeMax ?? (1 << bitwidth) - 1
  }

  /// Real value of the lowest code of a channel.
  public func minimum(channel: Int = 0) -> Double {
    let grid = channels[channel]
    return Double(codeMin + Int(grid.offset)) * Double(grid.scale)
  }

  /// Real value of the highest code of a channel.
  public func maximum(channel: Int = 0) -> Double {
    let grid = channels[channel]
    return Double(codeMax + Int(grid.offset)) * Double(grid.scale)
  }

  /// The type a tensor with this encoding is stored in.
  public var storage: DataType { .fixedPoint(bitwidth: bitwidth, signed: symmetric || bitwidth == 32) }

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
      if channels.count != shape[axis] {
        return "\(channels.count) channel encodings for \(shape[axis]) channels"
      }
    } else if channels.count != 1 {
      return "\(channels.count) encodings without a channel axis"
    }
    for grid in channels where !(grid.scale.isFinite && grid.scale > 0) {
      return "scale \(grid.scale) is not positive and finite"
    }
    return nil
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
