// The numeric contract of quantization, in one place: Float32 division, rounding half to even, the
// offset added as an integer, clamping to the codes in use. Everything else calls these functions.

extension ScaleOffset {
  /// The code of `value`: clamp(rint(value / scale) - offset, codeMin, codeMax), computed without
  /// tricks; the slow twin of the array kernels. NaN gives `codeMin`.
  public func quantize(_ value: Float, codeMin: Int, codeMax: Int) -> Int {
    let ratio = (value / scale).rounded(.toNearestOrEven)
    if ratio.isNaN { return codeMin }
    let code = Double(ratio) - Double(offset)
    return Int(min(max(code, Double(codeMin)), Double(codeMax)))
  }

  /// The real value of a code: Float(q + offset) * scale.
  public func dequantize(_ code: Int) -> Float { Float(code + Int(offset)) * scale }
}

extension Encoding {
  /// Quantizes and dequantizes `count` numbers of channel `channel`, reading and writing in place or
  /// from one buffer to another. Same bits as ``ScaleOffset/quantize(_:codeMin:codeMax:)`` and back.
  public func simulate(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, count: Int,
    channel: Int = 0
  ) {
    let grid = channels[channel]
    let lowest = Float(codeMin + Int(grid.offset))
    let highest = Float(codeMax + Int(grid.offset))
    let scale = grid.scale
    guard max(abs(lowest), abs(highest)) < 0x1p22 else {
      for index in 0..<count {
        let code = grid.quantize(source[index], codeMin: codeMin, codeMax: codeMax)
        target[index] = grid.dequantize(code)
      }
      return
    }
    // Adding and subtracting 1.5 * 2^23 rounds half to even for magnitudes below 2^22; clamping to
    // whole numbers first gives the same code and keeps the sum in that range.
    let magic: Float = 0x1.8p23
    for index in 0..<count {
      var ratio = source[index] / scale
      ratio = ratio > lowest ? ratio : lowest
      ratio = ratio < highest ? ratio : highest
      let code = (ratio + magic) - magic
      target[index] = (code + 0) * scale
    }
  }

  /// Quantizes and dequantizes a whole dense tensor of `shape`, per channel where the encoding is.
  public func simulate(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, shape: [Int]
  ) {
    forEachChannelRun(shape: shape) { channel, start, count in
      simulate(source + start, into: target + start, count: count, channel: channel)
    }
  }

  /// Calls `body` with every run of neighbouring elements that share a channel: (channel, first
  /// element, number of elements), in memory order.
  public func forEachChannelRun(shape: [Int], _ body: (Int, Int, Int) -> Void) {
    let total = shape.reduce(1, *)
    guard let axis, shape.indices.contains(axis), channels.count > 1 else {
      if total > 0 { body(0, 0, total) }
      return
    }
    let inner = shape[(axis + 1)...].reduce(1, *)
    let size = shape[axis]
    guard inner > 0, size > 0 else { return }
    var start = 0
    while start < total {
      for channel in 0..<size {
        body(channel, start, inner)
        start += inner
      }
    }
  }

  /// The stored codes (signed storage shifted) of a dense float tensor, in ``storage``.
  public func quantized(_ values: [Float], shape: [Int]) -> Bytes {
    let shift = storageShift
    let width = storage.byteWidth
    return Bytes(count: values.count * width) { target in
      forEachChannelRun(shape: shape) { channel, start, count in
        let grid = channels[channel]
        for index in start..<(start + count) {
          let code = grid.quantize(values[index], codeMin: codeMin, codeMax: codeMax) + shift
          switch width {
          case 1:
            target.storeBytes(of: UInt8(truncatingIfNeeded: code), toByteOffset: index, as: UInt8.self)
          case 2:
            target.storeBytes(
              of: UInt16(truncatingIfNeeded: code), toByteOffset: index * 2, as: UInt16.self)
          default:
            target.storeBytes(
              of: UInt32(truncatingIfNeeded: code), toByteOffset: index * 4, as: UInt32.self)
          }
        }
      }
    }
  }

  /// Real values of stored codes (as ``Constant/integers()`` gives them) of a dense tensor.
  public func dequantized(_ stored: [Int], shape: [Int]) -> [Float] {
    var result = [Float](repeating: 0, count: stored.count)
    let shift = storageShift
    forEachChannelRun(shape: shape) { channel, start, count in
      let grid = channels[channel]
      for index in start..<(start + count) where index < stored.count {
        result[index] = grid.dequantize(stored[index] - shift)
      }
    }
    return result
  }
}
