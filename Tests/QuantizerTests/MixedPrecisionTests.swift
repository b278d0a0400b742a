import IR
import Operators
import Quantizer
import Runtime
import Testing

/// Runs a graph on a backend with inputs given as floats and gives all outputs as floats.
func run(_ graph: Graph, _ backend: any Backend, _ inputs: [[Float]]) throws -> [[Float]] {
  let worker = try backend.prepare(graph, options: PlanOptions()).makeWorker()
  let results = try worker.run(inputs.map { Bytes($0) })
  return zip(graph.outputs, results).map { id, bytes in
    Constant(type: graph[id].type.logical, bytes: bytes).floats()
  }
}

private let backends: [any Backend] = [ReferenceBackend(), OneDNNBackend()]

@Suite struct MixedPrecisionTests {
  static let three = """
    graph "m" {
      input %x: float32[1, 2, 2, 1]
      const %w1: float32[1, 1, 1, 1] = [2]
      const %w2: float32[1, 1, 1, 1] = [3]
      const %w3: float32[1, 1, 1, 1] = [-1]
      %a: float32[1, 2, 2, 1] = Conv2d(%x, %w1) \(pointwise) "first"
      %b: float32[1, 2, 2, 1] = Conv2d(%a, %w2) \(pointwise) "middle"
      %c: float32[1, 2, 2, 1] = Conv2d(%b, %w3) \(pointwise) "last"
      output %c
    }
    """

  @Test func threeConvolutionsMiddleFloat() throws {
    var network = try graph(Self.three)
    for name in ["b", "w2"] {
      let id = try #require(network.tensor(named: name))
      network[id].state = .float
      network[id].encodingSource = .override
    }
    let result = try annotated(
      network, ["x": (0, 255), "a": (0, 510), "b": (0, 1530), "c": (-1530, 0)]
    ) { $0.paramSchema = .symmetric }
    let fixed = try result.materialized()
    #expect(
      fixed.text() == """
        graph "m" {
          input %x: ufixed8[1, 2, 2, 1] <bw 8; grid 1.0 0; from calibrated> !given
          const %w1: sfixed8[1, 1, 1, 1] <bw 8; symmetric; grid 0.01574882 -128; from calibrated> !given = [127]
          const %w2: float32[1, 1, 1, 1] !float = [3.0]
          const %w3: sfixed8[1, 1, 1, 1] <bw 8; symmetric; grid 0.007874016 -128; from calibrated> !given = [-127]
          %a: ufixed8[1, 2, 2, 1] <bw 8; grid 2.0 0; from calibrated> !given = \
        Conv2d(%x, %w1) \(pointwise) "first"
          %a_dequantized: float32[1, 2, 2, 1] !float = Dequantize(%a) "a_dequantized"
          %b: float32[1, 2, 2, 1] !float = Conv2d(%a_dequantized, %w2) \(pointwise) "middle"
          %b_quantized: ufixed8[1, 2, 2, 1] <bw 8; grid 6.0 0; from computed> !given = \
        Quantize(%b) "b_quantized"
          %c: ufixed8[1, 2, 2, 1] <bw 8; grid 6.0 -255; from calibrated> !given = \
        Conv2d(%b_quantized, %w3) \(pointwise) "last"
          output %c
        }

        """)
    for backend in backends {
      #expect(try run(fixed, backend, [[0, 10, 100, 300]]) == [[-0.0, -60, -600, -1530]])
    }
    try sameAnnotations(result.graph, fixed.dematerialized())
  }

  @Test func halfPrecisionMiddle() throws {
    var network = try graph(Self.three)
    for name in ["b", "w2"] {
      let id = try #require(network.tensor(named: name))
      network[id].state = .float
    }
    let result = try annotated(network, ["x": (0, 255), "a": (0, 510), "b": (0, 1530)]) {
      $0.floatBitwidth = 16
      $0.floatBiasBitwidth = 32
    }
    let fixed = try result.materialized()
    #expect(
      fixed.nodes.map(\.op.typeName)
        == ["Conv2d", "Dequantize", "Conv2d", "Quantize", "Conv2d"])
    #expect(try fixed.find("a_dequantized").type.element == .float16)
    #expect(try fixed.find("b").type.element == .float16)
    #expect(try fixed.find("w2").type.element == .float16)
    #expect(try fixed.find("w2").constant?.floats() == [3])
    try sameAnnotations(result.graph, fixed.dematerialized())
  }

  /// One float16 branch and one float32 branch of a float16 tensor: one Convert for two readers.
  @Test func widthsOfFloatAreConvertedOnce() throws {
    var network = try graph(
      """
      graph "h" {
        input %x: float32[1, 3] !float 16
        const %k: float32[3] = [0.1, 70000, -70000]
        %a: float32[1, 3] = ElementWiseAbs(%x) "a"
        %b: float32[1, 3] = ElementWiseNeg(%x) "b"
        %c: float32[1, 3] = ElementWiseAdd(%x, %k) "c"
        output %a
        output %b
        output %c
      }
      """)
    for name in ["a", "b", "c", "k"] {
      network[try #require(network.tensor(named: name))].state = .float
    }
    network[try #require(network.tensor(named: "c"))].bitwidth = 16
    let result = try annotated(network)
    let overflow = result.notes.filter { $0.code == "float16-overflow" }
    #expect(overflow.count == 1 && overflow[0].location.tensor == "k")
    let stored = try result.materialized()
    #expect(
      stored.nodes.map(\.op.typeName)
        == ["Convert", "ElementWiseAbs", "ElementWiseNeg", "ElementWiseAdd"])
    #expect(stored.nodes[1].inputs == stored.nodes[2].inputs)
    #expect(try stored.find("x").type.element == .float16)
    #expect(try stored.find("x_converted").type.element == .float32)
    #expect(try stored.find("k").type.element == .float16)
    #expect(try stored.find("k").constant?.floats() == [0.099975586, 65504, -65504])
    for backend in backends {
      let outputs = try run(stored, backend, [[0.1, -1, 3]])
      #expect(outputs[0] == [0.099975586, 1, 3])
      #expect(outputs[2] == [Half.rounded(0.099975586 * 2), 65504, -65504])
      #expect(try run(result.graph, backend, [[0.1, -1, 3]]) == outputs)
    }
    try sameAnnotations(result.graph, stored.dematerialized())
  }

  @Test func integerNodes() throws {
    var network = try graph(
      """
      graph "i" {
        input %x: float32[1, 4]
        input %z: float32[1, 4]
        const %k: float32[1, 4] = [1, 2, 3.5, -4]
        %s: float32[1, 4] = ElementWiseAdd(%x, %k) "sum"
        %p: float32[1, 4] = ElementWiseMultiply(%s, %x) "product"
        %y: float32[1, 4] = ElementWiseAdd(%p, %z) "end"
        output %y
      }
      """)
    network.integerNodes = ["sum", "product"]
    let result = try annotated(
      network, ["x": (0, 255), "s": (0, 255), "p": (0, 510), "z": (0, 255), "y": (0, 1020)])
    let fixed = try result.materialized()
    #expect(
      fixed.text() == """
        graph "i" {
          input %x: ufixed8[1, 4] <bw 8; grid 1.0 0; from calibrated> !given
          input %z: ufixed8[1, 4] <bw 8; grid 1.0 0; from calibrated> !given
          const %k: int32[1, 4] !float = [1, 2, 3, -4]
          %x_dequantized: float32[1, 4] !float = Dequantize(%x) "x_dequantized"
          %x_int32: int32[1, 4] = Cast(%x_dequantized) {to: "int32"} "x_int32"
          %s: int32[1, 4] = ElementWiseAdd(%x_int32, %k) "sum" !int32
          %p_int32: int32[1, 4] = ElementWiseMultiply(%s, %x_int32) "product" !int32
          %p_float: float32[1, 4] !float = Cast(%p_int32) {to: "float32"} "p_float_cast"
          %p: ufixed8[1, 4] <bw 8; grid 2.0 0; from calibrated> !given = Quantize(%p_float) "p_quantize"
          %y: ufixed8[1, 4] <bw 8; grid 4.0 0; from calibrated> !given = ElementWiseAdd(%p, %z) "end"
          output %y
        }

        """)
    for backend in backends {
      #expect(
        try run(fixed, backend, [[1, 2, 3.2, 9], [0, 0, 2, 3]]) == [[0, 8, 20, 48]])
    }
    try sameAnnotations(result.graph, fixed.dematerialized())

    var wrong = try graph(convolutions)
    wrong.integerNodes = ["relu"]
    let annotatedWrong = try annotated(wrong)
    let error = #expect(throws: Diagnostic.self) { try annotatedWrong.materialized() }
    #expect(error?.code == "int32-operator" && error?.kind == .input)
  }

  @Test func floatFallback() throws {
    var network = try graph(
      """
      graph "f" {
        input %x: float32[1, 2, 2, 1]
        const %w1: float32[1, 1, 1, 1] = [2]
        const %b1: float32[1] = [1]
        const %w2: float32[1, 1, 1, 1] = [3]
        %t: float32[1, 2, 2, 1] = Transpose(%x) {perm: [0, 2, 1, 3]} "turn"
        %a: float32[1, 2, 2, 1] = Conv2d(%t, %w1, %b1) \(pointwise) "first"
        %r: float32[1, 2, 2, 1] = Relu(%a) "relu"
        %b: float32[1, 2, 2, 1] = Conv2d(%r, %w2) \(pointwise) "second"
        %s: float32[1, 2, 2, 1] = Sigmoid(%b) "sigmoid"
        output %s
      }
      """)
    for (name, scale) in [("x", 1), ("r", 2), ("w1", 0.5), ("b", 4)] as [(String, Float)] {
      let id = try #require(network.tensor(named: name))
      network[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: scale, offset: 0)])
      network[id].encodingSource = .override
      network[id].state = .given
    }
    var options = QuantizerOptions()
    options.biasBitwidth = 32
    options.floatBitwidth = 16
    let result = try assignFloatFallback(network, options: options)
    let fixed = try result.materialized()
    // The second convolution's weight is open, so it computes in float; its result is given.
    #expect(
      fixed.nodes.map(\.op.typeName)
        == [
          "Transpose", "Conv2d", "Relu", "Dequantize", "Conv2d", "Quantize", "Dequantize", "Sigmoid",
        ])
    #expect(try fixed.find("t").encodingSource == .spread)
    #expect(try fixed.find("b1").type.element == .sfixed32)
    #expect(try fixed.find("w2").type.element == .float16)
    #expect(try fixed.find("b").encoding == network.find("b").encoding)
    #expect(try fixed.find("s").type.element == .float16)
    #expect(result.notes.contains { $0.code == "float-operator" && $0.location.node == "second" })
    try sameAnnotations(result.graph, fixed.dematerialized())
    #expect(fixed.dematerialized().nodes.map(\.name) == network.nodes.map(\.name))
  }

  @Test func wholeGraphInHalf() throws {
    let network = try graph(convolutions)
    let (half, notes) = try convertedToHalf(network, floatBitwidth: 16, floatBiasBitwidth: 32)
    #expect(notes.isEmpty && half.isMaterialized)
    #expect(try half.find("w").type.element == .float16)
    #expect(try half.find("b").type.element == .float32)
    #expect(try half.find("x").type.element == .float16)
    // It can be quantized later.
    let again = half.dematerialized()
    #expect(again.tensors.allSatisfy { $0.state == .open && $0.type.element == .float32 })
    #expect(try convertedToHalf(network, floatBitwidth: 32).graph.isMaterialized == false)
    let (kept, changed) = try preservingTypes(half)
    #expect(changed == 2)
    #expect(kept.nodes.map(\.op.typeName) == ["Convert", "Conv2d", "Relu", "Conv2d", "Convert"])
    let x: [Float] = [0.1, 0.2, -0.3, 4, 5, 6, 7, 8]
    for backend in backends {
      #expect(try run(kept, backend, [x]) == run(half, backend, [x]))
    }
  }

  @Test func preservedTypes() throws {
    var network = try graph(Self.three)
    let x = try #require(network.tensor(named: "x"))
    network[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: 0)])
    network[x].encodingSource = .override
    network[x].state = .given
    let result = try annotated(network, ["a": (0, 510), "b": (0, 1530), "c": (-1530, 0)])
    let fixed = try result.materialized()
    let (kept, changed) = try preservingTypes(fixed)
    #expect(changed == 2)
    #expect(
      kept.nodes.map(\.op.typeName) == ["Quantize", "Conv2d", "Conv2d", "Conv2d", "Dequantize"])
    #expect(try kept.find("x").type.element == .float32 && kept.find("c").type.element == .float32)
    #expect(try kept.find("x_inner").type.element == .ufixed8)
    for backend in backends {
      let values: [Float] = [0, 10.4, 100.6, 300]
      #expect(try run(kept, backend, [values]) == run(fixed, backend, [values]))
    }
    try sameAnnotations(result.graph, kept.dematerialized())
    #expect(try preservingTypes(fixed, names: ["x"]).changed == 1)
    let error = #expect(throws: Diagnostic.self) { try preservingTypes(fixed, names: ["a"]) }
    #expect(error?.code == "unknown-border" && error?.kind == .input)
  }

  @Test func strippedGraphHasItsWeights() throws {
    var network = try graph(Self.three)
    let before = network
    let x = try #require(network.tensor(named: "x"))
    network[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: 0)])
    network[x].encodingSource = .override
    network[x].state = .given
    network[try #require(network.tensor(named: "b"))].state = .float
    network.integerNodes = ["last"]
    #expect(network.strippedOfEncodings().text(inlineLimit: .max) == before.text(inlineLimit: .max))
  }

  @Test(arguments: [0, 1, 2] as [UInt64])
  func halfKernelEqualsItsTwin(seed: UInt64) {
    var random = SplitMix(state: seed)
    var values: [Float] = [
      0, -0.0, 1, 65504, 65519.99, 65520, -65520, .infinity, -.infinity, .nan, 0x1p-24, 0x1p-25,
      0x1.8p-25, 0x1p-14, 0x1.ffcp-15, 0x1.fffp-15, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
    ]
    for _ in 0..<20000 {
      values.append(Float(bitPattern: UInt32(truncatingIfNeeded: random.next())))
      let exponent = Int(random.next() % 44) - 26
      values.append(
        Float(sign: .plus, exponent: exponent, significand: Float(random.next() % 8192) / 2048))
    }
    var rounded = [Float](repeating: 0, count: values.count)
    rounded.withUnsafeMutableBufferPointer { target in
      if let to = target.baseAddress { Half.round(values, into: to, count: values.count) }
    }
    for (value, found) in zip(values, rounded) {
      #expect(found.bitPattern == Half.rounded(value).bitPattern, "\(value)")
    }
  }
}

/// What overrides, the source and the user decided survives materialising and back.
func sameAnnotations(_ before: Graph, _ after: Graph) throws {
  #expect(after.verify().isEmpty && !after.isMaterialized)
  #expect(after.integerNodes == before.integerNodes)
  for tensor in before.tensors {
    guard let id = after.tensor(named: tensor.name) else {
      #expect(tensor.name.hasSuffix("_float"), "\(tensor.name) is lost")
      continue
    }
    let found = after[id]
    #expect(found.type.logical == tensor.type.logical, "\(tensor.name)")
    switch tensor.encodingSource {
    case .override, .source:
      #expect(found.encoding == tensor.encoding, "\(tensor.name)")
      #expect(found.state == tensor.state && found.bitwidth == tensor.bitwidth, "\(tensor.name)")
    default:
      #expect(found.encoding == nil, "\(tensor.name)")
      #expect((found.state == .float) == (tensor.state == .float), "\(tensor.name)")
      if tensor.state == .float { #expect(found.bitwidth == tensor.bitwidth, "\(tensor.name)") }
    }
  }
}
