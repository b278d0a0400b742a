import Calibration
import Foundation
import IR
import Operators
import Quantizer
import Testing

/// What is said about biases, and widths that are decided for single tensors.
@Suite struct BiasReportTests {
  @Test func wideningAWholeWeightIsAWarningWithTheFactor() throws {
    let text = convolutions.replacingOccurrences(of: "[0.5, -1, 0.25]", with: "[0.5, -1, 1e6]")
    for perChannel in [false, true] {
      let result = try annotated(try graph(text), ["x": (-0.001, 0.001)]) {
        $0.perChannel = perChannel
        $0.biasBitwidth = 32
      }
      let note = try #require(result.notes.first { $0.code == "bias-widened" })
      #expect(note.severity == (perChannel ? .note : .warning))
      #expect(note.message.contains(" times, for bias b") == true)
    }
  }

  @Test func noisyBiasesAreNamed() throws {
    let loud = convolutions.replacingOccurrences(of: "[0.5, -1, 0.25]", with: "[0.501, -100, 0.252]")
    for (text, isNoisy) in [(convolutions, false), (loud, true)] {
      let result = try annotated(try graph(text), ["x": (-1, 1), "r": (0, 4), "y": (-1, 1)])
      let note = result.notes.first { $0.code == "bias-noise" }
      #expect((note != nil) == isNoisy)
      #expect(note == nil || (note?.message.contains("conv") == true && note?.severity == .note))
      let exact = try annotated(try graph(text), ["x": (-1, 1), "r": (0, 4), "y": (-1, 1)]) {
        $0.biasBitwidth = 32
      }
      #expect(!exact.notes.contains { $0.code == "bias-noise" })
    }
  }

  @Test func decidedWidthsBeatTheOptions() throws {
    var network = try graph(convolutions)
    for (name, bitwidth) in [("r", 16), ("w", 16), ("b", 32)] {
      let id = try #require(network.tensor(named: name))
      network[id].bitwidth = bitwidth
    }
    let result = try annotated(network, ["x": (-1, 1), "r": (0, 4)])
    for (name, bitwidth) in [("x", 8), ("r", 16), ("c", 16), ("w", 16), ("b", 32), ("y", 8), ("w2", 8)] {
      #expect(try result.graph.find(name).encoding?.bitwidth == bitwidth, "\(name)")
    }
    #expect(try result.materialized().verify().isEmpty)
  }

  @Test func decidedWidthsSpreadOverMovedData() throws {
    var network = try graph(
      """
      graph "i" {
        input %x: float32[1, 4]
        %r: float32[2, 2] = Reshape(%x) {shape: [2, 2]} "reshape"
        %t: float32[2, 2] = Transpose(%r) {perm: [1, 0]} "transpose"
        output %t
      }
      """)
    let middle = try #require(network.tensor(named: "r"))
    network[middle].bitwidth = 16
    var result = try annotated(network)
    for name in ["x", "r", "t"] { #expect(try result.graph.find(name).encoding?.bitwidth == 16) }
    let last = try #require(network.tensor(named: "t"))
    network[last].bitwidth = 8
    result = try annotated(network)
    #expect(try result.graph.find("r").encoding?.bitwidth == 16)
    #expect(try result.graph.find("t").encoding?.bitwidth == 8)
    #expect(try result.materialized().nodes.contains { $0.op.typeName == "Convert" })
  }
}
