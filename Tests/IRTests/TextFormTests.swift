import IR
import Operators
import Testing

@Suite struct TextForm {
  @Test func encodingsStatesAndOddNamesRoundTrip() throws {
    let text = """
      graph "a \\"b\\"" {
        input %"in:0": ufixed8[1, 2] <bw 8; grid 0.1 -3; from calibrated> !given
        const %w: sfixed8[2, 2] <bw 8; symmetric; codes 1 255; axis 0; grid 0.5 -128 0.25 -128> = [1, -2, 3, 4]
        const %i: int64[3] = [-1, 0, 9]
        %y: float32[1, 2] !float 16 = FullyConnected(%"in:0", %w, _) "fc/1"
        %z: float32[1, 2] !open 16 unfused = Relu(%y) "relu" !int32
        %u: float32[1, 2] !float = Relu(%z) "last"
        output %u
      }

      """
    let graph = try Graph(text: text, registry: .standard)
    #expect(graph.text() == text)
  }

  @Test(arguments: [
    ("graph", "line 1 without a name"), ("graph \"g\" { input %x: float33[1] }", "bad type"),
    ("graph \"g\" { %y: float32[1] = Relu(%x) \"n\" }", "unknown tensor"),
    ("graph \"g\" { input %x: float32[1]\n %y: float32[1] = Nope(%x) \"n\" }", "unknown operator"),
    ("graph \"g\" { const %x: float32[2] = [1] }", "too few values"),
    ("graph \"g\" { const %x: float32[2] = #12 }", "hash"),
    ("graph \"g\" { input %x: float32[9223372036854775807, 9] }", "overflow"),
  ])
  func brokenTextIsADiagnostic(_ text: String, _ why: String) {
    #expect(throws: Diagnostic.self, "\(why)") { try Graph(text: text, registry: .standard) }
  }

  @Test func truncationAtEveryByteNeverCrashes() throws {
    let text = """
      graph "g" {
        input %x: float32[1, 2] <bw 8; grid 0.1 -3>
        const %w: float32[2, 2] = [1, -2, 3.5, 4e-3]
        %y: float32[1, 2] = FullyConnected(%x, %w) "fc"
        %z: float32[1, 2] = ReluMinMax(%y) {min_value: 0.0f, max_value: 6.0f} "clip"
        output %z
      }
      """
    for end in 0..<text.utf8.count {
      let part = String(decoding: text.utf8.prefix(end), as: UTF8.self)
      #expect(throws: Diagnostic.self) { try Graph(text: part, registry: .standard) }
    }
  }
}

@Suite struct HalfPrecision {
  @Test func everyHalfRoundTrips() {
    for bits in UInt16.min...UInt16.max {
      let value = floatFromHalfBits(bits)
      if value.isNaN { continue }
      #expect(halfBits(value) == bits)
    }
  }

  @Test(arguments: [
    (Float(65519), UInt16(0x7BFF)), (65520, 0x7C00), (0x1p-25, 0), (0x1.8p-25, 1), (1.0009765, 0x3C01),
    (-0.0, 0x8000), (2049, 0x6800), (2051, 0x6802),
  ])
  func rounding(_ value: Float, _ bits: UInt16) { #expect(halfBits(value) == bits) }
}

@Suite struct Verifier {
  @Test func findsEachViolation() throws {
    let good = try Graph(
      text: """
        graph "g" {
          input %x: float32[1, 2]
          %y: float32[1, 2] = Relu(%x) "a"
          %z: float32[1, 2] = Relu(%y) "b"
          output %z
        }
        """, registry: .standard)
    #expect(good.verify() == [])

    func codes(_ change: (inout Graph) -> Void) -> Set<String> {
      var graph = good
      change(&graph)
      return Set(graph.verify().map(\.code))
    }
    #expect(codes { $0.tensors[1].name = "x" } == ["verify-name"])
    #expect(codes { $0.tensors[2].type.shape = [3] } == ["verify-type"])
    #expect(codes { $0.nodes.swapAt(0, 1) } == ["verify-order"])
    #expect(codes { $0.nodes[1].outputs = $0.nodes[0].outputs }.contains("verify-producer"))
    #expect(codes { $0.nodes[0].inputs = [TensorID(99)] }.contains("verify-index"))
    #expect(
      codes { $0.tensors[1].encoding = Encoding(bitwidth: 8, channels: []) } == ["verify-encoding"])
    #expect(codes { $0.tensors[1].type.element = .ufixed8 } == ["verify-encoding"])
    #expect(codes { $0.nodes.removeLast() } == ["verify-output"])
  }

  /// The offset of a 32-bit bias is shown as 0, as in reports, and read so; written out it is the same.
  @Test func offsetsOfBiases() throws {
    func text(_ offset: String) -> String {
      """
      graph "g" {
        input %x: float32[2]
        const %b: float32[2] <bw 32; symmetric; axis 0; grid 0.5 \(offset) 0.25 \(offset)> !given = [1, 2]
        %y: float32[2] = ElementWiseAdd(%x, %b) "n"
        output %y
      }
      """
    }
    for offset in ["0", "-2147483648"] {
      let graph = try Graph(text: text(offset), registry: .standard)
      let id = try #require(graph.tensor(named: "b"))
      #expect(graph[id].encoding?.channels.allSatisfy { $0.offset == .min } == true)
      #expect(graph.text().contains("grid 0.5 0 0.25 0"))
    }
  }
}
