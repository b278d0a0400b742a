import Calibration
import EncodingFiles
import Foundation
import IR
import Operators
import Quantizer
import Runtime
import Testing

/// A layer of each kind with weights, in float.
private func layers(seed: UInt64) throws -> Graph {
  var random = SplitMix(state: seed)
  func values(_ count: Int) -> String {
    (0..<count).map { _ in "\(Float.random(in: -1...1, using: &random))" }.joined(separator: ", ")
  }
  return try graph(
    """
    graph "layers" {
      input %x: float32[1, 3, 3, 4]
      const %cw: float32[3, 3, 4, 5] = [\(values(180))]
      const %cb: float32[5] = [\(values(5))]
      const %fw: float32[7, 5] = [\(values(35))]
      const %fb: float32[7] = [\(values(7))]
      const %mw: float32[7, 6] = [\(values(42))]
      %c: float32[1, 3, 3, 5] = Conv2d(%x, %cw, %cb) {stride: [1, 1], pad_amount: [1, 1, 1, 1], dilation: [1, 1], group: 1} "conv"
      %r: float32[9, 5] = Reshape(%c) {shape: [9, 5]} "reshape"
      %f: float32[9, 7] = FullyConnected(%r, %fw, %fb) "fc"
      %m: float32[9, 6] = MatMul(%f, %mw) {transpose_in0: false, transpose_in1: false} "matmul"
      output %m
    }
    """)
}

private func run(_ backend: any Backend, _ graph: Graph, seed: UInt64) throws -> [Float] {
  var random = SplitMix(state: seed)
  let inputs = graph.inputs.map { id in
    Bytes((0..<graph[id].type.count).map { _ in Float.random(in: -1...1, using: &random) })
  }
  let worker = try backend.prepare(graph, options: PlanOptions()).makeWorker()
  return try worker.run(inputs, tap: nil).flatMap { $0.array(of: Float.self) }
}

private let backends: [any Backend] = [ReferenceBackend(), OneDNNBackend()]

@Suite struct GranularityTests {
  private let ranges: [String: (Float, Float)] = [
    "x": (-1, 1), "c": (-8, 8), "r": (-8, 8), "f": (-20, 20), "m": (-30, 30),
  ]

  @Test func rowsOfFullyConnectedAndMatMul() throws {
    let network = try layers(seed: 1)
    let result = try annotated(network, ranges) {
      $0.perRow = true
      $0.weightsBitwidth = 4
    }
    #expect(try result.graph.find("cw").encoding?.axis == nil)
    #expect(try result.graph.find("fw").encoding?.axis == 0)
    #expect(try result.graph.find("mw").encoding?.axis == 1)
    #expect(try result.graph.find("fw").encoding?.channels.count == 7)
    #expect(try result.graph.find("mw").encoding?.channels.count == 6)
    #expect(try result.graph.find("mw").encoding?.bitwidth == 4)
    #expect(try result.graph.find("fb").encoding?.axis == nil)
    #expect(!result.notes.contains { $0.code == "option-without-effect" })
    let idle = try annotated(try graph(convolutions)) { $0.perRow = true }
    #expect(idle.notes.contains { $0.message.hasPrefix("--use_per_row_quantization changed 0") })
  }

  @Test func biasesOfRows() throws {
    let network = try layers(seed: 2)
    let values = try #require(try network.find("fb").constant?.floats())
    let result = try annotated(network, ranges) {
      $0.perRow = true
      $0.perRowBias = true
    }
    let bias = try #require(try result.graph.find("fb").encoding)
    #expect(bias.axis == 0 && bias.channels.count == 7 && bias.symmetric && bias.bitwidth == 8)
    for (index, value) in values.enumerated() {
      let grid = bias.channels[index]
      let back = grid.dequantize(grid.quantize(value, codeMin: 0, codeMax: 255))
      #expect(abs(back - value) <= 1e-6 * abs(value))
    }
    #expect(try result.graph.find("cb").encoding?.axis == nil)
    let wide = try annotated(network, ranges) {
      $0.perRow = true
      $0.perRowBias = true
      $0.biasBitwidth = 32
    }
    #expect(wide.notes.contains { $0.message.hasSuffix("32-bit biases have a grid a row anyway") })
    let alone = try annotated(network, ranges) { $0.perRowBias = true }
    #expect(alone.notes.contains { $0.message.hasPrefix("--enable_per_row_quantized_bias changed 0") })
  }

  @Test(arguments: 0..<4)
  func packedWeightsGiveTheSameResults(seed: UInt64) throws {
    let network = try layers(seed: seed)
    var graphs: [Graph] = []
    for packs in [false, true] {
      let result = try annotated(network, ranges) {
        $0.perRow = true
        $0.perChannel = seed % 2 == 0
        $0.weightsBitwidth = 4
        $0.packs4BitWeights = packs
        $0.biasBitwidth = 32
      }
      graphs.append(try result.materialized())
    }
    #expect(try graphs[0].find("fw").type.element == .sfixed8)
    #expect(try graphs[1].find("fw").type.element == .sfixed4)
    #expect(try graphs[1].find("cw").type.element == (seed % 2 == 0 ? .sfixed4 : .ufixed4))
    #expect(try graphs[1].find("fw").storedByteCount == 7 * 3)
    #expect(try graphs[1].find("fb").type.element == .sfixed32)
    for backend in backends {
      #expect(try run(backend, graphs[0], seed: seed) == run(backend, graphs[1], seed: seed))
    }
  }

  @Test func packingWithoutFourBitsIsTold() throws {
    let result = try annotated(try layers(seed: 1), ranges) { $0.packs4BitWeights = true }
    #expect(result.notes.contains { $0.message == "--pack_4_bit_weights changed 0 weights: none has 4 bits" })
  }

  /// Every weight with blocks: the graph computes with what its codes mean.
  @Test(arguments: [false, true])
  func blocksRun(lowPower: Bool) throws {
    var network = try layers(seed: 5)
    var plain = network
    for (name, size) in [("cw", 2), ("fw", 2), ("mw", 3)] {
      let id = try #require(network.tensor(named: name))
      let constant = try #require(network[id].constant)
      let axis = name == "cw" ? 3 : name == "fw" ? 0 : 1
      let shape = constant.type.shape
      var encoding = try RangeToEncoding.perBlock(
        constant.floats(), shape: shape, axis: axis,
        blockAxis: Encoding.inputAxis(channelAxis: axis, rank: shape.count), blockSize: size, bitwidth: 4)
      if lowPower { encoding = try encoding.lowPower(decompressedBitwidth: 8, shape: shape) }
      network[id].encoding = encoding
      network[id].encodingSource = .override
      network[id].state = .given
      var back = constant.floats()
      encoding.simulate(constant.floats(), into: &back, shape: shape)
      plain[id].constant = Constant(back, shape: shape)
      plain[id].state = .float
      #expect(zip(back, constant.floats()).allSatisfy { abs($0 - $1) < 0.12 })
    }
    let result = try annotated(network, ranges) { $0.biasBitwidth = 32 }
    let weight = try #require(try result.graph.find("fw").encoding)
    let input = try #require(try result.graph.find("r").encoding?.channels.first)
    let bias = try #require(try result.graph.find("fb").encoding)
    for channel in 0..<7 {
      let largest = weight.channels[(3 * channel)..<(3 * channel + 3)].map(\.scale).max() ?? 0
      #expect(bias.channels[channel].scale == Float(Double(input.scale) * Double(largest)))
    }
    let fixed = try result.materialized()
    #expect(fixed.verify() == [])
    #expect(try fixed.find("mw").type.element == .sfixed8)
    // The same graph with float weights that have the codes' values already.
    var simulated = fixed
    for name in ["cw", "fw", "mw"] {
      let id = try #require(simulated.tensor(named: name))
      simulated[id] = try plain.find(name)
    }
    for backend in backends {
      #expect(try run(backend, fixed, seed: 9) == run(backend, simulated, seed: 9))
    }
    let float = fixed.dematerialized()
    #expect(try float.find("mw").constant?.floats() == plain.find("mw").constant?.floats())
    #expect(try float.find("mw").encoding == weightEncoding(network, "mw"))
  }

  private func weightEncoding(_ graph: Graph, _ name: String) throws -> Encoding? {
    try graph.find(name).encoding
  }

  @Test func blocksThatDoNotFitAreRefused() {
    #expect(throws: Diagnostic.self) {
      try RangeToEncoding.perBlock([1, 2], shape: [2, 1], axis: 0, blockAxis: 1, blockSize: 2, bitwidth: 4)
    }
    #expect(throws: Diagnostic.self) {
      try RangeToEncoding.perBlock([1], shape: [2, 1], axis: 0, blockAxis: 1, blockSize: 1, bitwidth: 4)
    }
    #expect(throws: Diagnostic.self) {
      try Encoding(bitwidth: 4, channels: [ScaleOffset(scale: 1, offset: 0)])
        .lowPower(decompressedBitwidth: 8, shape: [1])
    }
  }

  @Test func keepFloatWithoutMatchIsAnError() throws {
    let network = try layers(seed: 3)
    let error = #expect(throws: Diagnostic.self) {
      try annotated(network, ranges) { $0.keepFloat = ["matmul", "nothing_*"] }
    }
    #expect(error?.code == "keep-float-no-match")
  }

  @Test func keepFloatAndKeptWeights() throws {
    let network = try layers(seed: 3)
    let apart = try annotated(network, ranges) { $0.keepFloat = ["f?"] }
    #expect(try apart.graph.find("f").state == .float)
    #expect(try apart.graph.find("fw").state == .float)
    let fixed = try apart.materialized()
    #expect(
      fixed.nodes.map(\.op.typeName)
        == ["Conv2d", "Reshape", "Dequantize", "FullyConnected", "Quantize", "MatMul"])
    #expect(try fixed.find("fw").type.element == .float32)

    let kept = try annotated(network, ranges) {
      $0.keepFloat = ["fc"]
      $0.keepsWeightsQuantized = true
      $0.perRow = true
      $0.weightsBitwidth = 4
    }
    let mixed = try kept.materialized()
    #expect(mixed.nodes.map(\.op.typeName) == fixed.nodes.map(\.op.typeName))
    #expect(try mixed.find("fw").type.element == .sfixed8)
    #expect(try mixed.find("fb").type.element == .float32)
    #expect(mixed.verify() == [])
    var plain = mixed
    let id = try #require(plain.tensor(named: "fw"))
    let encoding = try #require(mixed[id].encoding)
    let codes = try #require(mixed[id].constant?.integers())
    plain[id].constant = Constant(encoding.dequantized(codes, shape: [7, 5]), shape: [7, 5])
    plain[id].type = TensorType(.float32, [7, 5])
    plain[id].encoding = nil
    for backend in backends {
      #expect(try run(backend, mixed, seed: 4) == run(backend, plain, seed: 4))
    }
    let idle = try annotated(network, ranges) { $0.keepsWeightsQuantized = true }
    #expect(idle.notes.contains { $0.message.hasPrefix("--keep_weights_quantized changed 0") })
  }

  @Test func biasesAreAdjustedUnlessToldOtherwise() throws {
    let network = try graph(
      """
      graph "b" {
        input %x: float32[1, 2]
        const %w: float32[1, 2] = [1e-6, 1e-6]
        const %b: float32[1] = [1000]
        %y: float32[1, 1] = FullyConnected(%x, %w, %b) "fc"
        output %y
      }
      """)
    let ranges: [String: (Float, Float)] = ["x": (0, 1e-3), "y": (0, 1000)]
    let adjusted = try annotated(network, ranges) { $0.biasBitwidth = 32 }
    #expect(adjusted.notes.contains { $0.code == "bias-widened" })
    let plain = try annotated(network, ranges) {
      $0.biasBitwidth = 32
      $0.adjustsBiasEncoding = false
    }
    #expect(!plain.notes.contains { $0.code == "bias-widened" })
    #expect(plain.notes.contains { $0.code == "bias-own-range" })
    let idle = try annotated(network, ranges) { $0.adjustsBiasEncoding = false }
    #expect(idle.notes.contains { $0.message.hasPrefix("--no-adjust_bias_encoding changed nothing") })
  }

  @Test func usersOfASharedWeightMustAgree() throws {
    let network = try graph(
      """
      graph "s" {
        input %x: float32[2, 2]
        const %w: float32[2, 2] = [1, 2, 3, 4]
        %a: float32[2, 2] = FullyConnected(%x, %w) "fc"
        %b: float32[2, 2] = MatMul(%a, %w) {transpose_in0: false, transpose_in1: false} "matmul"
        output %b
      }
      """)
    #expect(try annotated(network).graph.find("w").encoding?.axis == nil)
    let error = #expect(throws: Diagnostic.self) { try annotated(network) { $0.perRow = true } }
    #expect(error?.code == "shared-weight-conflict")
    #expect(error?.message.contains("fc, matmul") == true)
  }

  @Test func rowsOfZerosAreCounted() throws {
    let network = try graph(
      """
      graph "z" {
        input %x: float32[1, 2]
        const %w: float32[3, 2] = [0, 0, 1, 2, 0, 0]
        %a: float32[1, 3] = FullyConnected(%x, %w) "fc"
        output %a
      }
      """)
    let result = try annotated(network) { $0.perRow = true }
    #expect(
      result.notes.map(\.message) == ["2 channels of 1 weight are all zero and get the least range"])
    #expect(try result.graph.find("w").encoding?.channels[0].scale == Float(0.0001 / 127))
  }

  /// Block-wise entries of all layouts reach the weights along their input axis, and come back the same.
  @Test(arguments: [false, true], [EncodingGeneration.listed, .onnx])
  func encodingsFiles(lowPower: Bool, generation: EncodingGeneration) throws {
    let network = try layers(seed: 8)
    var given = network
    for (name, axis, size) in [("cw", 3, 2), ("fw", 0, 2), ("mw", 1, 3)] {
      let id = try #require(network.tensor(named: name))
      let constant = try #require(network[id].constant)
      let shape = constant.type.shape
      var encoding = try RangeToEncoding.perBlock(
        constant.floats(), shape: shape, axis: axis,
        blockAxis: Encoding.inputAxis(channelAxis: axis, rank: shape.count), blockSize: size, bitwidth: 4)
      if lowPower { encoding = try encoding.lowPower(decompressedBitwidth: 8, shape: shape) }
      given[id].encoding = encoding
      given[id].encodingSource = .override
      given[id].state = .given
    }
    let written = EncodingFile(of: given, generation: generation)
    #expect(written.entries.count == 3)
    if generation == .onnx {
      #expect(written.entries[0].blockShape == [5, 2, 1, 1] && written.entries[0].axis == 1)
      #expect(written.entries[1].blockShape == [7, 3] && written.entries[1].axis == 1)
      #expect(written.entries[2].blockShape == [3, 6] && written.entries[2].axis == 0)
    }
    let file = try EncodingFile(decoding: try written.encoded())
    let applied = try applyOverrides(network, file, missing: .calibrate).0
    for name in ["cw", "fw", "mw"] {
      #expect(try applied.find(name).encoding == given.find(name).encoding, "\(name)")
    }
  }

  @Test func blocksThatDoNotFitTheWeight() throws {
    let text = """
      {"version": "1.0.0", "activation_encodings": [], "param_encodings": [
        {"name": "fw", "dtype": "INT", "bw": 4, "enc_type": "PER_BLOCK", "is_sym": true, "block_size": 4,
         "scale": [1, 1, 1], "offset": [-8, -8, -8]},
        {"name": "fb", "dtype": "INT", "bw": 8, "enc_type": "PER_BLOCK", "is_sym": true, "block_size": 1,
         "scale": [1], "offset": [-128]}]}
      """
    let file = try EncodingFile(decoding: Array(text.utf8))
    let network = try layers(seed: 8)
    let error = #expect(throws: Diagnostic.self) { try applyOverrides(network, file) }
    let found = error.map { $0.all } ?? []
    #expect(found.map(\.code) == ["override-blocks", "override-blocks"])
    #expect(
      found.first?.message
        == "3 block encodings for 7 channels of 2 blocks: the tensor is float32[7, 5] with its channels "
        + "on axis 0 and blocks along axis 1")
    #expect(found.first?.location.path != nil)
  }
}

extension Encoding {
  fileprivate func simulate(_ values: [Float], into target: inout [Float], shape: [Int]) {
    values.withUnsafeBufferPointer { source in
      target.withUnsafeMutableBufferPointer { target in
        if let from = source.baseAddress, let to = target.baseAddress {
          simulate(from, into: to, shape: shape)
        }
      }
    }
  }
}

/// AIMET's int4 block scales of a weight and their compression.
@Suite(.enabled(if: Golden.isPresent)) struct LowPowerGoldenTests {
  struct Record: Decodable {
    var tensor: String
    var bitwidth: Int
    var decompressed_bw: Int
    var block_axis: Int
    var block_size: Int
    var block_scale: [[Double]]
    var per_channel_float_scale: [Double]
    var per_block_int_scale: [[Int]]
  }

  @Test func compressionIsTheirs() throws {
    let golden = try Golden.shared.get()
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../../shared/models/golden/lpbq.json").standardizedFileURL
    let record = try JSONDecoder().decode(Record.self, from: Data(contentsOf: url))
    let tensor = try #require(golden.tensors[record.tensor])
    // AIMET's symmetric rule uses all negative codes where they reach further.
    let half = Float(1 << (record.bitwidth - 1))
    let blocks = try RangeToEncoding.perBlock(
      tensor.values, shape: tensor.shape, axis: 0, blockAxis: record.block_axis,
      blockSize: record.block_size, bitwidth: record.bitwidth
    ) {
      ScaleOffset(
        scale: max($0.upperBound / (half - 1), -$0.lowerBound / half), offset: Int32(-half))
    }
    let expected = record.block_scale.flatMap { $0 }
    #expect(blocks.channels.count == expected.count)
    for (grid, scale) in zip(blocks.channels, expected) {
      #expect(abs(Double(grid.scale) - scale) <= 1e-6 * scale)
    }
    let low = try blocks.lowPower(decompressedBitwidth: record.decompressed_bw, shape: tensor.shape)
    let scales = try #require(low.blocks?.lowPower)
    #expect(scales.factors == record.per_block_int_scale.flatMap { $0 })
    for (scale, expected) in zip(scales.channelScales, record.per_channel_float_scale) {
      #expect(abs(Double(scale) - expected) <= 1e-6 * expected)
    }
    #expect(low.problem(shape: tensor.shape) == nil)
  }
}
