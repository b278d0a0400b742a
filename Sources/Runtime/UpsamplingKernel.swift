import CKernels
import COneDNN
import IR
import Operators

/// A transposed convolution whose windows do not overlap: a matrix product that gives every pixel its window,
/// then rows put in their places.
struct UpsamplingKernel: Kernel {
  let product: OneDNNPrimitive
  /// Rows of input pixels, all images.
  let inputRows: Int
  /// Rows of a window.
  let windowRows: Int
  /// Pixels of an input row.
  let width: Int
  /// Numbers of a row of a window.
  let length: Int

  var name: String { "native upsampling, oneDNN \(product.implementation)" }
  var consumedInputs: Set<Int> { [1, 2] }
  var usesOneDNN: Bool { true }
  var scratchpadBytes: Int { product.scratchpadBytes }
  var constantBytes: Int { product.constantBytes }

  func run(
    _ inputs: [TensorView?], _ outputs: [MutableTensorView], _ context: KernelContext
  ) throws(Diagnostic) {
    guard let worker = context.oneDNN, let x = inputs[0]?.elements(as: Float.self).baseAddress,
      let y = outputs[0].elements(as: UInt32.self).baseAddress
    else { throw Diagnostic("onednn", "an operand has no memory", kind: .internal) }
    let windows = UnsafeMutablePointer<Float>.allocate(capacity: inputRows * width * windowRows * length)
    defer { windows.deallocate() }
    try worker.execute(product, x, nil, windows)
    UnsafeRawPointer(windows).withMemoryRebound(
      to: UInt32.self, capacity: inputRows * width * windowRows * length
    ) { windows in
      // [row, pixel, window row, length] as [row, window row, pixel, length].
      qk_permute(
        windows, y, 4, [inputRows, windowRows, width, length],
        [width * windowRows * length, length, windowRows * length, 1])
    }
  }
}

extension OneDNN {
  /// Transposed convolutions over two axes with constant weights and windows side by side.
  static func upsampling(_ request: KernelRequest) -> KernelOffer {
    guard let op = request.op as? TransposeConv2d, let x = request.input(0), let w = request.input(1) else {
      return .unrelated
    }
    let window = op.geometry(weight: w.shape)
    guard window.filter == window.stride, window.pads.allSatisfy({ $0 == 0 }), window.dilation == [1, 1],
      op.group == 1, request.isFloat, request.postOperations.isEmpty
    else { return .unrelated }
    let shape = request.outputs[0].shape
    guard shape[1] == x.shape[1] * window.stride[0], shape[2] == x.shape[2] * window.stride[1],
      let weight = request.constant(1)
    else { return .unrelated }
    let given = request.constant(2)
    if request.input(2) != nil && given == nil { return .unrelated }
    let (taps, channels, filters) = (window.filter[0] * window.filter[1], x.shape[3], shape[3])
    // [taps, channels, filters] as [channels, taps, filters].
    let plain = weight.array(of: Float.self)
    var turned = [Float](repeating: 0, count: plain.count)
    for tap in 0..<taps {
      for channel in 0..<channels {
        for filter in 0..<filters {
          turned[(channel * taps + tap) * filters + filter] = plain[(tap * channels + channel) * filters + filter]
        }
      }
    }
    let bias = given.map { Bytes(Array(repeatElement($0.array(of: Float.self), count: taps).joined())) }
    do throws(Diagnostic) {
      let product = try OneDNNPrimitive { error, capacity in
        withFloats(Bytes(turned), bias) { weight, bias in
          qdnn_matmul_create(
            1, 1, x.count / channels, channels, taps * filters, 0, weight, bias, nil, 0, error, capacity)
        }
      }
      return .kernel(
        UpsamplingKernel(
          product: product, inputRows: x.shape[0] * x.shape[1], windowRows: window.filter[0], width: x.shape[2],
          length: window.filter[1] * filters))
    } catch {
      return .refused("oneDNN: \(error.message)")
    }
  }
}
