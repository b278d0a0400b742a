import IR
import Quantizer
import ToolKit

/// What became of the names of an encodings file, for people.
enum OverrideTable {
  /// Counts, a row for every name that is not simply matched, and the coverage.
  static func text(_ report: OverrideReport, file: String) -> String {
    var counts = [Int](repeating: 0, count: 5)
    var table = TextTable(["name", "outcome", "detail"])
    for entry in report.names {
      switch entry.outcome {
      case .matched: counts[0] += 1
      case .alias(let name):
        counts[1] += 1
        table.add([entry.name, "alias", "of \(name)"])
      case .pattern(let names):
        counts[0] += 1
        table.add([entry.name, "pattern", "\(counted(names.count, "tensor")): \(names.joined(separator: ", "))"])
      case .withoutEffect(let reason):
        counts[2] += 1
        table.add([entry.name, "without effect", reason])
      case .wrongSection(let expected):
        counts[3] += 1
        table.add([entry.name, "wrong section", "belongs to \(expected)"])
      case .unmatched(let nearest):
        counts[4] += 1
        table.add([entry.name, "unmatched", nearest.isEmpty ? "" : "nearest: \(nearest.joined(separator: ", "))"])
      }
    }
    let words = ["matched", "by alias", "without effect", "in the wrong section", "unmatched"]
    let parts = zip(counts, words).filter { $0.0 > 0 }.map { "\($0) \($1)" }
    let names = report.names.count
    var text = "\(file): \(names) \(names == 1 ? "name" : "names"): \(parts.joined(separator: ", "))\n"
    if !table.isEmpty { text += table.text + "\n" }
    return text + "coverage: \(report.coverage.summary)"
  }
}
