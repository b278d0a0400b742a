import Calibration
import EncodingFiles
import IR
import Operators
import Quantizer
import Testing

@Suite("Rules of overrides") struct OverrideRulesTests {
  private func codes(_ entries: [EncodingEntry], _ text: String = convolutions) -> [String] {
    do throws(Diagnostic) {
      let network: Graph
      do { network = try graph(text) } catch { return ["\(error)"] }
      _ = try overridden(network, entries)
      return []
    } catch {
      return error.all.map { "\($0.code) \($0.location.tensor ?? "")" }
    }
  }

  @Test func precisionIsCalibrated() throws {
    let (result, report) = try overridden(
      try graph(convolutions), [precision("r", 16), precision("w2", 16), precision("y", 16), precision("b", 32)])
    #expect(report.precisions == ["r": 16, "w2": 16, "y": 16, "b": 32])
    for name in ["r", "w2", "y", "b"] { #expect(try result.find(name).state == .open) }
    #expect(try result.find("r").bitwidth == 16 && result.find("x").bitwidth == nil)
    let done = try annotated(result, ["r": (0, 2)]).graph
    let r = try done.find("r")
    #expect(r.encoding == RangeToEncoding.encoding(min: 0, max: 2, bitwidth: 16, schema: .asymmetric))
    #expect(r.encodingSource == .calibrated && r.bitwidth == nil)
    #expect(try done.find("c").encoding == r.encoding)
    #expect(try done.find("w2").encoding?.bitwidth == 16 && done.find("w").encoding?.bitwidth == 8)
    #expect(try done.find("b").encoding?.bitwidth == 32 && done.find("x").encoding?.bitwidth == 8)
    #expect(try annotated(result).materialized().verify().isEmpty)
  }

  @Test func precisionSpreadsOverDataMovement() throws {
    let network = try graph(
      """
      graph "t" {
        input %x: float32[1, 2]
        %a: float32[2, 1] = Transpose(%x) {perm: [1, 0]} "t"
        %b: float32[2, 1] = ElementWiseAbs(%a) "abs"
        %c: float32[1, 2] = Transpose(%b) {perm: [1, 0]} "u"
        output %c
      }
      """)
    let (result, _) = try overridden(network, [precision("a", 16), precision("b", 16), precision("c", 8)])
    let done = try annotated(result, ["x": (-1, 1), "b": (0, 1), "c": (0, 1)]).graph
    #expect(try done.find("x").encoding == done.find("a").encoding && done.find("x").encoding?.bitwidth == 16)
    #expect(try done.find("b").encoding?.bitwidth == 16 && done.find("c").encoding?.bitwidth == 8)
    let fixed = try annotated(result).materialized()
    #expect(fixed.nodes.map(\.op.typeName) == ["Transpose", "ElementWiseAbs", "Convert", "Transpose"])
  }

  @Test func floats() throws {
    let (result, report) = try overridden(try graph(convolutions), [float("x", 16), float("y", 32)])
    #expect(try result.find("x").state == .float && result.find("x").bitwidth == 16)
    #expect(report.floatBitwidths["x"] == 16 && report.floatBitwidths["y"] == 32)
    #expect(try result.find("x").encodingSource == .override)
    #expect(codes([EncodingEntry(name: "r", section: .any, kind: .int, bitwidth: 12)]) == ["override-bitwidth r"])
  }

  @Test func floatTriple() throws {
    for name in ["r", "w", "b"] {
      let (open, report) = try overridden(
        try graph(convolutions), [float(name, 16), given("x")] + (name == "w" ? [] : [symmetric("w", scales: [1])]))
      for other in ["r", "b"] { #expect(try open.find(other).state == .float, "\(name) \(other)") }
      #expect(try open.find("r").bitwidth == 16)
      #expect(report.diagnostics.allSatisfy { $0.code != "override-float-triple" })
      // A weight with an encoding waits for what --keep_weights_quantized says.
      #expect(try open.find("w").state == (name == "w" ? .float : .given))
      let done = try annotated(open)
      let result = done.graph
      #expect(try result.find("w").state == .float && result.find("w").bitwidth == 16)
      #expect(try result.find("w").encoding == nil)
      #expect(try result.find("x").state == .given && open.find("w2").state == .open)
      let warned = done.notes.filter { $0.code == "override-float-triple" }
      #expect(warned.map(\.location.tensor) == (name == "w" ? [] : ["w"]))
      #expect(try done.materialized().find("w").type.element == .float16)
      let kept = try annotated(open) { $0.keepsWeightsQuantized = true }
      #expect(try kept.graph.find("w").encoding == open.find("w").encoding)
      let stored = try kept.materialized()
      #expect(try stored.find("w").type.element == (name == "w" ? .float16 : .sfixed8))
      #expect(try stored.find("r").type.element == .float16)
    }
    // A weight of the source goes along with a float output without a word.
    var trained = try graph(convolutions)
    let w = try #require(trained.tensor(named: "w"))
    trained[w].encoding = Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 1, offset: -128)])
    (trained[w].encodingSource, trained[w].state) = (.source, .given)
    let settled = try annotated(try overridden(trained, [float("r", 32)]).graph)
    #expect(try settled.graph.find("w").state == .float)
    #expect(settled.notes.allSatisfy { $0.code != "override-float-triple" })
    // The bias has a width of its own only where it is named.
    let (result, _) = try overridden(try graph(convolutions), [float("r", 16)])
    #expect(try result.find("b").bitwidth == nil)
    #expect(try overridden(try graph(convolutions), [float("r", 16), float("b", 32)]).graph.find("b").bitwidth == 32)
  }

  @Test func middleConvolutionInFloat() throws {
    let network = try graph(
      """
      graph "m" {
        input %x: float32[1, 1, 1, 1]
        const %u: float32[1, 1, 1, 1] = [2]
        const %v: float32[1, 1, 1, 1] = [3]
        const %w: float32[1, 1, 1, 1] = [4]
        %a: float32[1, 1, 1, 1] = Conv2d(%x, %u) \(pointwise) "a"
        %b: float32[1, 1, 1, 1] = Conv2d(%a, %v) \(pointwise) "b"
        %c: float32[1, 1, 1, 1] = Conv2d(%b, %w) \(pointwise) "c"
        output %c
      }
      """)
    let (result, _) = try overridden(network, [float("v")])
    let fixed = try annotated(result, ["b": (-2, 2)]).materialized()
    #expect(fixed.nodes.map(\.op.typeName) == ["Conv2d", "Dequantize", "Conv2d", "Quantize", "Conv2d"])
  }

  @Test func channels() throws {
    #expect(codes([symmetric("w", scales: [1, 2])]) == ["override-channels w"])
    #expect(codes([symmetric("r", scales: [1, 2, 3])]) == ["override-channels r"])
    #expect(codes([symmetric("b", scales: [1, 2])]) == ["override-channels b"])
    #expect(codes([symmetric("b", scales: [1, 2, 3])]).isEmpty)
    var skewed = symmetric("w", scales: [1, 2, 3])
    skewed.symmetric = false
    skewed.grids[1].offset = -7
    #expect(codes([skewed]) == ["override-asymmetric-channels w"])
    let error = try #require(throws: Diagnostic.self) {
      try overridden(try graph(convolutions), [symmetric("w", scales: [1, 2])])
    }
    #expect(error.message.contains("2 encodings") && error.message.contains("3 are expected"))
    // One channel given as a list of one is the whole tensor.
    let (result, _) = try overridden(try graph(convolutions), [symmetric("w2", scales: [0.5])])
    #expect(try result.find("w2").encoding?.axis == nil)
  }

  @Test func rows() throws {
    let text = """
      graph "f" {
        input %x: float32[1, 3]
        const %w: float32[2, 3] = [1, 2, 3, 4, 5, 6]
        %y: float32[1, 2] = FullyConnected(%x, %w) "fc"
        output %y
      }
      """
    let (result, _) = try overridden(try graph(text), [symmetric("w", scales: [1, 2], axis: 1)])
    #expect(try result.find("w").encoding?.axis == 0)
    #expect(codes([symmetric("w", scales: [1, 2, 3])], text) == ["override-channels w"])
  }

  @Test func widths() throws {
    #expect(codes([given("x", bitwidth: 4)]) == ["override-bitwidth x"])
    #expect(codes([symmetric("w", bitwidth: 12, scales: [1])]) == ["override-bitwidth w"])
    #expect(codes([symmetric("b", bitwidth: 16, scales: [1])]) == ["override-bitwidth b"])
    #expect(codes([symmetric("w", bitwidth: 32, scales: [1])]) == ["override-int32 w"])
    #expect(codes([precision("w", 16), given("r")]) == ["override-combination w"])
    #expect(codes([precision("w", 16), precision("r", 8)]) == ["override-combination w"])
    #expect(codes([symmetric("w", bitwidth: 16, scales: [1]), given("r")]) == ["override-combination w"])
    for (weight, output) in [(8, 8), (4, 8), (4, 16), (8, 16), (16, 16)] {
      #expect(codes([precision("w", weight), precision("r", output)]).isEmpty)
    }
    // The output's width is not decided yet: looked at again when it is.
    let (result, _) = try overridden(try graph(convolutions), [precision("w", 16)])
    let done = try annotated(result).graph
    #expect(done.operandWidthProblems(decided: result.decidedByOverride).map(\.location.node) == ["conv"])
    #expect(try annotated(result) { $0.actBitwidth = 16 }.graph.operandWidthProblems(decided: ["w"]).isEmpty)
    let (kept, _) = try overridden(try graph(convolutions), [symmetric("w", bitwidth: 16, scales: [1])])
    #expect(try annotated(kept).graph.operandWidthProblems().map(\.code) == ["override-combination"])
  }

  @Test func biases() throws {
    let scales: [Float] = [0.1, 0.2, 0.3]
    let x = given("x", scale: 0.5)
    let w = symmetric("w", scales: scales)
    func bias(_ factor: Float) -> EncodingEntry {
      symmetric("b", bitwidth: 32, scales: scales.map { $0 * 0.5 * factor })
    }
    let (exact, report) = try overridden(try graph(convolutions), [x, w, bias(1.000005)])
    #expect(report.diagnostics.isEmpty)
    #expect(try exact.find("b").encodingSource == .override)
    #expect(try exact.find("b").encoding?.channels[0].scale == 0.1 * 0.5 * 1.000005)
    let (off, warned) = try overridden(try graph(convolutions), [x, w, bias(1.001)])
    #expect(warned.diagnostics.map(\.code) == ["override-bias"] && warned.diagnostics[0].severity == .warning)
    #expect(try off.find("b").state == .open && off.find("b").bitwidth == 32)
    let computed = try annotated(off).graph.find("b")
    #expect(computed.encodingSource == .computed && computed.encoding?.channels[0].scale == Float(0.1) * 0.5)
    let (alone, why) = try overridden(try graph(convolutions), [bias(1)])
    #expect(why.diagnostics[0].message.contains("not both given"))
    #expect(try alone.find("b").bitwidth == 32)
  }

  @Test func integerNodes() throws {
    let text = """
      graph "i" {
        input %x: float32[1, 2]
        input %z: float32[1, 2]
        const %w: float32[1, 2] = [1, 2]
        %a: float32[1, 2] = ElementWiseAdd(%x, %z) "add"
        %b: float32[1, 1] = FullyConnected(%a, %w) "fc"
        output %b
      }
      """
    let all = ["x", "z", "a"].map { precision($0, 32) }
    let (result, report) = try overridden(try graph(text), all)
    #expect(result.integerNodes == ["add"] && report.int32Nodes == ["add"])
    #expect(try result.find("a").state == .open && result.find("a").encoding == nil)
    #expect(codes(Array(all.dropFirst()), text) == ["override-int32 z", "override-int32 a"])
    #expect(codes([precision("b", 32)], text) == ["override-int32 b"])
    let error = try #require(throws: Diagnostic.self) {
      try overridden(try graph(text), all + [precision("b", 32)])
    }
    #expect(error.message.contains("fc") && error.location.path == "at.b")
    let curve = text.replacing(
      "%a: float32[1, 2] = ElementWiseAdd(%x, %z) \"add\"", with: "%a: float32[1, 2] = Sigmoid(%x) \"s\"")
    let refused = try #require(throws: Diagnostic.self) {
      try overridden(try graph(curve), [precision("x", 32), precision("a", 32)])
    }
    #expect(refused.all.allSatisfy { $0.message.contains("Sigmoid of s cannot compute in 32-bit integers") })
  }

  @Test func missingEncodings() throws {
    let entries = [given("x"), symmetric("w", scales: [1])]
    let (open, _) = try overridden(try graph(convolutions), entries, missing: .calibrate)
    #expect(try open.find("r").state == .open)
    let (closed, report) = try overridden(try graph(convolutions), entries + [given("r")], missing: .float)
    // The bias of a quantized layer follows it; the second layer is float.
    #expect(report.missingFloat.sorted() == ["w2", "y"])
    #expect(try closed.find("b").state == .open && closed.find("c").state == .open)
    let note = try #require(report.diagnostics.first { $0.code == "override-missing-float" })
    #expect(note.severity == .note && note.message.hasPrefix("2 tensors"))
    // By default it is what the version means.
    for (generation, state) in [(EncodingGeneration.onnx, QuantizationState.float), (.listed, .open), (.keyed, .open)] {
      let file = EncodingFile(generation: generation, entries: entries + [given("r")])
      #expect(try applyOverrides(try graph(convolutions), file).0.find("y").state == state)
    }
  }

  @Test func anUnnamedWeightTakesItsOperatorWithIt() throws {
    let entries = [given("x"), given("r")]
    let (closed, report) = try overridden(try graph(convolutions), entries, missing: .float)
    for name in ["w", "b", "r"] { #expect(try closed.find(name).state == .float, "\(name)") }
    #expect(try closed.find("r").encoding == nil && closed.find("x").encoding != nil)
    let warnings = report.diagnostics.filter { $0.code == "override-float-triple" }
    #expect(warnings.map(\.location.tensor) == ["r"])
  }

  @Test func conflictsAcrossDataMovement() throws {
    let network = try graph(
      """
      graph "t" {
        input %x: float32[1, 2]
        %a: float32[2, 1] = Transpose(%x) {perm: [1, 0]} "t"
        %b: float32[2, 1] = ElementWiseAbs(%a) "abs"
        output %b
      }
      """)
    let (result, _) = try overridden(network, [given("x", scale: 1), given("a", scale: 2)])
    let done = try annotated(result)
    #expect(done.notes.map(\.code) == ["encoding-conflict"] && done.notes[0].severity == .warning)
    let fixed = try done.materialized()
    #expect(fixed.nodes.map(\.op.typeName) == ["Convert", "Transpose", "ElementWiseAbs"])
    #expect(try fixed.find("x").encoding == result.find("x").encoding)
    #expect(try fixed.find("a").encoding == result.find("a").encoding)
  }

  @Test func calibrationFillsTheGaps() throws {
    var strict = symmetric("w", scales: [0.0123, 0.4567, 7.89e-5])
    strict.strict = true
    let (result, _) = try overridden(
      try graph(convolutions), [given("x", bitwidth: 16, scale: 0.1234567, offset: -777), strict, given("r")])
    for width in [8, 16] {
      let done = try annotated(result) {
        $0.actBitwidth = width
        $0.perChannel = true
      }.graph
      for name in ["x", "w", "r"] {
        #expect(try done.find(name).encoding == result.find(name).encoding)
        #expect(try done.find(name).encodingSource == .override)
      }
      #expect(try done.find("w").encoding?.codeMin == 1)
      #expect(try done.find("y").encoding?.bitwidth == width && done.find("y").encodingSource == .calibrated)
      #expect(EncodingCoverage(done).open == 0)
    }
  }

  @Test func coverageInWords() throws {
    let (result, report) = try overridden(try graph(convolutions), [given("x"), float("y")])
    #expect(report.coverage.summary == "override 1, float 2, open 4")
    #expect(EncodingCoverage(try annotated(result).graph).open == 0)
  }
}
