import ArgumentParser
import IR
import Measurement
import Quantizer
import ToolKit

/// What became of every tensor as a file.
struct ReportOptions: ParsableArguments {
  @Option(
    name: .customLong("report"),
    help: ArgumentHelp(
      "Write every tensor's encoding, its source, observed range and noise (.json, .csv or .html).",
      valueName: "file"))
  var file: String?

  /// Forms of the file, by the end of its name.
  private enum Form: String, CaseIterable { case json, csv, html }

  private var form: Form? { file.flatMap { file in Form.allCases.first { file.hasSuffix(".\($0.rawValue)") } } }

  func validate() throws {
    if let file, form == nil {
      throw ValidationError("--report takes a file that ends in .json, .csv or .html, not '\(file)'")
    }
  }

  /// Whether a report is wanted.
  var isGiven: Bool { file != nil }

  /// The report of an annotated graph; nil where none is wanted. `source` is the graph before quantizing,
  /// `title` names the result.
  func text(
    _ graph: Graph, source: Graph, _ statistics: Statistics?, _ sections: [ReportSection], title: String
  ) throws(Diagnostic) -> String? {
    guard let form else { return nil }
    let report = QuantizationReport(graph, source: source, statistics: statistics, sections: sections)
    switch form {
    case .json: return try JSONOutput.text(ReportDocument(report, container: FileReading.name(of: title)))
    case .html: return ReportPage.text(report, title: FileReading.name(of: title))
    case .csv:
      var table = TextTable(QuantizationReport.header)
      for row in report.rows { table.add(QuantizationReport.cells(of: row)) }
      var text = table.csv
      for section in report.sections {
        var further = TextTable(section.header)
        for row in section.rows { further.add(row) }
        text += "\n\(section.title)\n\(further.csv)"
      }
      return text
    }
  }
}

/// A report as JSON.
struct ReportDocument: JSONDocument {
  struct Tensor: Encodable {
    var name: String
    var role: String
    var layer: String
    var operator_name: String
    var shape: [Int]
    /// Where the encoding came from; `float` without one.
    var source: String
    var bitwidth: Int?
    var symmetric: Bool?
    var grids: Int?
    var min: Double?
    var max: Double?
    var scale: Float?
    var offset: Int?
    var observed_min: Double?
    var observed_max: Double?
    var sqnr_db: Double?
  }

  struct Section: Encodable {
    var title: String
    var header: [String]
    var rows: [[String]]
  }

  let version = 1
  var container: String
  var tensors: [Tensor]
  var sections: [Section]

  init(_ report: QuantizationReport, container: String) {
    self.container = container
    tensors = report.rows.map { row in
      let grid = row.grid
      return Tensor(
        name: row.name, role: row.role.rawValue, layer: row.layer, operator_name: row.operatorName,
        shape: row.shape, source: grid == nil ? "float" : grid?.source?.rawValue ?? "unknown",
        bitwidth: grid?.bitwidth, symmetric: grid?.isSymmetric, grids: grid?.count, min: grid?.minimum,
        max: grid?.maximum, scale: grid.map { Float($0.scale) }, offset: grid?.offset,
        observed_min: row.observed?.lowerBound, observed_max: row.observed?.upperBound, sqnr_db: row.sqnr)
    }
    sections = report.sections.map { Section(title: $0.title, header: $0.header, rows: $0.rows) }
  }
}
