import IR
import Operators

/// Runs a graph node by node with the operators' own kernels.
func interpret(_ graph: Graph, _ inputs: [Bytes]) throws -> [Constant] {
  var values = graph.tensors.map { tensor in
    tensor.constant.map { $0.materialized().aligned(to: 64) }
  }
  for (id, bytes) in zip(graph.inputs, inputs) { values[id.index] = bytes.aligned(to: 64) }
  for node in graph.nodes {
    let views = node.inputs.map { id -> TensorView? in
      guard let id, let bytes = values[id.index] else { return nil }
      return TensorView(type: graph[id].type, bytes: bytes.buffer)
    }
    let buffers = node.outputs.map { id in
      UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(graph[id].type.byteCount, 1), alignment: 64)
    }
    defer { for buffer in buffers { buffer.deallocate() } }
    let targets = zip(node.outputs, buffers).map { id, buffer in
      MutableTensorView(
        type: graph[id].type,
        bytes: UnsafeMutableRawBufferPointer(rebasing: buffer[..<graph[id].type.byteCount]))
    }
    try node.op.evaluate(views, targets)
    for (id, target) in zip(node.outputs, targets) {
      values[id.index] = Bytes(count: target.bytes.count) {
        $0.copyMemory(from: UnsafeRawBufferPointer(target.bytes))
      }
    }
  }
  return try graph.outputs.map { id in
    guard let bytes = values[id.index] else {
      throw Diagnostic("test-output", "output \(graph[id].name) was not made")
    }
    return Constant(type: graph[id].type, bytes: bytes)
  }
}
