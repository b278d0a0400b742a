import FoundationEssentials
import IR

/// The content of `qtools.json`: what the format's own payloads have no place for.
struct Sidecar: Codable {
  /// BatchNorm statistics, each list as base64 of little-endian 32-bit floats.
  struct Statistics: Codable {
    var beta: Data
    var gamma: Data
  }

  /// A parameter that `model.params` holds, repeated here for readers that leave that member alone.
  struct List: Codable {
    /// Position of the node in the payload's list.
    var node: Int
    var name: String
    var int: Int?
    var ints: [Int]?
    /// Little-endian 32-bit floats, base64.
    var floats: Data?
  }

  static let currentVersion = 1
  /// Largest content that is read, in bytes.
  static let limit = 256 << 20

  var version = Sidecar.currentVersion
  var options: [String: String] = [:]
  var modelHash: String?
  var calibrationHash: String?
  var calibrationCount: Int?
  var isMaterialized = false
  var aliases: [String: String] = [:]
  var folded: [String: String] = [:]
  var batchNorms: [String: Statistics] = [:]
  /// What equalization multiplied channels by, base64 of little-endian 32-bit floats.
  var channelScales: [String: Data]?
  /// What absorption of high biases took away from channels, likewise.
  var channelShifts: [String: Data]?
  /// Names of the graph's inputs and outputs, in their order.
  var inputs: [String] = []
  var outputs: [String] = []
  /// Tensors by state, where it is not `given` with and `open` without an encoding.
  var states: [String: [String]] = [:]
  /// Bits decided for tensors without an encoding.
  var bitwidths: [String: Int]?
  /// Tensors that keep an encoding of their own inside what would be a fused pair.
  var unfused: [String]?
  /// Constants that the source has in another layout: axis i is axis number i of the list there.
  var sourceOrders: [String: [Int]]?
  /// Nodes that compute in 32-bit integers, sorted.
  var integerNodes: [String]?
  /// Tensors by source of their encoding.
  var sources: [String: [String]] = [:]
  /// Lowest and highest code in use, where the grid is not used whole.
  var codes: [String: [Int]] = [:]
  var lists: [List] = []

  /// Collects what belongs here from a graph and its annotations.
  init(graph: Graph, annotations: ContainerAnnotations) {
    options = annotations.options
    modelHash = annotations.modelHash
    calibrationHash = annotations.calibrationHash
    calibrationCount = annotations.calibrationCount
    isMaterialized = graph.isMaterialized
    aliases = graph.aliases
    folded = graph.folded
    batchNorms = graph.batchNorms.mapValues {
      Statistics(beta: Sidecar.pack($0.beta), gamma: Sidecar.pack($0.gamma))
    }
    if !graph.channelScales.isEmpty { channelScales = graph.channelScales.mapValues(Sidecar.pack) }
    if !graph.channelShifts.isEmpty { channelShifts = graph.channelShifts.mapValues(Sidecar.pack) }
    inputs = graph.inputs.map { graph[$0].name }
    outputs = graph.outputs.map { graph[$0].name }
    if !graph.integerNodes.isEmpty { integerNodes = graph.integerNodes.sorted() }
    var widths: [String: Int] = [:]
    for tensor in graph.tensors where tensor.bitwidth != nil { widths[tensor.name] = tensor.bitwidth }
    if !widths.isEmpty { bitwidths = widths }
    let alone = graph.tensors.filter(\.isUnfused).map(\.name)
    if !alone.isEmpty { unfused = alone }
    var orders: [String: [Int]] = [:]
    for tensor in graph.tensors { orders[tensor.name] = tensor.sourceOrder }
    if !orders.isEmpty { sourceOrders = orders }
    for tensor in graph.tensors {
      let usual: QuantizationState = tensor.encoding == nil ? .open : .given
      if tensor.state != usual { states[tensor.state.rawValue, default: []].append(tensor.name) }
      if let source = tensor.encodingSource {
        sources[source.rawValue, default: []].append(tensor.name)
      }
      if let encoding = tensor.encoding,
        encoding.codeMin != 0 || encoding.codeMax != (1 << encoding.bitwidth) - 1
      {
        codes[tensor.name] = [encoding.codeMin, encoding.codeMax]
      }
    }
  }

  /// The annotations part.
  var annotations: ContainerAnnotations {
    ContainerAnnotations(
      options: options, modelHash: modelHash, calibrationHash: calibrationHash,
      calibrationCount: calibrationCount)
  }

  /// The JSON text: keys sorted, no white space.
  func encoded() throws(Diagnostic) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return try Array(encoder.encode(self)) + [UInt8(ascii: "\n")]
    } catch {
      throw ContainerFailure.bug("qtools.json cannot be written: \(error)")
    }
  }

  private struct Version: Codable { var version: Int }

  /// Reads the JSON text.
  init(decoding content: Bytes) throws(Diagnostic) {
    let data = content.withBuffer { Data($0) }
    do {
      let found = try JSONDecoder().decode(Version.self, from: data).version
      guard found == Sidecar.currentVersion else {
        throw ContainerFailure.input(
          "sidecar-version", "version \(found) is unknown", member: MemberName.sidecar, byte: 0,
          hint: "use the version of qtools that wrote the file")
      }
      self = try JSONDecoder().decode(Sidecar.self, from: data)
    } catch let error as Diagnostic {
      throw error
    } catch let error as DecodingError {
      throw Sidecar.damaged(Sidecar.describe(error))
    } catch {
      throw Sidecar.damaged("the JSON cannot be read")
    }
  }

  /// A finding in this member; `path` is the JSON path.
  static func damaged(_ message: String, path: String? = nil, tensor: String? = nil) -> Diagnostic {
    Diagnostic(
      "container-sidecar", message,
      at: Diagnostic.Location(member: MemberName.sidecar, tensor: tensor, path: path),
      hint: "another program may have changed the file; convert it again")
  }

  private static func describe(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "key \(key.stringValue) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      "a value is of the wrong kind at " + context.codingPath.map(\.stringValue).joined(separator: ".")
    case .dataCorrupted: "this is not JSON"
    @unknown default: "the JSON cannot be read"
    }
  }

  static func pack(_ values: [Float]) -> Data {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count * 4)
    for value in values { bytes.appendLittle(value.bitPattern) }
    return Data(bytes)
  }

  static func unpack(_ data: Data) -> [Float]? {
    guard data.count % 4 == 0 else { return nil }
    return Bytes(Array(data)).array(of: UInt32.self).map {
      Float(bitPattern: UInt32(littleEndian: $0))
    }
  }
}
