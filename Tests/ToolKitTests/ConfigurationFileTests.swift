import Foundation
import IR
import Testing
import ToolKit

@Suite struct ConfigurationFileTests {
  private func read(_ text: String) throws -> (ScratchFolder, ConfigurationMap) {
    let folder = try ScratchFolder()
    let path = try folder.write(Array(text.utf8), "config.yaml")
    return (folder, try ConfigurationMap(file: path))
  }

  @Test func valuesByKey() throws {
    var (_, map) = try read(
      """
      # a comment
      a: 3
      b: 2.5e1   # behind a value
      c: {d: true, "e": 'text with # sign'}
      """)
    #expect(try map.int("a") == 3)
    #expect(try map.double("b") == 25)
    #expect(try map.int("z") == nil)
    var inner = try #require(try map.map("c"))
    #expect(inner.path == "c")
    #expect(try inner.bool("d") == true)
    #expect(try inner.string("e") == "text with # sign")
    try inner.finish(known: [])
    try map.finish(known: [])
    var (_, empty) = try read("# nothing\n")
    try empty.finish(known: [])
    #expect(try empty.map("a") == nil)
  }

  @Test func unknownKeysAreErrorsWithTheirPath() throws {
    var (_, map) = try read("c:\n  known: 1\n  other: 2\n  third: 3\n")
    var inner = try #require(try map.map("c"))
    _ = try inner.int("known")
    let error = #expect(throws: Diagnostic.self) { try inner.finish(known: ["known"]) }
    #expect(error?.location.path == "c.other" && error?.location.line == 3)
    #expect(error?.related.count == 1 && error?.hint?.contains("known") == true)
  }

  @Test func wrongValues() throws {
    for (text, read) in [
      ("a: x", { _ = try $0.int("a") }), ("a: 1.5", { _ = try $0.int("a") }),
      ("a: .nan", { _ = try $0.double("a") }), ("a: [1]", { _ = try $0.double("a") }),
      ("a: 1", { _ = try $0.map("a") }), ("a: maybe", { _ = try $0.bool("a") }),
    ] as [(String, (inout ConfigurationMap) throws -> Void)] {
      var (_, map) = try self.read(text)
      let error = #expect(throws: Diagnostic.self) { try read(&map) }
      #expect(error?.location.path == "a" && error?.location.line == 1, "\(text)")
    }
    for text in ["- 1\n- 2", "a: 1\na: 2", "a: [1", "just words", "? [1]\n: 2"] {
      #expect(throws: Diagnostic.self) { _ = try self.read(text) }
    }
  }
}
