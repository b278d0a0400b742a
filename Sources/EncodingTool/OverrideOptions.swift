import ArgumentParser
import EncodingFiles
import IR
import Quantizer
import ToolKit

/// Encodings from a file, applied before anything is calibrated; the same in qconvert and qquantize.
public struct OverrideOptions: ParsableArguments {
  @Option(
    name: [.customShort("q"), .customLong("quantization_overrides")],
    help: ArgumentHelp("AIMET encodings (0.4 to 2.1.0) that tensors keep.", valueName: "file"))
  var file: String?
  @Option(
    name: .customLong("overrides_policy"),
    help: "Whether names that the graph does not have are errors (default: strict).")
  var policy: OverridePolicy?
  @Option(
    name: .customLong("missing_encodings"),
    help: "What becomes of tensors that the file does not name (default: float for 2.0.0, else calibrate).")
  var missing: MissingEncodings?
  @Flag(
    name: .customLong("unfuse_overridden"),
    help: "Honour encodings between an operator and the activation behind it.")
  var unfuse = false
  @Flag(
    name: .customLong("require_full_coverage"),
    help: "Fail where a tensor has neither a given encoding nor stays float by choice.")
  public var requiresFullCoverage = false

  /// For the parser.
  public init() {}

  public func validate() throws {
    guard file == nil else { return }
    let others = [
      ("--overrides_policy", policy != nil), ("--missing_encodings", missing != nil), ("--unfuse_overridden", unfuse),
    ]
    if let other = others.first(where: \.1) {
      throw ValidationError("\(other.0) needs --quantization_overrides")
    }
  }

  /// Whether a file is given.
  public var isGiven: Bool { file != nil }

  /// Notes the file as read, for `--depfile`.
  public func noteInputs(_ session: ToolSession) { session.noteInputs(file.map { [$0] } ?? []) }

  /// What the file says; nil without one.
  public func content() throws(Diagnostic) -> EncodingFile? {
    guard let file else { return nil }
    do throws(Diagnostic) {
      return try EncodingFile(decoding: FileReading.bytes(of: file).array(of: UInt8.self))
    } catch {
      throw error.inFile(file)
    }
  }

  /// Names of the options that a container records.
  public static let recorded = ["quantization_overrides", "overrides_policy", "missing_encodings", "unfuse_overridden"]

  /// The record of a run without a file.
  public static var none: [String: String] {
    Dictionary(uniqueKeysWithValues: recorded.map { ($0, EffectiveOptions.none) })
  }

  /// Applies the file to a graph, shows the report of its names, and gives what a container records: the
  /// hash of the file, the policies in force. nil without a file.
  public func apply(to graph: inout Graph, _ session: ToolSession) throws(Diagnostic) -> [String: String]? {
    guard let file else { return nil }
    let float = graph
    let (content, result) = try session.phase("overrides") {
      () throws(Diagnostic) -> (EncodingFile, (Graph, OverrideReport)) in
      do throws(Diagnostic) {
        let content = try EncodingFile(decoding: FileReading.bytes(of: file).array(of: UInt8.self))
        return (
          content,
          try applyOverrides(float, content, policy: policy ?? .strict, missing: missing, unfuse: unfuse)
        )
      } catch {
        throw error.inFile(file)
      }
    }
    graph = result.0
    session.printer.report(result.1.diagnostics.map { $0.inFile(file) })
    try session.printSummary(OverrideTable.text(result.1, file: file))
    if unfuse, !graph.tensors.contains(where: \.isUnfused) {
      session.printer.report(
        Diagnostic(
          "option-without-effect", "--unfuse_overridden changed nothing: the file names no tensor inside a fused pair",
          severity: .warning))
    }
    let missingPolicy = missing ?? MissingEncodings.meant(by: content.generation)
    return [
      "quantization_overrides": try FileReading.sha256(of: [file]),
      "overrides_policy": (policy ?? .strict).rawValue,
      "missing_encodings": missingPolicy.rawValue,
      "unfuse_overridden": "\(unfuse)",
    ]
  }

  /// With `--require_full_coverage`, tensors without a given encoding are an error.
  public func checkCoverage(_ gaps: [String]) throws(Diagnostic) {
    guard requiresFullCoverage else { return }
    guard let first = gaps.first else { return }
    throw Diagnostic(
      "incomplete-coverage",
      "\(gaps.count) \(gaps.count == 1 ? "tensor has" : "tensors have") no given encoding, with --require_full_coverage: "
        + gaps.prefix(10).joined(separator: ", ") + (gaps.count > 10 ? ", ..." : ""),
      at: .init(tensor: first), hint: "add them to the encodings file, or let them be float there")
  }
}

extension OverridePolicy: ExpressibleByArgument {}
extension MissingEncodings: ExpressibleByArgument {}
