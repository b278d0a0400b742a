import Container
import Glibc
import IR
import ONNXModel
import Operators
import Passes
import Quantizer
import Runtime
import ToolKit

/// Converts and runs many small models in one process, for scripts/conformance.py: what
/// `qconvert -i MODEL -o CONTAINER` and `qrun execute CONTAINER -l LIST --output_format npy
/// --use_native_input_files --use_native_output_files` do, on every backend.
///
/// Reads lines of three paths separated by tabs: model, list, folder of the results. The list is `-` where
/// the model is only converted, the model is `-` where that was done before. Each is answered by a line: `done`, or the stage (`convert`, `run`), the
/// kind and the message of the error, separated by tabs. Outputs become FOLDER/BACKEND/NAME.npy.
@main
struct QCases {
  private static let backends: [any Backend] = [OneDNNBackend(), ReferenceBackend()]

  static func main() {
    while let line = readLine() {
      let parts = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 3 else { exit(2) }
      answer(reply(model: parts[0], list: parts[1], folder: parts[2]))
    }
  }

  private static func answer(_ text: String) {
    let bytes = Array((text + "\n").utf8)
    if write(1, bytes, bytes.count) != bytes.count { exit(3) }
  }

  private static func reply(model: String, list: String, folder: String) -> String {
    let container = "\(folder)/model.dlc"
    do throws(Diagnostic) {
      if model != "-" { try ContainerWriter.write(ContainerFile(graph: try converted(model)), to: container) }
    } catch {
      return describe("convert", error)
    }
    if list == "-" { return "done" }
    do throws(Diagnostic) {
      let graph = try ContainerReader.read(path: container, registry: .standard).graph
      let source = try SampleSource(InputList(path: list), inputs: SampleInput.inputs(of: graph, native: true))
      for backend in backends { try run(graph, source, backend, into: "\(folder)/\(backend.name)") }
    } catch {
      return describe("run", error)
    }
    return "done"
  }

  private static func describe(_ stage: String, _ error: Diagnostic) -> String {
    let text = error.message.map { $0.isNewline || $0 == "\t" ? " " : $0 }
    return "\(stage)\t\(error.kind.rawValue)\t\(String(text))"
  }

  /// The graph that qconvert writes without further options.
  private static func converted(_ path: String) throws(Diagnostic) -> Graph {
    var graph = try Pipeline.standard.run(try ONNXImporter.load(path: path).graph)
    try requireNumbers(graph)
    if graph.hasDecisions { graph = graph.settlingFloatWidths(32, bias: nil) }
    let isAnnotated = graph.tensors.contains { $0.state != .open || $0.bitwidth != nil }
    if isAnnotated, !graph.isMaterialized, case .complete(_, let fixed) = try completeOverrides(graph) { graph = fixed }
    return graph
  }

  private static func run(
    _ graph: Graph, _ source: SampleSource, _ backend: any Backend, into folder: String
  ) throws(Diagnostic) {
    try AtomicFile.makeFolder(folder)
    let values = try backend.prepare(graph, options: PlanOptions()).makeWorker().run(try source.load(0))
    for (id, bytes) in zip(graph.outputs, values) {
      let native = NativeTensor(graph[id])
      let name = String(graph[id].name.map { $0 == ":" || $0 == "/" ? "_" : $0 })
      let file = NpyFile.encoded(native.fileType, native.stored(bytes))
      if let file { try put(file, "\(folder)/\(name).npy") }
    }
  }

  /// Writes a file without the care that results of users get.
  private static func put(_ bytes: Bytes, _ path: String) throws(Diagnostic) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    defer { close(descriptor) }
    guard descriptor >= 0, write(descriptor, bytes.base, bytes.count) == bytes.count else {
      throw Diagnostic("output-failed", "cannot write \(path)", kind: .output)
    }
  }
}
