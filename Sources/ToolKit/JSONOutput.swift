import FoundationEssentials
import IR

/// A result as one JSON document; `version` counts changes of its layout.
public protocol JSONDocument: Encodable {
  /// Version of the document's layout.
  var version: Int { get }
}

/// Writes documents as JSON: sorted keys, two spaces, numbers that are not finite as words.
public enum JSONOutput {
  /// The text of a document, ending with a line end.
  public static func text(_ document: some JSONDocument) throws(Diagnostic) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      return String(decoding: try encoder.encode(document), as: UTF8.self) + "\n"
    } catch {
      throw Diagnostic("json-encoding", "the result cannot be put as JSON: \(error)", kind: .internal)
    }
  }
}
