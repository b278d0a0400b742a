import IR

/// Runs quantized graphs in 8-bit integers on oneDNN, with loops of our own for what is no convolution
/// or product; operators without an integer kernel run on dequantized numbers. Without encodings
/// (`PlanOptions.simulate` false) it is ``OneDNNBackend``. The same bits as ``IntegerReferenceBackend`` on every operator that runs in integers, on
/// every processor; see docs/integer-execution.md.
public struct IntegerBackend: Backend {
  public let name = "integer"
  public var description: String { "integers on oneDNN \(OneDNN.version), \(OneDNN.instructionSet)" }

  /// Makes the backend.
  public init() {}

  public func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan {
    guard options.simulate, graph.tensors.contains(where: { $0.encoding != nil }) else {
      return try OneDNNBackend().prepare(graph, options: options)
    }
    var builder = IntegerPlanBuilder(
      graph, options, isPlain: false, makers: OneDNN.kernelMakers + nativeKernelMakers)
    return try builder.build()
  }
}

/// The same by plain Swift: defines the bits of ``IntegerBackend``. Operators without an integer form run
/// by their reference kernels.
public struct IntegerReferenceBackend: Backend {
  public let name = "integer-reference"
  public var description: String { "plain integers" }

  /// Makes the backend.
  public init() {}

  public func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan {
    guard options.simulate, graph.tensors.contains(where: { $0.encoding != nil }) else {
      return try ReferenceBackend().prepare(graph, options: options)
    }
    var builder = IntegerPlanBuilder(graph, options, isPlain: true, makers: [])
    return try builder.build()
  }
}
