import ArgumentParser
import Container
import FoundationEssentials
import IR
import Quantizer
import Recovery
import ToolKit

/// What wins back accuracy.
struct RecoveryArguments: ParsableArguments {
  @Option(
    name: [.customLong("apply_algorithms"), .customLong("algorithms")], parsing: .upToNextOption,
    help: ArgumentHelp(
      "Win back accuracy: cle, seqmse, gptq or adaround, bias_correction; several in any order.",
      valueName: "name"))
  var algorithms: [String] = []
  @Option(
    name: .customLong("cle_relu6"),
    help:
      "What cle does to a Relu6: keep it with a bound a channel, make it a Relu, or leave such layers (default: auto).")
  var relu6: Relu6Handling?
  @Option(
    name: .customLong("checkpoint"),
    help: ArgumentHelp("Keep what is found layer by layer, and go on from there.", valueName: "folder"))
  var checkpoint: String?
  @Option(help: ArgumentHelp("Seed of what is drawn (default: 0).", valueName: "number"))
  var seed: UInt64?

  func validate() throws {
    for name in names where RecoveryAlgorithm(rawValue: name) == nil {
      let known = RecoveryAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")
      let hint = ["amp", "autoquant"].contains(name) ? " is not there yet" : " is no algorithm"
      throw ValidationError("'\(name)'\(hint): --apply_algorithms takes \(known)")
    }
    if Set(names).count != names.count {
      throw ValidationError("--apply_algorithms names an algorithm twice")
    }
  }

  /// The names, also where several stand in one argument.
  private var names: [String] {
    algorithms.flatMap { $0.split(whereSeparator: { $0 == " " || $0 == "," }).map(String.init) }
  }

  /// Names of the given options.
  var given: [String] {
    let all: [(String, Bool)] = [
      ("apply_algorithms", !algorithms.isEmpty), ("cle_relu6", relu6 != nil), ("checkpoint", checkpoint != nil),
      ("seed", seed != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// Which algorithms are asked for.
  var wanted: Set<RecoveryAlgorithm> { Set(names.compactMap(RecoveryAlgorithm.init(rawValue:))) }

  /// The parameters; what the file says comes first, options win.
  func options(_ configuration: RecoveryConfiguration) throws(Diagnostic) -> RecoveryOptions {
    var options = configuration.options
    options.algorithms = wanted
    options.relu6 = relu6 ?? options.relu6
    options.seed = seed ?? options.seed
    try options.validate()
    return options
  }

  /// Warnings of options that nothing takes.
  func optionsWithoutEffect(_ configuration: RecoveryConfiguration) -> [Diagnostic] {
    var found: [String] = []
    let wanted = wanted
    if relu6 != nil, !wanted.contains(.cle) { found.append("--cle_relu6 changed nothing: cle is not applied") }
    let layerwise = wanted.subtracting([.cle])
    if checkpoint != nil, layerwise.isEmpty {
      found.append("--checkpoint changed nothing: no algorithm goes layer by layer")
    }
    if seed != nil, !wanted.contains(where: \.needsSamples) {
      found.append("--seed changed nothing: nothing is drawn")
    }
    var options = configuration.options
    options.algorithms = wanted
    for section in configuration.sections.sorted()
    where RecoveryAlgorithm(rawValue: section).map(wanted.contains) == false {
      // Others take the covariance that it tells of, too.
      if section == RecoveryAlgorithm.gptq.rawValue, options.usesCovariance { continue }
      found.append("the section \(section) of --config changed nothing: \(section) is not applied")
    }
    return found.map { Diagnostic("option-without-effect", $0, severity: .warning) }
  }
}

extension Relu6Handling: ExpressibleByArgument {}

extension CalibrationOptions {
  /// The samples in the order of their content.
  func sampleSet(_ samples: CalibrationSamples, _ session: ToolSession) throws(Diagnostic) -> SampleSet {
    let source = samples.source
    return try session.phase("order samples") { () throws(Diagnostic) in
      try SampleSet(
        count: source.count, jobs: jobs.threads, backend: (backend ?? .onednn).backend,
        load: { (index) throws(Diagnostic) in try source.load(index) }, name: { source.name(of: $0) })
    }
  }
}

extension QuantizeOptions {
  /// Where the samples that the algorithms run come from: those of calibration, or of the data set that the
  /// configuration names; nil where no algorithm is applied or there are none.
  func recoverySource(
    _ calibrating: CalibrationSamples?, _ inputs: [SampleInput], _ configuration: RecoveryConfiguration,
    _ session: ToolSession
  ) throws(Diagnostic) -> CalibrationSamples? {
    guard !recovery.wanted.isEmpty, let calibrating else { return nil }
    guard let path = configuration.inputList else { return calibrating }
    let list = try InputList(path: path)
    session.printer.report(list.idleOutputLines)
    let source = try SampleSource(list, inputs: inputs)
    session.noteInputs([path] + source.paths)
    return CalibrationSamples(source: source, addedOutputs: [])
  }

  /// The samples that the algorithms run, as many as the configuration says.
  func recoverySamples(
    _ samples: CalibrationSamples?, _ configuration: RecoveryConfiguration, _ session: ToolSession
  ) throws(Diagnostic) -> SampleSet? {
    guard let samples else { return nil }
    let set = try calibration.sampleSet(samples, session)
    return configuration.sampleLimit.map { set.first($0) } ?? set
  }

  /// Equalizes the graph where that is asked for; gives what there is to say about it.
  func equalize(
    _ graph: inout Graph, _ options: QuantizerOptions, _ recovery: RecoveryOptions, _ samples: SampleSet?,
    _ session: ToolSession
  ) throws(Diagnostic) -> [Diagnostic] {
    guard recovery.algorithms.contains(.cle) else { return [] }
    let source = try keepingFloat(graph, options.keepFloat).graph
    let result = try session.phase("cle") { () throws(Diagnostic) in
      try equalized(source, quantizer: options, options: recovery, samples: samples)
    }
    session.printer.report(result.notes)
    graph = result.graph
    guard encodings.isGiven || stripping.isGiven else { return result.notes }
    session.printer.report(
      Diagnostic(
        "equalized-encodings", "after cle the encodings fit the exported model, not the source",
        hint: stripping.isGiven ? nil : "--export_stripped_dlc writes the equalized float model", severity: .note))
    return result.notes
  }

  /// The encodings, with weights and biases as the algorithms leave them.
  func assigned(
    _ graph: Graph, _ statistics: Statistics, _ options: QuantizerOptions, _ recovery: RecoveryOptions,
    _ samples: SampleSet?, _ session: ToolSession
  ) throws(Diagnostic) -> QuantizationResult {
    guard !recovery.algorithms.subtracting([.cle]).isEmpty else {
      return try assignEncodings(graph, statistics: statistics, options: options, jobs: calibration.jobs.threads)
    }
    guard let samples else {
      return try analyticallyCorrected(
        graph, statistics: statistics, quantizer: options, jobs: calibration.jobs.threads)
    }
    let layers = graph.nodes.count { $0.inputs.count > 1 && $0.inputs[1].map { graph[$0].constant != nil } == true }
    let progress = session.progress("recovering", total: layers, unit: "layers")
    defer { progress.finish() }
    return try recovered(
      graph, statistics: statistics, quantizer: options, options: recovery, samples: samples,
      cache: calibration.cacheBytes, checkpoint: try checkpoint(graph, statistics, options, recovery),
      progress: { _, done, _ in if done > 0 { progress.advance() } })
  }

  /// The folder of checkpoints, made where it does not exist.
  private func checkpoint(
    _ graph: Graph, _ statistics: Statistics, _ options: QuantizerOptions, _ recovery: RecoveryOptions
  ) throws(Diagnostic) -> Checkpoint? {
    guard let folder = self.recovery.checkpoint else { return nil }
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw Diagnostic(
        "cannot-write", "the folder cannot be made", at: .init(file: folder), kind: .output)
    }
    var hasher = SHA256()
    hasher.update(graph.observationHash())
    hasher.update(statistics.calibrationHash.hex)
    hasher.update(ToolIdentity.version)
    for (name, value) in options.normalized.merging(recovery.normalized, uniquingKeysWith: { $1 })
      .sorted(by: { $0.key < $1.key })
    {
      hasher.update("\(name)=\(value)\n")
    }
    for tensor in graph.tensors where tensor.state != .open || tensor.bitwidth != nil {
      let width = tensor.bitwidth.map(String.init) ?? ""
      hasher.update("\(tensor.name) \(tensor.state) \(width) \(tensor.encoding.map { "\($0)" } ?? "")\n")
    }
    return Checkpoint(folder: folder, key: SHA256.hex(hasher.finalize())) { (bytes, path) throws(Diagnostic) in
      try AtomicFile.write(bytes, to: path)
    }
  }
}
