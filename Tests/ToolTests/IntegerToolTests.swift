import Foundation
import Testing

/// Integer execution through the command line, on the digits network.
@Suite("qrun --backend integer")
struct IntegerToolTests {
  let folder: Scratch

  init() throws {
    folder = try Scratch()
    let digits = ToolRun.digits
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc")
    for list in ["calibration", "test"] {
      let lines = try String(contentsOfFile: "\(digits)/\(list).txt", encoding: .utf8).split(separator: "\n")
      try folder.write(lines.prefix(12).map { "\(digits)/\($0)\n" }.joined(), "\(list).txt")
    }
    try folder.run("qquantize", "-i", "d.dlc", "-l", "calibration.txt", "-o", "q.dlc", "--bias_bw", "32")
  }

  private func files(_ name: String) throws -> [String: Data] {
    let root = URL(filePath: folder.path).appending(path: name)
    var result: [String: Data] = [:]
    for path in try FileManager.default.subpathsOfDirectory(atPath: root.path) where path.hasSuffix(".raw") {
      result[path] = try Data(contentsOf: root.appending(path: path))
    }
    return result
  }

  /// Every tensor has the bytes of the plain reference, for any number of jobs.
  @Test func bytesOfTheReference() throws {
    for (name, backend, jobs) in [
      ("plain", "integer-reference", "1"), ("one", "integer", "1"), ("two", "integer", "2"),
    ] {
      try folder.run(
        "qrun", "execute", "q.dlc", "-l", "test.txt", "--output_dir", name, "--debug", "--backend", backend,
        "--jobs", jobs)
    }
    let plain = try files("plain")
    #expect(plain.count > 12 * 5)
    #expect(try plain == files("one") && plain == files("two"))
  }

  @Test func comparisonWithTheSimulation() throws {
    let arguments = ["compare", "q.dlc", "-l", "test.txt", "--backend", "integer"]
    let text = try ToolRun("qrun", arguments + ["--all", "--csv", "codes.csv"], in: folder)
    try #require(text.status == 0, "\(text.errors)")
    #expect(text.output.contains("reference  simulation, oneDNN"))
    let json = try ToolRun("qrun", arguments + ["--json", "--jobs", "1", "--html", "page.html"], in: folder)
    #expect(json.errors.contains("option-without-effect") || json.errors.contains("--html changed nothing"))
    let document = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
    let tensors = try #require(document["tensors"] as? [[String: Any]])
    let input = try #require(tensors.first)
    #expect(input["operator_name"] as? String == "Input" && input["differing"] as? Int == 0)
    #expect(tensors.allSatisfy { ($0["largest_steps"] as? Int ?? 99) <= 3 })
    let lines = try String(decoding: folder.data("codes.csv"), as: UTF8.self).split(separator: "\n")
    #expect(lines.count == tensors.count + 1)
  }

  /// Output lines of a list are of no use there, and said to be.
  @Test func idleLines() throws {
    let lines = try String(decoding: folder.data("test.txt"), as: UTF8.self)
    try folder.write("#conv1\n" + lines, "named.txt")
    let compared = try ToolRun("qrun", ["compare", "q.dlc", "-l", "named.txt", "--backend", "integer"], in: folder)
    #expect(compared.status == 0 && compared.errors.contains("the # line names outputs"))
    let written = try ToolRun("qrun", ["execute", "q.dlc", "-l", "named.txt", "--debug"], in: folder)
    #expect(written.status == 0 && written.errors.contains("the # line names outputs"))
  }

  @Test func optionsThatDoNotFit() throws {
    let endless = try ToolRun("qrun", ["bench", "q.dlc", "--runs", "9223372036854775807"], in: folder)
    #expect(endless.status == 64 && endless.errors.contains("--runs must be 1 to"))
    let float = try ToolRun("qrun", ["bench", "q.dlc", "--backend", "integer", "--float"], in: folder)
    #expect(float.status == 64 && float.errors.contains("--float ignores the encodings"))
    let idle = try ToolRun("qrun", ["bench", "d.dlc", "--backend", "integer", "--runs", "1"], in: folder)
    #expect(idle.status == 0 && idle.errors.contains("--backend integer changed nothing"))
    let nothing = try ToolRun("qrun", ["compare", "d.dlc", "-l", "test.txt", "--backend", "integer"], in: folder)
    #expect(nothing.status == 64 && nothing.errors.contains("no encodings"))
  }
}
