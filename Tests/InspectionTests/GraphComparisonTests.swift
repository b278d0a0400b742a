import IR
import Inspection
import Operators
import Testing

@Suite("Comparison of graphs")
struct GraphComparisonTests {
  private static let text = """
    graph "g" {
      input %x: float32[1, 4] <bw 8; grid 0.1 -3; from calibrated> !given
      const %w: float32[2, 4] <bw 8; symmetric; axis 0; grid 0.1 -128 0.2 -128; from calibrated> !given = [1, 2, 3, 4, 5, 6, 7, 8]
      %a: float32[1, 2] = FullyConnected(%x, %w) "fc"
      %y: float32[1, 2] <bw 8; grid 0.5 0; from calibrated> !given = Softmax(%a) {axis: 1, beta: 1.0f} "soft"
      output %y
    }
    """

  private func lines(_ changes: [(String, String)], tolerance: Double = 0) throws -> [String] {
    var other = Self.text
    for (old, new) in changes {
      try #require(other.contains(old))
      other = other.replacing(old, with: new)
    }
    let first = try Graph(text: Self.text, registry: .standard)
    let second = try Graph(text: other, registry: .standard)
    return GraphComparison(tolerance: tolerance).differences(first, second).map(\.line)
  }

  @Test("the same graph: nothing")
  func same() throws { #expect(try lines([]) == []) }

  @Test(
    "one change: one line",
    arguments: [
      (
        "grid 0.5 0", "grid 0.25 0",
        "tensor y: encoding: (bw 8, scale 0.5, offset 0) -> (bw 8, scale 0.25, offset 0)"
      ),
      (
        "5, 6, 7, 8]", "5, 6.5, 7, 8]",
        "tensor w: weight: 1 of 8 elements differ, most at [1, 1]: 6.0 -> 6.5"
      ),
      ("beta: 1.0f", "beta: 2.0f", "node soft: attribute beta: 1.0 -> 2.0"),
      (
        "<bw 8; grid 0.1 -3; from calibrated> !given", "!float 16",
        "tensor x: encoding: (bw 8, scale 0.1, offset -3) -> none"
      ),
      ("graph \"g\"", "graph \"h\"", "graph: name: g -> h"),
    ])
  func oneChange(_ old: String, _ new: String, _ line: String) throws {
    #expect(try lines([(old, new)]) == [line])
  }

  @Test("three changes: three lines, nodes first")
  func threeChanges() throws {
    let found = try lines([
      ("grid 0.5 0", "grid 0.25 0"), ("5, 6, 7, 8]", "5, 6.5, 7, 8]"), ("beta: 1.0f", "beta: 2.0f"),
    ])
    #expect(found.count == 3)
    #expect(found.first?.hasPrefix("node soft") == true)
  }

  /// The weight in blocks of two; the grids come behind "block 1 2; ".
  private static let weight = "symmetric; axis 0; grid 0.1 -128 0.2 -128;"
  private static let blocks = "symmetric; axis 0; block 1 2; grid 0.1 -128 0.2 -128 0.3 -128 0.4 -128;"

  @Test("blocks: their text, tolerance and the step of each element")
  func blockwise() throws {
    func compare(_ a: String, _ b: String, tolerance: Double = 0) throws -> [String] {
      let graphs = try [a, b].map { try Graph(text: Self.text.replacing(Self.weight, with: $0), registry: .standard) }
      return GraphComparison(tolerance: tolerance).differences(graphs[0], graphs[1]).map(\.line)
    }
    #expect(try compare(Self.blocks, Self.blocks) == [])
    #expect(
      try compare(Self.weight, Self.blocks) == [
        "tensor w: encoding: (bw 8, symmetric, axis 0, 2 grids, scale 0.1, offset -128) -> "
          + "(bw 8, symmetric, axis 0, blocks of 2 along axis 1, 4 grids, scale 0.1, offset -128)"
      ])
    #expect(try compare(Self.blocks, Self.blocks.replacing("0.4", with: "0.40001"), tolerance: 1e-3) == [])
    #expect(try compare(Self.blocks, Self.blocks.replacing("0.4", with: "0.5"), tolerance: 1e-3).count == 1)
    #expect(
      try compare(Self.blocks, Self.blocks.replacing("0.4", with: "0.5")) == [
        "tensor w: encoding: (bw 8, symmetric, axis 0, blocks of 2 along axis 1, 4 grids, scale 0.1, offset -128), "
          + "grid 3: scale 0.4, offset -128 -> grid 3: scale 0.5, offset -128"
      ])
    // As many grids in blocks of other elements are other grids.
    #expect(try compare(Self.blocks, Self.blocks.replacing("block 1 2", with: "block 1 3"), tolerance: 1).count == 1)
    // Half a step of its own block is what an element may differ by where grids differ.
    let coarse = Self.blocks.replacing("0.2", with: "9.0")
    for (changed, count) in [("1, 2.5, 3,", 2), ("1, 2, 3.5,", 1)] {
      let first = Self.text.replacing(Self.weight, with: Self.blocks)
      let second = Self.text.replacing(Self.weight, with: coarse).replacing("1, 2, 3,", with: changed)
      let graphs = try [first, second].map { try Graph(text: $0, registry: .standard) }
      #expect(GraphComparison().differences(graphs[0], graphs[1]).count == count)
    }
  }

  @Test("a tensor that keeps an encoding of its own inside a pair")
  func unfused() throws {
    var graphs = try [Self.text, Self.text].map { try Graph(text: $0, registry: .standard) }
    graphs[1].tensors[2].isUnfused = true
    #expect(
      GraphComparison().differences(graphs[0], graphs[1]).map(\.line) == [
        "tensor \(graphs[0].tensors[2].name): unfused: false -> true"
      ])
  }

  @Test("a tolerance takes small differences of ranges and weights")
  func tolerance() throws {
    let changes = [("grid 0.5 0", "grid 0.5001 0"), ("5, 6, 7, 8]", "5, 6.001, 7, 8]")]
    #expect(try lines(changes, tolerance: 1e-3) == [])
    #expect(try lines(changes, tolerance: 1e-5).count == 2)
  }
}

@Suite("Rules for encodings")
struct EncodingRuleTests {
  private func rules(_ text: String) throws -> Set<String> {
    let graph = try Graph(text: text, registry: .standard)
    return Set(EncodingRule.builtIn.flatMap { $0.violations(in: graph) }.map(\.rule))
  }

  @Test("the scale of a bias follows the largest block of its channel")
  func biasOfBlocks() throws {
    func text(_ grids: String) -> String {
      """
      graph "g" {
        input %x: float32[1, 4] <bw 8; grid 0.5 0> !given
        const %w: float32[2, 4] <bw 4; symmetric; axis 0; block 1 2; grid 0.25 -8 0.5 -8 2.0 -8 1.0 -8> !given \
      = [1, 2, 3, 4, 5, 6, 7, 8]
        const %b: float32[2] <bw 32; symmetric; axis 0; grid \(grids)> !given = [1, 2]
        %y: float32[1, 2] <bw 8; grid 0.5 0> !given = FullyConnected(%x, %w, %b) "fc"
        output %y
      }
      """
    }
    #expect(try rules(text("0.25 -2147483648 1.0 -2147483648")) == [])
    #expect(try rules(text("0.125 -2147483648 0.25 -2147483648")) == ["bias-scale"])
  }

  @Test(
    "each rule is broken by one graph",
    arguments: [
      (
        "data-invariant-ties",
        """
        graph "g" {
          input %x: float32[2, 2] <bw 8; grid 0.5 0> !given
          %y: float32[4] <bw 8; grid 0.25 0> !given = Reshape(%x) {shape: [4]} "r"
          output %y
        }
        """
      ),
      (
        "concat-ties",
        """
        graph "g" {
          input %x: float32[2] <bw 8; grid 0.5 0> !given
          %y: float32[4] <bw 8; grid 1.0 0> !given = Concat(%x, %x) {axis: 0} "c"
          output %y
        }
        """
      ),
      (
        "fixed-ranges",
        """
        graph "g" {
          input %x: float32[2] <bw 8; grid 0.5 0> !given
          %y: float32[2] <bw 8; grid 0.5 0> !given = Sigmoid(%x) "s"
          output %y
        }
        """
      ),
      (
        "range-limit",
        """
        graph "g" {
          input %x: float32[2] <bw 8; grid 50.0 0> !given
          %y: float32[2] <bw 8; grid 0.5 0> !given = Relu(%x) "r"
          output %y
        }
        """
      ),
      (
        "exact-zero",
        """
        graph "g" {
          input %x: float32[2] <bw 8; grid 0.5 3> !given
          %y: float32[2] <bw 8; grid 0.5 0> !given = Relu(%x) "r"
          output %y
        }
        """
      ),
      (
        "norm-16-bit",
        """
        graph "g" {
          input %x: float32[1, 2] <bw 16; grid 0.01 0> !given
          const %g: float32[2] = [1, 1]
          %y: float32[1, 2] <bw 8; grid 0.5 0> !given = RmsNorm(%x, %g) {axes: [1], epsilon: 1.0f} "n"
          output %y
        }
        """
      ),
      (
        "bias-scale",
        """
        graph "g" {
          input %x: float32[1, 1] <bw 8; grid 0.5 0> !given
          const %w: float32[1, 1] <bw 8; symmetric; grid 0.5 -128> !given = [1]
          const %b: float32[1] <bw 32; symmetric; grid 0.5 -2147483648> !given = [1]
          %y: float32[1, 1] <bw 8; grid 0.5 0> !given = FullyConnected(%x, %w, %b) "f"
          output %y
        }
        """
      ),
    ])
  func broken(_ rule: String, _ text: String) throws {
    #expect(try rules(text) == [rule])
  }
}
