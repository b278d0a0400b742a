import IR
import Operators
import Testing

@testable import Runtime

/// The integer backend gives the bits of its plain reference, on every operator and geometry.
@Suite struct IntegerTests {
  @Test(arguments: 0..<60) func convolutions(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: seed)
    let graph = maker.convolution()
    try expectSameBits(graph, seed: seed)
  }

  @Test(arguments: 0..<24) func products(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 1000 + seed)
    let graph = maker.product()
    try expectSameBits(graph, seed: seed)
  }

  @Test(arguments: 0..<16) func transposedConvolutions(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 2000 + seed)
    try expectSameBits(maker.transposedConvolution(), seed: seed)
  }

  @Test(arguments: 0..<40) func elementwiseAndMovement(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 3000 + seed)
    try expectSameBits(maker.other(seed), seed: seed)
  }

  /// Runs both backends on a few samples; every tensor must be equal, and nothing may run dequantized.
  private func expectSameBits(_ graph: Graph, seed: Int) throws {
    let taps = Set(graph.tensors.indices.filter { graph.tensors[$0].constant == nil }.map(TensorID.init))
    for tapped in [Set<TensorID>(), taps] {
      let fast = try IntegerBackend().prepare(graph, options: PlanOptions(taps: tapped))
      let plain = try IntegerReferenceBackend().prepare(graph, options: PlanOptions(taps: tapped))
      #expect(fast.steps.filter(\.isDequantized).map(\.refusals) == [])
      let (first, second) = (try fast.makeWorker(), try plain.makeWorker())
      for sample in 0..<2 {
        let input = IntegerGraphMaker.sample(graph, seed: seed * 7 + sample)
        var (left, right): ([TensorID: [UInt8]], [TensorID: [UInt8]]) = ([:], [:])
        let a = try first.run(input) { id, view in left[id] = Array(view.bytes) }
        let b = try second.run(input) { id, view in right[id] = Array(view.bytes) }
        for (x, y) in zip(a, b) {
          #expect(Array(x.buffer) == Array(y.buffer), "\(fast.steps.map(\.kernel)) \(graph)")
        }
        #expect(left == right)
        #expect(left.count == tapped.count)
      }
    }
  }
}
