import Inspection
import ToolKit

/// `qinspect weights --html`: a page without scripts or files beside it.
enum WeightsPage {
  /// Most channels that are drawn of one weight; more are joined in runs.
  private static let columns = 512

  /// The page of some weights.
  static func text(_ summaries: [WeightSummary], title: String) -> String {
    var body = ""
    for summary in summaries {
      let shape = summary.shape.map(String.init).joined(separator: " x ")
      let whole = summary.whole
      let numbers = [("min", whole.min), ("max", whole.max), ("mean", whole.mean), ("RMS", whole.rms)]
        .map { "\($0.0) \(fixed($0.1, digits: 6))" }.joined(separator: ", ")
      body += """
        <section><h2>\(escaped(summary.name))</h2>
        <p>\(shape), \(summary.channels.count) channels on axis \(summary.axis); \(numbers)</p>
        <div>\(histogram(summary))\(ranges(summary))</div></section>

        """
    }
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><title>Weights of \(escaped(title))</title>
      <style>
      body { font-family: sans-serif; margin: 2em; }
      h2 { font-size: 1em; margin-bottom: 0; }
      p { margin: 0.3em 0; color: #555; font-size: 0.85em; }
      svg { background: #f6f6f6; margin-right: 1em; }
      rect { fill: #4477aa; }
      line { stroke: #cc6677; stroke-width: 1; }
      </style></head><body>
      <h1>Weights of \(escaped(title))</h1>
      <p>Left: how often values occur, from the smallest to the largest. Right: range of every channel; the line is zero.</p>
      \(body)</body></html>

      """
  }

  private static func histogram(_ summary: WeightSummary) -> String {
    let top = Double(max(summary.histogram.max() ?? 0, 1))
    var bars = ""
    for (index, count) in summary.histogram.enumerated() where count > 0 {
      let height = Double(count) / top * 100
      bars += rectangle(x: Double(index) * 8, y: 100 - height, width: 7, height: height)
    }
    return svg(width: 8 * summary.histogram.count, bars)
  }

  private static func ranges(_ summary: WeightSummary) -> String {
    let (low, high) = (min(summary.whole.min, 0), max(summary.whole.max, 0))
    let span = high - low
    guard span > 0, !summary.channels.isEmpty else { return "" }
    let run = (summary.channels.count + columns - 1) / columns
    let count = (summary.channels.count + run - 1) / run
    let width = max(1, min(12, columns / count))
    var bars = ""
    for column in 0..<count {
      let part = summary.channels[(column * run)..<min((column + 1) * run, summary.channels.count)]
      let least = part.map(\.min).min() ?? 0
      let most = part.map(\.max).max() ?? 0
      bars += rectangle(
        x: Double(column * width), y: (high - most) / span * 100, width: max(Double(width) - 1, 0.5),
        height: max((most - least) / span * 100, 0.5))
    }
    let zero = decimal(high / span * 100)
    bars += "<line x1=\"0\" x2=\"\(count * width)\" y1=\"\(zero)\" y2=\"\(zero)\"/>"
    return svg(width: count * width, bars)
  }

  private static func svg(width: Int, _ content: String) -> String {
    "<svg width=\"\(width)\" height=\"100\">\(content)</svg>"
  }

  private static func rectangle(x: Double, y: Double, width: Double, height: Double) -> String {
    "<rect x=\"\(decimal(x))\" y=\"\(decimal(y))\" width=\"\(decimal(width))\" height=\"\(decimal(height))\"/>"
  }

  private static func decimal(_ value: Double) -> String { fixed(value, digits: 2) }

  private static func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
}
