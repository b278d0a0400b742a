import EncodingFiles
import IR
import Operators
import Testing

/// What an encodings file cannot hold is left out and told.
@Suite struct DumpLossTests {
  private func graph(_ encoding: String) throws -> Graph {
    try Graph(
      text: """
        graph "g" {
          input %x: float32[1, 4] <bw 8; \(encoding); from calibrated> !given
          %y: float32[1, 4] <bw 8; grid 0.1 -3; from calibrated> !given = ElementWiseAbs(%x) "n"
          output %y
        }
        """, registry: .standard)
  }

  private let generations: [EncodingGeneration] = [.keyed, .listed, .onnx]

  @Test(arguments: ["symmetric; codes 28 218; grid 0.1 -128", "symmetric; grid 0.1 -300"])
  func restrictedCodes(_ encoding: String) throws {
    for generation in generations {
      let graph = try graph(encoding)
      let losses = EncodingFile.losses(of: graph, generation: generation)
      #expect(losses.map(\.location.tensor) == ["x"])
      #expect(losses.allSatisfy { $0.severity == .warning && $0.message.hasPrefix("1 encoding is left out") })
      let file = EncodingFile(of: graph, generation: generation)
      #expect(file.entries.map(\.name) == ["y"])
      #expect(try EncodingFile(decoding: file.encoded()).entries.map(\.name) == ["y"])
    }
  }

  @Test func strictSymmetric() throws {
    let graph = try graph("symmetric; codes 1 255; grid 0.1 -128")
    for generation in generations {
      let losses = EncodingFile.losses(of: graph, generation: generation)
      #expect(losses.count == (generation == .onnx ? 1 : 0))
      #expect(EncodingFile(of: graph, generation: generation).entries.count == 2)
    }
  }

  @Test func ordinaryGridsLoseNothing() throws {
    let graph = try graph("symmetric; grid 0.1 -128")
    for generation in generations {
      #expect(EncodingFile.losses(of: graph, generation: generation).isEmpty)
    }
  }

  /// Grids of the rule `clip` are written by scale and offset, and read back as they are.
  @Test(arguments: ["grid 0.1 128", "grid 0.1 -300", "grid 0.3 1"])
  func gridsWithoutZero(_ encoding: String) throws {
    let graph = try graph(encoding)
    for generation in generations {
      #expect(EncodingFile.losses(of: graph, generation: generation).isEmpty)
      let file = EncodingFile(of: graph, generation: generation)
      let bytes = try file.encoded()
      #expect(String(decoding: bytes, as: UTF8.self).split(separator: "\"clip\"").count == 2)
      let read = try EncodingFile(decoding: bytes)
      #expect(read.notes.isEmpty)
      let entry = try #require(read.entries.first { $0.name == "x" })
      #expect(entry.grids == graph.tensors[0].encoding?.channels && !entry.symmetric && entry.bitwidth == 8)
      // Without the mark it is none of AIMET's grids.
      let text = String(decoding: bytes, as: UTF8.self).replacing("\"clip\"", with: "\"clap\"")
      let failure = #expect(throws: Diagnostic.self) { try EncodingFile(decoding: [UInt8](text.utf8)) }
      #expect(failure?.message.contains("the only mode is clip") == true)
    }
  }
}
