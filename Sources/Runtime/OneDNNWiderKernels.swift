import COneDNN
import IR
import Operators

extension OneDNN {
  /// Layer normalization with constant scale and shift.
  static func layerNorm(_ request: KernelRequest) -> KernelOffer {
    guard let op = request.op as? LayerNorm else { return .unrelated }
    guard request.isFloat, request.postOperations.isEmpty, let x = request.input(0) else {
      return .refused("oneDNN: an operand is empty or not float32")
    }
    guard let gamma = request.constant(1) else { return .refused("oneDNN: scale is computed") }
    let beta = request.constant(2)
    if request.input(2) != nil && beta == nil { return .refused("oneDNN: shift is computed") }
    let size = op.axes.map { x.shape[$0] }.reduce(1, *)
    return offer { () throws(Diagnostic) in
      let primitive = try OneDNNPrimitive { error, capacity in
        withFloats(gamma, beta) { gamma, beta in
          qdnn_layer_norm_create(x.count / size, size, op.epsilon, gamma, beta, error, capacity)
        }
      }
      return OneDNNKernel(primitive: primitive, consumedInputs: [1, 2], overwritesInput: true)
    }
  }

  /// Transposed convolution with constant weights.
  static func deconvolution(_ request: KernelRequest) -> KernelOffer {
    guard let x = request.input(0), let w = request.input(1) else { return .unrelated }
    let (geometry, group): (WindowGeometry, Int)
    switch request.op {
    case let op as TransposeConv2d: (geometry, group) = (op.geometry(weight: w.shape), op.group)
    case let op as TransposeConv3d: (geometry, group) = (op.geometry(weight: w.shape), op.group)
    default: return .unrelated
    }
    guard request.isFloat, request.postOperations.isEmpty else {
      return .refused("oneDNN: an operand is empty or not float32")
    }
    guard let weight = request.constant(1) else { return .refused("oneDNN: weight is computed") }
    let bias = request.constant(2)
    if request.input(2) != nil && bias == nil { return .refused("oneDNN: bias is computed") }
    let y = request.outputs[0]
    let axes = axes(geometry, input: x.shape, output: y.shape)
    return offer { () throws(Diagnostic) in
      let primitive = try OneDNNPrimitive { error, capacity in
        withFloats(weight, bias) { weight, bias in
          weight.flatMap {
            qdnn_deconv_create(
              axes.count, axes, x.shape[0], x.shape[x.rank - 1], y.shape[y.rank - 1], group, $0, bias,
              nil, 0, error, capacity)
          }
        }
      }
      return OneDNNKernel(primitive: primitive, consumedInputs: [1, 2])
    }
  }
}
