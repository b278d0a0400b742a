import IR

/// A rewrite of a graph that keeps its function: a value with a name, a one-line summary and `run`.
public protocol Pass: Sendable {
  /// Name in kebab case, as `--list_passes` and `--dump_ir_after` know it.
  var name: String { get }
  /// What it does, in one line.
  var summary: String { get }
  /// The rewritten graph. Throws where the graph cannot be right (a constant divided by zero, say).
  func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph
}

/// Passes in the order in which they run.
public struct Pipeline: Sendable {
  /// The passes.
  public let passes: [any Pass]

  /// A pipeline of the given passes.
  public init(_ passes: [any Pass]) { self.passes = passes }

  /// What qconvert runs between import and container.
  public static let standard = Pipeline([
    FoldConstants(), FuseChannelShuffle(), SinkTransposes(), FoldConstantsAgain(), SinkReshapes(),
    FoldBatchNorm(), FuseBias(), FoldLayerScale(), FuseBiasAgain(),
    FoldPadding(), FuseLayerNorm(), FuseGelu(), CanonicalizeActivations(), AbsorbQuantization(),
    FlattenIntoWeights(), SimplifyReshapes(), FoldSlices(), MergeDuplicates(), FoldFactors(),
    FoldInputScale(), RemoveDeadCode(), RestoreNames(),
  ])

  /// Runs all passes; `observe` sees the graph after each. A graph that does not verify after a pass is
  /// an internal error that names the pass.
  public func run(
    _ graph: Graph, observe: (any Pass, Graph) throws(Diagnostic) -> Void = { _, _ in }
  ) throws(Diagnostic) -> Graph {
    var current = graph
    for pass in passes {
      current = try pass.run(current)
      if var problem = Diagnostic.combining(current.verify()) {
        problem.kind = .internal
        problem.message = "after pass \(pass.name): \(problem.message)"
        throw problem
      }
      try observe(pass, current)
    }
    return current
  }
}

/// Drops nodes whose results nobody uses, and tensors that nothing refers to.
public struct RemoveDeadCode: Pass {
  public let name = "remove-dead-code"
  public let summary = "drops nodes and tensors that no output depends on"
  /// Makes the pass.
  public init() {}
  public func run(_ graph: consuming Graph) throws(Diagnostic) -> Graph { graph.compacted() }
}
