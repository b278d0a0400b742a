import ArgumentParser
import Container
import EncodingFiles
import IR
import ONNXExport
import Operators
import ToolKit

extension EncodingGeneration: ExpressibleByArgument {}

/// `qinspect export`: the container as a model that other runtimes run.
struct ExportCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Writes the container as an ONNX model.",
    discussion: """
      Without further options the model is float, quantized weights at the values of their codes. With \
      --qdq weights are integers and QuantizeLinear and DequantizeLinear stand wherever a tensor has \
      an encoding. With --encodings the model is float and its encodings go to a file of AIMET's.
      """)

  @OptionGroup var container: ContainerArgument
  @Option(help: ArgumentHelp("The ONNX model to write.", valueName: "model.onnx"))
  var onnx: String
  @Flag(help: "Write encodings as QuantizeLinear and DequantizeLinear.")
  var qdq = false
  @Option(
    help: ArgumentHelp("Write a float model and its encodings, as AIMET does.", valueName: "file"))
  var encodings: String?
  @Option(
    name: .customLong("encoding_version"),
    help: ArgumentHelp("Layout of the encodings file (default: 1.0.0).", valueName: "version"))
  var encodingVersion: EncodingGeneration?
  @Flag(
    name: .customLong("external_data"),
    help: "Constants go to model.onnx.data; over 1.9 GB they always do.")
  var externalData = false
  @Flag(help: "Print a summary of what was written as JSON.")
  var json = false
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if qdq, encodings != nil {
      throw ValidationError("--qdq and --encodings exclude each other")
    }
    if encodingVersion != nil, encodings == nil {
      throw ValidationError("--encoding_version is for --encodings")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let path = container.path
    session.noteInputs([path])
    let file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: path, registry: .standard)
    }
    let graph = file.graph
    let hasEncodings = graph.tensors.contains { $0.encoding != nil }
    if !hasEncodings, qdq || encodings != nil {
      session.printer.report(
        Diagnostic(
          "option-without-effect",
          "\(qdq ? "--qdq" : "--encodings") has nothing to write: no tensor has an encoding",
          severity: .warning))
    }
    let result = try session.phase("export") { () throws(Diagnostic) in
      try ONNXExporter.export(graph, as: qdq ? .quantized : .float)
    }
    session.printer.report(result.notes)
    let external = externalData || result.needsExternalData ? onnx + ".data" : nil
    try session.checkOutputs(main: nil, others: [onnx, encodings, external])
    if encodings != nil {
      session.printer.report(EncodingFile.losses(of: graph, generation: encodingVersion ?? .listed))
    }
    let sidecar = try encodings.map { _ throws(Diagnostic) in
      try encodingFile(graph, result).encoded()
    }
    try session.printer.checkWarnings()
    try session.phase("write") { () throws(Diagnostic) in
      if let external { try AtomicFile.write(parts: result.externalParts(), to: external) }
      let name = external.map(FileReading.name(of:))
      let bytes = try result.bytes(externalData: name)
      try AtomicFile.write(bytes, to: onnx)
      if let encodings, let sidecar { try AtomicFile.write(Bytes(sidecar), to: encodings) }
    }
    if json {
      try session.printResult(ExportDocument(result, graph))
    } else {
      try session.printSummary("\(onnx): operator set \(result.opset), \(result.nodeCount) nodes")
    }
    return .done
  }

  /// The encodings under the names that the tensors have in the model.
  private func encodingFile(
    _ graph: Graph, _ result: ONNXExportResult
  ) throws(Diagnostic) -> EncodingFile {
    var renamed = graph
    var axes: [String: Int] = [:]
    var blocks: [String: (axis: Int, shape: [Int])] = [:]
    for index in renamed.tensors.indices {
      guard let name = result.names[TensorID(index)] else { continue }
      renamed.tensors[index].name = name
      if let axis = result.channelAxes[TensorID(index)] { axes[name] = axis }
      blocks[name] = blockNesting(graph.tensors[index], layout: result.layouts[TensorID(index)])
    }
    var content = EncodingFile(of: renamed, generation: encodingVersion ?? .listed)
    let known = Set(result.names.values)
    var seen = Set<String>()
    // A float of 32 bits is what a tensor without an entry is.
    content.entries = content.entries.filter {
      known.contains($0.name) && ($0.kind == .int || $0.bitwidth < 32) && seen.insert($0.name).inserted
    }
    for index in content.entries.indices {
      let name = content.entries[index].name
      switch content.entries[index].granularity {
      case .perTensor: break
      case .perChannel: if let axis = axes[name] { content.entries[index].axis = axis }
      case .perBlock, .lowPowerBlocks:
        guard let place = blocks[name] else { continue }
        content.entries[index].axis = place.axis
        content.entries[index].blockShape = place.shape
      }
    }
    return content
  }

  /// The block axis of a tensor in a layout and the shape in which its scales are nested there: one
  /// everywhere but at channels and blocks.
  private func blockNesting(_ tensor: Tensor, layout: [Int]?) -> (axis: Int, shape: [Int])? {
    guard let layout, let encoding = tensor.encoding, let channelAxis = encoding.axis,
      let blocks = encoding.blocks, let channels = layout.firstIndex(of: channelAxis),
      let place = layout.firstIndex(of: blocks.axis)
    else { return nil }
    var shape = [Int](repeating: 1, count: layout.count)
    shape[channels] = tensor.type.shape[channelAxis]
    shape[place] = encoding.blocksPerChannel(shape: tensor.type.shape)
    return (place, shape)
  }
}

/// What was exported, as JSON.
struct ExportDocument: JSONDocument {
  /// Where the value of a tensor of the container is in the model.
  struct Value: Encodable {
    var tensor: String
    var name: String
    /// Axis i of the value is axis `layout[i]` of the tensor.
    var layout: [Int]?
  }

  let version = 1
  var opset: Int
  var nodes: Int
  var operators: [String]
  var constant_bytes: Int
  var values: [Value]

  init(_ result: ONNXExportResult, _ graph: Graph) {
    opset = result.opset
    nodes = result.nodeCount
    operators = result.operatorTypes
    constant_bytes = result.constantBytes
    values = graph.tensors.enumerated().compactMap { index, tensor in
      result.names[TensorID(index)].map {
        Value(tensor: tensor.name, name: $0, layout: result.layouts[TensorID(index)])
      }
    }
  }
}
