import ArgumentParser
import Container
import IR
import Operators
import ToolKit

/// `qinspect json`: everything a container holds as one JSON document.
struct JSONCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "json", abstract: "Prints the whole container as JSON.")

  @OptionGroup var container: ContainerArgument
  @Option(
    name: [.short, .customLong("output")],
    help: ArgumentHelp("Write the document to a file.", valueName: "file"))
  var output: String?
  @Flag(help: "Constants with all their values, not only hash and extremes.")
  var values = false
  @OptionGroup var common: CommonOptions

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let path = container.path
    session.noteInputs([path])
    try session.checkOutputs(main: nil, others: [output])
    let file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: path, registry: .standard)
    }
    let document = ContainerDocument(file, values: values)
    guard let output else {
      try session.printResult(document)
      return .done
    }
    try session.printer.checkWarnings()
    try AtomicFile.write(try JSONOutput.text(document), to: output)
    return .done
  }
}

/// A constant as JSON: what it can be told by, and its values where they are asked for.
struct ConstantDocument: Encodable {
  var bytes: Int
  /// Of the dense bytes in the order of the shape.
  var sha256: String
  /// Smallest and largest real value; absent where there is no number.
  var min: Double?
  var max: Double?
  /// Elements that are neither finite.
  var nonfinite: Int?
  var values: [Double]?
  /// Codes as stored, of fixed point.
  var codes: [Int]?

  init(_ constant: Constant, encoding: Encoding?, values wanted: Bool) {
    let dense = constant.materialized()
    bytes = dense.count
    sha256 = SHA256.hex(SHA256.hash(dense.buffer))
    let real: [Double]
    let isFixed = constant.type.element.isFixedPoint
    if isFixed, let encoding {
      real = encoding.dequantized(constant)
        .map(Double.init)
    } else if constant.type.element == .float64 {
      real = dense.array(of: Double.self)
    } else if let whole = constant.integers() {
      real = whole.map(Double.init)
    } else {
      real = constant.floats().map(Double.init)
    }
    let finite = real.lazy.filter(\.isFinite)
    min = finite.min()
    max = finite.max()
    let others = real.count { !$0.isFinite }
    nonfinite = others > 0 ? others : nil
    if wanted { values = real }
    if wanted, isFixed { codes = constant.integers() }
  }
}

/// Everything a container holds.
struct ContainerDocument: JSONDocument {
  struct Node: Encodable {
    var name: String
    var type: String
    var inputs: [String?]
    var outputs: [String]
    var attributes: [String: AttributeDocument]
    /// Whether it computes in 32-bit integers by override.
    var int32: Bool
    /// The activation it is quantized together with.
    var fused_with: String?
  }

  struct Tensor: Encodable {
    var name: String
    var type: String
    var shape: [Int]
    var role: String
    var state: String
    var bitwidth: Int?
    var encoding: EncodingDocument?
    var constant: ConstantDocument?
  }

  struct Statistics: Encodable {
    var beta: [Float]
    var gamma: [Float]
  }

  struct Metadata: Encodable {
    var model_version: String
    var converter_command: String
    var converter_version: String
    var copyright: String
    var model_hash: String?
    var calibration_hash: String?
    var calibration_count: Int?
  }

  struct Member: Encodable {
    var name: String
    var size: Int
  }

  let version = 1
  var graph: String
  var materialized: Bool
  var metadata: Metadata
  var options: [String: String]
  var inputs: [String]
  var outputs: [String]
  var nodes: [Node]
  var tensors: [Tensor]
  var aliases: [String: String]
  var folded: [String: String]
  var batchnorms: [String: Statistics]
  /// Members of the archive that are not ours.
  var foreign_members: [Member]

  init(_ file: ContainerFile, values: Bool) {
    let graph = file.graph
    self.graph = graph.name
    materialized = graph.isMaterialized
    metadata = Metadata(
      model_version: file.metadata.modelVersion, converter_command: file.metadata.converterCommand,
      converter_version: file.metadata.converterVersion, copyright: file.metadata.modelCopyright,
      model_hash: file.annotations.modelHash, calibration_hash: file.annotations.calibrationHash,
      calibration_count: file.annotations.calibrationCount)
    options = file.annotations.options
    inputs = graph.inputs.map { graph[$0].name }
    outputs = graph.outputs.map { graph[$0].name }
    let fused = graph.fusedIntermediates()
    nodes = graph.nodes.map { node in
      Node(
        name: node.name, type: node.op.typeName, inputs: node.inputs.map { $0.map { graph[$0].name } },
        outputs: node.outputs.map { graph[$0].name },
        attributes: Dictionary(
          node.op.attributes.map { ($0.name, AttributeDocument(value: $0.value)) },
          uniquingKeysWith: { one, _ in one }),
        int32: graph.integerNodes.contains(node.name),
        fused_with: node.outputs.first.flatMap { fused[$0] }.map { graph[$0].name })
    }
    let (inputSet, outputSet) = (Set(graph.inputs), Set(graph.outputs))
    tensors = graph.tensors.enumerated().map { index, tensor in
      let id = TensorID(index)
      let role =
        tensor.constant != nil
        ? "static" : inputSet.contains(id) ? "input" : outputSet.contains(id) ? "output" : "native"
      return Tensor(
        name: tensor.name, type: tensor.type.element.rawValue, shape: tensor.type.shape, role: role,
        state: tensor.state.rawValue, bitwidth: tensor.bitwidth,
        encoding: tensor.encoding.map { EncodingDocument($0, source: tensor.encodingSource) },
        constant: tensor.constant.map {
          ConstantDocument($0, encoding: tensor.encoding, values: values)
        })
    }
    aliases = graph.aliases
    folded = graph.folded
    batchnorms = graph.batchNorms.mapValues { Statistics(beta: $0.beta, gamma: $0.gamma) }
    foreign_members = file.foreignMembers.map { Member(name: $0.name, size: $0.bytes.count) }
  }
}
