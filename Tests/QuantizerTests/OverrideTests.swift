import EncodingFiles
import IR
import Operators
import Quantizer
import Testing

/// Entries of files, as short as they can be.
func given(
  _ name: String, _ section: EncodingEntry.Section = .any, bitwidth: Int = 8, scale: Float = 0.1,
  offset: Int32 = -3
) -> EncodingEntry {
  EncodingEntry(
    name: name, section: section, bitwidth: bitwidth, grids: [ScaleOffset(scale: scale, offset: offset)],
    path: "at.\(name)")
}

func symmetric(
  _ name: String, _ section: EncodingEntry.Section = .any, bitwidth: Int = 8, scales: [Float], axis: Int? = nil
) -> EncodingEntry {
  EncodingEntry(
    name: name, section: section, bitwidth: bitwidth, granularity: scales.count > 1 ? .perChannel : .perTensor,
    grids: scales.map { ScaleOffset(scale: $0, offset: Int32(-(1 << (bitwidth - 1)))) }, symmetric: true,
    axis: axis, path: "at.\(name)")
}

func float(_ name: String, _ bitwidth: Int = 32) -> EncodingEntry {
  EncodingEntry(name: name, section: .any, kind: .float, bitwidth: bitwidth, path: "at.\(name)")
}

func precision(_ name: String, _ bitwidth: Int) -> EncodingEntry {
  EncodingEntry(name: name, section: .any, bitwidth: bitwidth, path: "at.\(name)")
}

func overridden(
  _ graph: Graph, _ entries: [EncodingEntry], policy: OverridePolicy = .strict,
  missing: MissingEncodings? = .calibrate, unfuse: Bool = false
) throws(Diagnostic) -> (graph: Graph, report: OverrideReport) {
  try applyOverrides(
    graph, EncodingFile(generation: .listed, entries: entries), policy: policy, missing: missing, unfuse: unfuse)
}

extension OverrideReport {
  func outcome(_ name: String) throws -> Outcome {
    try #require(names.first { $0.name == name }).outcome
  }
}

@Suite("Names of overrides") struct OverrideNamesTests {
  @Test func matched() throws {
    let (result, report) = try overridden(
      try graph(convolutions), [given("x"), symmetric("w", .param, scales: [0.1, 0.2, 0.3])])
    #expect(try report.outcome("x") == .matched && report.outcome("w") == .matched)
    #expect(report.diagnostics.isEmpty)
    let x = try result.find("x")
    #expect(x.state == .given && x.encodingSource == .override)
    #expect(x.encoding == Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.1, offset: -3)]))
    // Channels of the text form's convolution are on the last axis.
    #expect(try result.find("w").encoding?.axis == 3)
    #expect(try result.find("r").state == .open && result.find("b").state == .open)
    #expect(report.coverage.encoded == [.override: 2] && report.coverage.open == 5)
  }

  @Test func aliases() throws {
    var network = try graph(convolutions)
    network.aliases = ["first": "second", "second": "x"]
    network.folded = [
      "before": "folded into conv2 with its BatchNormalization",
      "bn.weight": "folded into conv2 with its BatchNormalization",
      "gone": "a Dropout does nothing",
    ]
    let (result, report) = try overridden(
      network, [given("first"), given("before"), given("gone"), given("bn.weight", .param)])
    #expect(try report.outcome("first") == .alias(of: "x"))
    #expect(try report.outcome("before") == .alias(of: "y"))
    #expect(try report.outcome("gone") == .withoutEffect(reason: "a Dropout does nothing"))
    guard case .withoutEffect = try report.outcome("bn.weight") else { throw Unexpected() }
    #expect(try result.find("x").state == .given && result.find("y").state == .given)
    let idle = try #require(report.diagnostics.first)
    #expect(report.diagnostics.count == 1 && idle.code == "override-without-effect")
    #expect(idle.severity == .warning && idle.message.hasPrefix("2 names"))
  }

  /// A file written for other weights is told, not taken in silence: a range far too narrow, or far too wide.
  @Test(arguments: [(Float(0.0005), "clipping takes 9"), (Float(1000), "less than a sixteenth")])
  func weightsThatDoNotFit(scale: Float, says: String) throws {
    let (result, report) = try overridden(
      try graph(convolutions), [symmetric("w", .param, scales: [scale, scale, scale])])
    let warning = try #require(report.diagnostics.first { $0.code == "override-range" })
    #expect(warning.severity == .warning && warning.message.contains(says), "\(warning.message)")
    #expect(try result.find("w").state == .given)
  }

  @Test func theSameTensorTwice() throws {
    var network = try graph(convolutions)
    network.aliases = ["old": "x"]
    let (result, report) = try overridden(network, [given("old", scale: 9), given("x", scale: 1)])
    #expect(try report.outcome("old") == .withoutEffect(reason: "x has its encoding from x"))
    #expect(try result.find("x").encoding?.channels[0].scale == 1)
  }

  @Test func biasesByTheirNode() throws {
    let (result, report) = try overridden(try graph(convolutions), [given("conv.bias", .param)])
    #expect(try report.outcome("conv.bias") == .alias(of: "b"))
    #expect(try result.find("b").state == .given)
  }

  /// The k-th unnamed node of a type is /Conv, then /Conv_<2k>; ours has no bias at k = 1.
  @Test func biasesOfUnnamedNodes() throws {
    let network = try graph(
      """
      graph "u" {
        input %x: float32[1, 1, 1, 1]
        const %w: float32[1, 1, 1, 1] = [2]
        const %b0: float32[1] = [1]
        const %b2: float32[1] = [1]
        %a: float32[1, 1, 1, 1] = Conv2d(%x, %w, %b0) \(pointwise) "Conv_0"
        %b: float32[1, 1, 1, 1] = Conv2d(%a, %w) \(pointwise) "Conv_7"
        %c: float32[1, 1, 1, 1] = Conv2d(%b, %w, %b2) \(pointwise) "Conv_11"
        output %c
      }
      """)
    let (_, report) = try overridden(
      network, [given("/Conv.bias", .param), given("/Conv_4.bias", .param), given("/Conv_2.bias", .param)],
      policy: .warn)
    #expect(try report.outcome("/Conv.bias") == .alias(of: "b0"))
    #expect(try report.outcome("/Conv_4.bias") == .alias(of: "b2"))
    guard case .unmatched = try report.outcome("/Conv_2.bias") else { throw Unexpected() }
  }

  @Test func insideAFusedPair() throws {
    let network = try graph(convolutions)
    let (plain, report) = try overridden(network, [given("c"), given("x")])
    #expect(try report.outcome("c") == .withoutEffect(reason: "it lies inside a fused pair with r"))
    #expect(try plain.find("c").state == .open && !plain.find("c").isUnfused)
    #expect(report.diagnostics.first?.hint?.contains("--unfuse_overridden") == true)
    let (own, honoured) = try overridden(network, [given("c"), given("x")], unfuse: true)
    #expect(try honoured.outcome("c") == .matched && honoured.diagnostics.isEmpty)
    #expect(try own.find("c").isUnfused && own.fusedIntermediates().isEmpty)
    let fixed = try annotated(own).materialized()
    #expect(try fixed.find("c").encoding == own.find("c").encoding)
    #expect(try fixed.find("r").encoding != own.find("c").encoding)
    // A width alone: the tensor is observed again.
    let (wide, _) = try overridden(network, [precision("c", 16)], unfuse: true)
    #expect(ObservationSet(wide).tensors.contains(try #require(wide.tensor(named: "c"))))
    #expect(try annotated(wide, ["c": (-4, 2)]).graph.find("c").encoding?.bitwidth == 16)
    // Patterns do not take pairs apart.
    let (pattern, _) = try overridden(network, [given("*")], unfuse: true)
    #expect(try !pattern.find("c").isUnfused && pattern.find("r").state == .given)
  }

  @Test(arguments: [("w", EncodingEntry.Section.activation, "param_encodings"), ("r", .param, "activation_encodings")])
  func wrongSection(_ name: String, _ section: EncodingEntry.Section, _ expected: String) throws {
    let entries = [given(name, section), given("x")]
    let error = try #require(throws: Diagnostic.self) { try overridden(try graph(convolutions), entries) }
    #expect(error.code == "override-wrong-section" && error.location.path == "at.\(name)")
    #expect(error.hint == "move the entry to \(expected)")
    let (result, report) = try overridden(try graph(convolutions), entries, policy: .warn)
    #expect(try report.outcome(name) == .wrongSection(expected: expected))
    #expect(report.diagnostics.map(\.severity) == [.warning])
    #expect(try result.find(name).state == .open)
  }

  /// A constant that is an operand like an activation may stand in either section.
  @Test(arguments: [EncodingEntry.Section.activation, .param]) func constants(_ section: EncodingEntry.Section) throws {
    let network = try graph(
      """
      graph "k" {
        input %x: float32[1, 2]
        const %k: float32[1] = [0.5]
        %y: float32[1, 2] = ElementWiseMultiply(%x, %k) "scale"
        output %y
      }
      """)
    #expect(try overridden(network, [given("k", section)]).graph.find("k").state == .given)
  }

  @Test func unmatchedNames() throws {
    let entries = [given("X1"), given("w3", .param), given("x")]
    let error = try #require(throws: Diagnostic.self) { try overridden(try graph(convolutions), entries) }
    #expect(error.all.map(\.code) == ["override-unmatched", "override-unmatched"])
    #expect(error.all.map(\.location.tensor) == ["X1", "w3"])
    #expect(error.all[1].hint == "the nearest names are w2, b, c" || error.all[1].hint?.contains("w2") == true)
    let (_, report) = try overridden(try graph(convolutions), entries, policy: .warn)
    #expect(report.diagnostics.map(\.severity) == [.warning, .warning])
    guard case .unmatched(let nearest) = try report.outcome("w3") else { throw Unexpected() }
    #expect(nearest.count == 3 && Set(nearest.prefix(2)) == ["w", "w2"])
  }

  @Test(arguments: OverridePolicy.allCases) func noMatch(_ policy: OverridePolicy) throws {
    let error = try #require(throws: Diagnostic.self) {
      try overridden(try graph(convolutions), [given("p"), given("q")], policy: policy)
    }
    #expect(error.code == (policy == .warn ? "override-no-match" : "override-unmatched") && error.all.count >= 2)
  }

  @Test func anEmptyFile() throws {
    let (_, report) = try overridden(try graph(convolutions), [])
    #expect(report.diagnostics.map(\.code) == ["override-empty"])
  }

  @Test func patterns() throws {
    let (result, report) = try overridden(
      try graph(convolutions), [given("?", .activation, scale: 5), given("x", scale: 1), given("zz*", .param)],
      policy: .warn)
    #expect(try report.outcome("?") == .pattern(["r", "y"]))
    #expect(try result.find("x").encoding?.channels[0].scale == 1)
    #expect(try result.find("y").encoding?.channels[0].scale == 5)
    #expect(try result.find("w").state == .open && result.find("b").state == .open)
    guard case .unmatched = try report.outcome("zz*") else { throw Unexpected() }
  }

  @Test func integersCarryNothing() throws {
    let network = try graph(
      """
      graph "g" {
        input %x: float32[4, 2]
        const %i: int32[1] = [1]
        %y: float32[1, 2] = Gather(%x, %i) {axis: 0} "pick"
        output %y
      }
      """)
    let (_, report) = try overridden(network, [given("i"), given("x")])
    guard case .withoutEffect(let reason) = try report.outcome("i") else { throw Unexpected() }
    #expect(reason.contains("int32"))
  }

  @Test func fixedPointIsRefused() throws {
    let fixed = try annotated(try graph(convolutions)).materialized()
    let error = try #require(throws: Diagnostic.self) { try overridden(fixed, [given("x")]) }
    #expect(error.code == "already-quantized")
  }
}

/// A test went where it should not.
struct Unexpected: Error {}
