import Foundation
import Testing

/// Measuring through the command line, on the digits network.
@Suite("qrun compare, evaluate, reports and suggestions")
struct MeasureToolTests {
  let folder: Scratch
  private static let options = ["--use_per_channel_quantization", "--bias_bw", "32"]

  init() throws {
    folder = try Scratch()
    let digits = ToolRun.digits
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc")
    let lines = try String(contentsOfFile: "\(digits)/calibration.txt", encoding: .utf8)
      .split(separator: "\n").prefix(12)
    let paths = lines.map { $0.hasPrefix("/") ? String($0) : "\(digits)/\($0)" }
    try folder.write(paths.joined(separator: "\n") + "\n", "few.txt")
    try folder.write(paths.reversed().joined(separator: "\n") + "\n", "reversed.txt")
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "q.dlc", "--weight_bw", "4")
  }

  private func compare(_ words: String...) throws -> ToolRun {
    try ToolRun("qrun", ["compare"] + words, in: folder)
  }

  private func document(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  /// The model and the float container are the same reference; every form is written.
  @Test func modelAndContainerAreOneReference() throws {
    let model = try compare(
      "q.dlc", "-l", "few.txt", "--against", "\(ToolRun.digits)/digits.onnx", "--json", "--csv", "a.csv", "--html",
      "a.html")
    try #require(model.status == 0, "\(model.errors)")
    let container = try compare(
      "q.dlc", "-l", "few.txt", "--against", "d.dlc", "--json", "--csv", "b.csv", "--html", "b.html")
    let (first, second) = (try document(model.output), try document(container.output))
    let names = try [first, second].map {
      try #require($0["tensors"] as? [[String: Any]]).map { $0["name"] as? String }
    }
    #expect(names[0] == names[1] && names[0].count > 5)
    #expect(try folder.data("a.csv") == folder.data("b.csv"))
    #expect(first["version"] as? Int == 1)
    #expect(first["views"] as? [String] == ["isolation", "at-once", "layer-by-layer"])
    let page = try String(decoding: folder.data("a.html"), as: UTF8.self)
    #expect(page.hasPrefix("<!DOCTYPE html>") && page.contains("q.dlc against digits.onnx"))
    let rows = try String(decoding: folder.data("a.csv"), as: UTF8.self).split(separator: "\n")
    let columns = rows.map { $0.split(separator: ",", omittingEmptySubsequences: false).count }
    #expect(Set(columns).count == 1 && rows.contains { $0.contains(",parameter,") })
  }

  /// Runs beyond the list write nothing more; times go to standard output only.
  @Test(arguments: [
    (["--num_inferences", "30"], 12, "12 results of 1 tensor, 30 runs"), (["--num_inferences", "5"], 5, "5 results"),
    (["--duration", "0.2"], 12, "12 results of 1 tensor"),
  ])
  func repeatedRuns(words: [String], results: Int, summary: String) throws {
    try folder.run("qrun", "execute", "q.dlc", "-l", "few.txt", "--output_dir", "once")
    let run = try ToolRun(
      "qrun", ["execute", "q.dlc", "-l", "few.txt", "--output_dir", "again", "--profiling_level", "detailed"] + words,
      in: folder)
    try #require(run.status == 0, "\(run.errors)")
    #expect(run.output.contains(summary))
    #expect(run.output.contains("latency") && run.output.contains("throughput") && run.output.contains("Conv2d"))
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/again")
    #expect(names.count == results)
    let name = try #require(
      FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/again/Result_0").first)
    for sample in 0..<results {
      let path = "Result_\(sample)/\(name)"
      #expect(try folder.data("again/\(path)") == folder.data("once/\(path)"))
    }
  }

  @Test func repetitionThatDoesNotFit() throws {
    for words in [
      ["--num_inferences", "0"], ["--duration", "0"], ["--duration", "nan"],
      ["--num_inferences", "3", "--duration", "1"], ["--profiling_level", "some"],
    ] {
      #expect(try ToolRun("qrun", ["execute", "q.dlc", "-l", "few.txt"] + words, in: folder).status == 64, "\(words)")
    }
    let basic = try ToolRun(
      "qrun", ["execute", "q.dlc", "-l", "few.txt", "--quiet", "--profiling_level", "basic", "--jobs", "1"], in: folder)
    #expect(basic.output.contains("12 runs") && !basic.output.contains("Conv2d"))
  }

  @Test func noOrderShows() throws {
    var outputs: Set<String> = []
    for (list, jobs) in [("few.txt", "1"), ("few.txt", "2"), ("reversed.txt", "2")] {
      let run = try compare(
        "q.dlc", "-l", list, "--against", "d.dlc", "--json", "--sensitivity", "--jobs", jobs, "--html",
        "\(jobs)\(list).html")
      try #require(run.status == 0, "\(run.errors)")
      outputs.insert(run.output)
    }
    #expect(outputs.count == 1)
    #expect(try folder.data("1few.txt.html") == folder.data("2reversed.txt.html"))
  }

  @Test func tableShowsTheWorst() throws {
    let run = try compare("q.dlc", "-l", "few.txt", "--against", "d.dlc", "--top", "2", "--views", "at-once,isolation")
    try #require(run.status == 0, "\(run.errors)")
    #expect(run.output.contains("alone dB  at once dB") && !run.output.contains("by layer dB"))
    #expect(run.output.contains("--all shows them"))
    let all = try compare("q.dlc", "-l", "few.txt", "--against", "d.dlc", "--all", "--views", "at-once")
    #expect(!all.output.contains("--all shows them"))
  }

  /// A container with encodings that is still float brings its reference along.
  @Test func annotatedContainerNeedsNoReference() throws {
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "e.dlc", "--dump_encoding_json", "e.json")
    let text = try String(decoding: folder.data("e.json"), as: UTF8.self)
    var partial = try document(text)
    partial["activation_encodings"] = Array(try #require(partial["activation_encodings"] as? [Any]).prefix(3))
    try folder.write(
      String(decoding: try JSONSerialization.data(withJSONObject: partial), as: UTF8.self), "partial.json")
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "open.dlc", "-q", "partial.json")
    let run = try compare("open.dlc", "-l", "few.txt", "--views", "at-once")
    #expect(run.status == 0 && run.output.contains("its float graph"), "\(run.errors)")
  }

  @Test func misuse() throws {
    let digits = ToolRun.digits
    let minimal = ToolRun.minimal
    try folder.run("qconvert", "-i", "\(minimal)/conv_valid/model.onnx", "-o", "other.dlc")
    let cases: [([String], Int32, String)] = [
      (["q.dlc", "-l", "few.txt"], 64, "--against"),
      (["d.dlc", "-l", "few.txt"], 64, "nothing to compare"),
      (["q.dlc", "-l", "few.txt", "--against", "q.dlc"], 1, "quantized itself"),
      (["q.dlc", "-l", "few.txt", "--against", "other.dlc"], 1, "no tensor in common"),
      (["q.dlc", "-l", "few.txt", "--against", "missing.onnx"], 1, "missing.onnx"),
      (["q.dlc", "-l", "few.txt", "--against", "d.dlc", "--views", "all"], 64, "--views takes"),
      (["q.dlc", "-l", "few.txt", "--against", "d.dlc", "--top", "0"], 64, "--top"),
      (["q.dlc", "-l", "few.txt", "--against", "d.dlc", "--csv", "x", "--html", "x"], 64, "one file"),
      (["q.dlc", "-l", "few.txt", "--against", "d.dlc", "--csv", "d.dlc"], 64, "is read"),
      (["q.dlc", "-l", "few.txt", "--against", "d.dlc", "--html", "no/such/f.html"], 73, "no folder"),
      (["d.dlc", "-l", "few.txt", "--against", "\(digits)/digits.onnx", "--sensitivity"], 0, "changed nothing"),
    ]
    for (words, status, message) in cases {
      let run = try ToolRun("qrun", ["compare"] + words, in: folder)
      #expect(run.status == status, "\(words): \(run.errors)")
      #expect(run.errors.contains(message), "\(words): \(run.errors)")
    }
    #expect(!folder.names.contains("x"))
  }

  @Test func evaluateSideBySide() throws {
    let digits = ToolRun.digits
    let words = [
      "evaluate", "d.dlc", "q.dlc", "d.dlc", "-l", "\(digits)/test.txt", "--labels", "\(digits)/test_labels.txt",
    ]
    let table = try ToolRun("qrun", words + ["--top_k", "1,3", "--jobs", "2"], in: folder)
    try #require(table.status == 0, "\(table.errors)")
    #expect(table.output.contains("scores dB") && table.output.contains("exact"))
    var documents: Set<String> = []
    for jobs in ["1", "2"] {
      documents.insert(try ToolRun("qrun", words + ["--json", "--jobs", jobs], in: folder).output)
    }
    #expect(documents.count == 1)
    let rows = try #require(try document(documents.first ?? "")["containers"] as? [[String: Any]])
    #expect(rows.count == 3 && rows[0]["sqnr_db"] == nil && rows[2]["sqnr_db"] as? String == "inf")
    #expect((rows[1]["sqnr_db"] as? Double ?? 0) > 3)
    #expect(rows[0]["agreement"] as? Int == 400 && rows[2]["agreement"] as? Int == 400)
  }

  @Test func reports() throws {
    for form in ["json", "csv", "html"] {
      try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "r.dlc", "--report", "r.\(form)", "--jobs", "2")
    }
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "plain.dlc")
    #expect(try folder.data("r.dlc") == folder.data("plain.dlc"))
    let report = try document(String(decoding: folder.data("r.json"), as: UTF8.self))
    let tensors = try #require(report["tensors"] as? [[String: Any]])
    #expect(report["version"] as? Int == 1 && tensors.count > 8)
    for tensor in tensors {
      #expect(["calibrated", "fixed", "computed"].contains(tensor["source"] as? String ?? ""))
      #expect(tensor["bitwidth"] as? Int == 8 && tensor["scale"] is Double)
    }
    let measured = tensors.filter { $0["source"] as? String == "calibrated" }
    #expect(measured.allSatisfy { ($0["sqnr_db"] as? Double ?? 0) > 15 && $0["observed_max"] is Double })
    let page = try String(decoding: folder.data("r.html"), as: UTF8.self)
    #expect(page.contains("Distributions of activations"))
    let rows = try String(decoding: folder.data("r.csv"), as: UTF8.self).split(separator: "\n")
    #expect(rows.count == tensors.count + 1)
    let bad = try ToolRun("qquantize", ["-i", "d.dlc", "-l", "few.txt", "--report", "r.txt"], in: folder)
    #expect(bad.status == 64 && bad.errors.contains(".json, .csv or .html"))
    try folder.run("qquantize", "-i", "d.dlc", "-f", "-o", "f.dlc", "--report", "f.json")
    let float = try document(String(decoding: folder.data("f.json"), as: UTF8.self))
    let kinds = try #require(float["tensors"] as? [[String: Any]]).map { $0["source"] as? String }
    #expect(kinds.contains("float"))
  }

  /// What is suggested is taken as it is, gives what was promised, and the same for any number of jobs.
  @Test func suggestionsAreTaken() throws {
    let base = ["-i", "d.dlc", "-l", "few.txt", "--weight_bw", "4"] + Self.options
    for jobs in ["1", "2"] {
      let run = try ToolRun(
        "qquantize",
        base + ["-o", "b.dlc", "--suggest_overrides", "s\(jobs).json", "--target_sqnr", "22", "--jobs", jobs],
        in: folder)
      try #require(run.status == 0, "\(run.errors)")
      #expect(run.output.contains("layers raised"))
    }
    #expect(try folder.data("s1.json") == folder.data("s2.json"))
    let taken = try ToolRun("qquantize", base + ["-o", "t.dlc", "-q", "s1.json"], in: folder)
    try #require(taken.status == 0, "\(taken.errors)")
    let result = try compare("t.dlc", "-l", "few.txt", "--against", "d.dlc", "--views", "at-once", "--json")
    let outputs = try #require(try document(result.output)["outputs_sqnr_db"] as? [String: Double])
    #expect((outputs["at-once"] ?? 0) >= 22)
    let before = try compare("b.dlc", "-l", "few.txt", "--against", "d.dlc", "--views", "at-once", "--json")
    let plain = try #require(try document(before.output)["outputs_sqnr_db"] as? [String: Double])
    #expect((plain["at-once"] ?? 100) < 22)
  }

  @Test func suggestionMisuse() throws {
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "--save_stats", "stats")
    for (words, status, message) in [
      (["-l", "few.txt", "--target_sqnr", "20"], 64, "--target_sqnr needs"),
      (["-l", "few.txt", "--suggest_overrides", "s.json", "--target_sqnr", "900"], 64, "-20 to 200"),
      (["--load_stats", "stats", "--suggest_overrides", "s.json"], 64, "needs --input_list"),
      (["-l", "few.txt", "--suggest_overrides", "few.txt"], 64, "is read"),
      (["-l", "few.txt", "--suggest_overrides", "s.json", "--target_sqnr", "150"], 0, "less than the"),
    ] as [([String], Int32, String)] {
      let run = try ToolRun("qquantize", ["-i", "d.dlc"] + words, in: folder)
      #expect(run.status == status && run.errors.contains(message), "\(words): \(run.errors)")
    }
  }

  /// A dry run counts what would run.
  @Test(arguments: [
    ([], "12 samples, 1 tensor to write\n"), (["--num_inferences", "12"], "12 samples, 1 tensor to write\n"),
    (["--num_inferences", "30"], "12 samples, 1 tensor to write, 30 runs\n"),
    (["--num_inferences", "5"], "1 tensor to write, 5 runs: results of the first 5 samples\n"),
    (["--duration", "0.5"], "1 tensor to write, runs for 0.5 s\n"),
  ])
  func dryRunCounts(words: [String], says: String) throws {
    let run = try ToolRun(
      "qrun", ["execute", "q.dlc", "-l", "few.txt", "--output_dir", "dry", "--dry_run"] + words, in: folder)
    #expect(run.status == 0 && run.output.hasSuffix(says), "\(run.output)")
    #expect(!folder.names.contains("dry"))
  }

  /// A float16 container is a reference, whose rounding is no error.
  @Test func halfPrecisionIsAReference() throws {
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "h.dlc", "--float_bw", "16")
    func errors(_ container: String) throws -> [[String: Any]] {
      let run = try compare(container, "-l", "few.txt", "--against", "h.dlc", "--json", "--views", "at-once")
      try #require(run.status == 0, "\(run.errors)")
      let rows = try #require(try document(run.output)["tensors"] as? [[String: Any]])
      return rows.compactMap { $0["at_once"] as? [String: Any] }
    }
    func largest(_ container: String) throws -> Double {
      let rows = try errors(container)
      try #require(rows.count > 5)
      return rows.compactMap { $0["mse"] as? Double }.max() ?? .nan
    }
    #expect(try largest("h.dlc") == 0)
    let float = try largest("d.dlc")
    #expect(float > 0 && float < 1e-4)
    #expect(try largest("q.dlc") > 10 * float)
    let evaluated = try ToolRun(
      "qrun",
      [
        "evaluate", "h.dlc", "q.dlc", "-l", "\(ToolRun.digits)/test.txt", "--labels",
        "\(ToolRun.digits)/test_labels.txt",
      ], in: folder)
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    let refused = try compare("d.dlc", "-l", "few.txt", "--against", "q.dlc")
    #expect(refused.status == 1 && refused.errors.contains("the reference is quantized itself"))
  }
}
