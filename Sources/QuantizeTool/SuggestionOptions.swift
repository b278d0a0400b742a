import ArgumentParser
import EncodingFiles
import EncodingTool
import IR
import Measurement
import Quantizer
import ToolKit

/// An overrides file that keeps the worst layers more precise.
struct SuggestionOptions: ParsableArguments {
  @Option(
    name: .customLong("suggest_overrides"),
    help: ArgumentHelp(
      "Write an overrides file that gives the layers which make most noise more bits.", valueName: "file"))
  var file: String?
  @Option(
    name: .customLong("target_sqnr"),
    help: ArgumentHelp(
      "Signal to noise of the outputs that those overrides must reach (default: within 1 dB of all layers raised, "
        + "with a third of them at most).", valueName: "dB"))
  var target: Double?

  func validate() throws {
    if let target {
      guard file != nil else { throw ValidationError("--target_sqnr needs --suggest_overrides") }
      guard target.isFinite, (-20...200).contains(target) else {
        throw ValidationError("--target_sqnr must be -20 to 200 dB, not \(target)")
      }
    }
  }

  /// Whether a file is wanted.
  var isGiven: Bool { file != nil }

  /// Most samples that layers are measured on; the first in canonical order.
  private static let mostSamples = 64

  /// Searches and writes the file. `graph` is what `quantize` makes encodings for, `source` the same graph
  /// before anything was done to it.
  func suggest(
    for graph: Graph, source: Graph, _ samples: CalibrationSamples?, _ calibration: CalibrationOptions,
    _ options: QuantizerOptions, _ overrides: OverrideOptions, ignoresMeans: Bool = false,
    _ session: ToolSession, quantize: OverrideSearch.Quantize
  ) throws(Diagnostic) {
    guard let path = file, let samples else { return }
    var search = OverrideSearch(target: target)
    search.floatBitwidth = options.floatBitwidth
    search.ignoresMeans = ignoresMeans
    let given = try overrides.content()
    let found = try session.phase("suggest overrides") { () throws(Diagnostic) -> OverrideSuggestion in
      let few = try MeasurementSamples(
        count: samples.source.count, jobs: calibration.workers(graph, samples.source),
        backend: (calibration.backend ?? .onednn).backend,
        load: { (index) throws(Diagnostic) in try samples.source.load(index) }
      ).canonicalSubset(most: Self.mostSamples)
      let progress = session.progress("measuring layers", total: search.runs(graph) * few.count, unit: "runs")
      defer { progress.finish() }
      var shown = few
      shown.progress = { progress.advance() }
      return try search.run(graph, reference: source.strippedOfEncodings(), samples: shown, quantize: quantize)
    }
    var content = given ?? EncodingFile(generation: .keyed, entries: [])
    let entries = found.entries(floatBitwidth: options.floatBitwidth)
    let names = Set(entries.map(\.name))
    content.entries.removeAll { names.contains($0.name) }
    content.entries += entries
    let text = Bytes(try content.encoded())
    try session.phase("write") { () throws(Diagnostic) in try AtomicFile.write(text, to: path) }
    report(found, path, session)
    try session.printSummary(Self.summary(found, path))
  }

  private func report(_ found: OverrideSuggestion, _ path: String, _ session: ToolSession) {
    if !found.reachesTarget, let target = found.target {
      session.printer.report(
        Diagnostic(
          "target-not-reached",
          "all \(found.raised.count) layers raised give \(fixed(found.after, digits: 2)) dB, less than the "
            + "\(fixed(target, digits: 2)) dB asked for", at: .init(file: path),
          hint: "raise widths for all tensors, or let layers be float", severity: .warning))
    }
    if found.raised.isEmpty {
      session.printer.report(
        Diagnostic(
          "option-without-effect", "--suggest_overrides raised 0 layers: none needs it", severity: .warning))
    }
  }

  private static func summary(_ found: OverrideSuggestion, _ path: String) -> String {
    var table = TextTable(["layer", "operators", "noise %", "raised"], alignment: [.left, .left, .right, .left])
    for layer in found.raised {
      let tensors = layer.tensors.map { "\($0.name) \($0.bitwidth.map(String.init) ?? "float")" }
      table.add([
        layer.layer, layer.operatorName, fixed(100 * layer.share, digits: 1), tensors.joined(separator: ", "),
      ])
    }
    let tried = found.tried.map { "\($0.layers): \(fixed($0.sqnr, digits: 2))" }.joined(separator: ", ")
    return """
      \(path): \(found.raised.count) of \(found.layerCount) layers raised; outputs \
      \(fixed(found.before, digits: 2)) -> \(fixed(found.after, digits: 2)) dB on \(found.sampleCount) samples
      \(found.raised.isEmpty ? "" : table.text + "\n")layers raised and dB, as tried: \(tried)
      """
  }
}
