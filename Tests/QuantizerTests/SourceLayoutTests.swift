import EncodingFiles
import IR
import Operators
import Testing

/// Axes of a written file are those of the source's constants, wherever ours have theirs.
@Suite struct SourceLayoutTests {
  /// What is written in 2.0.0 of the weight of a graph of one operator, read again.
  private func entry(_ weight: String, _ node: String, input: String = "[1, 6]") throws -> EncodingEntry {
    let values = [String](repeating: "0", count: 24).joined(separator: ", ")
    let graph = try Graph(
      text: """
        graph "g" {
          input %x: float32\(input)
          const %w: float32\(weight) = [\(values)]
          %y: float32\(node) "n"
          output %y
        }
        """, registry: .standard)
    let bytes = try EncodingFile(of: graph, generation: .onnx).encoded()
    let read = try EncodingFile(decoding: bytes)
    let found = try #require(read.entries.first { $0.name == "w" })
    let ours = try #require(graph.tensors.first { $0.name == "w" }?.encoding)
    #expect(found.grids == ours.channels)
    return found
  }

  private let rows = "<bw 8; symmetric; axis 0; grid 1 -128 2 -128 3 -128 4 -128; from source> !given"
  private let columns = "<bw 8; symmetric; axis 1; grid 1 -128 2 -128 3 -128 4 -128; from source> !given"
  private let blocks =
    "block 1 3; grid 1 -128 2 -128 3 -128 4 -128 5 -128 6 -128 7 -128 8 -128; from source> !given"
  private let full = "[1, 4] = FullyConnected(%x, %w)"

  @Test func channels() throws {
    #expect(try entry("[4, 6] \(rows)", full).axis == 0)
    #expect(try entry("[4, 6] \(rows) order [1, 0]", full).axis == 1)
    let product = "[1, 4] = MatMul(%x, %w) {transpose_in0: false, transpose_in1: false}"
    #expect(try entry("[6, 4] \(columns)", product).axis == 1)
    #expect(try entry("[6, 4] \(columns) order [1, 0]", product).axis == 0)
  }

  /// A nested list in the source's layout.
  @Test func blocksOfRows() throws {
    let straight = try entry("[4, 6] <bw 8; symmetric; axis 0; \(blocks)", full)
    #expect(straight.blockShape == [4, 2] && straight.blockSize == 3)
    let turned = try entry("[4, 6] <bw 8; symmetric; axis 0; \(blocks) order [1, 0]", full)
    #expect(turned.blockShape == [2, 4] && turned.blockSize == 3)
  }
}
