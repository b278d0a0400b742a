import Container
import IR
import ToolKit

/// An encoding as JSON; a number a channel or block.
struct EncodingDocument: Encodable {
  var bitwidth: Int
  var symmetric: Bool
  var axis: Int?
  /// Of block-wise encodings: axis and elements of a block; numbers are in the order [channel][block].
  var block_axis: Int?
  var block_size: Int?
  /// Of low-power blockwise encodings: bits after the factors, scale a channel, factor a block.
  var decompressed_bitwidth: Int?
  var channel_scale: [Float]?
  var block_factor: [Int]?
  var scale: [Float]
  /// On the unsigned grid.
  var offset: [Int]
  /// Relative to the stored code: 0 for symmetric.
  var stored_offset: [Int]
  var min: [Double]
  var max: [Double]
  var source: String?

  init(_ encoding: Encoding, source: EncodingSource?) {
    bitwidth = encoding.bitwidth
    symmetric = encoding.symmetric
    axis = encoding.axis
    block_axis = encoding.blocks?.axis
    block_size = encoding.blocks?.size
    decompressed_bitwidth = encoding.blocks?.lowPower?.decompressedBitwidth
    channel_scale = encoding.blocks?.lowPower?.channelScales
    block_factor = encoding.blocks?.lowPower?.factors
    scale = encoding.channels.map(\.scale)
    offset = encoding.channels.indices.map { encoding.shownOffset(channel: $0) }
    stored_offset = encoding.channels.map { Int($0.offset) - encoding.storageShift }
    min = encoding.channels.indices.map { encoding.minimum(channel: $0) }
    max = encoding.channels.indices.map { encoding.maximum(channel: $0) }
    self.source = source?.rawValue
  }
}

/// A parameter's value as JSON.
struct AttributeDocument: Encodable {
  var value: AttributeValue

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch value {
    case .bool(let value): try container.encode(value)
    case .int(let value): try container.encode(value)
    case .float(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .ints(let value): try container.encode(value)
    case .floats(let value): try container.encode(value)
    }
  }
}

/// Everything `qinspect info` tells, as JSON.
struct InfoDocument: JSONDocument {
  struct Member: Encodable {
    var name: String
    var size: Int
    var known: Bool
  }

  struct TensorEntry: Encodable {
    var name: String
    var type: String
    var shape: [Int]
    var role: String
    var state: String
    var encoding: EncodingDocument?
  }

  struct OperatorEntry: Encodable {
    var id: Int
    var name: String
    var type: String
    var inputs: [String?]
    var outputs: [String]
    var attributes: [String: AttributeDocument]
    var parameters: Int
    var macs: Int
  }

  struct Totals: Encodable {
    var operators: Int
    var parameters: Int
    var parameter_bytes: Int
    var bytes_by_type: [String: Int]
    var bits_per_weight: Double
    var macs: Int
  }

  let version = 1
  var graph: String
  var quantized: Bool
  var model_version: String
  var converter_command: String
  var converter_version: String
  var copyright: String
  var model_hash: String?
  var calibration_hash: String?
  var calibration_count: Int?
  var options: [String: String]
  var members: [Member]
  var inputs: [String]
  var outputs: [String]
  var operators: [OperatorEntry]
  var tensors: [TensorEntry]
  var totals: Totals
  /// Where they are asked for.
  var memory: MemoryDocument?
  var trace: [TraceDocument.Entry]?

  init(_ summary: ContainerSummary) {
    let graph = summary.graph
    let statics = Set(summary.staticTensors)
    self.graph = graph.name
    quantized = graph.isMaterialized
    model_version = summary.metadata.modelVersion
    converter_command = summary.metadata.converterCommand
    converter_version = summary.metadata.converterVersion
    copyright = summary.metadata.modelCopyright
    model_hash = summary.annotations.modelHash
    calibration_hash = summary.annotations.calibrationHash
    calibration_count = summary.annotations.calibrationCount
    options = summary.annotations.options
    members = summary.members.map { Member(name: $0.name, size: $0.size, known: $0.isKnown) }
    inputs = graph.inputs.map { graph[$0].name }
    outputs = graph.outputs.map { graph[$0].name }
    operators = graph.nodes.enumerated().map { index, node in
      let parameters = node.inputs.lazy.compactMap { $0 }.filter { statics.contains($0) }
      return OperatorEntry(
        id: index, name: node.name, type: node.op.typeName,
        inputs: node.inputs.map { $0.map { graph[$0].name } },
        outputs: node.outputs.map { graph[$0].name },
        attributes: Dictionary(
          node.op.attributes.map { ($0.name, AttributeDocument(value: $0.value)) },
          uniquingKeysWith: { first, _ in first }),
        parameters: parameters.reduce(0) { $0 + graph[$1].type.count },
        macs: node.op.macs(graph.inputTypes(node), graph.outputTypes(node)))
    }
    let inputSet = Set(graph.inputs)
    let outputSet = Set(graph.outputs)
    tensors = graph.tensors.enumerated().map { index, tensor in
      let id = TensorID(index)
      let role =
        statics.contains(id)
        ? "static"
        : inputSet.contains(id)
          ? "input" : outputSet.contains(id) ? "output" : "native"
      return TensorEntry(
        name: tensor.name, type: tensor.type.element.rawValue, shape: tensor.type.shape, role: role,
        state: tensor.state.rawValue,
        encoding: tensor.encoding.map { EncodingDocument($0, source: tensor.encodingSource) })
    }
    totals = Totals(graph, statics: summary.staticTensors, macs: operators.map(\.macs))
  }
}

extension InfoDocument.Totals {
  fileprivate init(_ graph: Graph, statics: [TensorID], macs: [Int]) {
    operators = graph.nodes.count
    self.macs = macs.reduce(0, &+)
    parameters = 0
    parameter_bytes = 0
    bytes_by_type = [:]
    var bits = 0
    for id in statics {
      let type = graph[id].type
      parameters += type.count
      parameter_bytes += graph[id].storedByteCount
      bytes_by_type[type.element.rawValue, default: 0] += graph[id].storedByteCount
      bits += type.count * type.element.bits
    }
    bits_per_weight = parameters > 0 ? Double(bits) / Double(parameters) : 0
  }
}
