import ArgumentParser
import EncodingFiles
import IR
import ToolKit

/// Encodings of the result as a file of AIMET's.
public struct EncodingDumpOptions: ParsableArguments {
  @Option(
    name: .customLong("dump_encoding_json"), defaultAsFlag: "",
    help: ArgumentHelp(
      "Write the encodings as AIMET does (default name: NAME_encodings.json beside the output).",
      valueName: "file"))
  var file: String?
  @Option(
    name: .customLong("encoding_version"),
    help: "Layout of that file: 0.6.1, 1.0.0 or 2.0.0 (default: 1.0.0).")
  var version: EncodingGeneration?

  /// For the parser.
  public init() {}

  public func validate() throws {
    if version != nil, file == nil { throw ValidationError("--encoding_version needs --dump_encoding_json") }
  }

  /// Whether a dump is wanted.
  public var isGiven: Bool { file != nil }

  /// Where the dump goes beside a container, nil where none is wanted.
  public func path(beside output: String) -> String? {
    file.map { $0.isEmpty ? FileReading.withoutExtension(output) + "_encodings.json" : $0 }
  }

  /// The text of the dump: the encodings of an annotated graph, of tensors that `names` has. 32-bit biases
  /// are in, so that the file alone makes the container again; what it cannot hold is a warning.
  public func text(
    _ graph: Graph, names: Set<String>, _ session: ToolSession
  ) throws(Diagnostic) -> Bytes {
    let generation = version ?? .listed
    session.printer.report(EncodingFile.losses(of: graph, generation: generation))
    var file = EncodingFile(of: graph, generation: generation, int32Biases: true)
    file.entries.removeAll { !names.contains($0.name) }
    return Bytes(try file.encoded())
  }
}

extension EncodingGeneration: ExpressibleByArgument {}
