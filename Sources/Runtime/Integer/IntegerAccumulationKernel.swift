import CIntegers
import COneDNN
import IR
import Operators

/// Convolutions and products on oneDNN's integer kernels. Zero points of the input are folded into the
/// bias, because they leave oneDNN's fast kernels; padding then holds the zero point, so an input with
/// one is padded by a copy. Where all numbers stay below 2^24 oneDNN makes the bytes; elsewhere it gives
/// exact sums, in two parts where its kernel would round them, and a loop of our own makes the bytes.
struct IntegerAccumulationKernel: Kernel {
  /// What becomes of exact sums.
  struct Sums: Sendable {
    let factor: Int32
    let low: OneDNNPrimitive?
    /// What the sum of a window's codes counts, where a channel of ones behind the others makes it; else 0.
    let share: Int32
    let bias: [Int32]
    let biasRows: Int
    let scales: [Float]
    let slopes: [Float]?
    let step: Float
    let zeroPoint: Float
    let range: ClosedRange<Int>
  }

  let primitive: OneDNNPrimitive
  /// The copy of the input that the window walks over, and what lies in its border.
  let border: PaddedCopy?
  let padding: UInt8
  let sums: Sums?
  let bounds: [UInt8]?
  let rows: Int
  let columns: Int

  var name: String {
    var parts = ["int8 \(primitive.implementation)"]
    if border != nil { parts.insert("pad", at: 0) }
    if let sums {
      if sums.low != nil { parts.append("second half") }
      if sums.share != 0 { parts.append("code sums") }
      parts.append("requantize")
    }
    if bounds != nil { parts.append("bounds") }
    return parts.joined(separator: ", ")
  }
  var usesOneDNN: Bool { true }
  var scratchpadBytes: Int { max(primitive.scratchpadBytes, sums?.low?.scratchpadBytes ?? 0) }
  var constantBytes: Int { primitive.constantBytes + (sums?.low?.constantBytes ?? 0) }
  var temporaries: [Int] {
    let sumBytes = rows * (columns + (sums?.share == 0 ? 0 : 1)) * 4
    return [border?.count ?? 0, sums == nil ? 0 : sumBytes, sums?.low == nil ? 0 : sumBytes]
  }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let worker = context.oneDNN, let input = bytes(inputs[0]), let output = bytes(outputs[0]) else {
      throw Diagnostic("onednn", "an operand has no memory", kind: .internal)
    }
    var source = UnsafeRawPointer(input)
    if let border, let padded = bytes(outputs[1]) {
      border.fill(padding, input, padded)
      source = UnsafeRawPointer(padded)
    }
    if let sums, let total = outputs[2].bytes.baseAddress {
      try worker.execute(primitive, bytes: source, total)
      let rest = outputs[3].bytes.baseAddress
      if let low = sums.low, let rest { try worker.execute(low, bytes: source, rest) }
      sums.requantize(
        total.assumingMemoryBound(to: Int32.self),
        sums.low == nil ? nil : rest.map { UnsafePointer($0.assumingMemoryBound(to: Int32.self)) },
        rows, columns, output)
    } else {
      try worker.execute(primitive, bytes: source, UnsafeMutableRawPointer(output))
    }
    if let bounds { qint_limit_rows(output, bounds, rows, columns) }
  }
}

extension IntegerAccumulationKernel.Sums {
  func requantize(
    _ sums: UnsafePointer<Int32>, _ rest: UnsafePointer<Int32>?, _ rows: Int, _ columns: Int,
    _ output: UnsafeMutablePointer<UInt8>
  ) {
    bias.withUnsafeBufferPointer { bias in
      scales.withUnsafeBufferPointer { scales in
        (slopes ?? []).withUnsafeBufferPointer { slopes in
          guard let bias = bias.baseAddress, let scales = scales.baseAddress else { return }
          var how = qint_requantization(
            factor: factor, low_sums: rest, share: share, bias: bias, bias_rows: biasRows, scales: scales,
            slopes: self.slopes == nil ? nil : slopes.baseAddress, step: step, zero_point: zeroPoint,
            low: Float(range.lowerBound), high: Float(range.upperBound))
          qint_requantize(sums, &how, rows, columns, output)
        }
      }
    }
  }
}

extension IntegerAccumulation {
  /// The largest whole number below which every whole number is a Float.
  static let exactReach = 1 << 24

  func fastKernel() -> FastIntegerKernel {
    do throws(Diagnostic) {
      if let kernel = try PackedIntegerKernel(self) { return .kernel(kernel) }
      return .kernel(try oneDNNKernel())
    } catch {
      return .plain("oneDNN: \(error.message)")
    }
  }

  private func oneDNNKernel() throws(Diagnostic) -> IntegerAccumulationKernel {
    if hasGaps {
      // oneDNN 2.6 leaves positions that no weight reaches as they were.
      throw Diagnostic("onednn", "the transposed windows leave gaps")
    }
    let border = try border()
    let axes = axes(border)
    if let kernel = try kernelOfShiftedWeights(axes, border) { return kernel }
    let factor = leastFactor
    var sums: IntegerAccumulationKernel.Sums?
    let primitive: OneDNNPrimitive
    if factor == 1 && reach <= Self.exactReach && hasFusedOutput {
      primitive = try makeBytes(axes, weights.map { Int8(truncatingIfNeeded: $0) })
    } else {
      let exact = try makeExactSums(axes, factor: factor)
      primitive = exact.high
      sums = stage(factor: Int32(exact.factor), low: exact.low)
    }
    return IntegerAccumulationKernel(
      primitive: primitive, border: border, padding: UInt8(inputZero), sums: sums, bounds: bounds,
      rows: output[..<4].reduce(1, *), columns: channels)
  }

  /// Weights of an asymmetric grid reach beyond a byte, but less a number that is the same for all they do
  /// not: that number's share is its product with the sum of the window's codes, which one more channel,
  /// of ones, gives. nil where weights are no such, every output has inputs of its own, or sums would be rounded.
  private func kernelOfShiftedWeights(
    _ axes: [qdnn_axis], _ border: PaddedCopy?
  ) throws(Diagnostic) -> IntegerAccumulationKernel? {
    if case .transposed = form { return nil }
    let (lowest, highest) = (weights.min() ?? 0, weights.max() ?? 0)
    guard OneDNN.addsIn32Bits, group == 1, lowest < -128 || highest > 127, highest - lowest <= 255 else {
      return nil
    }
    let share = lowest + 128
    var shifted: [Int8] = []
    shifted.reserveCapacity(weights.count / channels * (channels + 1))
    for start in stride(from: 0, to: weights.count, by: channels) {
      for step in weights[start..<(start + channels)] { shifted.append(Int8(step - share)) }
      shifted.append(1)
    }
    let primitive = try make(axes, shifted, channels + 1, nil)
    guard keepsSums(primitive) || largestSum(shifted, channels + 1) <= Self.exactReach else { return nil }
    return IntegerAccumulationKernel(
      primitive: primitive, border: border, padding: UInt8(inputZero),
      sums: stage(factor: 1, low: nil, share: Int32(share)), bounds: bounds,
      rows: output[..<4].reduce(1, *), columns: channels)
  }

  /// Weights of more than a byte, and on processors that add pairs of products in 16 bits weights of more
  /// than 64 steps, are split into factor * high + low: the least such factor.
  var leastFactor: Int16 {
    let limit: Int16 = OneDNN.addsIn32Bits || isDepthwise ? 128 : 64
    let (lowest, highest) = (weights.min() ?? 0, weights.max() ?? 0)
    var factor: Int16 = 1
    while lowest < -limit * factor || highest > (limit - 1) * factor + factor - 1 { factor *= 2 }
    return factor
  }

  /// Whether every output sees one input channel: those kernels add in 32 bits everywhere.
  private var isDepthwise: Bool {
    if case .convolution(_, let group) = form { return group == input[4] && group == output[4] && group > 1 }
    return false
  }

  /// Whether oneDNN's post-operations can do what follows the sums.
  private var hasFusedOutput: Bool {
    if case .transposed = form { return false }
    switch curve {
    case .none: return true
    case .slopes(let slopes): return Set(slopes).count == 1
    case .hardSwish: return false
    }
  }

  /// Whether some positions of a transposed convolution's output see no input.
  private var hasGaps: Bool {
    guard case .transposed(let window, _) = form else { return false }
    let (one, small) = ([1] + output[1...3] + [1], [1] + input[1...3] + [1])
    var isReached = [Bool](repeating: false, count: one.reduce(1, *))
    forEachTap(one, small, window, start: { _ in }, tap: { _, target, _ in isReached[target] = true })
    return isReached.contains(false)
  }

  /// The copy that is needed where a window leaves the input and zero is not code 0.
  func border() throws(Diagnostic) -> PaddedCopy? {
    guard case .convolution(let window, _) = form, inputZero != 0 else { return nil }
    var padded = input
    var before: [Int] = []
    for axis in 0..<3 {
      let reach = (output[axis + 1] - 1) * window.stride[axis] + (window.filter[axis] - 1) * window.dilation[axis] + 1
      before.append(window.pads[2 * axis])
      padded[axis + 1] = max(input[axis + 1] + window.pads[2 * axis], reach)
    }
    guard padded != input else { return nil }
    // Little of what large steps over a wide border see is the input.
    let bytes = padded.reduce(1.0) { $0 * Double($1) }
    guard bytes <= 0x1p31 else { throw Diagnostic("onednn", "the padded input is too large") }
    return PaddedCopy(input: input, padded: padded, before: before)
  }

  func axes(_ border: PaddedCopy?) -> [qdnn_axis] {
    let window: WindowGeometry
    switch form {
    case .convolution(let geometry, _), .transposed(let geometry, _): window = geometry
    case .product: return []
    }
    let lengths = border?.padded ?? input
    let all = (0..<3).map { axis in
      qdnn_axis(
        in: lengths[axis + 1], out: output[axis + 1], kernel: window.filter[axis],
        stride: window.stride[axis], dilation: window.dilation[axis],
        pad_begin: border == nil ? window.pads[2 * axis] : 0)
    }
    // oneDNN's kernels for images are the better ones.
    let isImage = lengths[1] == 1 && output[1] == 1 && window.filter[0] == 1
    return isImage ? Array(all.dropFirst()) : all
  }

  private var group: Int {
    switch form {
    case .convolution(_, let group), .transposed(_, let group): group
    case .product: 1
    }
  }

  /// A primitive on bytes: of 32-bit sums where `output` is nil.
  func make(
    _ axes: [qdnn_axis], _ weights: [Int8], _ channels: Int, _ output: UnsafePointer<qdnn_byte_output>?
  ) throws(Diagnostic) -> OneDNNPrimitive {
    try OneDNNPrimitive { error, capacity in
      if case .product = form {
        return qdnn_integer_matmul_create(
          input[0], input[4], channels, weights, output, error, capacity)
      }
      var isTransposed: Int32 = 0
      if case .transposed = form { isTransposed = 1 }
      return qdnn_integer_conv_create(
        axes.count, axes, input[0], input[4], channels, group, isTransposed, weights, output, error,
        capacity)
    }
  }

  /// A primitive that makes the bytes itself. A clamp that the range of a byte does by itself is left out.
  private func makeBytes(_ axes: [qdnn_axis], _ weights: [Int8]) throws(Diagnostic) -> OneDNNPrimitive {
    var post: [qdnn_post_op] = []
    if case .slopes(let slopes) = curve {
      post.append(qdnn_post_op(function: .relu, alpha: slopes[0], beta: 0))
    }
    if grid.zeroPoint != 0 {
      post.append(qdnn_post_op(function: .linear, alpha: 1, beta: Float(grid.zeroPoint)))
    }
    if clamp.range != 0...255 {
      post.append(
        qdnn_post_op(
          function: .clip, alpha: Float(clamp.range.lowerBound), beta: Float(clamp.range.upperBound)))
    }
    let bias = foldedBias
    var made: Result<OneDNNPrimitive, Diagnostic>?
    scales.withUnsafeBufferPointer { scales in
      bias.withUnsafeBufferPointer { bias in
        post.withUnsafeBufferPointer { post in
          guard let first = scales.baseAddress else { return }
          var output = qdnn_byte_output(
            scales: first, scale_count: scales.count, bias: bias.baseAddress, post_ops: post.baseAddress,
            post_op_count: post.count)
          made = Result { () throws(Diagnostic) in try make(axes, weights, channels, &output) }
        }
      }
    }
    guard let made else { throw Diagnostic("onednn", "there are no channels") }
    return try made.get()
  }

  /// The bias less the zero point's share: sum of weight * zero.
  var foldedBias: [Int32] {
    var result = bias
    guard inputZero != 0 else { return result }
    for start in stride(from: 0, to: weights.count, by: channels) {
      for channel in 0..<channels { result[channel] -= Int32(inputZero) * Int32(weights[start + channel]) }
    }
    return result
  }

  private func stage(
    factor: Int32, low: OneDNNPrimitive?, share: Int32 = 0
  ) -> IntegerAccumulationKernel.Sums {
    var (bias, rows) = (foldedBias, 1)
    if case .transposed = form, inputZero != 0 {
      bias = transposedBias
      rows = output[1] * output[2] * output[3]
    }
    var (slopes, step): ([Float]?, Float) = (nil, 0)
    switch curve {
    case .none: break
    case .slopes(let list): slopes = list
    case .hardSwish: step = grid.scale
    }
    return IntegerAccumulationKernel.Sums(
      factor: factor, low: low, share: share, bias: bias, biasRows: rows, scales: scales, slopes: slopes, step: step,
      zeroPoint: Float(grid.zeroPoint), range: clamp.range)
  }

  /// The folded bias of every output position of a transposed convolution: positions see different weights.
  private var transposedBias: [Int32] {
    guard case .transposed(let window, _) = form else { return [] }
    let taps = window.filter.reduce(1, *)
    let perGroup = weights.count / taps / channels
    var shares = [Int32](repeating: 0, count: taps * channels)
    for tap in 0..<taps {
      for row in 0..<perGroup {
        for channel in 0..<channels {
          shares[tap * channels + channel] +=
            Int32(inputZero) * Int32(weights[(tap * perGroup + row) * channels + channel])
        }
      }
    }
    var result: [Int32] = []
    for _ in 0..<(output[1] * output[2] * output[3]) { result += bias }
    let (one, small) = ([1] + output[1...3] + [1], [1] + input[1...3] + [1])
    forEachTap(
      one, small, window, start: { _ in },
      tap: { _, target, tap in
        for channel in 0..<channels { result[target * channels + channel] -= shares[tap * channels + channel] }
      })
    return result
  }
}

extension OneDNN {
  /// Whether integer kernels add products in 32 bits; without VNNI pairs of them are added in 16.
  static let addsIn32Bits: Bool = {
    let name = instructionSet
    return ["vnni", "bf16", "amx"].contains { name.contains($0) }
  }()

  /// Whether its integer kernels multiply matrices of bytes by AMX, which no kernel of ours does.
  static let hasTiles = instructionSet.contains("amx")

  /// Whether its kernels use vectors of 512 bits: the processor has them and nobody forbade them.
  static let isWide = instructionSet.contains("avx512_core")
}

/// Walks the windows over a volume, shapes [N, D, H, W, C], a line of output pixels at a time: `body` gets the
/// number of the first one, that of an input pixel in its window, and how many follow each other that see an
/// input pixel at this place of their windows.
func forEachWindowLine(
  _ input: [Int], _ output: [Int], _ window: WindowGeometry, _ body: (Int, Int, Int) -> Void
) {
  let (stride, pad) = (window.stride[2], window.pads[4])
  var position = 0
  for n in 0..<output[0] {
    for oz in 0..<output[1] {
      for oy in 0..<output[2] {
        for kz in 0..<window.filter[0] {
          let z = oz * window.stride[0] + kz * window.dilation[0] - window.pads[0]
          if z < 0 || z >= input[1] { continue }
          for ky in 0..<window.filter[1] {
            let y = oy * window.stride[1] + ky * window.dilation[1] - window.pads[2]
            if y < 0 || y >= input[2] { continue }
            for kx in 0..<window.filter[2] {
              let shift = kx * window.dilation[2] - pad
              let first = shift >= 0 ? 0 : (-shift + stride - 1) / stride
              let end = shift >= input[3] ? 0 : min(output[3], (input[3] - 1 - shift) / stride + 1)
              if first >= end { continue }
              let line = ((n * input[1] + z) * input[2] + y) * input[3]
              body(position + first, line + first * stride + shift, end - first)
            }
          }
        }
        position += output[3]
      }
    }
  }
}
