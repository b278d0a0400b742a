import Foundation
import IR
import Operators
import Passes
import Runtime
import Testing

/// Every pass has a file `Cases/<name>.txt`: cases of a title line `== title`, the graph before, a line
/// `->` and the graph after. QTOOLS_RECORD=1 writes what the passes give and fails the run.
@Suite struct PassTexts {
  struct Case: Sendable, CustomTestStringConvertible {
    let pass: any Pass
    let title: String
    let before: String
    let after: String
    var testDescription: String { "\(pass.name): \(title)" }
  }

  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Cases")

  static let cases: [Case] = Pipeline.standard.passes.flatMap { pass -> [Case] in
    let file = folder.appendingPathComponent(pass.name + ".txt")
    guard let text = try? String(contentsOf: file, encoding: .utf8) else { return [] }
    return text.components(separatedBy: "== ").dropFirst().map { block in
      let title = String(block.prefix { $0 != "\n" })
      let body = String(block.dropFirst(title.count))
      let halves = body.components(separatedBy: "\n->\n")
      return Case(
        pass: pass, title: title, before: halves[0], after: halves.count > 1 ? halves[1] : "")
    }
  }

  @Test func everyPassHasCases() {
    for pass in Pipeline.standard.passes {
      #expect(Self.cases.contains { $0.pass.name == pass.name }, "\(pass.name) has no case")
    }
  }

  @Test(.serialized, arguments: cases)
  func givesTheExpectedGraph(_ example: Case) throws {
    let before = try Graph(text: example.before, registry: .standard)
    #expect(before.verify() == [])
    let after = try example.pass.run(before)
    #expect(after.verify() == [])
    let got = after.text(inlineLimit: .max)
    if ProcessInfo.processInfo.environment["QTOOLS_RECORD"] != nil {
      try Self.record(example, got)
      Issue.record("recorded \(example.title); run again without QTOOLS_RECORD")
    } else {
      let expected = try Graph(text: example.after, registry: .standard)
      #expect(got == expected.text(inlineLimit: .max))
    }
    let again = try example.pass.run(after)
    #expect(again.text(inlineLimit: .max) == got, "the pass is not idempotent")
  }

  @Test(arguments: cases)
  func keepsTheFunction(_ example: Case) throws {
    let before = try Graph(text: example.before, registry: .standard)
    let after = try example.pass.run(before)
    try #require(before.inputs.count == after.inputs.count)
    let inputs = before.inputs.map { id -> Bytes in
      let values: [Float] = (0..<before[id].type.count).map { index -> Float in
        Float((index * 37 + 11) % 23) / 7 - 1.5
      }
      return Bytes(values)
    }
    let (a, b) = (try run(before, inputs), try run(after, inputs))
    for (expected, got) in zip(a, b) {
      let x: [Float] = expected.array(of: Float.self)
      let y: [Float] = got.array(of: Float.self)
      try #require(x.count == y.count)
      let worst =
        zip(x, y).map { pair -> Float in
          abs(pair.0 - pair.1) / Swift.max(1, abs(pair.0))
        }.max() ?? 0
      #expect(worst <= 1e-5)
    }
    #expect(before.outputs.map { before[$0].name } == after.outputs.map { after[$0].name })
  }

  private func run(_ graph: Graph, _ inputs: [Bytes]) throws -> [Bytes] {
    try ReferenceBackend().prepare(graph, options: PlanOptions()).makeWorker().run(inputs, tap: nil)
  }

  private static func record(_ example: Case, _ got: String) throws {
    let file = folder.appendingPathComponent(example.pass.name + ".txt")
    let text = try String(contentsOf: file, encoding: .utf8)
    let blocks = text.components(separatedBy: "== ").map { block -> String in
      guard block.hasPrefix(example.title + "\n") else { return block }
      let before = block.components(separatedBy: "\n->\n")[0]
      return "\(before)\n->\n\(got)\n"
    }
    try blocks.joined(separator: "== ").write(to: file, atomically: true, encoding: .utf8)
  }
}
