import IR
import Operators

/// Runs a graph node by node with the operators' own kernels; float16 tensors hold rounded float32.
func interpret(_ graph: Graph, _ inputs: [Bytes]) throws -> [Constant] {
  var values = graph.tensors.map { tensor in
    tensor.constant.map { $0.materialized().aligned(to: 64) }
  }
  for (id, bytes) in zip(graph.inputs, inputs) {
    let isHalf = graph[id].type.element == .float16
    let logical = isHalf ? Bytes(Constant(type: graph[id].type, bytes: bytes).floats()) : bytes
    values[id.index] = logical.aligned(to: 64)
  }
  for node in graph.nodes {
    let views = node.inputs.map { id -> TensorView? in
      guard let id, let bytes = values[id.index] else { return nil }
      return TensorView(type: graph[id].type.logical, bytes: bytes.buffer)
    }
    let buffers = node.outputs.map { id in
      UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(graph[id].type.logical.byteCount, 1), alignment: 64)
    }
    defer { for buffer in buffers { buffer.deallocate() } }
    let targets = zip(node.outputs, buffers).map { id, buffer in
      MutableTensorView(
        type: graph[id].type.logical,
        bytes: UnsafeMutableRawBufferPointer(rebasing: buffer[..<graph[id].type.logical.byteCount]))
    }
    try node.op.evaluate(views, targets)
    for (id, target) in zip(node.outputs, targets) {
      values[id.index] = Bytes(count: target.bytes.count) {
        $0.copyMemory(from: UnsafeRawBufferPointer(target.bytes))
      }
      guard graph[id].type.element == .float16 else { continue }
      values[id.index] = Bytes(target.elements(as: Float.self).map { Half.rounded($0) })
    }
  }
  return try graph.outputs.map { id in
    guard let bytes = values[id.index] else {
      throw Diagnostic("test-output", "output \(graph[id].name) was not made")
    }
    let constant = Constant(type: graph[id].type.logical, bytes: bytes)
    return graph[id].type.element == .float16 ? constant.halved() : constant
  }
}
