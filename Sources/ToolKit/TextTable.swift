/// Rows of cells in columns as wide as their widest cell.
public struct TextTable: Sendable {
  /// Side a column is flush with.
  public enum Alignment: Sendable { case left, right }

  private let header: [String]
  private let alignment: [Alignment]
  private var rows: [[String]] = []

  /// A table with a heading a column; columns without an alignment are flush left.
  public init(_ header: [String], alignment: [Alignment] = []) {
    self.header = header
    self.alignment = alignment
  }

  /// Whether no row was added.
  public var isEmpty: Bool { rows.isEmpty }

  /// Adds a row; missing cells are empty.
  public mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The table as lines without trailing spaces, a rule under the headings.
  public var text: String {
    var widths = header.map(\.count)
    for row in rows {
      for (column, cell) in row.enumerated() where column < widths.count {
        widths[column] = max(widths[column], cell.count)
      }
    }
    var lines = [
      line(header, widths),
      widths.map { String(repeating: "-", count: $0) }
        .joined(separator: "  "),
    ]
    lines += rows.map { line($0, widths) }
    return lines.joined(separator: "\n")
  }

  private func line(_ cells: [String], _ widths: [Int]) -> String {
    var text = ""
    for (column, width) in widths.enumerated() {
      let cell = column < cells.count ? cells[column] : ""
      let space = String(repeating: " ", count: max(width - cell.count, 0))
      if column > 0 { text += "  " }
      let right = column < alignment.count && alignment[column] == .right
      text += right ? space + cell : cell + space
    }
    while text.last == " " { text.removeLast() }
    return text
  }

  /// The table as CSV (RFC 4180), headings first.
  public var csv: String {
    ([header] + rows).map { $0.map(TextTable.csvCell).joined(separator: ",") + "\n" }.joined()
  }

  private static func csvCell(_ cell: String) -> String {
    guard cell.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return cell }
    return "\""
      + cell.split(separator: "\"", omittingEmptySubsequences: false)
      .joined(separator: "\"\"") + "\""
  }
}
