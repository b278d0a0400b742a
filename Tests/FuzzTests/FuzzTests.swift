import Foundation
import IR
import Testing

@testable import qfuzz

/// What was found once, and a few hundred cases: a crash ends the whole run.
@Suite struct FuzzTests {
  private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Fixtures").path

  /// A folder that is removed with the value.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "qtools-fuzz-\(UUID())").path
    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  private static let targets = QFuzz.targets.map { $0.name }

  @Test("the corpus and the cases behind it run", arguments: targets) func cases(_ name: String) throws {
    let scratch = try Scratch()
    let type = try #require(QFuzz.targets.first { $0.name == name })
    let target = try type.init(fixtures: Self.fixtures, scratch: scratch.path)
    #expect(target.seeds.count > 5)
    for number in 0..<target.seeds.count + 150 {
      let made = target.makeCase(seed: 7, number: number)
      try target.run(made.bytes, kind: made.kind)
    }
  }

  @Test("containers of every kind are mutated") func kinds() throws {
    let scratch = try Scratch()
    let names = Set(ContainerTarget(fixtures: Self.fixtures, scratch: scratch.path).seeds.map(\.name))
    let made = [
      "quantized", "packed", "mixed", "blocks", "half", "recurrent", "recurrent quantized", "external",
      "external quantized",
    ]
    #expect(names.isSuperset(of: made), "\(Set(made).subtracting(names))")
  }

  @Test("what was found stays repaired") func found() throws {
    let kinds = ["onnx": "onnx", "dlc": "container", "encodings": "documents", "list": "inputs"]
    var count = 0
    for file in Files.below(Self.fixtures + "/fuzz/found", [".onnx", ".dlc", ".encodings", ".list", ".yaml"]) {
      let scratch = try Scratch()
      let name = kinds[Files.kind(of: file)] ?? "documents"
      let type = try #require(QFuzz.targets.first { $0.name == name })
      let target = try type.init(fixtures: Self.fixtures, scratch: scratch.path)
      try target.run(Files.read(file), kind: Files.kind(of: file))
      count += 1
    }
    #expect(count >= 5)
  }

  @Test("what cannot be written is an error, no finding") func unwritable() throws {
    let scratch = try Scratch()
    let target = ONNXTarget(fixtures: Self.fixtures, scratch: "\(scratch.path)/none")
    do {
      try target.run([1, 2, 3], kind: "onnx")
      Issue.record("a file was written into a folder that is not there")
    } catch {
      #expect(error.kind == .output && error.location.file?.hasSuffix("none/case.onnx") == true)
    }
  }

  @Test("cases depend on seed and number only") func determinism() throws {
    let scratch = try Scratch()
    let target = ONNXTarget(fixtures: Self.fixtures, scratch: scratch.path)
    let number = target.seeds.count + 5
    #expect(target.makeCase(seed: 1, number: number).bytes == target.makeCase(seed: 1, number: number).bytes)
    #expect(target.makeCase(seed: 1, number: number).bytes != target.makeCase(seed: 2, number: number).bytes)
  }

  @Test("an untouched model survives being taken apart") func wireForm() throws {
    for file in Files.below(Self.fixtures + "/minimal", [".onnx"]).prefix(100) {
      let bytes = Files.read(file)
      guard let message = WireMessage(bytes[...], .model) else { continue }
      let again = message.encoded
      #expect(WireMessage(again[...], .model)?.encoded == again, "\(file)")
    }
  }
}
