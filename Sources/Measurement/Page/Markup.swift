/// Text of pages.
enum Markup {
  /// Text as element content or attribute value.
  static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.append(character)
      }
    }
    return result
  }

  /// A number with a few significant digits; `exact` for an infinite SQNR is up to the caller.
  static func number(_ value: Double, digits: Int = 4) -> String {
    guard value.isFinite else { return value.isNaN ? "-" : value > 0 ? "∞" : "-∞" }
    if value == 0 { return "0" }
    let size = abs(value)
    if size >= 1e5 || size < 1e-3 {
      let exponent = decimalExponent(size)
      let scaled = value / power(exponent)
      return "\(fixed(scaled, digits: digits - 2))e\(exponent)"
    }
    return fixed(value, digits: max(digits - 1 - decimalExponent(size), 0))
  }

  /// Decibels with one decimal; `exact` where there is no noise.
  static func decibels(_ value: Double?) -> String {
    guard let value else { return "" }
    return value == .infinity ? "exact" : value.isFinite ? fixed(value, digits: 1) : "-"
  }

  /// A number with fixed decimals.
  static func fixed(_ value: Double, digits: Int) -> String {
    let factor = power(digits)
    let scaled = (abs(value) * factor).rounded()
    guard scaled < 9e15 else { return "\(value)" }
    let units = Int(scaled)
    let sign = value < 0 && units > 0 ? "-" : ""
    if digits == 0 { return "\(sign)\(units)" }
    let fraction = String(units % Int(factor))
    return "\(sign)\(units / Int(factor)).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
  }

  private static func power(_ exponent: Int) -> Double {
    var result = 1.0
    for _ in 0..<abs(exponent) { result *= 10 }
    return exponent < 0 ? 1 / result : result
  }

  private static func decimalExponent(_ size: Double) -> Int {
    var exponent = 0
    var rest = size
    while rest >= 10 { (rest, exponent) = (rest / 10, exponent + 1) }
    while rest < 1 { (rest, exponent) = (rest * 10, exponent - 1) }
    return exponent
  }
}

/// A page that needs nothing but itself: no network, no files.
struct Page {
  private var body: [String] = []
  private let title: String

  /// A page with a title.
  init(title: String) { self.title = title }

  /// Adds markup.
  mutating func add(_ markup: String) { body.append(markup) }

  /// Adds a heading.
  mutating func heading(_ text: String) { add("<h2>\(Markup.escaped(text))</h2>") }

  /// Adds a paragraph.
  mutating func paragraph(_ text: String) { add("<p>\(Markup.escaped(text))</p>") }

  /// Adds a table; columns of numbers are flush right. Rows may be sorted by a click on a heading.
  mutating func table(_ header: [String], _ rows: [[String]], textColumns: Set<Int> = [0]) {
    let heads = header.map { "<th tabindex=\"0\">\(Markup.escaped($0))</th>" }.joined()
    var lines = ["<div class=\"scroll\"><table class=\"sortable\"><thead><tr>\(heads)</tr></thead><tbody>"]
    for row in rows {
      let cells = row.enumerated().map { column, cell in
        "<td\(textColumns.contains(column) ? " class=\"text\"" : "")>\(Markup.escaped(cell))</td>"
      }
      lines.append("<tr>\(cells.joined())</tr>")
    }
    lines.append("</tbody></table></div>")
    add(lines.joined(separator: "\n"))
  }

  /// The document.
  var text: String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <link rel="icon" href="data:,">
    <title>\(Markup.escaped(title))</title>
    <style>
    \(Self.style)
    </style>
    </head>
    <body>
    <main>
    <h1>\(Markup.escaped(title))</h1>
    \(body.joined(separator: "\n"))
    </main>
    <script>
    \(Self.script)
    </script>
    </body>
    </html>

    """
  }

  private static let style = """
    :root { --ink: #1c2530; --soft: #5b6673; --line: #d5dbe2; --paper: #ffffff; --panel: #f5f7f9;
      --a: #2f6db3; --b: #c8553d; --c: #5a9367; --grid: #8a4fb0; }
    @media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --soft: #9aa6b3; --line: #3a444f;
      --paper: #14191f; --panel: #1c232b; --a: #6aa5e6; --b: #e5806a; --c: #84c292; --grid: #c08be0; } }
    body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
    main { max-width: 1100px; margin: 0 auto; padding: 24px; }
    h1 { font-size: 24px; } h2 { font-size: 19px; margin-top: 36px; } h3 { font-size: 15px; margin: 0 0 4px; }
    p { color: var(--soft); max-width: 75ch; }
    .tiles { display: flex; flex-wrap: wrap; gap: 12px; }
    .tile { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 10px 16px; }
    .tile b { display: block; font-size: 20px; } .tile span { color: var(--soft); font-size: 13px; }
    .scroll { overflow-x: auto; }
    table { border-collapse: collapse; font-size: 13px; }
    th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
    th { cursor: pointer; color: var(--soft); } th:first-child, td.text { text-align: left; }
    .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px; }
    .card { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 12px; }
    .card h3 { overflow-wrap: anywhere; } .card small { color: var(--soft); }
    svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
    svg .label { fill: var(--ink); } .a { fill: var(--a); } .b { fill: var(--b); } .c { fill: var(--c); }
    .la { stroke: var(--a); } .lb { stroke: var(--b); } .axis { stroke: var(--line); }
    .limit { stroke: var(--grid); stroke-dasharray: 4 3; } .outline { fill: none; stroke-width: 1.5; }
    .key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 14px; }
    .key.a { background: var(--a); } .key.b { background: var(--b); } .key.c { background: var(--c); }
    .key.g { background: var(--grid); }
    """

  private static let script = """
    for (const table of document.querySelectorAll("table.sortable")) {
      table.querySelectorAll("th").forEach((head, column) => {
        let falling = true;
        const sort = () => {
          const body = table.tBodies[0];
          const value = row => row.cells[column].textContent;
          const number = text => text === "exact" ? Infinity : parseFloat(text);
          const rows = [...body.rows].sort((first, second) => {
            const a = value(first), b = value(second), x = number(a), y = number(b);
            if (Number.isNaN(x) || Number.isNaN(y)) return a.localeCompare(b);
            return x === y ? 0 : x < y ? -1 : 1;
          });
          if (falling) rows.reverse();
          falling = !falling;
          body.append(...rows);
        };
        head.addEventListener("click", sort);
        head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
      });
    }
    """
}
