import CIntegers
import IR
import Operators

/// Convolutions of one group, and products of several rows, by a loop of our own that makes the bytes itself: where
/// the processor has AVX-512 VNNI, and no AMX, which only oneDNN uses.
struct PackedIntegerKernel: Kernel {
  private let tiles: PackedTiles
  /// [blocks, 32], as ``IntegerAccumulation``, in the order of packed channels.
  private let bias: [Int32]
  private let scales: [Float]
  private let padding: UInt8
  private let zeroPoint: Float
  private let range: ClosedRange<Int>
  private let bounds: [UInt8]?

  var name: String {
    "\(tiles.window.copy == nil ? "" : "pad, ")int8 tiles:avx512_core_vnni\(bounds == nil ? "" : ", bounds")"
  }
  var constantBytes: Int { tiles.weights.byteCount + 4 * (bias.count + scales.count) }
  var temporaries: [Int] { tiles.window.copy.map { [$0.count] } ?? [] }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard var source = bytes(inputs[0]), let target = bytes(outputs[0]) else { return }
    if let copy = tiles.window.copy, let padded = bytes(outputs[1]) {
      copy.fill(padding, source, padded)
      source = UnsafePointer(padded)
    }
    bias.withUnsafeBufferPointer { bias in
      scales.withUnsafeBufferPointer { scales in
        guard let bias = bias.baseAddress, let scales = scales.baseAddress else { return }
        var constants = qint_convolve_constants(
          weights: tiles.weights.address.assumingMemoryBound(to: Int8.self), bias: bias, scales: scales,
          zero_point: zeroPoint, low: UInt8(range.lowerBound), high: UInt8(range.upperBound))
        tiles.window.withPointers(channels: tiles.channels, block: tiles.block) { window in
          qint_convolve(window, &constants, source, target)
        }
      }
    }
    if let bounds { qint_limit_rows(target, bounds, outputs[0].type.count / tiles.channels, tiles.channels) }
  }
}

extension PackedIntegerKernel {
  /// Whether the processor has what it takes.
  static let isAvailable = OneDNN.isWide && OneDNN.addsIn32Bits && !OneDNN.hasTiles && qint_has_convolve() != 0

  /// nil where the processor, the operation or its sizes are none for this kernel.
  init?(_ operation: IntegerAccumulation) throws(Diagnostic) {
    guard Double(operation.reach) * Double(operation.scales.max() ?? 0) < 0x1p30,
      let tiles = try PackedTiles(operation, leastEfficiency: PackedWindow.leastEfficiency)
    else { return nil }
    self.tiles = tiles
    bias = tiles.spread(operation.foldedBias)
    let all = operation.scales
    scales = tiles.spread((0..<operation.channels).map { all[all.count == 1 ? 0 : $0] })
    padding = UInt8(operation.inputZero)
    zeroPoint = Float(operation.grid.zeroPoint)
    range = operation.clamp.range
    bounds = operation.bounds
  }
}

/// How windows of bytes are walked, and weights packed for it.
struct PackedTiles: Sendable {
  let window: PackedWindow
  let block: Int
  let channels: Int
  let weights: PackedConstant
  /// Where each channel lies.
  private let places: [Int]

  /// nil where the processor, the form, the weights or the sizes are none for the tiles.
  init?(_ operation: IntegerAccumulation, leastEfficiency: Double) throws(Diagnostic) {
    guard PackedIntegerKernel.isAvailable, case .none = operation.curve else { return nil }
    let geometry: WindowGeometry
    switch operation.form {
    case .convolution(let window, let group):
      guard group == 1 else { return nil }
      geometry = window
    case .product:
      geometry = .point(rank: 3)
    case .transposed: return nil
    }
    guard operation.weights.allSatisfy({ -128...127 ~= $0 }),
      PackedWindow.efficiency(input: operation.input, output: operation.output, window: geometry)
        >= leastEfficiency,
      let window = PackedWindow(
        input: operation.input, output: operation.output, window: geometry)
    else { return nil }
    let size = Int(qint_channel_block)
    let blocks = (operation.channels + size - 1) / size
    let padded = window.packedLength
    let places = (0..<operation.channels).map { $0 / size * size + qint_packed_channel($0 % size) }
    weights = try PackedConstant(byteCount: blocks * size * padded * window.runs.count)
    let packed = weights.address.assumingMemoryBound(to: Int8.self)
    let panel = size * padded * window.runs.count
    operation.weights.withUnsafeBufferPointer { plain in
      for run in window.runs.indices {
        for element in 0..<window.runLength {
          let row = (run * window.runLength + element) * operation.channels
          let place = (run * padded + element / 4 * 4) * size + element % 4
          for (channel, target) in places.enumerated() {
            packed[target / size * panel + place + target % size * 4] = Int8(truncatingIfNeeded: plain[row + channel])
          }
        }
      }
    }
    (self.window, self.places) = (window, places)
    block = window.block(weightBytes: weights.byteCount)
    channels = operation.channels
  }

  /// Numbers of the channels in the order of packed ones, [blocks, 32]; 0 beyond the channels.
  func spread<Number: Numeric>(_ numbers: [Number]) -> [Number] {
    let size = Int(qint_channel_block)
    var result = [Number](repeating: 0, count: (channels + size - 1) / size * size)
    for (number, target) in zip(numbers, places) { result[target] = number }
    return result
  }
}
