import IR
import Operators

/// A convolution, transposed convolution or matrix product of bytes with constant weights:
///
///     total = sum of weight * (code - inputZero) + bias         in integers
///     y     = Float(total) * scale of the channel               in output steps
///     y     = activation(y)
///     code  = clamp(rint(y + zero point))                       half to even
struct IntegerAccumulation: IntegerOperation {
  /// Which numbers meet which weights.
  enum Form: Sendable {
    /// Input [N, D, H, W, C], weights [KD, KH, KW, C / group, M].
    case convolution(WindowGeometry, group: Int)
    /// The same with input and output exchanged.
    case transposed(WindowGeometry, group: Int)
    /// Input [m, k], weights [k, n]; as shapes [m, 1, 1, 1, k] and so on.
    case product
  }
  /// An activation that is no clamp.
  enum Curve: Sendable {
    case none
    /// y < 0 ? slope * y : y, a slope a channel.
    case slopes([Float])
    /// y * clip(y / 6 + 0.5, 0, 1); `scales` give real numbers then, divided by the output's scale behind it.
    case hardSwish
  }

  let form: Form
  /// Shapes with three spatial axes, channel-last.
  let input: [Int]
  let output: [Int]
  /// Whole steps, -255 to 255, in the order [window..., inputs of a group, outputs].
  let weights: [Int16]
  let inputZero: Int
  /// In steps of input scale times weight scale.
  let bias: [Int32]
  /// One for each output channel.
  let scales: [Float]
  let curve: Curve
  let grid: CodeGrid
  let clamp: CodeClamp
  /// Upper bounds of the codes a channel, from an ElementWiseMinimum.
  let bounds: [UInt8]?

  /// Output channels.
  var channels: Int { output[4] }
  /// The largest magnitude that occurs in a total, and on the way to it when zero points are folded into
  /// the bias, for any input codes.
  let reach: Int
}

/// Convolutions and products with constant weights.
@Sendable func makeIntegerAccumulation(_ request: IntegerRequest) -> IntegerOffer {
  guard let x = request.input(0), let w = request.input(1) else { return .unrelated }
  let (xs, ws, ys) = (x.type.shape, w.type.shape, request.outputs.first?.type.shape ?? [])
  let form: IntegerAccumulation.Form
  var shapes: (input: [Int], output: [Int])
  /// The channel axis of the weight, and whether it is [outputs, inputs].
  var (axis, isTurned) = (ws.count - 1, false)
  switch request.op {
  case let op as Conv2d: form = .convolution(op.geometry(weight: ws).inThreeAxes, group: op.group)
  case let op as Conv3d: form = .convolution(op.geometry(weight: ws).inThreeAxes, group: op.group)
  case let op as DepthWiseConv2d:
    form = .convolution(op.grouped(channels: 1).geometry(weight: ws).inThreeAxes, group: xs[3])
  case let op as TransposeConv2d: form = .transposed(op.geometry(weight: ws).inThreeAxes, group: op.group)
  case let op as TransposeConv3d: form = .transposed(op.geometry(weight: ws).inThreeAxes, group: op.group)
  case is FullyConnected: (form, axis, isTurned) = (.product, 0, true)
  case let op as MatMul:
    guard w.tensor.constant != nil, ws.dropLast(2).allSatisfy({ $0 == 1 }) else {
      return makeIntegerProduct(request, op)
    }
    guard !op.transposeIn0 else { return .refused("integer: the first factor is transposed") }
    (form, isTurned) = (.product, op.transposeIn1)
    if isTurned { axis = ws.count - 2 }
  default: return .unrelated
  }
  if case .product = form {
    let columns = ys[ys.count - 1]
    let depth = xs[xs.count - 1]
    let rows = ys.dropLast().reduce(1, *)
    shapes = ([rows, 1, 1, 1, depth], [rows, 1, 1, 1, columns])
  } else {
    shapes = (inThreeAxes(xs), inThreeAxes(ys))
  }
  guard let inputGrid = x.codes, x.tensor.constant == nil else {
    return .refused("integer: the input \(x.tensor.constant == nil ? x.problem : "is constant")")
  }
  guard let grid = request.outputs[0].codes else {
    return .refused("integer: the output \(request.outputs[0].problem)")
  }
  let isWide = inputGrid.isWide || grid.isWide
  if isWide, case .transposed = form { return .refused("integer: a transposed convolution has 16 bits") }
  guard shapes.output.allSatisfy({ $0 > 0 }), shapes.input.allSatisfy({ $0 > 0 }) else {
    return .refused("integer: an operand is empty")
  }
  let weight: IntegerWeight
  switch IntegerWeight.read(w.tensor, axis: axis, isTurned: isTurned) {
  case .success(let read): weight = read
  case .failure(let refusal): return .refused(refusal.reason)
  }
  let channels = shapes.output[4]
  let unit = weight.scales.map { Double(inputGrid.scale) * Double($0) }
  let units = unit.count == 1 ? [Double](repeating: unit[0], count: channels) : unit
  guard let bias = integerBias(request.input(2)?.tensor, units) else {
    return .refused("integer: the bias is computed, or does not fit 32 bits at the weights' scales")
  }
  guard let stage = OutputStage(request, grid, units: units) else {
    return .refused("integer: an activation behind it has no integer form")
  }
  guard stage.scales.allSatisfy(\.isFinite) else { return .refused("integer: the scales are too far apart") }
  // Sums of codes of two bytes are taken over each byte.
  let reach = weight.reach(
    channels: channels, bias: isWide ? bias.map { _ in 0 } : bias, inputZero: isWide ? 0 : inputGrid.zeroPoint)
  guard reach <= Int(Int32.max) else { return .refused("integer: sums may not fit 32 bits") }
  let sums = IntegerAccumulation(
    form: form, input: shapes.input, output: shapes.output, weights: weight.steps,
    inputZero: inputGrid.zeroPoint, bias: bias, scales: stage.scales, curve: stage.curve, grid: grid,
    clamp: stage.clamp, bounds: isWide ? nil : stage.bounds.map { $0.map { UInt8($0) } }, reach: reach)
  return .operation(
    isWide ? WideAccumulation(sums: sums, inputGrid: inputGrid, bounds: stage.bounds) : sums, reads: [0])
}

/// What follows the sums.
private struct OutputStage {
  var scales: [Float]
  var curve = IntegerAccumulation.Curve.none
  var clamp: CodeClamp
  var bounds: [UInt16]?

  /// nil where an activation behind the node has no integer form. `units` are the real values of one step
  /// of the sums, a channel.
  init?(_ request: IntegerRequest, _ grid: CodeGrid, units: [Double]) {
    scales = units.map { Float($0 / Double(grid.scale)) }
    clamp = CodeClamp(grid)
    if let clamps = request.clamps(on: grid) {
      (clamp, bounds) = clamps
      return
    }
    guard request.followers.count == 1 else { return nil }
    switch request.followers[0].op {
    case let op as LeakyRelu:
      curve = .slopes([Float](repeating: op.alpha, count: units.count))
    case is Prelu:
      guard let (values, shape) = request.followers[0].constant, shape.last ?? 1 == values.count,
        [1, units.count].contains(values.count)
      else { return nil }
      curve = .slopes(
        values.count == 1 ? [Float](repeating: values[0], count: units.count) : values)
    case is HardSwish:
      curve = .hardSwish
      scales = units.map { Float($0) }
    default: return nil
    }
  }
}

/// Why something has no integer form.
struct IntegerRefusal: Error {
  let reason: String
}

/// A weight in whole steps.
struct IntegerWeight {
  /// In the order [..., outputs].
  var steps: [Int16]
  /// One, or one for each output.
  var scales: [Float]

  /// Reads a constant whose outputs lie along `axis`; `isTurned` tells that it is [outputs, inputs].
  static func read(
    _ tensor: Tensor, axis: Int, isTurned: Bool
  ) -> Result<IntegerWeight, IntegerRefusal> {
    func refuse(_ reason: String) -> Result<IntegerWeight, IntegerRefusal> {
      .failure(IntegerRefusal(reason: "integer: the weight \(reason)"))
    }
    guard let constant = tensor.constant else { return refuse("is computed") }
    guard let encoding = tensor.encoding else { return refuse("is float") }
    guard encoding.bitwidth <= 8 else { return refuse("has \(encoding.bitwidth) bits") }
    guard encoding.axis == nil || encoding.axis == axis else {
      return refuse("has a grid for each index of another axis than its outputs'")
    }
    guard var steps = tensor.constantSteps() else { return refuse("cannot be read") }
    var scales = encoding.channels.map(\.scale)
    let shape = constant.type.shape
    if encoding.blocks != nil {
      guard let power = encoding.blocks?.lowPower, power.decompressedBitwidth <= 8 else {
        return refuse("has a grid a block")
      }
      // Codes times the block's factor are codes of the channel's grid.
      scales = power.channelScales
      encoding.forEachChannelRun(shape: shape) { block, start, count in
        for index in start..<(start + count) { steps[index] *= power.factors[block] }
      }
    }
    var result = [Int16](repeating: 0, count: steps.count)
    for (index, step) in steps.enumerated() {
      guard (-255...255).contains(step) else { return refuse("has steps beyond 255") }
      result[index] = Int16(step)
    }
    if isTurned {
      let (outputs, inputs) = (shape[shape.count - 2], shape[shape.count - 1])
      let source = result
      for row in 0..<outputs {
        for column in 0..<inputs { result[column * outputs + row] = source[row * inputs + column] }
      }
    }
    return .success(IntegerWeight(steps: result, scales: scales))
  }

  /// The largest magnitude on the way to a total, over all channels, whatever the input codes are.
  func reach(channels: Int, bias: [Int32], inputZero: Int) -> Int {
    var (positive, negative) = ([Int](repeating: 0, count: channels), [Int](repeating: 0, count: channels))
    for start in stride(from: 0, to: steps.count, by: channels) {
      for channel in 0..<channels {
        let step = Int(steps[start + channel])
        if step > 0 { positive[channel] += step } else { negative[channel] -= step }
      }
    }
    var reach = 0
    for channel in 0..<channels {
      let (up, down) = (positive[channel] * 255, negative[channel] * 255)
      // A window at the border sees some of the weights only, so the zero's share may have either sign.
      let shift = max(positive[channel], negative[channel]) * inputZero
      reach = max(reach, max(up, down) + shift + abs(Int(bias[channel])))
    }
    return reach
  }
}

/// A bias in steps of `units`, one for each channel; zeros where there is none. Codes of 32 bits on just
/// that grid are taken as they are, everything else is rounded to it, half to even. nil where it is no
/// constant or a number does not fit.
private func integerBias(_ tensor: Tensor?, _ units: [Double]) -> [Int32]? {
  guard let tensor else { return [Int32](repeating: 0, count: units.count) }
  guard let constant = tensor.constant, constant.type.count == units.count else { return nil }
  let (encoding, steps) = (tensor.encoding, tensor.constantSteps())
  let floats = encoding == nil ? constant.floats() : []
  var result: [Int32] = []
  for (channel, unit) in units.enumerated() {
    var exact: Double
    if let encoding {
      guard let step = steps?[channel] else { return nil }
      let scale = Double(encoding.channels[encoding.axis == nil ? 0 : channel].scale)
      let isOnGrid = encoding.bitwidth == 32 && abs(scale - unit) <= 1e-5 * unit
      exact = isOnGrid ? Double(step) : Double(step) * scale / unit
    } else {
      exact = Double(floats[channel]) / unit
    }
    guard let step = Int32(exactly: exact.rounded(.toNearestOrEven)) else { return nil }
    result.append(step)
  }
  return result
}
