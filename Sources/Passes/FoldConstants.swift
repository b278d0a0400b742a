import IR
import Operators

/// Evaluates nodes whose inputs are all constant, with the operators' reference kernels.
public struct FoldConstants: Pass {
  public let name = "fold-constants"
  public let summary = "evaluates nodes whose inputs are all constant"
  /// Results larger than this and than their inputs stay nodes: repeating a value is no gain.
  static let growthLimit = 1 << 20

  /// Makes the pass.
  public init() {}

  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    var graph = graph
    var kept: [Node] = []
    for node in graph.nodes {
      let constants = node.inputs.map { $0.flatMap { graph[$0].constant } }
      let isConstant =
        !node.inputs.isEmpty && zip(node.inputs, constants).allSatisfy { $0 == nil || $1 != nil }
        && node.inputs.contains { $0 != nil }
      let sourceBytes = constants.reduce(0) { $0 + ($1?.type.byteCount ?? 0) }
      let resultBytes = node.outputs.reduce(0) { $0 + graph[$1].type.byteCount }
      guard isConstant, resultBytes <= max(sourceBytes, Self.growthLimit) else {
        kept.append(node)
        continue
      }
      let results = try Self.evaluate(node, constants, graph.outputTypes(node))
      for (output, value) in zip(node.outputs, results) {
        // Operators compute in float32 what is stored as float16.
        graph[output].constant = graph[output].type.element == .float16 ? value.halved() : value
      }
      moveEncoding(of: node, in: &graph)
    }
    graph.nodes = kept
    return graph.compacted()
  }

  /// Values that were only moved stay on their grid.
  private func moveEncoding(of node: Node, in graph: inout Graph) {
    guard let input = node.inputs.first ?? nil, let output = node.outputs.first else { return }
    if let op = node.op as? DequantizeLinear {
      graph[output].encoding = op.grid.encoding
      graph[output].encodingSource = .source
      graph[output].state = .given
    }
    guard let encoding = graph[input].encoding else { return }
    let moved: Encoding?
    switch node.op {
    case let transpose as Transpose: moved = encoding.permuted(transpose.perm)
    case is Reshape:
      moved = encoding.reshaped(from: graph[input].type.shape, to: graph[output].type.shape)
    default: return
    }
    guard let moved else { return }
    graph[output].encoding = moved
    graph[output].encodingSource = graph[input].encodingSource
    graph[output].state = graph[input].state
  }

  /// The outputs of a node with constant inputs. A transposed constant stays a view.
  static func evaluate(
    _ node: Node, _ inputs: [Constant?], _ types: [TensorType]
  ) throws(Diagnostic) -> [Constant] {
    if let transpose = node.op as? Transpose, let value = inputs.first ?? nil {
      return [value.permuted(transpose.perm)]
    }
    let bytes = inputs.map { $0.map { $0.materialized().aligned(to: 16) } }
    let views = zip(inputs, bytes).map { constant, bytes in
      constant.flatMap { constant in
        bytes.map { TensorView(type: constant.type, bytes: $0.buffer) }
      }
    }
    let memory = types.map {
      UnsafeMutableRawBufferPointer.allocate(byteCount: max($0.byteCount, 1), alignment: 64)
    }
    defer { for buffer in memory { buffer.deallocate() } }
    let outputs = zip(types, memory).map {
      MutableTensorView(
        type: $0, bytes: UnsafeMutableRawBufferPointer(rebasing: $1[..<$0.byteCount]))
    }
    do {
      try withExtendedLifetime(bytes) { () throws(Diagnostic) in
        try node.op.evaluate(views, outputs)
      }
    } catch { throw error.inNode(node.name) }
    return outputs.map { output in
      Constant(
        type: output.type,
        bytes: Bytes(count: output.type.byteCount) {
          $0.copyMemory(from: UnsafeRawBufferPointer(output.bytes))
        })
    }
  }
}

/// ``FoldConstants`` once more, for what the layout pass turned constant.
public struct FoldConstantsAgain: Pass {
  public let name = "fold-constants-again"
  public let summary = "fold-constants for what moving transposes made constant"
  /// Makes the pass.
  public init() {}
  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph {
    try FoldConstants().run(graph)
  }
}
