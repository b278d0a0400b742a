import CIntegers
import COneDNN
import IR
import Operators

/// An ``IntegerAccumulation`` whose input or output has codes of 16 bits: the same formula, with exact sums that need
/// not fit 32 bits.
///
///     total = sum of weight * (code - inputZero) + bias      exact
///     y     = Float(total) * scale of the channel            and on as there
struct WideAccumulation: IntegerOperation {
  /// All but the upper bounds.
  let sums: IntegerAccumulation
  let inputGrid: CodeGrid
  /// Upper bounds of the codes a channel.
  let bounds: [UInt16]?

  private var channels: Int { sums.channels }

  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let totals = totals(inputs[0])
    for (index, total) in totals.enumerated() {
      let channel = index % channels
      var code = sums.grid.wholeCode(steps: sums.steps(Float(total), channel), in: sums.clamp.range)
      if let bounds { code = min(code, Int(bounds[channel])) }
      if sums.grid.isWide {
        outputs[0].elements(as: UInt16.self)[index] = UInt16(code)
      } else {
        outputs[0].elements(as: UInt8.self)[index] = UInt8(code)
      }
    }
  }

  /// Exact totals in output order.
  func totals(_ input: TensorView?) -> [Int] {
    if inputGrid.isWide { return words(input).map { sums.totals($0, as: Int.self) } ?? [] }
    return bytes(input).map { sums.totals($0, as: Int.self) } ?? []
  }

  func fastKernel() -> FastIntegerKernel {
    do throws(Diagnostic) {
      if let kernel = try WideTilesKernel(self) { return .kernel(kernel) }
      return .kernel(try WideSumsKernel(self))
    } catch {
      return .plain("oneDNN: \(error.message)")
    }
  }

  /// The bias less the zero point's share.
  fileprivate var foldedBias: [Int] {
    var result = sums.bias.map { Int($0) }
    for start in stride(from: 0, to: sums.weights.count, by: channels) {
      for channel in 0..<channels { result[channel] -= sums.inputZero * Int(sums.weights[start + channel]) }
    }
    return result
  }

  /// The lowest 32 bits of it, where every total fits as many; else nil.
  fileprivate var shortBias: [Int32]? {
    let farthest = max(sums.inputZero, (inputGrid.isWide ? 65_535 : 255) - sums.inputZero)
    var sizes = sums.bias.map { Int($0.magnitude) }
    for start in stride(from: 0, to: sums.weights.count, by: channels) {
      for channel in 0..<channels { sizes[channel] += farthest * Int(sums.weights[start + channel].magnitude) }
    }
    guard sizes.allSatisfy({ $0 <= Int(Int32.max) }) else { return nil }
    return foldedBias.map { Int32(truncatingIfNeeded: $0) }
  }

  /// The zero point's bytes, the upper one first where codes have two.
  fileprivate var zeroBytes: [UInt8] {
    let zero = sums.inputZero
    return inputGrid.isWide ? [UInt8(zero >> 8), UInt8(zero & 255)] : [UInt8(zero)]
  }

  fileprivate func limit(_ output: MutableTensorView) {
    guard let bounds else { return }
    let rows = output.type.count / channels
    if sums.grid.isWide, let words = words(output) {
      qint_limit_words(words, bounds, rows, channels)
    } else if let bytes = bytes(output) {
      qint_limit_rows(bytes, bounds.map { UInt8($0) }, rows, channels)
    }
  }
}

/// Both bytes of 16-bit codes by the tiles of ``PackedIntegerKernel``, side by side.
struct WideTilesKernel: Kernel {
  private let operation: WideAccumulation
  private let tiles: PackedTiles
  /// In the order of packed channels.
  private let bias: [Double]
  private let shortBias: [Int32]?
  private let scales: [Float]

  var name: String {
    "\(tiles.window.copy == nil ? "" : "pad, ")int16 tiles:avx512_core_vnni\(operation.bounds == nil ? "" : ", bounds")"
  }
  var constantBytes: Int { tiles.weights.byteCount + 8 * bias.count + 4 * scales.count }
  private var plain: Int { operation.sums.input.reduce(1, *) }
  var temporaries: [Int] {
    [2 * plain] + (tiles.window.copy.map { [2 * $0.count] } ?? [])
  }

  /// What else there is goes over input and sums twice: tiles pay where most of what they compute is in vain.
  private static let leastEfficiency = 0.15

  /// nil where the tiles do not take the operation.
  init?(_ operation: WideAccumulation) throws(Diagnostic) {
    guard operation.inputGrid.isWide, operation.sums.grid.isWide,
      let tiles = try PackedTiles(operation.sums, leastEfficiency: Self.leastEfficiency)
    else { return nil }
    (self.operation, self.tiles) = (operation, tiles)
    bias = tiles.spread(operation.foldedBias.map { Double($0) })
    shortBias = operation.shortBias.map { tiles.spread($0) }
    let all = operation.sums.scales
    scales = tiles.spread((0..<operation.sums.channels).map { all[all.count == 1 ? 0 : $0] })
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = words(inputs[0]), let y = words(outputs[0]), let split = bytes(outputs[1]) else { return }
    qint_split(x, plain, split, split + plain)
    var (high, low) = (UnsafePointer(split), UnsafePointer(split + plain))
    if let copy = tiles.window.copy, let padded = bytes(outputs[2]) {
      let zero = operation.zeroBytes
      copy.fill(zero[0], high, padded)
      copy.fill(zero[1], low, padded + copy.count)
      (high, low) = (UnsafePointer(padded), UnsafePointer(padded + copy.count))
    }
    let range = operation.sums.clamp.range
    bias.withUnsafeBufferPointer { bias in
      scales.withUnsafeBufferPointer { scales in
        (shortBias ?? []).withUnsafeBufferPointer { short in
          guard let bias = bias.baseAddress, let scales = scales.baseAddress else { return }
          var constants = qint_wide_constants(
            weights: tiles.weights.address.assumingMemoryBound(to: Int8.self), bias: bias,
            short_bias: shortBias == nil ? nil : short.baseAddress, scales: scales,
            zero_point: Float(operation.sums.grid.zeroPoint), low: Float(range.lowerBound),
            high: Float(range.upperBound))
          tiles.window.withPointers(channels: tiles.channels, block: tiles.block) { window in
            qint_convolve_wide(window, &constants, high, low, y)
          }
        }
      }
    }
    operation.limit(outputs[0])
  }
}

/// Exact sums over each byte of the codes by oneDNN's kernels, put together by a loop of our own.
struct WideSumsKernel: Kernel {
  private let operation: WideAccumulation
  private let high: OneDNNPrimitive
  private let low: OneDNNPrimitive?
  private let factor: Int32
  private let border: PaddedCopy?
  private let bias: [Double]
  private let shortBias: [Int32]?
  private let scales: [Float]
  private let slopes: [Float]?
  private let step: Float

  var name: String {
    let half = low == nil ? "" : ", second half"
    return "\(border == nil ? "" : "pad, ")int16 \(high.implementation)\(half), requantize"
  }
  var usesOneDNN: Bool { true }
  var scratchpadBytes: Int { max(high.scratchpadBytes, low?.scratchpadBytes ?? 0) }
  var constantBytes: Int { high.constantBytes + (low?.constantBytes ?? 0) }
  private var plain: Int { operation.sums.input.reduce(1, *) }
  private var isWide: Bool { operation.inputGrid.isWide }
  var temporaries: [Int] {
    let sums = operation.sums.output.reduce(1, *) * 4
    let rest = low == nil ? 0 : sums
    return [isWide ? 2 * plain : 0, border?.count ?? 0, sums, rest, isWide ? sums : 0, isWide ? rest : 0]
  }

  init(_ operation: WideAccumulation) throws(Diagnostic) {
    self.operation = operation
    let sums = operation.sums
    border = try sums.border()
    let exact = try sums.makeExactSums(sums.axes(border), factor: sums.leastFactor)
    (high, low, factor) = (exact.high, exact.low, Int32(exact.factor))
    bias = operation.foldedBias.map { Double($0) }
    shortBias = operation.shortBias
    scales = (0..<sums.channels).map { sums.scales[sums.scales.count == 1 ? 0 : $0] }
    switch sums.curve {
    case .none: (slopes, step) = (nil, 0)
    case .slopes(let list): (slopes, step) = (list, 0)
    case .hardSwish: (slopes, step) = (nil, sums.grid.scale)
    }
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let worker = context.oneDNN, let split = bytes(outputs[1]) else {
      throw Diagnostic("onednn", "an operand has no memory", kind: .internal)
    }
    // Planes of bytes, the lower one first.
    var planes: [UnsafePointer<UInt8>] = []
    if let x = words(inputs[0]), isWide {
      qint_split(x, plain, split + plain, split)
      planes = [UnsafePointer(split), UnsafePointer(split + plain)]
    } else if let x = bytes(inputs[0]) {
      planes = [x]
    }
    for (index, plane) in planes.enumerated() {
      var source = UnsafeRawPointer(plane)
      if let border, let padded = bytes(outputs[2]) {
        border.fill(operation.zeroBytes.reversed()[index], plane, padded)
        source = UnsafeRawPointer(padded)
      }
      guard let total = outputs[3 + 2 * index].bytes.baseAddress else { return }
      try worker.execute(high, bytes: source, total)
      if let low, let rest = outputs[4 + 2 * index].bytes.baseAddress {
        try worker.execute(low, bytes: source, rest)
      }
    }
    requantize(outputs)
    operation.limit(outputs[0])
  }

  private func requantize(_ outputs: [MutableTensorView]) {
    func sums(_ index: Int) -> UnsafePointer<Int32>? {
      outputs[index].type.count == 0
        ? nil : outputs[index].bytes.baseAddress.map { UnsafePointer($0.assumingMemoryBound(to: Int32.self)) }
    }
    let (grid, range) = (operation.sums.grid, operation.sums.clamp.range)
    let columns = operation.sums.channels
    bias.withUnsafeBufferPointer { bias in
      scales.withUnsafeBufferPointer { scales in
        (slopes ?? []).withUnsafeBufferPointer { list in
          (shortBias ?? []).withUnsafeBufferPointer { short in
            guard let bias = bias.baseAddress, let scales = scales.baseAddress, let first = sums(3) else { return }
            var how = qint_wide_sums(
              high: sums(5), high_rest: sums(6), low: first, low_rest: sums(4), factor: factor, bias: bias,
              short_bias: shortBias == nil ? nil : short.baseAddress, scales: scales,
              slopes: slopes == nil ? nil : list.baseAddress, step: step, zero_point: Float(grid.zeroPoint),
              low_code: Float(range.lowerBound), high_code: Float(range.upperBound))
            qint_requantize_wide(
              &how, outputs[0].type.count / columns, columns, grid.isWide ? words(outputs[0]) : nil,
              grid.isWide ? nil : bytes(outputs[0]))
          }
        }
      }
    }
  }
}
