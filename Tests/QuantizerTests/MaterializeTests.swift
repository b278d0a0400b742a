@testable import Calibration
import IR
import Operators
import Quantizer
import Testing

@Suite struct MaterializeTests {
  @Test func weightsBecomeCodes() throws {
    let result = try annotated(try graph(convolutions), ["x": (-1, 1)]) {
      $0.perChannel = true
      $0.biasBitwidth = 32
    }
    let fixed = try result.materialized()
    #expect(fixed.isMaterialized && fixed.verify().isEmpty)
    #expect(fixed.nodes.count == 3)
    #expect(try fixed.find("w").type.element == .sfixed8)
    #expect(try fixed.find("w").constant?.integers() == [64, -127, 0, 127, 16, 0])
    #expect(try fixed.find("b").type.element == .sfixed32)
    for name in ["x", "c", "r", "y"] { #expect(try fixed.find(name).type.element == .ufixed8) }
    let bias = try fixed.find("b")
    let encoding = try #require(bias.encoding)
    let back = encoding.dequantized(try #require(bias.constant?.integers()), shape: [3])
    for (value, expected) in zip(back, [0.5, -1, 0.25] as [Float]) {
      #expect(abs(value - expected) < 1e-4)
    }
    #expect(try materialize(fixed).nodes.count == 3)
  }

  @Test func middleConvolutionInFloat() throws {
    var network = try graph(
      """
      graph "m" {
        input %x: float32[1, 1, 1, 1]
        const %w: float32[1, 1, 1, 1] = [2]
        const %v: float32[1, 1, 1, 1] = [3]
        %a: float32[1, 1, 1, 1] = Conv2d(%x, %w) \(pointwise) "a"
        %b: float32[1, 1, 1, 1] = Conv2d(%a, %v) \(pointwise) "b"
        %c: float32[1, 1, 1, 1] = Conv2d(%b, %w) \(pointwise) "c"
        %d: float32[1, 1, 1, 1] = Conv2d(%b, %w) \(pointwise) "d"
        output %c
        output %d
      }
      """)
    network[try #require(network.tensor(named: "b"))].state = .float
    let result = try annotated(network, ["b": (-2, 2)])
    #expect(try result.graph.find("v").state == .float)
    let fixed = try result.materialized()
    #expect(
      fixed.nodes.map(\.op.typeName)
        == ["Conv2d", "Dequantize", "Conv2d", "Quantize", "Conv2d", "Conv2d"])
    #expect(fixed.nodes[4].inputs[0] == fixed.nodes[5].inputs[0])
    #expect(try fixed.find("v").type.element == .float32)
    #expect(try fixed.find("b_quantized").type.element == .ufixed8)
    let error = #expect(throws: Diagnostic.self) { try materialize(result.graph) }
    #expect(error?.code == "missing-border")
  }

  @Test func otherWidthIsConvertedOnce() throws {
    var network = try graph(
      """
      graph "w" {
        input %x: float32[1, 2]
        %a: float32[1, 2] = ElementWiseExp(%x) "a"
        %b: float32[1, 2] = ElementWiseAbs(%x) "b"
        %c: float32[1, 2] = ElementWiseAdd(%a, %b) "c"
        output %c
      }
      """)
    for name in ["a", "b", "c"] {
      let id = try #require(network.tensor(named: name))
      network[id].encoding = RangeToEncoding.encoding(
        min: -1, max: 1, bitwidth: 16, schema: .asymmetric)
      network[id].state = .given
      network[id].encodingSource = .override
    }
    let fixed = try annotated(network).materialized()
    #expect(
      fixed.nodes.map(\.op.typeName)
        == ["Convert", "ElementWiseExp", "ElementWiseAbs", "ElementWiseAdd"])
    #expect(fixed.nodes[1].inputs == fixed.nodes[2].inputs)
    #expect(try fixed.find("x_converted").encoding?.bitwidth == 16)
    let float = fixed.dematerialized()
    #expect(float.verify().isEmpty && !float.isMaterialized)
    #expect(float.nodes.count == 3 && float.nodes[0].inputs == [float.inputs[0]])
    #expect(try float.find("x").state == .open && float.find("a").state == .given)
  }

  @Test func openTensorsAreErrors() throws {
    let error = #expect(throws: Diagnostic.self) { try materialize(try graph(convolutions)) }
    #expect(error?.code == "open-tensor" && error?.all.count == 7)
  }

  @Test func dematerializedWeightsAreTheQuantizedOnes() throws {
    let result = try annotated(try graph(convolutions)) { $0.perChannel = true }
    let weight = try result.graph.find("w")
    let float = try result.materialized().dematerialized()
    let encoding = try #require(weight.encoding)
    let values = try #require(weight.constant?.floats())
    let codes = Constant(
      type: TensorType(.sfixed8, weight.type.shape),
      bytes: encoding.quantized(values, shape: weight.type.shape))
    #expect(
      try float.find("w").constant?.floats()
        == encoding.dequantized(codes.integers() ?? [], shape: weight.type.shape))
    // Quantizing again gives a valid graph.
    #expect(try annotated(float).materialized().verify().isEmpty)
  }

  @Test func reportByLayer() throws {
    let result = try annotated(try graph(convolutions), ["x": (-1, 1)]) { $0.perChannel = true }
    let report = EncodingsReport(try result.materialized())
    #expect(report.layers.map(\.name) == ["conv", "relu", "conv2"])
    let rows = report.layers[0].rows
    #expect(
      rows.map(\.operand) == ["Input[0]", "Param[weight]", "Param[bias]", "Output[0]"])
    #expect(rows[1].channels == 3 && rows[1].isSymmetric && rows[1].offset == -128)
    #expect(rows[0].channels == nil && rows[0].bitwidth == 8 && rows[0].isPresent)
    #expect(abs(rows[0].max - 1) < 0.01 && abs(rows[0].delta - 2.0 / 255) < 1e-6)
    let float = EncodingsReport(try graph(convolutions))
    #expect(float.layers[0].rows[0].bitwidth == 32 && !float.layers[0].rows[0].isPresent)
  }
}
