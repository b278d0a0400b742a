import ArgumentParser
import Container
import EncodingFiles
import IR
import Operators
import Quantizer
import ToolKit

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// `qinspect encodings`: every encoding with its source, by tensor or by layer.
struct EncodingsCommand: ToolCommand {
  /// How the result is printed.
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table, json, csv
    case aimetKeyed = "aimet-0.6.1"
    case aimetListed = "aimet-1.0.0"
    case aimetONNX = "aimet-2.0.0"

    /// The layout of an encodings file, nil for the others.
    var generation: EncodingGeneration? {
      switch self {
      case .table, .json, .csv: nil
      case .aimetKeyed: .keyed
      case .aimetListed: .listed
      case .aimetONNX: .onnx
      }
    }
  }
  /// How rows are grouped.
  enum Grouping: String, ExpressibleByArgument, CaseIterable, Sendable { case tensor, layer }

  static let configuration = CommandConfiguration(
    commandName: "encodings", abstract: "Shows every encoding with its source.")

  @OptionGroup var container: ContainerArgument
  @Option(help: ArgumentHelp("Only tensors whose name matches.", valueName: "glob"))
  var tensor: String?
  @Option(help: "A row a tensor, or the operands of each layer.")
  var by = Grouping.tensor
  @Option(help: "How the result is printed (default: table).")
  var format: Format?
  @Flag(help: "The same as --format json.")
  var json = false
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if json, let format, format != .json {
      throw ValidationError("--json and --format \(format.rawValue) exclude each other")
    }
    if by == .layer, let format, format.generation != nil {
      throw ValidationError("--format \(format.rawValue) and --by layer exclude each other")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard).graph
    }
    if let generation = format?.generation {
      try printEncodingFile(graph, generation, session)
      return .done
    }
    let table: TextTable
    let document: any JSONDocument
    switch by {
    case .tensor:
      let tensors = graph.tensors.filter { $0.type.logical.element.isFloat && isWanted($0.name) }
      let names = graph.isMaterialized ? [] : graph.overridableNames().filter { isWanted($0.name) }
      table = EncodingsCommand.table(tensors, names)
      document = EncodingsDocument(
        tensors: tensors.map(EncodingsDocument.Entry.init),
        names: graph.isMaterialized ? nil : names.map(EncodingsDocument.Name.init))
    case .layer:
      let layers = EncodingsReport(graph).layers.compactMap(filtered)
      table = EncodingsCommand.table(layers, repeatsNames: format == .csv)
      document = LayersDocument(layers: layers.map(LayersDocument.Layer.init))
    }
    if let tensor, table.isEmpty {
      session.printer.report(
        Diagnostic("no-match", "no tensor matches \(tensor)", severity: .warning))
    }
    switch json ? .json : format ?? .table {
    case .table: try session.printResult(table.text)
    case .csv: try session.printResult(table.csv)
    case .json: try session.printResult(document)
    case .aimetKeyed, .aimetListed, .aimetONNX: break
    }
    return .done
  }

  /// Prints the encodings as a file for `--quantization_overrides`.
  private func printEncodingFile(
    _ graph: Graph, _ generation: EncodingGeneration, _ session: ToolSession
  ) throws(Diagnostic) {
    session.printer.report(EncodingFile.losses(of: graph, generation: generation))
    var file = EncodingFile(of: graph, generation: generation, int32Biases: true)
    file.entries.removeAll { !isWanted($0.name) }
    if file.entries.isEmpty {
      session.printer.report(
        Diagnostic(
          "no-match", tensor.map { "no tensor that matches \($0) has an encoding" } ?? "no tensor has an encoding",
          severity: .warning))
    }
    try session.printResult(String(decoding: try file.encoded(), as: UTF8.self))
  }

  private func isWanted(_ name: String) -> Bool {
    guard let tensor else { return true }
    return fnmatch(tensor, name, 0) == 0
  }

  private func filtered(_ layer: EncodingsReport.Layer) -> EncodingsReport.Layer? {
    var layer = layer
    layer.rows = layer.rows.filter { isWanted($0.tensor) }
    return layer.rows.isEmpty ? nil : layer
  }

  private static func table(_ tensors: [Tensor], _ names: [OverridableName]) -> TextTable {
    let reasons = Dictionary(names.map { ($0.name, $0.reason) }, uniquingKeysWith: { first, _ in first })
    var table = TextTable(
      ["tensor", "type", "source", "bw", "scheme", "channels", "scale", "offset", "min", "max"],
      alignment: [.left, .left, .left, .right, .left, .right, .right, .right, .right, .right])
    for tensor in tensors {
      guard let encoding = tensor.encoding else {
        let state = tensor.state == .float ? "float" : reasons[tensor.name].flatMap { $0 } ?? "-"
        table.add([tensor.name, tensor.type.description, state, tensor.bitwidth.map(String.init) ?? ""])
        continue
      }
      let scales = encoding.channels.map(\.scale)
      let low = encoding.channels.indices.map { encoding.minimum(channel: $0) }.min() ?? 0
      let high = encoding.channels.indices.map { encoding.maximum(channel: $0) }.max() ?? 0
      table.add([
        tensor.name, tensor.type.description, tensor.encodingSource?.rawValue ?? "-",
        "\(encoding.bitwidth)", encoding.symmetric ? "symmetric" : "asymmetric",
        channels(of: encoding, shape: tensor.type.shape), "\(scales.max() ?? 0)",
        "\(encoding.channels.isEmpty ? 0 : encoding.shownOffset())", fixed(low, digits: 6), fixed(high, digits: 6),
      ])
    }
    for name in names where name.tensor != name.name {
      table.add([name.name, "", name.tensor.map { "alias of \($0)" } ?? "no effect: \(name.reason ?? "")"])
    }
    return table
  }

  /// The number of grids: `64`, with blocks `64x4`, marked where they are low-power ones.
  private static func channels(of encoding: Encoding, shape: [Int]) -> String {
    guard let axis = encoding.axis, shape.indices.contains(axis) else { return "" }
    guard let blocks = encoding.blocks else { return "\(encoding.channels.count)" }
    let grids = "\(shape[axis])x\(encoding.blocksPerChannel(shape: shape))"
    return blocks.lowPower.map { "\(grids) lpbq\($0.decompressedBitwidth)" } ?? grids
  }

  private static func table(
    _ layers: [EncodingsReport.Layer], repeatsNames: Bool
  ) -> TextTable {
    var table = TextTable(
      [
        "layer", "type", "operand", "bw", "encoding-present", "scheme", "rounding", "enabled",
        "min", "max", "delta", "offset",
      ],
      alignment: [
        .left, .left, .left, .right, .left, .left, .left, .left, .right, .right, .right, .right,
      ])
    for layer in layers {
      for (index, row) in layer.rows.enumerated() {
        let scheme = row.isSymmetric ? "symmetric" : "asymmetric"
        let named = repeatsNames || index == 0
        let start = [
          named ? layer.name : "", named ? layer.type : "", row.operand, "\(row.bitwidth)",
          row.isPresent ? "yes" : "no",
        ]
        guard row.isPresent else {
          table.add(start)
          continue
        }
        table.add(
          start + [
            row.channels.map { "\(scheme) x\($0)" } ?? scheme, "nearest", "yes",
            fixed(row.min, digits: 6), fixed(row.max, digits: 6), "\(Float(row.delta))",
            "\(row.offset)",
          ])
      }
    }
    return table
  }
}

/// Encodings by tensor as JSON.
struct EncodingsDocument: JSONDocument {
  struct Entry: Encodable {
    var name: String
    var type: String
    var shape: [Int]
    var state: String
    var encoding: EncodingDocument?

    init(_ tensor: Tensor) {
      name = tensor.name
      type = tensor.type.element.rawValue
      shape = tensor.type.shape
      state = tensor.state.rawValue
      encoding = tensor.encoding.map { EncodingDocument($0, source: tensor.encodingSource) }
    }
  }

  /// A name by which an encodings file can speak of a float container.
  struct Name: Encodable {
    var name: String
    var tensor: String?
    var without_effect: String?

    init(_ name: OverridableName) {
      self.name = name.name
      tensor = name.tensor
      without_effect = name.reason
    }
  }

  let version = 1
  var tensors: [Entry]
  /// Of float containers only.
  var names: [Name]?
}

/// Encodings by layer as JSON.
struct LayersDocument: JSONDocument {
  struct Row: Encodable {
    var operand: String
    var tensor: String
    var bw: Int
    var encoding_present: Bool
    var scheme: String?
    var channels: Int?
    var rounding: String?
    var enabled: Bool?
    var min: Double?
    var max: Double?
    var delta: Double?
    var offset: Int?
    var source: String?
  }

  struct Layer: Encodable {
    var name: String
    var type: String
    var operands: [Row]

    init(_ layer: EncodingsReport.Layer) {
      name = layer.name
      type = layer.type
      operands = layer.rows.map { row in
        var entry = Row(
          operand: row.operand, tensor: row.tensor, bw: row.bitwidth,
          encoding_present: row.isPresent)
        guard row.isPresent else { return entry }
        entry.scheme = row.isSymmetric ? "symmetric" : "asymmetric"
        entry.channels = row.channels
        entry.rounding = "nearest"
        entry.enabled = true
        entry.min = row.min
        entry.max = row.max
        entry.delta = row.delta
        entry.offset = row.offset
        entry.source = row.source?.rawValue
        return entry
      }
    }
  }

  let version = 1
  var layers: [Layer]
}
