/// Rows of cells in columns as wide as their widest cell. A few cells that are far longer than the others do not
/// widen a column: their rows alone reach further.
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
    let widths = header.indices.map { column in
      max(header[column].count, width(of: rows.compactMap { $0.indices.contains(column) ? $0[column].count : nil }))
    }
    var lines = [
      line(header, widths),
      widths.map { String(repeating: "-", count: $0) }
        .joined(separator: "  "),
    ]
    lines += rows.map { line($0, widths) }
    return lines.joined(separator: "\n")
  }

  /// Width of a column with cells of these lengths: the longest, but of those beyond 60 not the longest quarter.
  private func width(of lengths: [Int]) -> Int {
    let sorted = lengths.sorted()
    guard let longest = sorted.last else { return 0 }
    return longest <= 60 ? longest : max(60, sorted[(sorted.count - 1) * 3 / 4])
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
