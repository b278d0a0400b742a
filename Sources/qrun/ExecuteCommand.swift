import ArgumentParser
import Container
import IR
import Operators
import Runtime
import Synchronization
import ToolKit

/// `qrun execute`: runs samples and writes their outputs.
struct ExecuteCommand: ToolCommand {
  /// Form of an output file.
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable { case raw, npy }

  static let configuration = CommandConfiguration(
    commandName: "execute", abstract: "Runs samples and writes outputs as Result_K/NAME.raw.",
    discussion: """
      Raw outputs are float32; .npy files hold integers and truth values in their own type. With \
      --use_native_output_files both hold tensors as the container stores them: fixed point as codes, \
      float16, integers. `:` and `/` in names become `_`.
      """)

  @OptionGroup var container: ContainerArgument
  @Option(
    name: [.customShort("l"), .customLong("input_list")],
    help: ArgumentHelp("List of samples.", valueName: "list.txt"))
  var inputList: String
  @Option(
    name: .customLong("output_dir"), help: ArgumentHelp("Folder of the results.", valueName: "folder"))
  var outputDir = "output"
  @Option(name: .customLong("output_format"), help: "Form of the output files.")
  var outputFormat = Format.raw
  @Option(
    name: .customLong("set_output_tensors"),
    help: ArgumentHelp("Write these tensors instead of the outputs.", valueName: "a,b"))
  var setOutputTensors: String?
  @Flag(help: "Write every tensor.")
  var debug = false
  @Flag(
    name: .customLong("use_native_input_files"),
    help: "Sample files hold the container's own types, fixed-point codes and float16 too.")
  var nativeInputs = false
  @Flag(
    name: .customLong("use_native_output_files"),
    help: "Write the container's own types, fixed-point codes and float16 too.")
  var nativeOutputs = false
  @OptionGroup var repetition: RepetitionOptions
  @Flag(name: .customLong("dry_run"), help: "Do all checks, run and write nothing.")
  var dryRun = false
  @OptionGroup var engine: RunOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if debug, setOutputTensors != nil {
      throw ValidationError("--debug and --set_output_tensors exclude each other")
    }
    if let setOutputTensors, setOutputTensors.allSatisfy({ $0 == "," }) {
      throw ValidationError("--set_output_tensors names no tensor")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard).graph
    }
    session.printer.report(engine.optionsWithoutEffect([graph]))
    let list = try InputList(path: inputList)
    if debug || setOutputTensors != nil { session.printer.report(list.idleOutputLines) }
    let wanted = try selection(graph, list)
    let files = try fileNames(wanted, graph)
    let inputs = SampleInput.inputs(of: graph, native: nativeInputs)
    let source = try session.phase("check samples") { () throws(Diagnostic) in
      try SampleSource(list, inputs: inputs)
    }
    session.printer.report(SampleReport.diagnostics(try source.load(0), inputs: inputs))
    let outputs = Set(graph.outputs)
    let taps = Set(wanted.filter { !outputs.contains($0) })
    let plan = try session.phase("prepare") { () throws(Diagnostic) in
      try engine.prepare(graph, taps: taps)
    }
    session.printer.report([engine.backend.note(plan)].compactMap { $0 })
    try session.printer.checkWarnings()
    if dryRun {
      try session.printSummary(
        "\(counted(source.count, "sample")), \(counted(wanted.count, "tensor")) to write"
          + repetition.preview(of: source.count))
      return .done
    }
    let results = try StagedFolder(target: outputDir)
    let writer = ResultWriter(
      graph: graph, files: files, format: outputFormat, isNative: nativeOutputs, folder: results)
    let (runs, level) = (repetition.runs(of: source.count), repetition.profiling)
    let jobs = engine.workers(plan, work: runs)
    let progress = session.progress("running", total: repetition.duration == nil ? runs : source.count)
    defer { progress.finish() }
    let start = ContinuousClock.now
    let end = repetition.duration.map { start + .seconds($0) }
    let states = try session.phase("run") { () throws(Diagnostic) in
      let states = try runSamples(
        count: runs, jobs: jobs,
        goesOn: { run in run < source.count || end.map { ContinuousClock.now < $0 } ?? true },
        makeState: { (_) throws(Diagnostic) in try TimedWorker(plan, level) },
        body: { (state: inout TimedWorker, run: Int) throws(Diagnostic) in
          let sample = run % source.count
          if run < source.count {
            let values = try state.run(try source.load(sample)) {
              (id, view) throws(Diagnostic) in try writer.write(id, view, sample: sample)
            }
            for (id, bytes) in zip(graph.outputs, values) {
              let view = TensorView(type: graph[id].type.logical, bytes: bytes.buffer)
              try writer.write(id, view, sample: sample)
            }
          } else {
            _ = try state.run(try source.load(sample), tap: nil)
          }
          progress.advance()
        })
      try results.commit()
      return states
    }
    let total = seconds(ContinuousClock.now - start)
    progress.finish()
    let done = states.reduce(0) { $0 + $1.runs }
    try session.printSummary(
      "\(outputDir): \(counted(min(done, source.count), "result")) of \(counted(wanted.count, "tensor"))"
        + (done > source.count ? ", \(grouped(done)) runs" : ""))
    if let level {
      try session.printResult(
        TimedWorker.profile(
          states, plan, level, container: container.path, backend: engine.chosen.description, seconds: total))
    }
    return .done
  }

  /// The tensors to write: those asked for by option, then by the list, else the outputs.
  private func selection(_ graph: Graph, _ list: InputList) throws(Diagnostic) -> [TensorID] {
    if debug {
      return graph.tensors.indices.filter { graph.tensors[$0].constant == nil }.map(TensorID.init)
    }
    if let setOutputTensors {
      let names = setOutputTensors.split(separator: ",").map(String.init)
      return try TensorSelection.tensors(named: names, in: graph)
    }
    let named = try TensorSelection.outputs(of: list, in: graph)
    return named.isEmpty ? graph.outputs : named
  }

  /// A file name for each tensor; names that become the same are an error.
  private func fileNames(
    _ tensors: [TensorID], _ graph: Graph
  ) throws(Diagnostic) -> [TensorID: String] {
    var owners: [String: String] = [:]
    var files: [TensorID: String] = [:]
    for id in Set(tensors).sorted(by: { $0.index < $1.index }) {
      let name = graph[id].name
      let plain = String(name.map { $0 == ":" || $0 == "/" ? "_" : $0 })
      if let other = owners.updateValue(name, forKey: plain) {
        throw Diagnostic(
          "output-name", "tensors \(other) and \(name) would be written to one file",
          hint: "write them one at a time by --set_output_tensors")
      }
      files[id] = "\(plain).\(outputFormat.rawValue)"
    }
    return files
  }
}

/// The container that a command runs.
struct ContainerArgument: ParsableArguments {
  @Argument(help: "The container.")
  var path: String
}

/// Writes tensors of samples as files; from any thread.
private struct ResultWriter: Sendable {
  let graph: Graph
  let files: [TensorID: String]
  let format: ExecuteCommand.Format
  let isNative: Bool
  let folder: StagedFolder

  func write(_ id: TensorID, _ view: TensorView, sample: Int) throws(Diagnostic) {
    guard let file = files[id] else { return }
    if isNative { return try writeNative(id, view, file, sample) }
    let element = view.type.element
    let keepsType = format == .npy && (element.isInteger && element.bits >= 8 || element == .bool)
    let type = TensorType(keepsType ? element : .float32, view.type.shape)
    var bytes: Bytes
    if element == type.element {
      bytes = Bytes(count: view.bytes.count) { $0.copyMemory(from: view.bytes) }
    } else {
      let copy = Bytes(count: view.bytes.count) { $0.copyMemory(from: view.bytes) }
      bytes = Bytes(Constant(type: view.type, bytes: copy).floats())
    }
    if format == .npy { bytes = NpyFile.encoded(type, bytes) ?? bytes }
    try folder.write(bytes, folder: "Result_\(sample)", name: file)
  }

  private func writeNative(
    _ id: TensorID, _ view: TensorView, _ file: String, _ sample: Int
  ) throws(Diagnostic) {
    let native = NativeTensor(graph[id])
    var bytes = native.stored(Bytes(count: view.bytes.count) { $0.copyMemory(from: view.bytes) })
    if format == .npy { bytes = NpyFile.encoded(native.fileType, bytes) ?? bytes }
    try folder.write(bytes, folder: "Result_\(sample)", name: file)
  }
}
