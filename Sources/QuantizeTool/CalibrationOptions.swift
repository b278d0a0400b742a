import ArgumentParser
import IR
import Quantizer
import Runtime
import ToolKit

/// Where the ranges of activations come from.
struct CalibrationOptions: ParsableArguments {
  @Option(
    name: [.customShort("l"), .customLong("input_list")],
    help: ArgumentHelp("List of calibration samples.", valueName: "list.txt"))
  var inputList: String?
  @Option(
    name: .customLong("load_stats"), parsing: .upToNextOption,
    help: ArgumentHelp("Use what calibration observed before; several files merge.", valueName: "file"))
  var loadStats: [String] = []
  @Option(
    name: .customLong("save_stats"),
    help: ArgumentHelp("Keep what calibration observed.", valueName: "file"))
  var saveStats: String?
  @Option(
    name: .customLong("activation_cache"),
    help: ArgumentHelp(
      "Most memory for activations kept from one step of calibration to the next (default: 1024).",
      valueName: "MB"))
  var activationCache: Int?
  @Flag(
    name: [
      .customShort("f"), .customLong("enable_float_fallback"), .customLong("float_fallback"),
    ],
    help: "Without samples: tensors that are not given become float.")
  var floatFallback = false
  @Flag(
    name: .customLong("use_native_input_files"),
    help: "Sample files hold the container's own types, fixed-point codes and float16 too.")
  var nativeInputs = false
  @Option(help: "What runs the samples (default: onednn).")
  var backend: BackendName?
  @OptionGroup var jobs: JobsOption

  func validate() throws {
    let sources = [
      ("--input_list", inputList != nil), ("--load_stats", !loadStats.isEmpty),
      ("--enable_float_fallback", floatFallback),
    ].filter(\.1).map(\.0)
    if floatFallback, sources.count > 1 {
      throw ValidationError("\(sources.joined(separator: " and ")) exclude each other")
    }
    if let activationCache, !(0...1 << 24).contains(activationCache) {
      throw ValidationError("--activation_cache must be 0 to \(1 << 24) megabytes, not \(activationCache)")
    }
    if floatFallback, saveStats != nil {
      throw ValidationError("--save_stats and --enable_float_fallback exclude each other")
    }
    for (index, path) in loadStats.enumerated() {
      let isTwice = loadStats[..<index].contains { $0 == path || FileReading.areSame($0, path) }
      if isTwice { throw ValidationError("--load_stats is given \(path) twice") }
    }
  }

  /// Bytes that activations may take from one step to the next.
  var cacheBytes: Int { (activationCache ?? 1024) << 20 }

  /// Whether there is something to make encodings of.
  var hasSource: Bool { inputList != nil || !loadStats.isEmpty || floatFallback }

  /// The backends that ran samples, of the statistics and of this run, as the container records them.
  func backendNames(_ statistics: Statistics?, _ runsSamples: Bool) -> String {
    var names = Set((statistics?.backends ?? []).map { BackendName(describedAs: $0).rawValue })
    if runsSamples { names.insert((backend ?? .onednn).rawValue) }
    return EffectiveOptions.list(names.sorted())
  }

  /// Names of the given options that are of use beside one of those only.
  var given: [String] {
    let all: [(String, Bool)] = [
      ("save_stats", saveStats != nil), ("use_native_input_files", nativeInputs),
      ("backend", backend != nil), ("jobs", jobs.jobs != nil), ("activation_cache", activationCache != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// Warnings of options that have no effect beside the others.
  var optionsWithoutEffect: [Diagnostic] {
    guard inputList == nil else { return [] }
    let given = [("--backend", backend != nil), ("--use_native_input_files", nativeInputs)]
    return given.filter(\.1).map { name, _ in
      Diagnostic(
        "option-without-effect", "\(name) changed nothing: no sample is run", severity: .warning)
    }
  }

  /// Reads the list, makes the tensors it names outputs of the graph and checks every file; nil
  /// without a list. Shows what the first sample holds.
  func samples(
    of graph: inout Graph, inputs: [SampleInput], _ session: ToolSession
  ) throws(Diagnostic) -> CalibrationSamples? {
    session.noteInputs(loadStats)
    guard let inputList else { return nil }
    let list = try InputList(path: inputList)
    let added = try TensorSelection.outputs(of: list, in: graph)
      .filter { !graph.outputs.contains($0) }
    graph.outputs += added
    let source = try SampleSource(list, inputs: inputs)
    session.noteInputs([inputList] + source.paths)
    session.printer.report(SampleReport.diagnostics(try source.load(0), inputs: inputs))
    return CalibrationSamples(source: source, addedOutputs: added.map { graph[$0].name })
  }

  /// Reads and merges what was observed before, or runs the samples.
  func statistics(
    _ graph: Graph, _ samples: CalibrationSamples?, _ options: QuantizerOptions, histograms: Bool = false,
    _ session: ToolSession
  ) throws(Diagnostic) -> Statistics {
    let statistics: Statistics
    if loadStats.isEmpty, let source = samples?.source {
      statistics = try session.phase("calibrate") { () throws(Diagnostic) in
        var observing = ObservationOptions(options)
        if saveStats != nil || histograms { observing.histograms = true }
        return try observed(graph, source, observing, session)
      }
    } else {
      statistics = try session.phase("load statistics") { () throws(Diagnostic) in
        var merged = Statistics(observing: graph, histograms: true)
        for path in loadStats {
          do throws(Diagnostic) {
            try merged.merge(try Statistics.load(path: path).rebound(to: graph))
          } catch {
            throw error.inFile(path)
          }
        }
        return merged
      }
    }
    session.printer.report(statistics.warnings)
    return statistics
  }

  private func observed(
    _ graph: Graph, _ source: SampleSource, _ options: ObservationOptions, _ session: ToolSession
  ) throws(Diagnostic) -> Statistics {
    let progress = session.progress("calibrating", total: source.count)
    defer { progress.finish() }
    return try observe(
      graph, backend: (backend ?? .onednn).backend, sampleCount: source.count,
      load: { (index) throws(Diagnostic) in try source.load(index) }, jobs: workers(graph, source),
      options: options, sampleName: { source.name(of: $0) }, progress: { _ in progress.advance() })
  }

  /// Observes again, each tensor with everything before it quantized.
  func sequential(
    _ graph: Graph, _ float: Statistics, _ samples: CalibrationSamples, _ options: QuantizerOptions,
    _ session: ToolSession
  ) throws(Diagnostic) -> Statistics {
    let source = samples.source
    return try session.phase("calibrate in order") { () throws(Diagnostic) in
      let progress = session.progress(
        "calibrating in order", total: graph.sequentialRuns * source.count)
      defer { progress.finish() }
      return try observeSequentially(
        graph, float: float, options: options, backend: (backend ?? .onednn).backend,
        sampleCount: source.count,
        load: { (index) throws(Diagnostic) in try source.load(index) },
        jobs: workers(graph, source), cacheBytes: cacheBytes, sampleName: { source.name(of: $0) },
        progress: { _, _ in progress.advance() })
    }
  }

  /// Samples worked on at a time.
  func workers(_ graph: Graph, _ source: SampleSource) -> Int {
    // Tapped tensors keep their memory, so an arena holds up to all activations.
    let arena = graph.tensors.lazy.filter { $0.constant == nil }
      .reduce(0) { $0 + $1.type.logical.byteCount }
    return Jobs.resolve(requested: jobs.jobs, arenaBytes: arena, work: source.count)
  }
}

/// The samples to calibrate with.
struct CalibrationSamples {
  var source: SampleSource
  /// Names of the tensors that the list made outputs.
  var addedOutputs: [String]
}

extension BackendName {
  /// The backend that describes itself by these words in statistics.
  init(describedAs text: String) { self = text == ReferenceBackend().description ? .reference : .onednn }

  /// The backend of this name.
  var backend: any Backend {
    switch self {
    case .onednn: OneDNNBackend()
    case .reference: ReferenceBackend()
    }
  }
}
