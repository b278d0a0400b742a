import IR

/// Writes graphs as ONNX models.
public enum ONNXExporter {
  /// What becomes of encodings.
  public enum Form: String, Sendable, CaseIterable {
    /// Left out: constants are float (dequantized where they are fixed point).
    case float
    /// QuantizeLinear and DequantizeLinear stand wherever a tensor has an encoding; constants with one
    /// are stored as integers.
    case quantized
  }

  /// The graph as ONNX, channel-first again where it came from a channel-first model.
  ///
  /// Tensors keep their names: in the quantized form the value after DequantizeLinear has the tensor's
  /// name (an input's own name stays that of the float input). Throws every operator that has no ONNX
  /// form and every encoding that ONNX cannot hold at once.
  public static func export(_ graph: Graph, as form: Form) throws(Diagnostic) -> ONNXExportResult {
    let session = ExportSession(graph: graph, form: form)
    return try session.run()
  }

  /// Whether an operator can be exported.
  public static func hasForm(_ type: any Operator.Type) -> Bool { type is any ONNXExportable.Type }
}

/// An exported model.
public struct ONNXExportResult: Sendable {
  /// Name of the graph.
  public internal(set) var name: String
  /// The lowest version of the standard operator set (from 18 on) that has everything in use.
  public internal(set) var opset: Int
  /// What the export has to say.
  public internal(set) var notes: [Diagnostic] = []
  /// For every tensor of the graph that has a value of its own in the model: its name there.
  public internal(set) var names: [TensorID: String] = [:]
  /// How the value that ``names`` tells has its axes: axis i of it is axis `layouts[id][i]` of the tensor.
  public internal(set) var layouts: [TensorID: [Int]] = [:]
  /// Channel axes, in the model's layout, of constants whose encoding has one.
  public internal(set) var channelAxes: [TensorID: Int] = [:]
  var nodes: [ExportedNode] = []
  var initializers: [ExportedInitializer] = []
  var inputs: [ExportedValue] = []
  var outputs: [ExportedValue] = []
  var values: [ExportedValue] = []

  /// Version of the file format that goes with ``opset``.
  public var irVersion: Int {
    switch opset {
    case ...18: 8
    case 19...20: 9
    case 21...22: 10
    case 23: 11
    case 24: 12
    default: 13
    }
  }

  /// Types of the operators in use, in alphabetical order.
  public var operatorTypes: [String] { Set(nodes.map(\.opType)).sorted() }

  /// Number of nodes.
  public var nodeCount: Int { nodes.count }

  /// Bytes of all constants.
  public var constantBytes: Int { initializers.reduce(0) { $0 + $1.bytes.count } }

  /// Whether the constants have to go to a file of their own: protobuf holds 2 GiB.
  public var needsExternalData: Bool { constantBytes > 1_900_000_000 }

  /// The content of a .onnx file. `externalData` names the file, in the same folder, that holds
  /// constants of a kilobyte and more (see ``externalParts()``); nil keeps all in the model.
  public func bytes(externalData: String? = nil) throws(Diagnostic) -> Bytes {
    try ModelPacker(model: self, external: externalData).pack()
  }

  /// The content of the external file: runs of bytes and where each begins, ascending; gaps are zeros.
  public func externalParts() -> [(offset: Int, bytes: Bytes)] {
    let places = ModelPacker.externalPlaces(initializers)
    return initializers.compactMap { item in places[item.name].map { ($0, item.bytes) } }
  }
}

/// An operator that can be written as ONNX.
protocol ONNXExportable: Operator {
  /// Adds the ONNX nodes that compute `node`, whose operator this is.
  func export(_ node: Node, _ session: ExportSession) throws(Diagnostic)
}
