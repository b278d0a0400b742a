import Calibration
import Container
import EncodingTool
import IR
import Measurement
import Operators
import Quantizer
import Recovery
import ToolKit

/// Where a run reads from and writes to.
public struct QuantizePlace {
  /// The file the program was given.
  public var input: String
  /// Where the container goes; nil where only statistics are wanted.
  public var output: String?
  /// The option that names the container, for messages.
  public var outputOption: String
  /// Where the dependency rule goes, nil for nowhere.
  public var depfile: String?
  /// Do all checks, tell what would be quantized, run and write nothing.
  public var dryRun: Bool
  /// Whether the content was converted in this run, with the overrides applied.
  public var isConverted = false
  /// A further file that `write` makes.
  public var furtherOutput: String?
  /// Writes what else there is; called once, before anything else is written.
  public var write: () throws(Diagnostic) -> Void = {}

  /// A place of the given files.
  public init(
    input: String, output: String?, outputOption: String, depfile: String?, dryRun: Bool
  ) {
    self.input = input
    self.output = output
    self.outputOption = outputOption
    self.depfile = depfile
    self.dryRun = dryRun
  }
}

extension QuantizeOptions {
  /// What the configuration file says, nil without one.
  private func configuration(besideIO: Bool) throws(Diagnostic) -> QuantizerConfiguration? {
    try quantization.config.map { (path) throws(Diagnostic) in
      try QuantizerConfiguration(path: path, besideIO: besideIO)
    }
  }

  /// The quantizer's options, with what the configuration file says; notes what is without effect.
  /// `besideIO` lets the file have the sections of ``ioSections`` too.
  public func quantizerOptions(
    _ session: ToolSession, besideIO: Bool = false
  ) throws(Diagnostic) -> QuantizerOptions {
    var configuration = try configuration(besideIO: besideIO)
    session.printer.report(recovery.optionsWithoutEffect(configuration?.recovery ?? .init()))
    // A file about inputs and outputs alone has nothing idle.
    if besideIO, configuration?.isEmpty == true { configuration = nil }
    var options = try quantization.options(configuration ?? .init())
    float.apply(to: &options)
    if let configuration {
      session.printer.report(configuration.optionsWithoutEffect(options, isMixed: quantsim.isGiven))
    }
    session.noteInputs([quantization.config].compactMap { $0 })
    return options
  }

  /// Every file that a run writes besides the container.
  public func furtherOutputs(_ place: QuantizePlace) -> [String?] {
    [
      calibration.saveStats, stripping.path(beside: place.input),
      place.output.flatMap(encodings.path(beside:)), place.depfile, place.furtherOutput,
      reporting.file, suggesting.file,
    ]
  }

  /// Calibrates and quantizes the content of a container and writes all outputs. What the content was read
  /// from is noted in the session before.
  ///
  /// The bytes are the same whether the content was read from a container or has just been converted.
  public func quantize(
    _ content: ContainerFile, _ given: QuantizerOptions, _ place: QuantizePlace, _ session: ToolSession
  ) throws(Diagnostic) {
    var file = content
    var options = given
    let inputs = SampleInput.inputs(of: file.graph, native: calibration.nativeInputs)
    if file.graph.isMaterialized {
      session.printer.report(alreadyQuantized(place))
      file.graph = file.graph.dematerialized()
    }
    try applyOverrides(to: &file, place, session)
    let source = file
    let configuration = try configuration(besideIO: place.isConverted)?.recovery ?? .init()
    let recovering = try recovery.options(configuration)
    let quantsimHash = try quantsim.apply(to: &file.graph, &options, session)
    let samples = try session.phase("check samples") { () throws(Diagnostic) in
      try calibration.samples(of: &file.graph, inputs: inputs, session)
    }
    let sampling = try recoverySource(samples, inputs, configuration, session)
    try session.checkOutputs(
      main: place.output, others: furtherOutputs(place), replaceable: place.isConverted ? nil : place.input)
    session.printer.report(try optionsWithoutEffect(options, place, file.graph))
    // Made before the work, so that a rule that cannot be written costs no inference.
    let rule = try place.depfile.map { (_) throws(Diagnostic) in
      try session.dependencies(of: place.output ?? calibration.saveStats ?? place.input)
    }
    try preserve.check(file.graph)
    let preview = try previewedEncodings(
      file.graph, options: options, calibrates: !calibration.floatFallback)
    if place.dryRun {
      session.printer.report(preview.notes)
      return try session.printResult(Placement.table(preview.graph, options))
    }
    let set = try recoverySamples(sampling, configuration, session)
    let equalizing = try equalize(&file.graph, options, recovering, set, session)
    let exported = recovering.algorithms.contains(.cle) ? file : source
    let statistics: Statistics? =
      calibration.floatFallback
      ? nil
      : try calibration.statistics(
        file.graph, samples, options, histograms: reporting.isGiven, session)
    try session.printer.checkWarnings()
    // What was observed is worth keeping, whatever comes of the rest: it costs the most.
    if let path = calibration.saveStats, let statistics {
      if options.calibrationOrder == .sequential {
        session.printer.report(
          Diagnostic(
            "statistics-simultaneous", "\(path) holds what was observed of the float graph, all at once",
            hint: "with --input_list it saves --calibration_order sequential that part of the work",
            severity: .note))
      }
      try session.phase("write") { () throws(Diagnostic) in
        try AtomicFile.write(Bytes(try statistics.encoded()), to: path)
      }
    }
    let writeRest = { () throws(Diagnostic) in
      try place.write()
      if let path = stripping.path(beside: place.input) { try writeStripped(exported, to: path) }
      if let rule, let path = place.depfile { try AtomicFile.write(rule, to: path) }
    }
    if place.output == nil { try session.phase("write", writeRest) }
    if let output = place.output {
      var effective = options.normalized
      effective.merge(recovering.normalized) { $1 }
      effective["quantsim_config"] = quantsimHash
      effective["ignore_quantization_overrides"] = "\(ignoring.isGiven)"
      effective["backend"] = calibration.backendNames(statistics, samples != nil && runsSamples)
      effective["enable_float_fallback"] = "\(calibration.floatFallback)"
      effective.merge(preserve.effective) { $1 }
      effective["output_tensors"] = EffectiveOptions.list(samples?.addedOutputs.sorted() ?? [])
      file.annotations.options.merge(effective) { $1 }
      var used = statistics
      if options.calibrationOrder == .sequential, let samples, let statistics {
        used = try calibration.sequential(file.graph, statistics, samples, options, session)
      }
      if let used {
        let corrects = !recovering.algorithms.isDisjoint(with: [.biasCorrection, .gptq, .adaround])
        try suggesting.suggest(
          for: file.graph, source: source.graph, samples, calibration, options, overrides, ignoresMeans: corrects,
          session
        ) { (graph) throws(Diagnostic) in try assigned(graph, used, options, recovering, set, session) }
      }
      try finish(
        &file, source: source.graph, used, options, (recovering, set), told: equalizing, to: output,
        writing: writeRest, session)
    }
  }

  private func alreadyQuantized(_ place: QuantizePlace) -> Diagnostic {
    place.isConverted
      ? Diagnostic(
        "already-quantized", "every encoding of the model is given: its weights are quantized and dequantized first",
        at: Diagnostic.Location(file: place.input), hint: "converting alone makes the quantized container",
        severity: .warning)
      : Diagnostic(
        "already-quantized", "the container is quantized already: its weights are dequantized first",
        at: Diagnostic.Location(file: place.input), hint: "quantize the float container instead",
        severity: .warning)
  }

  /// Leaves out the encodings that the container was given, or adds those of a file.
  private func applyOverrides(
    to file: inout ContainerFile, _ place: QuantizePlace, _ session: ToolSession
  ) throws(Diagnostic) {
    if ignoring.isGiven {
      if !file.graph.tensors.contains(where: { $0.state != .open || $0.bitwidth != nil }) {
        session.printer.report(
          Diagnostic(
            "option-without-effect", "--ignore_quantization_overrides changed 0 tensors: none has an encoding",
            severity: .warning))
      }
      file.graph = file.graph.withoutGivenEncodings()
      file.annotations.options.merge(OverrideOptions.none) { $1 }
    } else if !place.isConverted {
      overrides.noteInputs(session)
      if let record = try overrides.apply(to: &file.graph, session) {
        file.annotations.options.merge(record) { $1 }
      }
    }
  }

  /// Warnings of options that this run has no use for.
  private func optionsWithoutEffect(
    _ options: QuantizerOptions, _ place: QuantizePlace, _ graph: Graph
  ) throws(Diagnostic) -> [Diagnostic] {
    var found = calibration.optionsWithoutEffect + (try quantization.optionsWithoutEffect())
    func add(_ name: String, _ reason: String) {
      found.append(
        Diagnostic("option-without-effect", "--\(name) changed nothing: \(reason)", severity: .warning))
    }
    if calibration.floatFallback {
      // What acts on given encodings, or decides what stays float, has a use.
      let useful: Set = [
        "keep_float", "keep_weights_quantized", "include_data_invariant_ops", "adjust_bias_encoding",
        "pack_4_bit_weights", "bias_bitwidth", "skip_nonfinite",
      ]
      for name in quantization.given where !useful.contains(name) {
        add(name, "with --enable_float_fallback nothing is calibrated")
      }
    }
    if calibration.activationCache != nil, !keepsActivations {
      add("activation_cache", "every sample runs once")
    }
    if options.maskDistance != QuantizerOptions().maskDistance, !graph.nodes.contains(where: { $0.op is Softmax }) {
      found.append(
        Diagnostic(
          "option-without-effect", "calibration.mask_distance of --config changed nothing: the graph has no Softmax",
          severity: .warning))
    }
    if quantization.biasAdjustment == .on, options.biasBitwidth != 32,
      !graph.tensors.contains(where: { $0.constant != nil && ($0.bitwidth ?? $0.encoding?.bitwidth) == 32 })
    {
      add("adjust_bias_encoding", "biases have \(options.biasBitwidth) bits")
    }
    if native.isGiven { add("use_native_output_files", "no outputs of samples are written") }
    if place.output == nil {
      let reason = "without \(place.outputOption) only statistics are written"
      if encodings.isGiven { add("dump_encoding_json", reason) }
      if reporting.isGiven { add("report", reason) }
      if suggesting.isGiven { add("suggest_overrides", reason) }
      let defaults = QuantizerOptions().normalized
      for (name, value) in options.normalized.sorted(by: { $0.key < $1.key })
      where defaults[name] != value && name != "skip_nonfinite" {
        add(name, reason)
      }
    }
    return found
  }

  /// Writes the float container without encodings.
  private func writeStripped(_ file: ContainerFile, to path: String) throws(Diagnostic) {
    var file = file
    file.graph = file.graph.strippedOfEncodings()
    file.annotations.options.merge(OverrideOptions.none) { $1 }
    file.metadata.converterCommand = EffectiveOptions.command(file.annotations.options)
    TemporaryFiles.announce(path)
    try ContainerWriter.write(file, to: path)
  }

  /// Gives the graph its encodings, turns it into fixed point and writes the container: after all other outputs, so
  /// that they are there where it is.
  private func finish(
    _ file: inout ContainerFile, source: Graph, _ statistics: Statistics?, _ options: QuantizerOptions,
    _ recovering: (options: RecoveryOptions, samples: SampleSet?), told: [Diagnostic], to output: String,
    writing others: () throws(Diagnostic) -> Void, _ session: ToolSession
  ) throws(Diagnostic) {
    let before = Placement.parameterBytes(file.graph)
    let names = Set(file.graph.tensors.map(\.name))
    let decided = file.graph.decidedByOverride
    let result = try session.phase("encodings") { () throws(Diagnostic) in
      guard let statistics else { return try assignFloatFallback(file.graph, options: options) }
      return try assigned(file.graph, statistics, options, recovering.options, recovering.samples, session)
    }
    session.printer.report(result.notes)
    if let failure = Diagnostic.combining(result.graph.operandWidthProblems(decided: decided)) { throw failure }
    try overrides.checkCoverage(EncodingCoverage.gaps(of: result.graph))
    let sections = [ReportSection(title: "What was done", findings: told + result.notes)].filter { !$0.rows.isEmpty }
    let report = try reporting.text(result.graph, source: source, statistics, sections, title: output)
    let dump = try encodings.isGiven ? encodings.text(result.graph, names: names, session) : nil
    file.graph = try session.phase("weights") { () throws(Diagnostic) in
      try preserve.apply(to: try result.materialized(), session)
    }
    file.annotations.calibrationHash = statistics?.calibrationHash.hex
    file.annotations.calibrationCount = statistics?.sampleCount
    file.metadata.converterCommand = EffectiveOptions.command(file.annotations.options)
    file.metadata.converterVersion = "qtools \(ToolIdentity.version)"
    try session.printer.checkWarnings()
    let finished = file
    try session.phase("write") { () throws(Diagnostic) in
      if let dump, let path = encodings.path(beside: output) { try AtomicFile.write(dump, to: path) }
      if let report, let path = reporting.file { try AtomicFile.write(report, to: path) }
      try others()
      TemporaryFiles.announce(output)
      try ContainerWriter.write(finished, to: output)
    }
    let sources = EncodingSource.allCases.compactMap { source in
      result.coverage[source].map { "\($0) \(source.rawValue)" }
    }
    let given = sources.isEmpty ? "no encodings" : "encodings: " + sources.joined(separator: ", ")
    try session.printSummary(
      """
      \(output): \(counted(statistics?.sampleCount ?? 0, "sample")); \(given); parameters \(byteText(before)) -> \
      \(byteText(Placement.parameterBytes(file.graph)))
      """)
  }
}
