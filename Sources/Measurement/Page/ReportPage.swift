/// A report of quantization as a page of its own.
public struct ReportPage {
  private static let mostPictures = 200

  /// The page's text; `title` names the container.
  public static func text(_ report: QuantizationReport, title: String) -> String {
    var page = Page(title: title)
    page.heading("Signal to quantization noise of every tensor alone")
    page.add(
      "<p><span class=\"key a\"></span>activations (from histograms)<span class=\"key b\"></span>constants (exact)</p>")
    page.add(
      Charts.bars(
        report.rows.filter { $0.sqnr != nil && $0.role != .bias }.map { row in
          let isConstant = row.role == .weight || row.role == .constant
          return Charts.Bar(label: row.name, values: isConstant ? [nil, row.sqnr] : [row.sqnr])
        }, title: "Signal to noise of every tensor in dB"))
    for section in report.sections {
      page.heading(section.title)
      page.table(section.header, section.rows, textColumns: Set(section.header.indices))
    }
    page.heading("Tensors")
    page.table(
      ["tensor", "role", "operator", "source", "bits", "grids", "min", "max", "scale", "offset", "observed", "dB"],
      report.rows.map(cells), textColumns: [0, 1, 2, 3])
    let activations = report.rows.filter { $0.histogram != nil }
    if !activations.isEmpty {
      page.heading("Distributions of activations")
      page.add(
        "<p><span class=\"key a\"></span>observed<span class=\"key g\"></span>ends of the grid; counts are logarithmic</p>"
      )
      page.add("<div class=\"cards\">")
      for row in activations.prefix(mostPictures) {
        page.add(
          "<div class=\"card\"><h3>\(Markup.escaped(row.name))</h3><small>\(Markup.decibels(row.sqnr)) dB</small>"
            + Charts.histogram(before: row.histogram, after: nil, grid: row.grid, title: "Distribution of \(row.name)")
            + "</div>")
      }
      page.add("</div>")
    }
    let weights = report.rows.filter { !$0.rangesBefore.isEmpty }
    if !weights.isEmpty {
      page.heading("Weights by channel")
      page.add("<p><span class=\"key a\"></span>before<span class=\"key b\"></span>after</p><div class=\"cards\">")
      for row in weights.prefix(mostPictures) {
        page.add(
          "<div class=\"card\"><h3>\(Markup.escaped(row.name))</h3><small>\(Markup.decibels(row.sqnr)) dB</small>"
            + Charts.ranges(before: row.rangesBefore, after: row.rangesAfter, title: "Channel ranges of \(row.name)")
            + "</div>")
      }
      page.add("</div>")
    }
    return page.text
  }

  private static func cells(_ row: QuantizationReport.Row) -> [String] {
    let grid = row.grid
    let observed = row.observed.map { "\(Markup.number($0.lowerBound)) to \(Markup.number($0.upperBound))" }
    return [
      row.name, row.role.rawValue, row.operatorName, grid?.source?.rawValue ?? "float",
      grid.map { "\($0.bitwidth)" } ?? "", grid.map { "\($0.count)" } ?? "",
      grid.map { Markup.number($0.minimum) } ?? "",
      grid.map { Markup.number($0.maximum) } ?? "", grid.map { Markup.number($0.scale) } ?? "",
      grid.map { "\($0.offset)" } ?? "", observed ?? "", Markup.decibels(row.sqnr),
    ]
  }
}
