import ArgumentParser
import Container
import IR
import Measurement
import ONNXModel
import Operators
import Passes
import Quantizer
import Runtime
import ToolKit

/// `qrun compare`: what quantization did to every tensor.
struct CompareCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Measures what quantization did to every tensor.",
    discussion: """
      Three views: isolation (a tensor alone quantized, on float data), at-once (the whole quantized graph against \
      the float one), layer-by-layer (each layer calibrated and run on the already quantized outputs of those before; \
      the samples are the calibration then, so give the list that calibrated the container). Tensors belong together by \
      name or alias; what equalization multiplied channels by is divided out.

      With --backend integer and no --against the reference is the simulation of the container itself: a row a tensor \
      tells how many codes differ, and by how many steps.
      """)

  @OptionGroup var container: ContainerArgument
  @Option(
    name: [.customShort("l"), .customLong("input_list")],
    help: ArgumentHelp("List of samples.", valueName: "list.txt"))
  var inputList: String
  @Option(
    help: ArgumentHelp(
      "The float container or .onnx to compare with (not needed for a float container with encodings).",
      valueName: "file"))
  var against: String?
  @Option(
    help: ArgumentHelp("What to measure (default: all three).", valueName: "isolation,at-once,layer-by-layer"))
  var views: String?
  @Flag(help: "Quantize one layer at a time, and leave one layer float at a time.")
  var sensitivity = false
  @Option(help: ArgumentHelp("Tensors shown, most damaged first.", valueName: "n"))
  var top = 20
  @Flag(help: "Show all tensors.")
  var all = false
  @Option(help: ArgumentHelp("Write all measures as CSV.", valueName: "file"))
  var csv: String?
  @Option(help: ArgumentHelp("Write a page with pictures, which needs no network.", valueName: "file"))
  var html: String?
  @Flag(help: "Print the result as JSON.")
  var json = false
  @Option(help: RunBackend.help)
  var backend = RunBackend.onednn
  @OptionGroup var jobs: JobsOption
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if top < 1 { throw ValidationError("--top must be at least 1, not \(top)") }
    _ = try wantedViews()
  }

  private func wantedViews() throws -> Set<ComparisonView> {
    guard let views else { return Set(ComparisonView.allCases) }
    let names = views.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let found = names.compactMap(ComparisonView.init)
    guard found.count == names.count else {
      let known = ComparisonView.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--views takes \(known), not '\(views)'")
    }
    return Set(found)
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let file = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: container.path, registry: .standard)
    }
    session.noteInputs([container.path, inputList] + (against.map { [$0] } ?? []))
    try session.checkOutputs(main: nil, others: [csv, html])
    let graph = file.graph
    if backend.isInteger, against == nil { return try compareCodes(graph, session) }
    let reference = try session.phase("read") { () throws(Diagnostic) in
      try ReferenceModel.load(against: against, container: graph, path: container.path, session)
    }
    let list = try InputList(path: inputList)
    session.printer.report(list.idleOutputLines)
    let source = try session.phase("check samples") { () throws(Diagnostic) in
      try SampleSource(list, inputs: SampleInput.inputs(of: graph))
    }
    session.noteInputs(source.paths)
    var options = ComparisonOptions()
    options.views = (try? wantedViews()) ?? options.views
    options.histograms = html != nil || json
    options.sensitivity = sensitivity
    options.recordedOptions = file.annotations.options
    session.printer.report(optionsWithoutEffect(graph))
    let result = try session.phase("compare") { () throws(Diagnostic) in
      try measure(reference, graph, options, source, session)
    }
    session.printer.report(result.match.diagnostics + result.notes)
    try session.printer.checkWarnings()
    let (name, other) = (FileReading.name(of: container.path), FileReading.name(of: against ?? "its float graph"))
    if let csv { try AtomicFile.write(ComparisonDocument.csv(result), to: csv) }
    if let html { try AtomicFile.write(ComparisonPage.text(result, container: name, reference: other), to: html) }
    if json {
      try session.printResult(ComparisonDocument(result, container: container.path, reference: against))
    } else {
      try session.printResult(text(result, against: against ?? "its float graph"))
    }
    return .done
  }

  private func measure(
    _ reference: Graph, _ graph: Graph, _ options: ComparisonOptions, _ source: SampleSource,
    _ session: ToolSession
  ) throws(Diagnostic) -> GraphComparison {
    let progress = session.progress(
      "comparing", total: GraphComparison.runs(graph, options) * source.count, unit: "runs")
    defer { progress.finish() }
    // The reference's tensors are kept for a sample, and two graphs hold up to all of theirs.
    let arena = 3 * graph.tensors.lazy.filter { $0.constant == nil }.reduce(0) { $0 + $1.type.logical.byteCount }
    return try GraphComparison.measure(
      reference: reference, container: graph, options: options,
      samples: MeasurementSamples(
        count: source.count,
        jobs: Jobs.resolve(requested: jobs.jobs, arenaBytes: arena, work: source.count),
        backend: backend.made,
        load: { (index) throws(Diagnostic) in try source.load(index) }, progress: { progress.advance() }))
  }

  /// Integers against the simulation of the same container.
  private func compareCodes(_ graph: Graph, _ session: ToolSession) throws(Diagnostic) -> ExitStatus {
    guard graph.hasEncodings else {
      throw Diagnostic(
        "missing-encodings", "the container has no encodings: nothing runs in integers",
        at: .init(file: container.path), hint: "quantize it by qquantize", kind: .usage)
    }
    let idle = [("--views", views != nil), ("--sensitivity", sensitivity), ("--html", html != nil)]
    session.printer.report(
      idle.filter(\.1).map { name, _ in
        Diagnostic(
          "option-without-effect", "\(name) changed nothing: integers are compared with the simulation, code by code",
          hint: "--against a float model measures errors", severity: .warning)
      })
    let list = try InputList(path: inputList)
    session.printer.report(list.idleOutputLines)
    let source = try session.phase("check samples") { () throws(Diagnostic) in
      try SampleSource(list, inputs: SampleInput.inputs(of: graph))
    }
    session.noteInputs(source.paths)
    try session.printer.checkWarnings()
    let simulation = OneDNNBackend()
    let progress = session.progress("comparing", total: source.count, unit: "samples")
    defer { progress.finish() }
    let arena = 2 * graph.tensors.lazy.filter { $0.constant == nil }.reduce(0) { $0 + $1.type.logical.byteCount }
    let result = try session.phase("compare") { () throws(Diagnostic) in
      try CodeDifferences.measure(
        graph,
        MeasurementSamples(
          count: source.count,
          jobs: Jobs.resolve(requested: jobs.jobs, arenaBytes: arena, work: source.count),
          backend: simulation, load: { (index) throws(Diagnostic) in try source.load(index) },
          progress: { progress.advance() }), against: backend.made)
    }
    progress.finish()
    let document = CodeComparisonDocument(
      result, container: container.path, backend: backend.made.description,
      reference: "simulation, \(simulation.description)")
    if let csv { try AtomicFile.write(CodeComparisonDocument.csv(result), to: csv) }
    if json {
      try session.printResult(document)
    } else {
      try session.printResult(CodeComparisonDocument.text(result, document: document, most: all ? nil : top))
    }
    return .done
  }

  private func optionsWithoutEffect(_ graph: Graph) -> [Diagnostic] {
    guard !graph.hasEncodings else { return [] }
    return [("--sensitivity", sensitivity), ("--views", views != nil)].filter(\.1).map { name, _ in
      Diagnostic(
        "option-without-effect",
        "\(name) changed nothing: the container has no encodings, so only at-once can be measured",
        severity: .warning)
    }
  }

  private func text(_ result: GraphComparison, against: String) -> String {
    let rows = all ? result.byDamage : Array(result.byDamage.prefix(top))
    let header = ComparisonTable.header(result)
    var table = TextTable(
      header, alignment: [.left, .left] + [TextTable.Alignment](repeating: .right, count: header.count - 2))
    for row in rows { table.add(ComparisonTable.row(row, result)) }
    let outputs = result.views.filter { $0 != .isolation }.compactMap { view in
      result.outputSQNR(view).map { "\($0 == .infinity ? "exact" : fixed($0, digits: 2) + " dB") \(view.rawValue)" }
    }
    let more = result.tensors.count - rows.count
    return """
      container  \(container.path)
      reference  \(against)
      samples    \(result.sampleCount)
      outputs    \(outputs.isEmpty ? "not compared" : outputs.joined(separator: ", "))
      damage     \(result.damageMeaning)

      \(table.text)
      \(more > 0 ? "\(more) more \(more == 1 ? "tensor" : "tensors"): --all shows them\n" : "")
      """
  }
}

/// The float graph that a container is compared with.
enum ReferenceModel {
  /// Reads a container or imports a model as qconvert does; without a path the container's own graph
  /// without encodings, where it is float and has some.
  static func load(
    against path: String?, container: Graph, path own: String, _ session: ToolSession
  ) throws(Diagnostic) -> Graph {
    guard let path else {
      guard !container.isMaterialized else {
        let kind = container.hasFixedPoint ? "quantized" : "float16"
        throw Diagnostic(
          "missing-reference", "the container is \(kind): what it was made from is needed to compare with",
          at: .init(file: own), hint: "give the float container or the .onnx by --against", kind: .usage)
      }
      guard container.hasEncodings else {
        throw Diagnostic(
          "missing-reference", "the container is float and has no encodings: there is nothing to compare",
          at: .init(file: own), hint: "give another float container or an .onnx by --against", kind: .usage)
      }
      return container.strippedOfEncodings()
    }
    do throws(Diagnostic) {
      let graph = path.lowercased().hasSuffix(".onnx") ? try imported(path, container) : try read(path)
      guard !graph.hasFixedPoint else {
        throw Diagnostic(
          "reference-quantized", "the reference is quantized itself",
          hint: "give the float container or the .onnx that both were made from")
      }
      // A float16 container rounds its tensors: that is what is compared with.
      return graph.isMaterialized ? graph : graph.strippedOfEncodings()
    } catch {
      throw error.inFile(path)
    }
  }

  private static func read(_ path: String) throws(Diagnostic) -> Graph {
    try ContainerReader.read(path: path, registry: .standard).graph
  }

  /// Imports a model; sizes that it leaves open are those of the container's inputs.
  private static func imported(_ path: String, _ container: Graph) throws(Diagnostic) -> Graph {
    let graph: Graph
    do throws(Diagnostic) {
      graph = try ONNXImporter.load(path: path).graph
    } catch {
      var options = ONNXImporter.Options()
      for id in container.inputs { options.inputShapes[container[id].name] = container[id].type.shape }
      graph = try ONNXImporter.load(path: path, options: options).graph
    }
    return try Pipeline.standard.run(graph)
  }
}
