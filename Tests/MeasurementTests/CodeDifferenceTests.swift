import IR
import Operators
import Runtime
import Testing

@testable import Measurement

/// Differences between ways to run a quantized graph are counted in codes.
@Suite struct CodeDifferenceTests {
  /// A graph of two operators whose second result can be shifted.
  private func graph(offset: Int32 = -128) -> Graph {
    var graph = Graph(name: "codes")
    let type = TensorType(.float32, [1, 64])
    let names = ["x", "y", "z"]
    let ids = names.map { graph.add(Tensor(name: $0, type: type)) }
    for (place, id) in ids.enumerated() {
      graph[id].encoding = Encoding(
        bitwidth: 8, channels: [ScaleOffset(scale: place == 0 ? 0.01 : 0.02, offset: place == 2 ? offset : -128)])
    }
    graph.inputs = [ids[0]]
    graph.outputs = [ids[2]]
    graph.nodes = [
      Node(name: "first", op: ElementWiseNeg(), inputs: [ids[0]], outputs: [ids[1]]),
      Node(name: "second", op: ElementWiseAbs(), inputs: [ids[1]], outputs: [ids[2]]),
    ]
    return graph
  }

  private func samples(_ backend: any Backend, jobs: Int = 1) -> MeasurementSamples {
    MeasurementSamples(
      count: 3, jobs: jobs, backend: backend,
      load: { (index) throws(Diagnostic) in [Bytes((0..<64).map { Float($0 - 30 + index) * 0.037 })] })
  }

  @Test func equalBackends() throws {
    let result = try CodeDifferences.measure(graph(), samples(ReferenceBackend()), against: IntegerBackend())
    #expect(result.rows.map(\.tensor) == ["x", "y", "z"])
    #expect(result.rows.map(\.operatorName) == ["Input", "ElementWiseNeg", "ElementWiseAbs"])
    #expect(result.rows.allSatisfy { $0.codes == 192 && $0.differing == 0 && $0.largest == 0 })
    #expect(result.first == nil)
  }

  /// What is no number is as far away as can be, but from its like; infinities and far values have an end.
  @Test func distances() {
    func steps(_ one: Float, _ other: Float) -> Int { CodeComparison.steps(from: one, to: other, scale: 0.5) }
    #expect(steps(1, 2.6) == 3 && steps(-1, 1) == 4 && steps(3, 3) == 0)
    #expect(steps(.nan, 1) == 1 << 32 && steps(1, .nan) == 1 << 32 && steps(.nan, .nan) == 0)
    #expect(steps(.infinity, 0) == 1 << 32 && steps(3e38, -3e38) == 1 << 32)
  }

  /// A backend that runs another graph differs where that one does, by as many steps, for any jobs.
  @Test(arguments: [1, 3]) func differingBackends(jobs: Int) throws {
    struct Shifted: Backend {
      let graph: Graph
      let name = "shifted"
      let description = "shifted"
      func prepare(_ graph: Graph, options: PlanOptions) throws(Diagnostic) -> any Plan {
        try ReferenceBackend().prepare(self.graph, options: options)
      }
    }
    // Code 255 stands for less there: values from (255 - 200) steps on are cut.
    let other = Shifted(graph: graph(offset: -240))
    let result = try CodeDifferences.measure(graph(), samples(ReferenceBackend(), jobs: jobs), against: other)
    #expect(result.rows[0].differing == 0 && result.rows[1].differing == 0)
    let last = result.rows[2]
    #expect(result.first == last && result.byShare.first == last)
    // |x| reaches 1.28: 64 steps; the shifted grid ends at 15.
    #expect(last.largest == 64 - 15)
    #expect(last.differing > 100 && last.differing < 192)
    #expect(last.total > last.differing)
  }
}
