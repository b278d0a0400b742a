import IR
import Operators
import Quantizer
import Testing

/// Encodings of the source are kept, spread and complete a graph.
@Suite struct SourceEncodingTests {
  private static let head = """
    graph "g" {
      input %x: float32[1, 4] <bw 8; grid 0.02 -128; from source> !given
      const %w: float32[2, 4] <bw 8; symmetric; grid 0.5 -128; from source> !given = [1, 2, 3, 4, 5, 6, 7, 8]
      const %b: float32[2] <bw 32; symmetric; grid 0.01 -2147483648; from source> !given = [1, -2]

    """

  private func graph(_ body: String) throws -> Graph {
    let graph = try Graph(text: Self.head + body + "\n}\n", registry: .standard)
    #expect(graph.verify() == [])
    return graph
  }

  @Test func aCompleteGraphIsMaterialized() throws {
    let source = try graph(
      """
      %r: float32[4, 1] = Reshape(%x) {shape: [4, 1]} "r"
      %s: float32[1, 4] = Reshape(%r) {shape: [1, 4]} "s"
      %y: float32[1, 2] <bw 8; grid 0.1 -100; from source> !given = FullyConnected(%s, %w, %b) "fc"
      output %y
      """)
    let made = try #require(try completed(source))
    #expect(made.isMaterialized)
    #expect(made.tensor(named: "w").map { made[$0].constant?.integers() ?? [] } == [2, 4, 6, 8, 10, 12, 14, 16])
    #expect(made.tensor(named: "b").map { made[$0].constant?.integers() ?? [] } == [100, -200])
    #expect(made.tensor(named: "r").flatMap { made[$0].encodingSource } == .spread)
    let back = made.dematerialized()
    #expect(back.tensor(named: "y").flatMap { back[$0].encoding } == source[source.outputs[0]].encoding)
    #expect(back.tensor(named: "r").map { back[$0].state } == .open)
  }

  @Test(arguments: [
    // An open result, an open bias.
    #"%y: float32[1, 2] = FullyConnected(%x, %w, %b) "fc""#,
    """
    const %c: float32[2] = [1, -2]
    %y: float32[1, 2] <bw 8; grid 0.1 -100; from source> !given = FullyConnected(%x, %w, %c) "fc"
    """,
  ])
  func aGraphWithAGapIsNot(_ body: String) throws {
    #expect(try completed(graph(body + "\noutput %y")) == nil)
  }

  @Test func aConvertOfTheSourceStaysAndItsOpenInputTakesTheEncoding() throws {
    let source = try graph(
      """
      %h: float32[1, 2] = FullyConnected(%x, %w, %b) "fc"
      %q: float32[1, 2] <bw 8; grid 0.1 -100; from source> !given = Convert(%h) "convert"
      %y: float32[1, 2] <bw 8; grid 0.2 -100; from source> !given = ElementWiseAdd(%h, %q) "add"
      output %y
      """)
    let made = try #require(try completed(source))
    let h = try #require(made.tensor(named: "h"))
    let q = try #require(made.tensor(named: "q"))
    #expect(made[h].encoding == made[q].encoding && made[h].encodingSource == .spread)
    let back = made.dematerialized()
    #expect(back.nodes.contains { $0.name == "convert" })
    #expect(back.text() == source.text())
  }

  @Test func twoConvertsOfOneTensorGiveNoWarning() throws {
    let source = try graph(
      """
      %h: float32[1, 2] = FullyConnected(%x, %w, %b) "fc"
      %q: float32[1, 2] <bw 8; grid 0.1 -100; from source> !given = Convert(%h) "convert"
      %p: float32[1, 2] <bw 16; grid 0.001 -30000; from source> !given = Convert(%h) "widen"
      %y: float32[1, 2] <bw 16; grid 0.002 -30000; from source> !given = ElementWiseAdd(%p, %q) "add"
      output %y
      """)
    let result = try assignEncodings(source, statistics: nil, options: QuantizerOptions())
    #expect(!result.notes.contains { $0.code == "encoding-conflict" })
    let made = try result.materialized()
    #expect(made.nodes.count { $0.op.typeName == "Convert" } >= 2)
  }
}

/// The fixed-point graph, nil where something is open.
private func completed(_ graph: Graph) throws -> Graph? {
  guard case .complete(_, let made) = try completeOverrides(graph) else { return nil }
  return made
}
