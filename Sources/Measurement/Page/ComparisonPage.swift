import Calibration

/// A comparison as a page of its own.
public struct ComparisonPage {
  /// Most tensors that get pictures; the worst ones where there are more.
  private static let mostPictures = 200

  /// The page's text. `container` and `reference` are names to show.
  public static func text(_ comparison: GraphComparison, container: String, reference: String) -> String {
    var page = Page(title: "\(container) against \(reference)")
    page.add(tiles(comparison))
    page.heading("Signal to quantization noise of every layer")
    page.add(legend(comparison.views))
    page.paragraph(
      "Longer is better. In order of the graph. Isolation: the tensor alone quantized, on float data. At once: the "
        + "whole quantized graph. Layer by layer: each layer calibrated and run on the quantized outputs of those before."
    )
    page.add(
      Charts.bars(
        comparison.tensors.map { row in
          Charts.Bar(label: row.name, values: comparison.views.map { row.errors[$0]?.sqnr })
        }, title: "Signal to noise of every layer in dB"))
    if comparison.hasSensitivity { addSensitivity(comparison, to: &page) }
    page.heading("Tensors by damage")
    page.paragraph("Damage is the \(comparison.damageMeaning). A click on a heading sorts.")
    page.table(
      ComparisonTable.header(comparison), comparison.byDamage.map { ComparisonTable.row($0, comparison) },
      textColumns: [0, 1])
    addDistributions(comparison, to: &page)
    addWeights(comparison, to: &page)
    if !comparison.match.onlyInReference.isEmpty || !comparison.match.onlyInContainer.isEmpty {
      page.heading("Not compared")
      page.table(
        ["tensor", "why"],
        comparison.match.onlyInReference.map { [$0, "only in the reference"] }
          + comparison.match.onlyInContainer.map { [$0, "only in the container"] }
          + comparison.match.otherShapes.map { [$0, "other shape"] }, textColumns: [0, 1])
    }
    return page.text
  }

  private static func tiles(_ comparison: GraphComparison) -> String {
    var found = ["<div class=\"tile\"><b>\(comparison.sampleCount)</b><span>samples</span></div>"]
    for view in comparison.views where view != .isolation {
      guard let sqnr = comparison.outputSQNR(view) else { continue }
      found.append(
        "<div class=\"tile\"><b>\(Markup.decibels(sqnr)) dB</b><span>outputs, \(view.rawValue)</span></div>")
    }
    found.append("<div class=\"tile\"><b>\(comparison.tensors.count)</b><span>tensors compared</span></div>")
    return "<div class=\"tiles\">\(found.joined())</div>"
  }

  private static func legend(_ views: [ComparisonView]) -> String {
    let keys = zip(views, ["a", "b", "c"]).map { "<span class=\"key \($1)\"></span>\($0.rawValue)" }
    return "<p>\(keys.joined())</p>"
  }

  private static func addSensitivity(_ comparison: GraphComparison, to page: inout Page) {
    page.heading("Sensitivity: signal to noise of the outputs")
    page.add(
      "<p><span class=\"key a\"></span>this layer alone quantized<span class=\"key b\"></span>all but this layer</p>")
    page.add(
      Charts.bars(
        comparison.byDamage.compactMap { row in
          row.sensitivity.map { Charts.Bar(label: row.name, values: [$0.aloneSQNR, $0.withoutSQNR]) }
        }, title: "Signal to noise of the outputs by layer in dB"))
  }

  private static func addDistributions(_ comparison: GraphComparison, to page: inout Page) {
    let shown = comparison.byDamage.filter { $0.before != nil || $0.after != nil }.prefix(mostPictures)
    guard !shown.isEmpty else { return }
    page.heading("Distributions")
    page.add(
      "<p><span class=\"key a\"></span>before (float reference)<span class=\"key b\"></span>after (quantized)"
        + "<span class=\"key g\"></span>ends of the grid</p>")
    page.paragraph(
      "Counts are logarithmic. Where equalization scaled channels, the reference's values are scaled as the container's."
        + (shown.count < comparison.tensors.count ? " The \(shown.count) most damaged tensors." : ""))
    page.add("<div class=\"cards\">")
    for row in shown {
      let grid =
        row.grid.map {
          "\($0.bitwidth) bit, \(Markup.number($0.minimum)) to \(Markup.number($0.maximum)), step \(Markup.number($0.scale))"
        } ?? "float"
      page.add(
        "<div class=\"card\"><h3>\(Markup.escaped(row.name))</h3><small>\(Markup.escaped(row.operatorName)); \(grid)</small>"
          + Charts.histogram(before: row.before, after: row.after, grid: row.grid, title: "Distribution of \(row.name)")
          + "</div>")
    }
    page.add("</div>")
  }

  private static func addWeights(_ comparison: GraphComparison, to page: inout Page) {
    let shown = comparison.parameters.filter { !$0.rangesBefore.isEmpty }
    guard !shown.isEmpty else { return }
    page.heading("Weights by channel")
    page.add(
      "<p><span class=\"key a\"></span>before (reference)<span class=\"key b\"></span>after (container"
        + (shown.contains(where: \.isScaled) ? ", equalized" : "") + ")</p>")
    page.add("<div class=\"cards\">")
    for row in shown.prefix(mostPictures) {
      let grids = row.grid.map { "\($0.bitwidth) bit, \($0.count) \($0.count == 1 ? "grid" : "grids")" } ?? "float"
      page.add(
        "<div class=\"card\"><h3>\(Markup.escaped(row.name))</h3><small>\(grids); \(Markup.decibels(row.errors?.sqnr)) dB"
          + "\(row.isScaled ? "; scaled by equalization" : "")</small>"
          + Charts.ranges(before: row.rangesBefore, after: row.rangesAfter, title: "Channel ranges of \(row.name)")
          + "</div>")
    }
    page.add("</div>")
  }
}

/// A comparison as rows of text.
public enum ComparisonTable {
  /// Headings for people.
  public static func header(_ comparison: GraphComparison) -> [String] {
    var cells = ["tensor", "operators", "bits"]
    let words: [ComparisonView: String] = [.isolation: "alone dB", .atOnce: "at once dB", .layerByLayer: "by layer dB"]
    cells += comparison.views.compactMap { words[$0] }
    cells += ["weights dB", "MSE", "cosine", "largest"]
    return cells + (comparison.hasSensitivity ? ["only it dB", "without it dB", "damage"] : ["damage"])
  }

  /// Cells for people.
  public static func row(_ row: TensorComparison, _ comparison: GraphComparison) -> [String] {
    var cells = [row.name, row.operatorName, row.grid.map { "\($0.bitwidth)" } ?? "float"]
    cells += comparison.views.map { Markup.decibels(row.errors[$0]?.sqnr) }
    let main = row.errors[.atOnce] ?? row.errors[.layerByLayer] ?? row.errors[.isolation]
    cells.append(Markup.decibels(row.weightSQNR))
    cells +=
      main.map {
        [Markup.number($0.mse), $0.cosine.isNaN ? "-" : Markup.fixed($0.cosine, digits: 5), Markup.number($0.largest)]
      } ?? ["", "", ""]
    if comparison.hasSensitivity {
      cells += [Markup.decibels(row.sensitivity?.aloneSQNR), Markup.decibels(row.sensitivity?.withoutSQNR)]
      return cells + [row.sensitivity.map { Markup.fixed(100 * $0.share, digits: 1) + " %" } ?? ""]
    }
    return cells + [row.addedNoise.map { Markup.number($0, digits: 3) } ?? ""]
  }
}
