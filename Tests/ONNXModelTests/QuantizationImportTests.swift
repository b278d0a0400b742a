import IR
import ONNXModel
import Operators
import Testing

/// What QuantizeLinear and DequantizeLinear of constants become.
@Suite struct QuantizationImportTests {
  private func graph(_ name: String) throws -> Graph {
    try ONNXImporter.load(
      path: Fixtures.path("\(name)/model.onnx"), options: ONNXImporter.Options()
    ).graph
  }

  private func constants(_ name: String, rank: Int) throws -> [Tensor] {
    try graph(name).tensors.filter { $0.constant != nil && $0.type.rank == rank }
  }

  @Test(arguments: [
    "dequantize_weight", "dequantize_weight_axis", "dequantize_weight_moved", "fake_quantized_weight",
    "fake_quantized_torch", "dequantize_s4", "dequantize_float16", "dequantize_shared", "qlinear_conv",
    "qlinear_matmul", "conv_integer", "matmul_integer", "dequantize_blocks", "dequantize_blocks_gemm",
    "dequantize_blocks_conv",
  ])
  func weightsLieOnTheirGrid(_ name: String) throws {
    let found = try graph(name).tensors.filter { $0.encoding != nil && $0.constant != nil }
    #expect(!found.isEmpty)
    for tensor in found {
      let encoding = try #require(tensor.encoding)
      let values = try #require(tensor.constant).floats()
      #expect(tensor.state == .given && tensor.encodingSource == .source)
      #expect(encoding.problem(shape: tensor.type.shape) == nil)
      let codes = encoding.quantized(values, shape: tensor.type.shape)
      let stored = Constant(type: TensorType(encoding.storage, tensor.type.shape), bytes: codes)
      let back = encoding.dequantized(stored.integers() ?? [], shape: tensor.type.shape)
      #expect(back == values, "\(tensor.name)")
    }
  }

  @Test func theChannelAxisMovesWithTheWeights() throws {
    let direct = try #require(try constants("dequantize_weight_axis", rank: 4).first)
    let moved = try #require(try constants("dequantize_weight_moved", rank: 4).first)
    #expect(direct.type.shape == [3, 3, 3, 4])
    #expect(direct.encoding?.axis == 3)
    #expect(direct.encoding?.symmetric == true)
    #expect(moved.type == direct.type && moved.encoding == direct.encoding)
    #expect(moved.constant?.floats() == direct.constant?.floats())
  }

  @Test func blocksMoveWithTheWeights() throws {
    let rows = try #require(try constants("dequantize_blocks", rank: 2).first)
    #expect(rows.type.shape == [4, 27] && rows.sourceOrder == [1, 0])
    #expect(rows.encoding?.axis == 0 && rows.encoding?.blocks == EncodingBlocks(axis: 1, size: 9))
    #expect(rows.encoding?.channels.map { $0.scale * 64 } == [1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6])
    let columns = try #require(try constants("dequantize_blocks_gemm", rank: 2).first)
    #expect(columns.encoding?.bitwidth == 4 && columns.encoding?.symmetric == true)
    #expect(columns.encoding?.blocks == EncodingBlocks(axis: 1, size: 16) && columns.sourceOrder == nil)
    let image = try #require(try constants("dequantize_blocks_conv", rank: 4).first)
    #expect(image.type.shape == [3, 3, 3, 4] && image.sourceOrder == [2, 3, 1, 0])
    #expect(image.encoding?.axis == 3 && image.encoding?.blocks == EncodingBlocks(axis: 2, size: 2))
    #expect(image.encoding?.channels.map { $0.scale * 64 } == [1, 2, 3, 4, 5, 6, 7, 8])
  }

  @Test func aBiasHas32BitsAndNoOffset() throws {
    let bias = try #require(try constants("dequantize_weight_axis", rank: 1).first)
    #expect(bias.encoding?.bitwidth == 32)
    #expect(bias.encoding?.shownOffset() == 0)
    #expect(bias.encoding?.channels.map(\.scale) == [0.005, 0.01, 0.015, 0.02])
  }

  @Test func unsignedCodesAreAsymmetricAndSignedOnesMoveToTheUnsignedGrid() throws {
    let unsigned = try #require(try constants("dequantize_weight", rank: 4).first?.encoding)
    #expect(!unsigned.symmetric && unsigned.channels == [ScaleOffset(scale: 0.02, offset: -128)])
    let signed = try CodeGrid(element: .int8, scales: [0.5], zeroPoints: [-7], axis: nil).encoding
    #expect(!signed.symmetric && signed.channels == [ScaleOffset(scale: 0.5, offset: -121)])
  }

  @Test func sharedWeightsKeepTheirOwnGrids() throws {
    let found = try constants("dequantize_shared", rank: 4)
    #expect(found.count == 3)
    #expect(Set(found.compactMap { $0.encoding?.channels.first?.scale }) == [0.02, 0.03])
    #expect(found.contains { $0.name == "v" })
  }

  @Test func namesOfCodesLeadToTheValues() throws {
    let graph = try graph("dequantize_weight")
    #expect(graph.aliases["w"] == "f")
  }

  @Test(
    arguments: [
      (DataType.float32, [Float(1)], [0]), (.int8, [], []), (.int8, [1, 1], [0]), (.int8, [0], [0]),
      (.int8, [-.infinity], [0]), (.int8, [.nan], [0]), (.int8, [1], [128]), (.uint4, [1], [16]),
      (.int32, [1], [1]), (.uint8, [1], [-1]),
    ] as [(DataType, [Float], [Int])])
  func impossibleGridsAreRefused(_ element: DataType, _ scales: [Float], _ zeros: [Int]) {
    #expect(throws: Diagnostic.self) {
      try CodeGrid(element: element, scales: scales, zeroPoints: zeros, axis: nil)
    }
  }
}
