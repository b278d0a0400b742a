import CKernels
import IR
import Operators

/// A convolution of so few channels that vectors of channels would be half empty: vectors hold neighbouring
/// pixels. Reads an image with its channels last or first; both have the same bits.
struct PlanesKernel: Kernel {
  /// Sizes and steps.
  private let geometry: qk_planes
  private let isDepthwise: Bool
  private let batch: Int
  private let weights: [Float]
  private let bias: [Float]
  /// Behind the convolution; operands are the channel values in their order.
  private let links: [ChainLink]
  private let values: [[Float]]

  var name: String { isDepthwise ? "native depthwise of few channels" : "native convolution of few channels" }
  var consumedInputs: Set<Int> { [1, 2] }
  var constantBytes: Int { 4 * (weights.count + bias.count + values.reduce(0) { $0 + $1.count }) }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    withUnsafeTemporaryAllocation(of: qk_link.self, capacity: max(links.count, 1)) { table in
      for (place, link) in links.enumerated() {
        table[place] = qk_link(
          function: link.function, layout: link.layout, a: link.a, b: link.b, c: link.c, operand: nil)
      }
      withOperands(table, 0) { run(x, y, UnsafePointer(table.baseAddress)) }
    }
  }

  /// Gives links their operands, one after the other, and then calls `body`.
  private func withOperands(_ table: UnsafeMutableBufferPointer<qk_link>, _ index: Int, _ body: () -> Void) {
    guard index < links.count else { return body() }
    guard let input = links[index].input else { return withOperands(table, index + 1, body) }
    values[input].withUnsafeBufferPointer { operand in
      table[index].operand = operand.baseAddress
      withOperands(table, index + 1, body)
    }
  }

  private func run(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ table: UnsafePointer<qk_link>?
  ) {
    var sizes = geometry
    let room = isDepthwise ? qk_pixels_scratch(&sizes, links.count) : qk_planes_scratch(&sizes, links.count)
    let inner = sizes.channels * sizes.height * sizes.width
    let outer = sizes.out_channels * sizes.out_height * sizes.out_width
    weights.withUnsafeBufferPointer { weights in
      bias.withUnsafeBufferPointer { bias in
        withUnsafeTemporaryAllocation(byteCount: room * 4, alignment: 64) { memory in
          guard let weights = weights.baseAddress, let bias = bias.baseAddress,
            let scratch = memory.bindMemory(to: Float.self).baseAddress
          else { return }
          var constants = qk_planes_constants(
            weights: weights, bias: bias, links: table, link_count: links.count)
          for image in 0..<batch {
            if isDepthwise {
              qk_pixels_convolution(&sizes, &constants, x + image * inner, y + image * outer, scratch)
            } else {
              qk_planes_convolution(&sizes, &constants, x + image * inner, y + image * outer, scratch)
            }
          }
        }
      }
    }
  }
}

extension PlanesKernel {
  /// Whether a convolution is computed this way, in all its forms: fused or not, channels first or last.
  static func takes(_ op: any Operator, _ inputs: [TensorType?], weights: Bytes?, bias: Bytes?) -> Bool {
    guard qk_has_wide_vectors() != 0, weights != nil, inputs.count == 2 || inputs[2] == nil || bias != nil,
      inputs.allSatisfy({ $0.map { $0.element == .float32 && $0.count > 0 } ?? true }), let x = inputs[0],
      let w = inputs[1], x.rank == 4, w.shape[0] * w.shape[1] * w.shape[2] <= qk_planes_taps
    else { return false }
    switch op {
    case let op as Conv2d:
      return op.group == 1 && op.dilation == [1, 1] && op.stride.allSatisfy { $0 <= 16 } && x.shape[3] <= 4
        && w.shape[3] <= 8
    case let op as DepthWiseConv2d:
      return op.dilation == [1, 1] && op.stride == [1, 1] && w.shape[3] == x.shape[3]
        && [1, 2, 4, 8].contains(x.shape[3])
    default: return false
    }
  }

  /// Nil where a post-operation is none of a chain's.
  fileprivate init?(_ request: KernelRequest) {
    guard let x = request.input(0), let w = request.input(1), let given = request.constant(1) else { return nil }
    let window: WindowGeometry
    switch request.op {
    case let op as Conv2d: (window, isDepthwise) = (op.geometry(weight: w.shape), false)
    case let op as DepthWiseConv2d:
      (window, isDepthwise) = (op.grouped(channels: 1).geometry(weight: w.shape), true)
    default: return nil
    }
    let (y, shape) = (request.outputs[0].shape, x.shape)
    let (channels, outChannels) = (shape[3], y[3])
    batch = shape[0]
    var geometry = qk_planes()
    (geometry.channels, geometry.height, geometry.width) = (channels, shape[1], shape[2])
    (geometry.out_channels, geometry.out_height, geometry.out_width) = (outChannels, y[1], y[2])
    geometry.kernel = (window.filter[0], window.filter[1])
    geometry.stride = (window.stride[0], window.stride[1])
    geometry.pad = (window.pads[0], window.pads[2])
    if request.isPlanar {
      (geometry.channel_step, geometry.row_step, geometry.column_step) = (shape[1] * shape[2], shape[2], 1)
    } else {
      (geometry.channel_step, geometry.row_step, geometry.column_step) = (1, shape[2] * channels, channels)
    }
    self.geometry = geometry

    let taps = window.filter[0] * window.filter[1]
    let plain = given.array(of: Float.self)
    let plainBias = request.constant(2)?.array(of: Float.self) ?? [Float](repeating: 0, count: outChannels)
    if isDepthwise {
      weights = (0..<taps * 16).map { plain[$0 / 16 * channels + $0 % channels] }
      bias = (0..<16).map { plainBias[$0 % channels] }
    } else {
      // [rows, columns, channels, filters] as [filters / 8, channels, rows, columns, 8].
      let blocks = (outChannels + 7) / 8
      var packed = [Float](repeating: 0, count: blocks * channels * taps * 8)
      for filter in 0..<outChannels {
        for channel in 0..<channels {
          for tap in 0..<taps {
            let place = ((filter / 8 * channels + channel) * taps + tap) * 8 + filter % 8
            packed[place] = plain[(tap * channels + channel) * outChannels + filter]
          }
        }
      }
      weights = packed
      bias = (0..<blocks * 8).map { $0 < outChannels ? plainBias[$0] : 0 }
    }

    var (links, values): ([ChainLink], [[Float]]) = ([], [])
    for operation in request.postOperations {
      switch operation {
      case .relu(let slope): links.append(ChainLink(function: slope == 0 ? .relu : .leaky, a: slope))
      case .clip(let low, let high): links.append(ChainLink(function: .clip, a: low, b: high))
      case .channels(let function):
        let operand = request.channelValues[values.count].array(of: Float.self)
        let name: qk_function =
          switch function {
          case .add: .add
          case .multiply: .multiply
          case .minimum: .minimum
          case .maximum: .maximum
          }
        links.append(
          ChainLink(function: name, layout: operand.count == 1 ? .scalar : .row, input: values.count))
        values.append(operand)
      default: return nil
      }
    }
    (self.links, self.values) = (links, values)
  }
}

/// Maker of these kernels.
func makePlanesKernel(_ request: KernelRequest) -> KernelOffer {
  guard request.op is Conv2d || request.op is DepthWiseConv2d else { return .unrelated }
  guard request.takesPlanes else { return .unrelated }
  guard let kernel = PlanesKernel(request) else { return .refused("native: a function behind it is not its own") }
  return .kernel(kernel)
}

extension KernelRequest {
  /// Whether ``PlanesKernel`` computes the convolution.
  var takesPlanes: Bool {
    PlanesKernel.takes(op, inputs, weights: constant(1), bias: constant(2))
  }
}
