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
    let scale = grid.scale
    guard let range = exactRange(of: grid) else {
      for index in 0..<count {
        let code = grid.quantize(source[index], codeMin: codeMin, codeMax: codeMax)
        target[index] = grid.dequantize(code)
      }
      return
    }
    for index in 0..<count {
      target[index] = roundedSteps(source[index] / scale, range.lowest, range.highest) * scale
    }
  }

  /// Quantizes and dequantizes a whole dense tensor of `shape`, each element by its grid.
  public func simulate(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, shape: [Int]
  ) {
    if let rows = GridRows(self, shape: shape) {
      rows.simulate(source, into: target)
      return
    }
    forEachChannelRun(shape: shape) { channel, start, count in
      simulate(source + start, into: target + start, count: count, channel: channel)
    }
  }

  /// Calls `body` with every run of neighbouring elements that share a grid: (index of the grid in
  /// ``channels``, first element, number of elements), in memory order.
  public func forEachChannelRun(shape: [Int], _ body: (Int, Int, Int) -> Void) {
    let total = shape.reduce(1, *)
    guard total > 0 else { return }
    guard let axis, shape.indices.contains(axis), channels.count > 1 else {
      body(0, 0, total)
      return
    }
    let size = shape[axis]
    var start = 0
    guard let blocks, shape.indices.contains(blocks.axis), blocks.axis != axis, blocks.size > 0 else {
      let inner = shape[(axis + 1)...].reduce(1, *)
      while start < total {
        for channel in 0..<size {
          body(channel, start, inner)
          start += inner
        }
      }
      return
    }
    let count = blocks.count(length: shape[blocks.axis])
    let (first, last) = (min(axis, blocks.axis), max(axis, blocks.axis))
    let middle = shape[(first + 1)..<last].reduce(1, *)
    let inner = shape[(last + 1)...].reduce(1, *)
    while start < total {
      for index in 0..<shape[first] {
        for _ in 0..<middle {
          if last == axis {
            let block = index / blocks.size
            for channel in 0..<size {
              body(channel * count + block, start, inner)
              start += inner
            }
          } else {
            for block in 0..<count {
              let run = min(blocks.size, shape[last] - block * blocks.size) * inner
              body(index * count + block, start, run)
              start += run
            }
          }
        }
      }
    }
  }

  /// The stored codes (signed storage shifted) of a dense float tensor, in ``storage``.
  public func quantized(_ values: [Float], shape: [Int]) -> Bytes {
    values.withUnsafeBufferPointer { source in
      quantized(source, shape: shape) { _ in }
    }
  }

  /// The same for a constant. One in a mapped file is read where it lies, and its pages are given back on the way.
  public func quantized(_ constant: Constant) -> Bytes {
    guard constant.type.element == .float32 else { return quantized(constant.floats(), shape: constant.type.shape) }
    let bytes = constant.materialized().aligned(to: MemoryLayout<Float>.alignment)
    let step = 4 << 20
    var given = 0
    let result = quantized(
      UnsafeBufferPointer(start: bytes.base.assumingMemoryBound(to: Float.self), count: bytes.count / 4),
      shape: constant.type.shape
    ) { end in
      let read = end * MemoryLayout<Float>.stride
      guard read - given >= step else { return }
      bytes.discardPages(from: given, count: read - given)
      given = read
    }
    if bytes.count >= 1 << 20 { constant.stored.discardPages() }
    return result
  }

  /// `progress` is told up to which element `source` has been read, every now and then.
  private func quantized(
    _ source: UnsafeBufferPointer<Float>, shape: [Int], _ progress: (Int) -> Void
  ) -> Bytes {
    let rows = GridRows(self, shape: shape)
    return Bytes(count: source.count * storage.byteWidth) { target in
      guard source.count == shape.reduce(1, *), let from = source.baseAddress else { return }
      switch storage.byteWidth {
      case 1: store(from, UInt8.self, target, rows, shape, progress)
      case 2: store(from, UInt16.self, target, rows, shape, progress)
      default: store(from, UInt32.self, target, rows, shape, progress)
      }
    }
  }

  private func store<Code: FixedWidthInteger>(
    _ source: UnsafePointer<Float>, _ type: Code.Type, _ target: UnsafeMutableRawBufferPointer,
    _ rows: GridRows?, _ shape: [Int], _ progress: (Int) -> Void
  ) {
    guard let to = target.bindMemory(to: type).baseAddress else { return }
    let shift = storageShift
    if let rows {
      rows.quantize(source, into: to, shift: shift, progress)
      return
    }
    let piece = 1 << 20
    forEachChannelRun(shape: shape) { channel, start, count in
      for first in stride(from: start, to: start + count, by: piece) {
        let end = min(first + piece, start + count)
        storeRun(source, to, first..<end, channels[channel], shift)
        progress(end)
      }
    }
  }

  private func storeRun<Code: FixedWidthInteger>(
    _ source: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Code>, _ run: Range<Int>, _ grid: ScaleOffset,
    _ shift: Int
  ) {
    guard let range = exactRange(of: grid) else {
      for index in run {
        let code = grid.quantize(source[index], codeMin: codeMin, codeMax: codeMax) + shift
        to[index] = Code(truncatingIfNeeded: code)
      }
      return
    }
    let toStored = Int32(truncatingIfNeeded: shift - Int(grid.offset))
    for index in run {
      let steps = wholeSteps(source[index] / grid.scale, range.lowest, range.highest)
      to[index] = Code(truncatingIfNeeded: steps &+ toStored)
    }
  }

  /// Lowest and highest whole number of steps of a grid, where Float arithmetic rounds to them exactly.
  fileprivate func exactRange(of grid: ScaleOffset) -> (lowest: Float, highest: Float)? {
    let lowest = Float(codeMin + Int(grid.offset))
    let highest = Float(codeMax + Int(grid.offset))
    return max(abs(lowest), abs(highest)) < 0x1p22 ? (lowest, highest) : nil
  }

  /// Real values of the stored codes of a fixed-point constant.
  public func dequantized(_ constant: Constant) -> [Float] {
    let bytes = constant.materialized()
    let shape = constant.type.shape
    switch constant.type.element {
    case .sfixed4, .sfixed8: return real(bytes.array(of: Int8.self), shape)
    case .ufixed4, .ufixed8: return real(bytes.array(of: UInt8.self), shape)
    case .sfixed16: return real(bytes.array(of: Int16.self), shape)
    case .ufixed16: return real(bytes.array(of: UInt16.self), shape)
    default: return dequantized(constant.integers() ?? [], shape: shape)
    }
  }

  private func real<Code: FixedWidthInteger>(_ stored: [Code], _ shape: [Int]) -> [Float] {
    let count = shape.reduce(1, *)
    let shift = Int32(truncatingIfNeeded: storageShift)
    return [Float](unsafeUninitializedCapacity: count) { target, filled in
      stored.withUnsafeBufferPointer { source in
        guard let to = target.baseAddress, let from = source.baseAddress, source.count >= count else {
          return
        }
        filled = count
        if let rows = GridRows(self, shape: shape) {
          rows.dequantize(from, into: to, shift: shift)
          return
        }
        forEachChannelRun(shape: shape) { channel, start, length in
          let grid = channels[channel]
          for index in start..<(start + length) {
            to[index] = Float(Int32(truncatingIfNeeded: from[index]) &- shift &+ grid.offset) * grid.scale
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

/// Adding 1.5 * 2^23 rounds half to even for magnitudes below 2^22: the sum's last bit counts ones.
/// Clamping to whole numbers first gives the same code and keeps the sum in that range.
private let roundingMagic: Float = 0x1.8p23

/// A ratio clamped and rounded half to even, as a whole Float; NaN gives `lowest`.
@inline(__always)
private func roundedSteps(_ value: Float, _ lowest: Float, _ highest: Float) -> Float {
  var ratio = value > lowest ? value : lowest
  ratio = ratio < highest ? ratio : highest
  return (ratio + roundingMagic) - roundingMagic + 0
}

/// The same as an integer.
@inline(__always)
private func wholeSteps(_ value: Float, _ lowest: Float, _ highest: Float) -> Int32 {
  var ratio = value > lowest ? value : lowest
  ratio = ratio < highest ? ratio : highest
  return Int32(bitPattern: (ratio + roundingMagic).bitPattern &- roundingMagic.bitPattern)
}

/// The grids of a dense tensor whose channels are its last axis, so that neighbouring elements have
/// different ones: laid out row by row, for loops without branches.
private struct GridRows {
  let length: Int
  let rows: Int
  /// Rows that follow each other in one step along the block axis, steps of that axis, steps a block.
  private let rowsPerStep: Int
  private let steps: Int
  private let size: Int
  /// In the order [block][channel].
  private var scales: [Float] = []
  private var lowest: [Float] = []
  private var highest: [Float] = []
  private var offsets: [Int32] = []

  /// nil where the tensor has another form or the codes are too wide for Float arithmetic.
  init?(_ encoding: Encoding, shape: [Int]) {
    guard let axis = encoding.axis, axis == shape.count - 1, shape[axis] > 1,
      encoding.channels.count > 1
    else { return nil }
    length = shape[axis]
    rows = shape[..<axis].reduce(1, *)
    var blockCount = 1
    if let blocks = encoding.blocks {
      guard shape.indices.contains(blocks.axis), blocks.axis < axis, blocks.size > 0 else { return nil }
      rowsPerStep = shape[(blocks.axis + 1)..<axis].reduce(1, *)
      steps = shape[blocks.axis]
      size = blocks.size
      blockCount = blocks.count(length: steps)
    } else {
      (rowsPerStep, steps, size) = (1, 1, 1)
    }
    guard encoding.channels.count == length * blockCount else { return nil }
    for block in 0..<blockCount {
      for channel in 0..<length {
        let grid = encoding.channels[channel * blockCount + block]
        guard let range = encoding.exactRange(of: grid) else { return nil }
        scales.append(grid.scale)
        lowest.append(range.lowest)
        highest.append(range.highest)
        offsets.append(grid.offset)
      }
    }
  }

  /// Calls `body` for every row with its first element and its first entry of the tables.
  private func forEachRow(_ body: (_ first: Int, _ entry: Int) -> Void) {
    for row in 0..<rows { body(row * length, row / rowsPerStep % steps / size * length) }
  }

  func simulate(_ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>) {
    withTables { scales, lowest, highest, _ in
      forEachRow { first, entry in
        let (from, to) = (source + first, target + first)
        let (scales, lowest, highest) = (scales + entry, lowest + entry, highest + entry)
        for index in 0..<length {
          let scale = scales[index]
          to[index] = roundedSteps(from[index] / scale, lowest[index], highest[index]) * scale
        }
      }
    }
  }

  func quantize<Code: FixedWidthInteger>(
    _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Code>, shift: Int,
    _ progress: (Int) -> Void
  ) {
    let shift = Int32(truncatingIfNeeded: shift)
    withTables { scales, lowest, highest, offsets in
      forEachRow { first, entry in
        let (from, to) = (source + first, target + first)
        for index in 0..<length {
          let (place, ratio) = (entry + index, from[index] / scales[entry + index])
          let steps = wholeSteps(ratio, lowest[place], highest[place])
          to[index] = Code(truncatingIfNeeded: steps &- offsets[place] &+ shift)
        }
        progress(first + length)
      }
    }
  }

  func dequantize<Code: FixedWidthInteger>(
    _ source: UnsafePointer<Code>, into target: UnsafeMutablePointer<Float>, shift: Int32
  ) {
    withTables { scales, _, _, offsets in
      forEachRow { first, entry in
        let (from, to) = (source + first, target + first)
        for index in 0..<length {
          let steps = Int32(truncatingIfNeeded: from[index]) &- shift &+ offsets[entry + index]
          to[index] = Float(steps) * scales[entry + index]
        }
      }
    }
  }

  private func withTables(
    _ body: (UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Int32>) -> Void
  ) {
    scales.withUnsafeBufferPointer { scales in
      lowest.withUnsafeBufferPointer { lowest in
        highest.withUnsafeBufferPointer { highest in
          offsets.withUnsafeBufferPointer { offsets in
            guard let scales = scales.baseAddress, let lowest = lowest.baseAddress,
              let highest = highest.baseAddress, let offsets = offsets.baseAddress
            else { return }
            body(scales, lowest, highest, offsets)
          }
        }
      }
    }
  }
}
