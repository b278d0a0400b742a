import CKernels
import IR
import Operators

/// Local response normalization over the last axis, for the usual exponents.
struct ResponseNormKernel: ElementKernel {
  let op: Lrn
  let rows: Int
  let channels: Int
  var name: String { "native response normalization" }

  func run(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * channels + 2 * op.radius) { scratch in
      guard let scratch = scratch.baseAddress else { return }
      qk_response_norm(x, y, rows, channels, op.radius, op.alpha, op.beta, op.bias, scratch)
    }
  }
}

/// Maker of these kernels.
func makeResponseNormKernel(_ request: KernelRequest) -> KernelOffer {
  guard let op = request.op as? Lrn, let x = request.input(0) else { return .unrelated }
  if let refusal = request.floatRefusal { return refusal }
  guard [0.5, 0.75, 1].contains(op.beta) else { return .refused("native: beta \(op.beta) is no root") }
  let channels = x.shape[x.rank - 1]
  guard op.radius <= channels else { return .refused("native: the radius is wider than the channels") }
  return .kernel(ResponseNormKernel(op: op, rows: x.count / channels, channels: channels))
}

/// Normalization of each image a channel or a group of channels; sums in Double.
struct ImageNormKernel: Kernel {
  let images: Int
  let pixels: Int
  let channels: Int
  let groups: Int
  let epsilon: Float
  var name: String { "native image normalization" }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let x = inputs[0]?.elements(as: Float.self).baseAddress,
      let gamma = inputs[1]?.elements(as: Float.self).baseAddress,
      let beta = inputs[2]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: Float.self).baseAddress
    else { return }
    withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * channels) { scratch in
      guard let scratch = scratch.baseAddress else { return }
      for start in stride(from: 0, to: images * pixels * channels, by: pixels * channels) {
        qk_image_norm(x + start, y + start, pixels, channels, groups, Double(epsilon), gamma, beta, scratch)
      }
    }
  }
}

/// Maker of these kernels.
func makeImageNormKernel(_ request: KernelRequest) -> KernelOffer {
  let (groups, epsilon): (Int?, Float)
  switch request.op {
  case let op as InstanceNorm: (groups, epsilon) = (nil, op.epsilon)
  case let op as GroupNorm: (groups, epsilon) = (op.group, op.epsilon)
  default: return .unrelated
  }
  if let refusal = request.floatRefusal { return refusal }
  guard let x = request.input(0), let channels = request.input(1)?.count, groups ?? channels > 0 else {
    return .unrelated
  }
  return .kernel(
    ImageNormKernel(
      images: x.shape[0], pixels: x.count / x.shape[0] / channels, channels: channels,
      groups: groups ?? channels, epsilon: epsilon))
}
