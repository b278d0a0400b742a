import Foundation
import Testing

@Suite("The main job, by the programs")
struct MainJobTests {
  let folder: Scratch
  let digits = ToolRun.digits

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "digits.dlc")
  }

  private func calibrationLines() throws -> [String] {
    try String(contentsOfFile: "\(digits)/calibration.txt", encoding: .utf8)
      .split(separator: "\n").map { "\(digits)/\($0)" }
  }

  @Test("convert, quantize, inspect, evaluate: int8 keeps the accuracy")
  func accuracy() throws {
    try folder.run(
      "qquantize", "-i", "digits.dlc", "-l", "\(digits)/calibration.txt", "-o", "q.dlc",
      "--bias_bitwidth", "32", "--use_per_channel_quantization")
    let info = try folder.run("qinspect", "q.dlc", "--json").output
    let document = try #require(
      try JSONSerialization.jsonObject(with: Data(info.utf8)) as? [String: Any])
    #expect(document["version"] as? Int == 1)
    #expect(document["quantized"] as? Bool == true)
    #expect(document["calibration_count"] as? Int == 100)
    let options = try #require(document["options"] as? [String: String])
    #expect(options["bias_bitwidth"] == "32" && options["act_bitwidth"] == "8")
    #expect(options["use_per_channel_quantization"] == "true")
    let layers = try folder.run("qinspect", "encodings", "q.dlc", "--by", "layer").output
    #expect(layers.contains("Param[weight]") && layers.contains("symmetric x16"))
    #expect(try folder.run("qinspect", "verify", "q.dlc").output == "q.dlc: sound\n")
    #expect(try folder.run("qinspect", "text", "q.dlc").output.hasPrefix("graph \"digits\" {"))
    let table = try folder.run(
      "qrun", "evaluate", "digits.dlc", "q.dlc", "-l", "\(digits)/test.txt", "--labels",
      "\(digits)/test_labels.txt", "--json"
    ).output
    let result = try JSONDecoder().decode(EvaluationResult.self, from: Data(table.utf8))
    #expect(result.total == 400)
    #expect(result.containers[0].top[0].correct == 398)
    #expect(result.containers[1].top[0].correct >= 396)
    #expect(result.containers[1].parameter_bytes * 3 < result.containers[0].parameter_bytes)
  }

  struct EvaluationResult: Decodable {
    struct Container: Decodable {
      struct Top: Decodable { var correct: Int }
      var top: [Top]
      var parameter_bytes: Int
    }
    var total: Int
    var containers: [Container]
  }

  @Test("one or two jobs, another order, another run, merged statistics: the same bytes")
  func sameBytes() throws {
    let list = "\(digits)/calibration.txt"
    let lines = try calibrationLines()
    try folder.run("qquantize", "-i", "digits.dlc", "-l", list, "-o", "one.dlc", "--jobs", "1")
    let expected = try folder.data("one.dlc")
    try folder.run("qquantize", "-i", "digits.dlc", "-l", list, "-o", "two.dlc", "--jobs", "2")
    #expect(try folder.data("two.dlc") == expected)
    try folder.write(lines.reversed().joined(separator: "\n"), "shuffled.txt")
    try folder.run("qquantize", "-i", "digits.dlc", "-l", "shuffled.txt", "-o", "shuffled.dlc")
    #expect(try folder.data("shuffled.dlc") == expected)
    for (name, part) in [("a", lines[..<37]), ("b", lines[37...])] {
      try folder.write(part.joined(separator: "\n"), "\(name).txt")
      try folder.run(
        "qquantize", "-i", "digits.dlc", "-l", "\(name).txt", "--save_stats", "\(name).stats")
    }
    #expect(!folder.names.contains("digits_quantized.dlc"))
    try folder.run(
      "qquantize", "-i", "digits.dlc", "--load_stats", "b.stats", "a.stats", "-o", "merged.dlc")
    #expect(try folder.data("merged.dlc") == expected)
    try folder.run(
      "qquantize", "-i", "digits.dlc", "--load_stats", "a.stats", "--load_stats", "b.stats",
      "--act_bw", "16", "-o", "wide.dlc")
    #expect(try folder.data("wide.dlc") != expected)
  }

  @Test("legacy names mean the same as the new ones")
  func aliases() throws {
    let list = "\(digits)/calibration.txt"
    try folder.run(
      "qquantize", "--input_dlc", "digits.dlc", "--input_list", list, "--output_dlc", "a.dlc",
      "--weights_bitwidth", "16", "--param_quantizer_schema", "symmetric")
    try folder.run(
      "qquantize", "-i", "digits.dlc", "-l", list, "-o", "b.dlc", "--weight_bw", "16",
      "--param_quantizer", "symmetric")
    #expect(try folder.data("a.dlc") == folder.data("b.dlc"))
  }

  @Test("the output may be the input")
  func inPlace() throws {
    let list = "\(digits)/calibration.txt"
    try folder.run("qquantize", "-i", "digits.dlc", "-l", list, "-o", "q.dlc")
    try folder.run("qquantize", "-i", "digits.dlc", "-l", list, "-o", "digits.dlc")
    #expect(try folder.data("digits.dlc") == folder.data("q.dlc"))
    #expect(folder.names == ["digits.dlc", "q.dlc"])
  }

  @Test("the output is no list, no encodings file, no model and no configuration that is read")
  func inputsStay() throws {
    let list = try calibrationLines().prefix(2).joined(separator: "\n")
    let model = try Data(contentsOf: URL(filePath: "\(digits)/digits.onnx"))
    try folder.write(list, "list.txt")
    try folder.write("{\"version\": \"0.6.1\", \"activation_encodings\": {}, \"param_encodings\": {}}", "e.json")
    try model.write(to: URL(filePath: "\(folder.path)/m.onnx"))
    let before = try folder.names.map { try folder.data($0) }
    for words in [
      ["qquantize", "-i", "digits.dlc", "-l", "list.txt", "-o", "list.txt"],
      ["qquantize", "-i", "digits.dlc", "-l", "list.txt", "-q", "e.json", "-o", "./e.json"],
      ["qconvert", "-i", "m.onnx", "-o", "m.onnx"], ["qconvert", "-i", "m.onnx", "-l", "list.txt", "-o", "m.onnx"],
      ["qconvert", "-i", "m.onnx", "--dump_config_template", "m.onnx"],
    ] {
      let run = try ToolRun(words[0], Array(words.dropFirst()), in: folder)
      #expect(run.status == 64 && run.errors.contains("would replace a file that is read"), "\(words) \(run.errors)")
    }
    #expect(try folder.names.map { try folder.data($0) } == before)
  }

  @Test("execute writes raw and npy, outputs asked for by list or option, every tensor")
  func execute() throws {
    let lines = try calibrationLines().prefix(2)
    try folder.write(lines.joined(separator: "\n"), "list.txt")
    try folder.run("qrun", "execute", "digits.dlc", "-l", "list.txt", "--output_dir", "raw")
    let raw = try folder.data("raw/Result_1/probabilities.raw")
    #expect(raw.count == 40)
    #expect(try folder.data("raw/Result_0/probabilities.raw") != raw)
    try folder.run(
      "qrun", "execute", "digits.dlc", "-l", "list.txt", "--output_dir", "npy", "--output_format",
      "npy")
    #expect(try folder.data("npy/Result_1/probabilities.npy").suffix(40) == raw)
    try folder.write("# pool\n%bn1_output\n\(lines[0])\n", "some.txt")
    try folder.run("qrun", "execute", "digits.dlc", "-l", "some.txt", "--output_dir", "some")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/some/Result_0").sorted()
        == ["bn1_output.raw", "pool_output.raw"])
    try folder.run(
      "qrun", "execute", "digits.dlc", "-l", "some.txt", "--output_dir", "some", "--debug")
    let all = try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/some/Result_0")
    #expect(all.count > 10 && all.contains("pool_output.raw") && all.contains("image.raw"))
    #expect(folder.names == ["digits.dlc", "list.txt", "npy", "raw", "some", "some.txt"])
  }

  @Test("a list that names outputs adds them to the container")
  func addedOutputs() throws {
    let text = try "# pool\n" + calibrationLines().prefix(5).joined(separator: "\n")
    try folder.write(text, "list.txt")
    try folder.run("qquantize", "-i", "digits.dlc", "-l", "list.txt", "-o", "q.dlc")
    let info = try folder.run("qinspect", "q.dlc", "--json").output
    let document = try #require(
      try JSONSerialization.jsonObject(with: Data(info.utf8)) as? [String: Any])
    #expect(document["outputs"] as? [String] == ["probabilities", "pool_output"])
  }

  @Test("bench tells latency, throughput and the kernels' reasons")
  func bench() throws {
    let text = try folder.run("qrun", "bench", "digits.dlc", "--runs", "5", "--explain").output
    #expect(text.contains("latency") && text.contains("samples/s") && text.contains("conv1"))
    let json = try folder.run("qrun", "bench", "digits.dlc", "--runs", "5", "--json").output
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    #expect(object?["version"] as? Int == 1)
    #expect(object?["latency_cpu_ms"] != nil && object?["samples_per_second"] != nil)
    let steps = object?["steps"] as? [[String: Any]]
    #expect(steps?.isEmpty == false && steps?.allSatisfy { $0["milliseconds"] != nil } == true)

    // Only what is asked for is measured.
    let part = try folder.run("qrun", "bench", "digits.dlc", "--runs", "5", "--measure", "latency").output
    #expect(part.contains("latency") && !part.contains("samples/s") && part.contains("conv1"))
  }

  @Test("a dependency file drives make: nothing twice, again after a sample changed")
  func make() throws {
    let list = try calibrationLines().prefix(3)
    try FileManager.default.copyItem(
      atPath: list[0], toPath: "\(folder.path)/odd #$% name.raw")
    try folder.write((list + ["odd\\ #$%\\ name.raw"]).joined(separator: "\n"), "list.txt")
    try folder.run(
      "qquantize", "-i", "digits.dlc", "-l", "list.txt", "-o", "q%.dlc", "--depfile", "q.d")
    try folder.write("q\\%.dlc:\n\t@echo again\n\t@touch $@\n-include q.d\n", "Makefile")
    func isUpToDate() throws -> Bool {
      let process = Process()
      process.executableURL = URL(filePath: "/usr/bin/make")
      process.arguments = ["-q", "-C", folder.path, "q%.dlc"]
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus == 0
    }
    guard FileManager.default.isExecutableFile(atPath: "/usr/bin/make") else { return }
    #expect(try isUpToDate())
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: 60)],
      ofItemAtPath: "\(folder.path)/odd #$% name.raw")
    #expect(try !isUpToDate())
  }

  /// The container is written last: where another output fails there is none. What was observed stays.
  @Test(arguments: [("qquantize", true), ("qconvert", false), ("qconvert", true)])
  func theContainerComesLast(program: String, calibrates: Bool) throws {
    try folder.write(try calibrationLines().prefix(3).joined(separator: "\n"), "few.txt")
    let input = program == "qconvert" ? "\(digits)/digits.onnx" : "digits.dlc"
    let words = calibrates ? ["-l", "few.txt", "--save_stats", "s.stats", "--report", "r.json"] : []
    let before = folder.names
    let run = try ToolRun(program, ["-i", input, "-o", "o.dlc", "--depfile", "/dev/full"] + words, in: folder)
    #expect(run.status == 73, "\(run.errors)")
    #expect(folder.names == (before + (calibrates ? ["r.json", "s.stats"] : [])).sorted())
  }

  /// A list may come through a pipe.
  @Test func listsComeThroughPipes() throws {
    let lines = try calibrationLines().prefix(3).joined(separator: "\n") + "\n"
    try folder.write(lines, "few.txt")
    try folder.run("qquantize", "-i", "digits.dlc", "-l", "few.txt", "-o", "a.dlc")
    #expect(mkfifo("\(folder.path)/pipe", 0o600) == 0)
    let path = "\(folder.path)/pipe"
    let writer = Thread {
      guard let handle = FileHandle(forWritingAtPath: path) else { return }
      try? handle.write(contentsOf: Data(lines.utf8))
      try? handle.close()
    }
    writer.start()
    try folder.run("qquantize", "-i", "digits.dlc", "-l", "pipe", "-o", "b.dlc")
    #expect(try folder.data("a.dlc") == folder.data("b.dlc"))
  }

  /// Whole networks through all programs, against what ONNX Runtime gives: least signal to noise in dB.
  @Test(arguments: [("max_roi_pool", 30.0), ("shared_weights", 27.0)], ["onednn", "integer", "integer-reference"])
  func wholeNetworks(network: (name: String, least: Double), backend: String) throws {
    let source = URL(filePath: digits).deletingLastPathComponent().appending(path: "whole/\(network.name)").path
    func floats(_ path: String) throws -> [Float] {
      try Data(contentsOf: URL(filePath: path)).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
    func worst(_ container: String) throws -> Double {
      let run = try ToolRun(
        "qrun", ["execute", container, "-l", "\(source)/list.txt", "--output_dir", "out", "--backend", backend],
        in: folder)
      try #require(run.status == 0, "\(run.errors)")
      var worst = Double.infinity
      for sample in 0..<4 {
        let (expected, found) = (
          try floats("\(source)/y\(sample).expected"), try floats("\(folder.path)/out/Result_\(sample)/y.raw")
        )
        try #require(expected.count == found.count)
        let signal = expected.reduce(0.0) { $0 + Double($1 * $1) }
        let noise = zip(expected, found).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
        worst = min(worst, 10 * log10(signal / noise))
      }
      return worst
    }
    try folder.run("qconvert", "-i", "\(source)/model.onnx", "-o", "w.dlc")
    try folder.run(
      "qquantize", "-i", "w.dlc", "-l", "\(source)/list.txt", "-o", "wq.dlc", "--bias_bw", "32",
      "--use_per_channel_quantization")
    #expect(try worst("w.dlc") > 100)
    #expect(try worst("wq.dlc") > network.least)
  }
}
