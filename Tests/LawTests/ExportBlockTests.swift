import IR
import Operators
import Testing

@testable import ONNXExport

@Suite("Export of block-wise encodings")
struct ExportBlocks {
  /// A weight, the operator around it, and where channels and blocks are in our layout and in ONNX's.
  struct Case: Sendable {
    var text: String
    var shape: [Int]
    var axis: Int
    var blocks: EncodingBlocks
    var bits = 8
    /// Block axis and scale shape in the model.
    var exported: (axis: Int, shape: [Int])
  }

  static let cases = [
    Case(
      text: "input %x: float32[1, 5, 5, 6]\n",
      shape: [3, 2, 6, 4], axis: 3, blocks: .init(axis: 2, size: 2), exported: (1, [4, 3, 3, 2])),
    Case(
      text: "input %x: float32[1, 5, 5, 7]\n",
      shape: [3, 2, 7, 4], axis: 3, blocks: .init(axis: 2, size: 4), bits: 4, exported: (1, [4, 2, 3, 2])),
    Case(
      text: "input %x: float32[2, 8]\n", shape: [3, 8], axis: 0, blocks: .init(axis: 1, size: 4), bits: 4,
      exported: (1, [3, 2])),
    Case(
      text: "input %x: float32[2, 9]\n", shape: [9, 3], axis: 1, blocks: .init(axis: 0, size: 3),
      exported: (0, [3, 3])),
  ]

  private func graph(_ item: Case, lowPower: Bool) throws -> Graph {
    let count = item.shape[item.axis] * item.blocks.count(length: item.shape[item.blocks.axis])
    var encoding = Encoding(
      bitwidth: item.bits, symmetric: true, axis: item.axis, blocks: item.blocks,
      channels: (0..<count).map {
        ScaleOffset(scale: 0.01 * Float($0 + 1), offset: -(1 << Int32(item.bits - 1)))
      })
    if lowPower {
      encoding = Encoding(
        bitwidth: item.bits, axis: item.axis, blockAxis: item.blocks.axis, blockSize: item.blocks.size,
        lowPower: LowPowerScales(
          channelScales: (0..<item.shape[item.axis]).map { 0.001 * Float($0 + 1) },
          factors: (0..<count).map { 1 + $0 * 5 % 16 }, decompressedBitwidth: item.bits + 4))
    }
    #expect(encoding.problem(shape: item.shape) == nil)
    let values = (0..<item.shape.reduce(1, *)).map { Float($0 * 37 % 101 - 50) * 0.004 }
    let dots = values.map { "\($0)" }.joined(separator: ", ")
    let type = "float32[\(item.shape.map(String.init).joined(separator: ", "))]"
    let body: String
    switch (item.shape.count, item.axis) {
    case (4, _):
      body = """
        %y: float32[1, 3, 4, 4] = Conv2d(%x, %w) \
        {stride: [1, 1], pad_amount: [0, 0, 0, 0], dilation: [1, 1], group: 1} "conv"
        """
    case (_, 0): body = "%y: float32[2, \(item.shape[0])] = FullyConnected(%x, %w) \"fc\""
    default:
      body = "%y: float32[2, \(item.shape[1])] = MatMul(%x, %w) {transpose_in0: false, transpose_in1: false} \"mm\""
    }
    var result = try Graph(
      text: "graph \"g\" {\n\(item.text)const %w: \(type) = [\(dots)]\n\(body)\noutput %y\n}\n",
      registry: .standard)
    let index = try #require(result.tensors.firstIndex { $0.name == "w" })
    result.tensors[index].encoding = encoding
    result.tensors[index].state = .given
    return result
  }

  @Test("DequantizeLinear gives the floats of the codes, in ONNX's layout", arguments: cases, [false, true])
  func values(_ item: Case, _ lowPower: Bool) throws {
    var graph = try graph(item, lowPower: lowPower)
    let model = try ONNXExporter.export(graph, as: .quantized)
    // What the codes stand for, as a float model of our own.
    let index = try #require(graph.tensors.firstIndex { $0.name == "w" })
    let encoding = try #require(graph.tensors[index].encoding)
    let floats = try #require(graph.tensors[index].constant).floats()
    let codes = Constant(
      type: TensorType(encoding.storage, item.shape), bytes: encoding.quantized(floats, shape: item.shape))
    graph.tensors[index].constant = codes
    graph.tensors[index].type = codes.type
    let plain = try ONNXExporter.export(graph, as: .float)
    let expected = try #require(plain.initializers.first { $0.name == "w" })

    #expect(model.opset == 21)
    let node = try #require(model.nodes.first { $0.opType == "DequantizeLinear" })
    #expect(node.outputs == ["w"])
    let attributes = Dictionary(node.attributes.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    #expect(attributes == ["axis": .int(item.exported.axis), "block_size": .int(item.blocks.size)])
    func operand(_ slot: Int) throws -> ExportedInitializer {
      try #require(model.initializers.first { $0.name == node.inputs[slot] })
    }
    let (stored, scales, zeros) = (try operand(0), try operand(1), try operand(2))
    #expect(stored.shape == expected.shape)
    #expect(stored.type == (item.bits == 4 ? 22 : 3) && zeros.type == stored.type)
    #expect(scales.shape == item.exported.shape && zeros.shape == scales.shape)
    #expect(zeros.bytes.array(of: UInt8.self).allSatisfy { $0 == 0 })

    let bytes = stored.bytes.array(of: UInt8.self)
    let steps = scales.bytes.array(of: Float.self)
    let strides = denseStrides(stored.shape)
    let scaleStrides = denseStrides(scales.shape)
    let wanted = expected.bytes.array(of: Float.self)
    for index in 0..<stored.shape.reduce(1, *) {
      let code =
        item.bits == 4
        ? Int(Int8(bitPattern: (bytes[index / 2] >> (index % 2 * 4)) << 4) >> 4)
        : Int(Int8(bitPattern: bytes[index]))
      var place = 0
      for axis in stored.shape.indices {
        let position = index / strides[axis] % stored.shape[axis]
        place += scaleStrides[axis] * (axis == item.exported.axis ? position / item.blocks.size : position)
      }
      #expect(Float(code) * steps[place] == wanted[index])
    }
  }

  @Test("one block a channel is written as a grid a channel")
  func wholeChannels() throws {
    let item = Case(
      text: "input %x: float32[2, 8]\n", shape: [3, 8], axis: 0, blocks: .init(axis: 1, size: 8),
      exported: (0, [3]))
    let model = try ONNXExporter.export(try graph(item, lowPower: true), as: .quantized)
    let node = try #require(model.nodes.first { $0.opType == "DequantizeLinear" })
    #expect(node.attributes.map(\.name) == ["axis"] && node.attributes.first?.value == .int(0))
    #expect(model.initializers.first { $0.name == node.inputs[1] }?.shape == [3])
    #expect(model.opset == 18)
  }
}
