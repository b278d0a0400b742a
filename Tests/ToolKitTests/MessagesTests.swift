import IR
import Synchronization
import Testing

@testable import ToolKit

/// Collects what would go to standard error.
private final class Record: Sendable {
  let text = Mutex("")
  func console(isTerminal: Bool = false, noColor: Bool = true) -> Console {
    Console(isTerminal: isTerminal, noColor: noColor) { piece in
      self.text.withLock { $0 += piece }
    }
  }
  var all: String { text.withLock { $0 } }
}

@Suite("Messages")
struct MessagesTests {
  @Test("error, place and hint")
  func wording() {
    let record = Record()
    let printer = DiagnosticPrinter(program: "qconvert", console: record.console())
    printer.report(
      Diagnostic(
        "bad", "it is bad", at: Diagnostic.Location(file: "m.onnx", node: "conv1"),
        hint: "make it good"))
    #expect(
      record.all == "qconvert: error: it is bad, m.onnx, node conv1\nhint: make it good\n")
    #expect(printer.errors == 1)
  }

  @Test("colours only on a terminal and without NO_COLOR")
  func colors() {
    for (terminal, noColor, expected) in [
      (true, false, true), (true, true, false), (false, false, false),
    ] {
      let record = Record()
      let console = record.console(isTerminal: terminal, noColor: noColor)
      DiagnosticPrinter(program: "q", console: console).report(Diagnostic("a", "b"))
      #expect(record.all.contains("\u{1B}[31m") == expected)
    }
  }

  @Test("many findings of one kind are counted, all are shown when verbose")
  func limit() {
    let many = Diagnostic.combining(
      (0..<50).map { Diagnostic("same", "finding \($0)", severity: .warning) })
    for verbose in [false, true] {
      let record = Record()
      let printer = DiagnosticPrinter(
        program: "q", policy: .init(verbose: verbose), console: record.console())
      if let many { printer.report(many) }
      printer.summarize()
      #expect(record.all.contains("finding 49") == verbose)
      #expect(record.all.contains("30 more of the kind same") == !verbose)
      #expect(record.all.hasSuffix("q: 50 warnings\n"))
    }
  }

  @Test("quiet leaves notes out; warnings can be errors")
  func policy() {
    let record = Record()
    let printer = DiagnosticPrinter(
      program: "q", policy: .init(quiet: true, warningsAreErrors: true), console: record.console())
    printer.report(Diagnostic("n", "note", severity: .note))
    #expect(record.all.isEmpty)
    #expect(throws: Never.self) { try printer.checkWarnings() }
    printer.report(Diagnostic("w", "warning", severity: .warning))
    #expect(throws: Diagnostic.self) { try printer.checkWarnings() }
  }

  @Test("progress: a bar on a terminal, a line every 10 s elsewhere, nothing when disabled")
  func progress() {
    for (terminal, enabled, lines) in [(true, true, 19), (false, true, 1), (false, false, 0)] {
      let record = Record()
      let clock = Mutex(ContinuousClock.now)
      let progress = Progress(
        "calibrating", total: 200, enabled: enabled, console: record.console(isTerminal: terminal),
        now: { clock.withLock { $0 } })
      for _ in 0..<19 {
        clock.withLock { $0 += .seconds(1) }
        progress.advance(by: 10)
      }
      progress.finish()
      #expect(record.all.split(separator: "calibrating").count - (terminal ? 1 : 0) == lines)
      if enabled { #expect(record.all.contains("100/200 samples, 10/s, 10 s left")) }
      if terminal { #expect(record.all.hasSuffix("\r\u{1B}[K")) }
    }
  }

  @Test("numbers, bytes and tables")
  func texts() {
    #expect(fixed(3.14159, digits: 2) == "3.14")
    #expect(fixed(-0.001, digits: 2) == "0.00")
    #expect(fixed(-1.005, digits: 1) == "-1.0")
    #expect(fixed(.infinity, digits: 1) == "inf")
    #expect(byteText(999) == "999 B")
    #expect(byteText(1_210_000) == "1.21 MB")
    #expect(byteText(999_999) == "1.00 MB")
    #expect(grouped(1_234_567) == "1,234,567" && grouped(-12) == "-12" && grouped(-123) == "-123")
    var table = TextTable(["name", "n"], alignment: [.left, .right])
    table.add(["a,b", "1"])
    table.add(["say \"x\"", "1000"])
    #expect(table.text == "name        n\n-------  ----\na,b         1\nsay \"x\"  1000")
    #expect(table.csv == "name,n\n\"a,b\",1\n\"say \"\"x\"\"\",1000\n")
  }

  @Test("jobs: asked for, or fewer where memory would not do, never more than the work")
  func jobs() {
    #expect(Jobs.resolve(requested: 3, arenaBytes: 1 << 40, cores: 8, memory: 1 << 30) == 3)
    #expect(Jobs.resolve(requested: nil, arenaBytes: 1 << 27, cores: 8, memory: 1 << 30) == 4)
    #expect(Jobs.resolve(requested: nil, arenaBytes: 1 << 40, cores: 8, memory: 1 << 30) == 1)
    #expect(Jobs.resolve(requested: nil, arenaBytes: 0, work: 5, cores: 8, memory: 1 << 30) == 5)
    #expect(Jobs.availableCores() >= 1 && Jobs.availableMemory() > 0)
  }
}
