import Calibration
import Foundation

/// Pictures of pages, as SVG.
enum Charts {
  private typealias M = Markup

  /// A row of horizontal bars: a name and a length for each series.
  struct Bar {
    var label: String
    var values: [Double?]
  }

  /// Bars in dB, a row a layer, one bar for each series of classes a, b, c. Numbers beyond `limit` end there.
  static func bars(_ rows: [Bar], title: String, limit: Double = 80) -> String {
    let series = rows.map(\.values.count).max() ?? 0
    let (left, width, bar) = (300.0, 660.0, 8.0)
    let step = Double(series) * bar + 8
    let height = Double(rows.count) * step + 34
    let finite = rows.flatMap(\.values).compactMap { $0 }.filter(\.isFinite)
    let most = min(max(finite.max() ?? 1, 10), limit)
    var parts = [open(1040, height, title)]
    for tick in stride(from: 0.0, through: most, by: most > 40 ? 20 : 10) {
      let x = left + tick / most * width
      parts.append(line("axis", x, 16, x, height - 8) + text(x, 11, M.fixed(tick, digits: 0) + " dB", "middle"))
    }
    for (index, row) in rows.enumerated() {
      let top = 22 + Double(index) * step
      parts.append(text(left - 8, top + step / 2 - 1, shortened(row.label, 44), "end", "label"))
      for (place, value) in row.values.enumerated() {
        guard let value, !value.isNaN else { continue }
        let length = max(min(value, most), 0) / most * width
        let y = top + Double(place) * bar
        parts.append(
          "<rect class=\"\(["a", "b", "c"][place % 3])\" x=\"\(p(left))\" y=\"\(p(y))\" width=\"\(p(max(length, 1)))\" "
            + "height=\"\(p(bar - 1))\"><title>\(M.escaped(row.label)): \(M.decibels(value)) dB</title></rect>")
        if place == 0 {
          parts.append(text(left + max(length, 1) + 5, y + 8, M.decibels(value), "start"))
        }
      }
    }
    return parts.joined(separator: "\n") + "</svg>"
  }

  /// Counts of values before (area) and after (outline), logarithmic, with the ends of the grid.
  static func histogram(
    before: HistogramObserver?, after: HistogramObserver?, grid: GridSummary?, title: String
  ) -> String {
    let seen = [before, after].compactMap { $0 }.filter { $0.finiteCount > 0 }
    guard !seen.isEmpty else { return "" }
    var low = seen.map { Double($0.extrema.minimum) }.min() ?? 0
    var high = seen.map { Double($0.extrema.maximum) }.max() ?? 1
    // A grid that reaches far beyond the values must not make them a line: its end is told in words.
    let span = max(high - low, 1e-30)
    if let grid {
      low = min(low, max(grid.minimum, low - span))
      high = max(high, min(grid.maximum, high + span))
    }
    if high <= low { high = low + 1 }
    let (width, height, base) = (320.0, 120.0, 100.0)
    func x(_ value: Double) -> Double { 4 + (value - low) / (high - low) * (width - 8) }
    let columns = 80
    let columnsOf = seen.map { columnCounts($0, low: low, high: high, columns: columns) }
    let most = log(1 + (columnsOf.joined().max() ?? 1))
    func y(_ count: Double) -> Double { base - log(1 + count) / max(most, 1e-9) * (base - 6) }
    var parts = [open(width, height, title)]
    for (counts, isBefore) in zip(columnsOf, [before != nil, false]) {
      var path = "M4 \(p(base))"
      for (column, count) in counts.enumerated() {
        let from = 4 + Double(column) / Double(columns) * (width - 8)
        path += "V\(p(y(count)))H\(p(from + (width - 8) / Double(columns)))"
      }
      path += "V\(p(base))"
      parts.append(
        isBefore
          ? "<path class=\"a\" opacity=\"0.55\" d=\"\(path)Z\"/>" : "<path class=\"lb outline\" d=\"\(path)\"/>")
    }
    parts.append(line("axis", 4, base, width - 4, base))
    if let grid {
      for (end, isInside) in [(grid.minimum, grid.minimum >= low), (grid.maximum, grid.maximum <= high)] where isInside
      {
        parts.append(line("limit", x(end), 2, x(end), base))
      }
    }
    parts.append(text(4, height - 6, M.number(low), "start") + text(width - 4, height - 6, M.number(high), "end"))
    return parts.joined(separator: "\n") + "</svg>"
  }

  /// A line from the least to the largest value of every channel, before in one panel, after in the other.
  static func ranges(before: [ClosedRange<Float>], after: [ClosedRange<Float>], title: String) -> String {
    let (width, panel) = (320.0, 84.0)
    var parts = [open(width, 2 * panel + 22, title)]
    for (place, list) in [before, after].enumerated() where !list.isEmpty {
      let top = Double(place) * (panel + 10)
      let low = Double(min(list.map(\.lowerBound).min() ?? 0, 0))
      let high = Double(max(list.map(\.upperBound).max() ?? 0, 0))
      let span = max(high - low, 1e-30)
      func y(_ value: Float) -> Double { top + 4 + (high - Double(value)) / span * (panel - 8) }
      let step = (width - 70) / Double(list.count)
      for (channel, range) in list.enumerated() {
        let x = 66 + (Double(channel) + 0.5) * step
        parts.append(
          "<line class=\"\(place == 0 ? "la" : "lb")\" stroke-width=\"\(p(max(step * 0.7, 0.6)))\" x1=\"\(p(x))\" "
            + "y1=\"\(p(y(range.upperBound) - 0.3))\" x2=\"\(p(x))\" y2=\"\(p(y(range.lowerBound) + 0.3))\"/>")
      }
      parts.append(line("axis", 66, y(0), width - 4, y(0)))
      parts.append(
        text(60, top + 12, M.number(high, digits: 3), "end")
          + text(60, top + panel - 4, M.number(low, digits: 3), "end"))
    }
    parts.append(text(66, 2 * panel + 20, "\(before.count) channels; above before, below after", "start"))
    return parts.joined(separator: "\n") + "</svg>"
  }

  /// Counts of a histogram spread over equal columns.
  private static func columnCounts(
    _ histogram: HistogramObserver, low: Double, high: Double, columns: Int
  ) -> [Double] {
    var result = [Double](repeating: 0, count: columns)
    let size = (high - low) / Double(columns)
    for (index, count) in histogram.counts.enumerated() where count > 0 {
      let from = (histogram.edge(index) - low) / size
      let to = (histogram.edge(index + 1) - low) / size
      let (first, last) = (min(max(Int(from), 0), columns - 1), min(max(Int(to), 0), columns - 1))
      for column in first...last {
        let overlap = min(to, Double(column + 1)) - max(from, Double(column))
        let share = first == last ? 1 : max(overlap, 0) / (to - from)
        result[column] += Double(count) * share
      }
    }
    return result
  }

  private static func open(_ width: Double, _ height: Double, _ title: String) -> String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"\(M.escaped(title))\" "
      + "viewBox=\"0 0 \(p(width)) \(p(height))\" width=\"\(p(width))\" height=\"\(p(height))\">"
  }

  private static func text(
    _ x: Double, _ y: Double, _ content: String, _ anchor: String, _ style: String? = nil
  ) -> String {
    "<text x=\"\(p(x))\" y=\"\(p(y))\" text-anchor=\"\(anchor)\"\(style.map { " class=\"\($0)\"" } ?? "")>"
      + "\(M.escaped(content))</text>"
  }

  private static func line(_ style: String, _ x: Double, _ y: Double, _ x2: Double, _ y2: Double) -> String {
    "<line class=\"\(style)\" x1=\"\(p(x))\" y1=\"\(p(y))\" x2=\"\(p(x2))\" y2=\"\(p(y2))\"/>"
  }

  private static func shortened(_ text: String, _ most: Int) -> String {
    text.count <= most ? text : "..." + text.suffix(most - 3)
  }

  /// A coordinate.
  private static func p(_ value: Double) -> String { M.fixed(value, digits: 1) }
}
