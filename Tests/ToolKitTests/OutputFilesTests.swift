import FoundationEssentials
import IR
import Testing

@testable import ToolKit

@Suite("Output files")
struct OutputFilesTests {
  let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  @Test("a file is written whole and replaces the old one")
  func replaces() throws {
    try AtomicFile.write("one", to: "\(folder.path)/a.txt")
    try AtomicFile.write("two", to: "\(folder.path)/a.txt")
    #expect(try folder.read("a.txt") == Array("two".utf8))
    #expect(folder.names == ["a.txt"])
  }

  @Test("a failure leaves nothing behind")
  func failure() throws {
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/taken", withIntermediateDirectories: false)
    for target in ["taken", "missing/a.txt"] {
      let error = #expect(throws: (any Error).self) {
        try AtomicFile.write("text", to: "\(folder.path)/\(target)")
      }
      #expect((error as? Diagnostic)?.kind == .output)
    }
    let full = #expect(throws: (any Error).self) { try AtomicFile.write("text", to: "/dev/full") }
    #expect((full as? Diagnostic)?.kind == .output)
    #expect(folder.names == ["taken"])
  }

  @Test("temporary files of announced outputs are found and removed, others stay")
  func cleanup() throws {
    let target = "\(folder.path)/model.dlc"
    TemporaryFiles.announce(target)
    let temporary = TemporaryFiles.name(beside: target)
    try folder.write([1], FileReading.name(of: temporary))
    try folder.write([1], ".model.dlc.1.zz.part")
    try folder.write([1], "model.dlc")
    // Only here: other tests write in this process at the same time.
    TemporaryFiles.removeAll { $0.hasPrefix(folder.path) }
    #expect(folder.names == [".model.dlc.1.zz.part", "model.dlc"])
  }

  @Test("folders are made with those above them")
  func folders() throws {
    try AtomicFile.makeFolder("\(folder.path)/a/b/c")
    try AtomicFile.makeFolder("\(folder.path)/a/b/c")
    try AtomicFile.write("x", to: "\(folder.path)/a/b/c/d")
    #expect(throws: Diagnostic.self) { try AtomicFile.makeFolder("\(folder.path)/a/b/c/d") }
    #expect(throws: Diagnostic.self) { try AtomicFile.makeFolder("\(folder.path)/a/b/c/d/e") }
  }

  @Test(
    "names in dependency files are escaped",
    arguments: [
      ("plain.raw", "plain.raw"), ("a b", "a\\ b"), ("a#b", "a\\#b"), ("a$b", "a$$b"),
      ("a\\b", "a\\b"), ("a\\ b", "a\\\\\\ b"), ("c:d", "c\\:d"), ("tab\there", "tab\\\there"),
      ("é ü", "é\\ ü"),
    ])
  func escapes(_ name: String, _ expected: String) {
    #expect(Depfile.escaped(name) == expected)
  }

  @Test("a dependency file has each input once and an empty rule for it")
  func depfile() throws {
    var depfile = Depfile(target: "out.dlc")
    for input in ["in.onnx", "a b.raw", "in.onnx"] { depfile.add(input) }
    #expect(
      try depfile.text() == "out.dlc: \\\n  in.onnx \\\n  a\\ b.raw\n\nin.onnx:\n\na\\ b.raw:\n")
  }

  @Test("a dependency file is refused where output and input are one")
  func depfileCycle() throws {
    let path = try folder.write([1], "model.dlc")
    var depfile = Depfile(target: path)
    depfile.add("\(folder.path)/./model.dlc")
    let error = #expect(throws: (any Error).self) { try depfile.text() }
    #expect((error as? Diagnostic)?.kind == .usage)
    var broken = Depfile(target: "out")
    broken.add("a\nb")
    #expect(throws: Diagnostic.self) { try broken.text() }
  }
}
