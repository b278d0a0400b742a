@testable import Calibration
import Foundation
import IR
import Operators
import Quantizer
import Testing

@Suite struct AssignTests {
  /// Scale of the asymmetric grid over a range.
  private func scale(_ min: Double, _ max: Double, _ bits: Int = 8) -> Float {
    RangeToEncoding.asymmetric(min: min, max: max, bitwidth: bits).scale
  }

  @Test func fusedPairHasOneEncoding() throws {
    let result = try annotated(try graph(convolutions), ["x": (-1, 1), "r": (0, 4), "y": (-3, 3)])
    let encoding = try #require(result.graph.find("r").encoding)
    #expect(encoding.channels == [ScaleOffset(scale: scale(0, 4), offset: 0)])
    #expect(try result.graph.find("c").encoding == encoding)
    #expect(try result.graph.find("x").encodingSource == .calibrated)
    #expect(result.graph.tensors.allSatisfy { $0.state != .open })
    #expect(result.notes.isEmpty)
    // Weights and 8-bit bias: ranges of their own, schema of the parameters.
    let weight = try #require(result.graph.find("w").encoding)
    #expect(weight.axis == nil && weight.channels[0].scale == scale(-2, 1))
    let bias = try #require(result.graph.find("b").encoding)
    #expect(bias.bitwidth == 8 && bias.axis == nil && bias.channels[0].scale == scale(-1, 0.5))
  }

  @Test func perChannelWeightsAndBiases() throws {
    let result = try annotated(try graph(convolutions), ["x": (-1, 1)]) {
      $0.perChannel = true
      $0.biasBitwidth = 32
    }
    let weight = try #require(result.graph.find("w").encoding)
    #expect(weight.axis == 3 && weight.symmetric)
    let expected = [Float(1 / 127.0), Float(2 / 127.0), Float(0.0001 / 127)]
    #expect(weight.channels.map(\.scale) == expected)
    #expect(weight.channels.allSatisfy { $0.offset == -128 })
    #expect(result.notes.map(\.code) == ["zero-channels"])
    let bias = try #require(result.graph.find("b").encoding)
    let input = scale(-1, 1)
    #expect(bias.axis == 0 && bias.bitwidth == 32)
    #expect(bias.channels.map(\.scale) == expected.map { Float(Double(input) * Double($0)) })
    #expect(bias.channels.allSatisfy { $0.offset == .min })
    #expect(try result.graph.find("b").encodingSource == .computed)
  }

  @Test func biasOverflowWidensTheWeight() throws {
    let text = convolutions.replacingOccurrences(of: "[0.5, -1, 0.25]", with: "[0.5, -1, 1000]")
    let result = try annotated(try graph(text), ["x": (-0.001, 0.001)]) {
      $0.perChannel = true
      $0.biasBitwidth = 32
    }
    #expect(result.notes.map(\.code).sorted() == ["bias-widened", "zero-channels"])
    let weight = try #require(result.graph.find("w").encoding)
    let bias = try #require(result.graph.find("b").encoding)
    #expect(weight.channels[0].scale == Float(1 / 127.0))
    #expect(weight.channels[2].scale > Float(0.0001 / 127))
    let code = (1000 / bias.channels[2].scale).rounded(.toNearestOrEven)
    #expect(code < 0x1p31 && code > 0x1.fffff0p30)
    let back = bias.channels[2].dequantize(
      bias.channels[2].quantize(1000, codeMin: 0, codeMax: bias.codeMax))
    #expect(abs(back - 1000) < 0.01)

    var given = try graph(text)
    let id = try #require(given.tensor(named: "w"))
    given[id].encoding = weight
    given[id].encoding?.channels[2].scale = 1e-9
    given[id].state = .given
    given[id].encodingSource = .override
    let error = #expect(throws: Diagnostic.self) {
      try annotated(given, ["x": (-0.001, 0.001)]) { $0.biasBitwidth = 32 }
    }
    #expect(error?.code == "bias-overflow")
  }

  @Test func sharedWeightsAndBiases() throws {
    let shared = try graph(
      """
      graph "s" {
        input %x: float32[1, 2]
        input %z: float32[1, 2]
        const %w: float32[2, 2] = [1, -2, 0.5, 3]
        const %b: float32[2] = [0.5, -1]
        %a: float32[1, 2] = FullyConnected(%x, %w, %b) "a"
        %c: float32[1, 2] = FullyConnected(%z, %w, %b) "c"
        %d: float32[1, 2] = FullyConnected(%x, %w, %b) "d"
        output %a
        output %c
        output %d
      }
      """)
    let result = try annotated(shared, ["x": (-1, 1), "z": (-4, 4)]) { $0.biasBitwidth = 32 }
    let nodes = result.graph.nodes
    #expect(nodes[0].inputs[1] == nodes[1].inputs[1])
    #expect(nodes[0].inputs[2] == nodes[2].inputs[2])
    #expect(nodes[0].inputs[2] != nodes[1].inputs[2])
    #expect(result.graph.tensors.count == shared.tensors.count + 1)
    let first = try #require(result.graph.find("b").encoding?.channels[0].scale)
    let second = try #require(result.graph.find("b_1").encoding?.channels[0].scale)
    #expect(second == 4 * first)
    #expect(try result.materialized().verify().isEmpty)
    // At 8 bits nothing depends on the user.
    #expect(try annotated(shared).graph.tensors.count == shared.tensors.count)
  }

  @Test func sharedWeightWithTwoChannelAxesIsAnError() throws {
    let text = """
      graph "s" {
        input %x: float32[1, 2, 2, 1]
        const %w: float32[1, 1, 1, 2] = [1, -2]
        %a: float32[1, 2, 2, 2] = Conv2d(%x, %w) \(pointwise) "a"
        %m: float32[1, 2, 2, 2] = MatMul(%x, %w) {transpose_in0: false, transpose_in1: false} "m"
        output %a
        output %m
      }
      """
    let error = #expect(throws: Diagnostic.self) {
      try annotated(try graph(text)) { $0.perChannel = true }
    }
    #expect(error?.code == "shared-weight-conflict")
    #expect(error?.message.contains("a, m") == true)
    _ = try annotated(try graph(text))
  }

  private let invariant = """
    graph "i" {
      input %x: float32[1, 4]
      %r: float32[2, 2] = Reshape(%x) {shape: [2, 2]} "reshape"
      %t: float32[2, 2] = Transpose(%r) {perm: [1, 0]} "transpose"
      %y: float32[2, 2] = ElementWiseExp(%t) "exp"
      output %y
    }
    """

  @Test func dataInvariantOperatorsShare() throws {
    let result = try annotated(
      try graph(invariant), ["x": (-1, 1), "r": (-1, 2), "t": (-3, 1), "y": (0, 9)])
    let encoding = try #require(result.graph.find("x").encoding)
    #expect(encoding.channels[0].scale == scale(-3, 2))
    #expect(try result.graph.find("r").encoding == encoding)
    #expect(try result.graph.find("t").encoding == encoding)
    #expect(try result.graph.find("y").encoding?.channels[0].scale == scale(0, 9))
    let own = try annotated(
      try graph(invariant), ["x": (-1, 1), "r": (-1, 2), "t": (-3, 1), "y": (0, 9)]
    ) { $0.includeDataInvariantOps = true }
    #expect(try own.graph.find("x").encoding?.channels[0].scale == scale(-1, 1))
    #expect(try own.graph.find("t").encoding?.channels[0].scale == scale(-3, 1))
    #expect(try own.materialized().nodes.count == 3)
  }

  @Test(arguments: ["x", "r", "t"]) func givenEncodingsSpreadBothWays(name: String) throws {
    var network = try graph(invariant)
    let id = try #require(network.tensor(named: name))
    let given = RangeToEncoding.encoding(min: -7, max: 7, bitwidth: 8, schema: .symmetric)
    network[id].encoding = given
    network[id].state = .given
    network[id].encodingSource = .override
    let result = try annotated(network)
    for other in ["x", "r", "t"] {
      #expect(try result.graph.find(other).encoding == given)
      #expect(
        try result.graph.find(other).encodingSource == (other == name ? .override : .spread))
    }
    #expect(result.coverage == [.override: 1, .spread: 2, .calibrated: 1])
  }

  @Test func conflictingGivenEncodingsAreConverted() throws {
    var network = try graph(invariant)
    for (name, limit) in [("x", 1.0), ("t", 2.0)] {
      let id = try #require(network.tensor(named: name))
      network[id].encoding = RangeToEncoding.encoding(
        min: -limit, max: limit, bitwidth: 8, schema: .asymmetric)
      network[id].state = .given
    }
    let result = try annotated(network)
    #expect(result.notes.map(\.code) == ["encoding-conflict"])
    let fixed = try result.materialized()
    #expect(fixed.nodes.map(\.op.typeName).filter { $0 == "Convert" }.count == 1)
  }

  private let concat = """
    graph "k" {
      input %a: float32[1, 2]
      input %b: float32[1, 2]
      input %c: float32[1, 2]
      %k: float32[1, 6] = Concat(%a, %b, %c) {axis: 1} "concat"
      %y: float32[1, 2] = ElementWiseExp(%c) "exp"
      output %k
      output %y
    }
    """

  @Test func concatTiesUnlessAStepGrowsTooMuch() throws {
    let result = try annotated(
      try graph(concat), ["a": (0, 8), "b": (0, 2), "c": (0, 1.9), "k": (0, 8)])
    let encoding = try #require(result.graph.find("k").encoding)
    #expect(encoding.channels[0].scale == scale(0, 8))
    #expect(try result.graph.find("a").encoding == encoding)
    #expect(try result.graph.find("b").encoding == encoding)
    #expect(
      try result.graph.find("c").encoding?.channels[0].scale == scale(0, Double(Float(1.9))))
    let fixed = try result.materialized()
    try #require(fixed.nodes.map(\.op.typeName) == ["Convert", "Concat", "ElementWiseExp"])
    #expect(fixed[try #require(fixed.nodes[1].inputs[2])].encoding == encoding)
    #expect(fixed.nodes[2].inputs[0] == fixed.inputs[2])
    #expect(fixed[fixed.outputs[0]].type.element == .ufixed8)
  }

  @Test func nestedConcatsCompareWithTheFirstGrid() throws {
    let network = try graph(
      """
      graph "n" {
        input %a: float32[1, 2]
        input %b: float32[1, 2]
        input %c: float32[1, 2]
        %k: float32[1, 4] = Concat(%a, %b) {axis: 1} "k"
        %l: float32[1, 6] = Concat(%k, %c) {axis: 1} "l"
        output %l
      }
      """)
    let result = try annotated(
      network, ["a": (0, 1), "b": (0, 3), "c": (0, 9), "k": (0, 3), "l": (0, 9)])
    #expect(try result.graph.find("a").encoding?.channels[0].scale == scale(0, 3))
    #expect(try result.graph.find("l").encoding?.channels[0].scale == scale(0, 9))
  }

  @Test(arguments: [8, 16]) func fixedRanges(bits: Int) throws {
    let network = try graph(
      """
      graph "f" {
        input %x: float32[1, 4]
        %s: float32[1, 4] = Sigmoid(%x) "sigmoid"
        %t: float32[1, 4] = Tanh(%s) "tanh"
        %m: float32[1, 4] = Softmax(%t) {axis: 1, beta: 1} "softmax"
        %r: float32[4] = Reshape(%m) {shape: [4]} "reshape"
        output %r
      }
      """)
    let result = try annotated(network) { $0.actBitwidth = bits }
    let unit = RangeToEncoding.fixedUnit(signed: false, bitwidth: bits)
    for name in ["s", "m", "r"] { #expect(try result.graph.find(name).encoding == unit) }
    #expect(
      try result.graph.find("t").encoding
        == RangeToEncoding.fixedUnit(signed: true, bitwidth: bits))
    #expect(try result.graph.find("s").encodingSource == .fixed)
  }

  @Test func constantsInPlaceOfActivations() throws {
    let network = try graph(
      """
      graph "a" {
        input %x: float32[1, 2]
        const %k: float32[2] = [-1, 3]
        const %table: float32[3, 2] = [1, 2, 3, 4, 5, 6]
        const %i: int64[1] = [1]
        %g: float32[1, 2] = Gather(%table, %i) {axis: 0} "gather"
        %s: float32[1, 2] = ElementWiseAdd(%x, %k) "add"
        %y: float32[1, 2] = ElementWiseAdd(%s, %g) "add2"
        output %y
      }
      """)
    let result = try annotated(network) { $0.actBitwidth = 16 }
    #expect(try result.graph.find("k").encoding?.channels[0].scale == scale(-1, 3, 16))
    #expect(try result.graph.find("table").encoding?.channels[0].scale == scale(0, 6, 16))
    #expect(try result.graph.find("g").encoding == result.graph.find("table").encoding)
    #expect(try result.graph.find("i").encoding == nil)
    let fixed = try result.materialized()
    #expect(try fixed.find("i").type.element == .int64)
    #expect(try fixed.find("table").type.element == .ufixed16)
  }

  @Test func optionsWithoutEffectAndMissingRanges() throws {
    let result = try annotated(try graph(invariant)) {
      $0.perChannel = true
      $0.weightsBitwidth = 16
    }
    #expect(result.notes.map(\.code) == ["option-without-effect", "option-without-effect"])
    #expect(result.notes.allSatisfy { $0.severity == .warning })
    let missing = #expect(throws: Diagnostic.self) {
      try assignEncodings(try graph(invariant), statistics: nil, options: QuantizerOptions())
    }
    #expect(missing?.code == "missing-range" && missing?.all.count == 4)
    let usage = #expect(throws: Diagnostic.self) {
      try annotated(try graph(invariant)) { $0.actBitwidth = 4 }
    }
    #expect(usage?.kind == .usage)
    let broken = convolutions.replacingOccurrences(of: "[1, -1, 0.5]", with: "[1, nan, 0.5]")
    let error = #expect(throws: Diagnostic.self) { try annotated(try graph(broken)) }
    #expect(error?.code == "non-finite-weight" && error?.location.tensor == "w2")
    #expect(QuantizerOptions().normalized["bias_bitwidth"] == "8")
  }

  @Test func unsignedChannelsAreTold() throws {
    let text = convolutions.replacingOccurrences(of: "[1, -1, 0.5]", with: "[1, 1, 0.5]")
    let notes = { (perChannel: Bool) in
      try annotated(try graph(text)) {
        $0.paramSchema = .unsignedSymmetric
        $0.perChannel = perChannel
      }.notes.filter { $0.code == "unsigned-channels" }
    }
    #expect(try notes(false).isEmpty)
    let told = try notes(true)
    #expect(told.count == 1 && told[0].message.hasPrefix("1 weight without negative values has"))
  }

  @Test func keptFloatReachesTheInput() throws {
    let all = try annotated(try graph(convolutions)) { $0.keepFloat = ["*"] }
    #expect(try all.graph.find("x").state == .float)
    #expect(try all.materialized().nodes.map(\.op.typeName) == ["Conv2d", "Relu", "Conv2d"])
    // Who reads it in fixed point keeps it so.
    let last = try annotated(try graph(convolutions)) { $0.keepFloat = ["conv2"] }
    #expect(try last.graph.find("x").encoding != nil)
  }

  @Test func weightsWithoutNumbersAreRefused() throws {
    var network = try graph(convolutions)
    let id = try #require(network.tensor(named: "w2"))
    network[id].constant = Constant([1, .nan, .infinity], shape: [1, 1, 3, 1])
    let error = #expect(throws: Diagnostic.self) {
      try assignFloatFallback(network, options: QuantizerOptions())
    }
    #expect(error?.code == "non-finite-weight" && error?.location.tensor == "w2")
    var options = QuantizerOptions()
    options.skipNonfinite = true
    #expect(try assignFloatFallback(network, options: options).graph.find("w2").state == .float)
    network[id].constant = Constant([1, -.infinity, .infinity], shape: [1, 1, 3, 1])
    try requireNumbers(network)
  }

  /// A dry run shows what given encodings decide, as calibration would.
  @Test func previewSpreads() throws {
    var network = try graph(
      """
      graph "p" {
        input %x: float32[1, 2]
        %t: float32[2, 1] = Transpose(%x) {perm: [1, 0]} "t"
        %y: float32[2, 1] = ElementWiseExp(%t) "e"
        output %y
      }
      """)
    let id = try #require(network.tensor(named: "x"))
    network[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.1, offset: -3)])
    (network[id].encodingSource, network[id].state) = (.override, .given)
    let preview = try previewedEncodings(network, options: QuantizerOptions()).graph
    #expect(try preview.find("t").encodingSource == .spread && preview.find("y").state == .open)
  }

  /// Coordinates and boxes stay float, through what moves them and what is added to them; layers with weights,
  /// outputs and what others read as codes do not.
  @Test func operandsThatAreNeverQuantized() throws {
    let text = """
      graph "g" {
        input %x: float32[1, 4, 4, 2]
        input %raw: float32[6, 5]
        input %place: float32[1, 2, 2, 2]
        input %both: float32[1, 2, 2, 2]
        const %shift: float32[1] = [0.1]
        const %w: float32[1, 1, 2, 2] = [1, 2, 3, 4]
        %boxes: float32[3, 5] = StridedSlice(%raw) {begin: [0, 0], size: [3, 5], step: [1, 1]} "cut"
        %p: float32[3, 2, 2, 2] = MaxRoiPool(%x, %boxes) {size: [2, 2], spatial_scale: 1f} "pool"
        %moved: float32[1, 2, 2, 2] = ElementWiseAdd(%place, %shift) "move"
        %s: float32[1, 2, 2, 2] = GridSample(%x, %moved) {mode: "linear", padding_mode: "zeros", align_corners: false} "s"
        %c: float32[1, 4, 4, 2] = Conv2d(%x, %w) {stride: [1, 1], pad_amount: [0, 0, 0, 0], dilation: [1, 1], group: 1} "c"
        %t: float32[1, 4, 4, 2] = GridSample(%x, %c) {mode: "linear", padding_mode: "zeros", align_corners: false} "t"
        %u: float32[1, 2, 2, 2] = GridSample(%x, %both) {mode: "linear", padding_mode: "zeros", align_corners: false} "u"
        %v: float32[1, 2, 2, 2] = ElementWiseAdd(%both, %s) "v"
        output %p
        output %s
        output %t
        output %u
        output %v
      }
      """
    let result = try annotated(try graph(text))
    let floats = result.graph.tensors.filter { $0.constant == nil && $0.state == .float }.map(\.name)
    #expect(floats.sorted() == ["boxes", "moved", "place", "raw"])
    #expect(result.notes.contains { $0.code == "float-operands" && $0.message.hasPrefix("4 tensors stay float") })
    #expect(try result.materialized().verify().isEmpty)
  }
}
