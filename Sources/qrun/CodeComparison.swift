import IR
import Measurement
import Runtime
import ToolKit

/// `qrun compare --backend integer` without a reference: where integers and the simulation differ.
struct CodeComparisonDocument: JSONDocument {
  struct Row: Encodable {
    var tensor: String
    var operator_name: String
    var codes: Int
    var differing: Int
    var largest_steps: Int
    var total_steps: Int

    init(_ row: CodeDifferences.Row) {
      tensor = row.tensor
      operator_name = row.operatorName
      codes = row.codes
      differing = row.differing
      largest_steps = row.largest
      total_steps = row.total
    }
  }

  let version = 1
  var container: String
  var backend: String
  var reference: String
  var samples: Int
  var tensors: [Row]

  init(_ result: CodeDifferences, container: String, backend: String, reference: String) {
    self.container = container
    self.backend = backend
    self.reference = reference
    samples = result.samples
    tensors = result.rows.map(Row.init)
  }

  /// All rows as CSV, in the order of the graph.
  static func csv(_ result: CodeDifferences) -> String {
    let lines = result.rows.map { row in
      let parts = row.tensor.split(separator: "\"", omittingEmptySubsequences: false)
      let name = "\"\(parts.joined(separator: "\"\""))\""
      return "\(name),\(row.operatorName),\(row.codes),\(row.differing),\(row.largest),\(row.total)"
    }
    return (["tensor,operator,codes,differing,largest_steps,total_steps"] + lines).joined(separator: "\n") + "\n"
  }

  /// The result for people: `most` tensors, those that differ most first.
  static func text(_ result: CodeDifferences, document: CodeComparisonDocument, most: Int?) -> String {
    var table = TextTable(
      ["tensor", "operator", "codes", "differ", "%", "largest", "mean steps"],
      alignment: [.left, .left, .right, .right, .right, .right, .right])
    let rows = most.map { Array(result.byShare.prefix($0)) } ?? result.rows
    for row in rows {
      table.add([
        row.tensor, row.operatorName, grouped(row.codes), grouped(row.differing),
        fixed(100 * row.share, digits: 3), "\(row.largest)",
        fixed(row.codes == 0 ? 0 : Double(row.total) / Double(row.codes), digits: 4),
      ])
    }
    let more = result.rows.count - rows.count
    let differing = result.rows.count { $0.differing > 0 }
    return """
      container  \(document.container)
      backend    \(document.backend)
      reference  \(document.reference)
      samples    \(result.samples)
      differ     \(differing) of \(counted(result.rows.count, "tensor"))\
      \(result.first.map { ", first \($0.tensor)" } ?? "")

      \(table.text)
      \(more > 0 ? "\(more) more \(more == 1 ? "tensor" : "tensors"): --all shows them\n" : "")
      """
  }
}
