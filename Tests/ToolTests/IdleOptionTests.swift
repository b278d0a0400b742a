import Foundation
import Testing

/// What changes nothing is said, what cannot be meant is found before the work.
@Suite("Options without effect, and mistakes found early")
struct IdleOptionTests {
  let folder: Scratch

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "d.dlc")
    let lines = try String(contentsOfFile: "\(ToolRun.digits)/calibration.txt", encoding: .utf8)
      .split(separator: "\n").prefix(3)
    let paths = lines.map { $0.hasPrefix("/") ? String($0) : "\(ToolRun.digits)/\($0)" }
    try folder.write(paths.joined(separator: "\n") + "\n", "few.txt")
  }

  private func quantize(_ words: [String]) throws -> ToolRun {
    try ToolRun("qquantize", ["-i", "d.dlc", "-o", "x.dlc"] + words, in: folder)
  }

  @Test(
    arguments: [
      ("gamma: 2", "min-max", nil), ("gamma: 2", "sqnr", ""), ("percentile: 99", "sqnr", nil),
      ("{percentile: 99, gamma: 2}", "sqnr", "calibration.percentile"),
      ("{gamma: 2, act: {percentile: 99}}", "sqnr", "calibration.act.percentile"),
      ("{gamma: 2, symmetric_delta_candidates: 51}", "sqnr", "calibration.symmetric_delta_candidates"),
      ("{gamma: 2, delta_candidates: 9}", "sqnr", ""), ("{gamma: 2, mask_distance: 20}", "sqnr", "no Softmax"),
      ("{param: {gamma: 2}, act: {num_bins: 64}}", "mse", "calibration.param.gamma"),
    ] as [(String, String, String?)])
  func idleKeys(keys: String, method: String, message: String?) throws {
    let text = keys.hasPrefix("{") ? keys : "{\(keys)}"
    try folder.write("calibration: \(text)\n", "c.yaml")
    let run = try quantize(["-l", "few.txt", "-c", "c.yaml", "--act_quantizer_calibration", method])
    #expect(run.status == 0)
    // The digits end in a Softmax: a distance of masks has a use.
    if message == "no Softmax" {
      #expect(!run.errors.contains("mask_distance"))
    } else if let message {
      #expect(message.isEmpty ? !run.errors.contains("--config") : run.errors.contains("\(message) of --config"))
    } else {
      #expect(run.errors.contains("--config changed nothing"), "\(run.errors)")
    }
  }

  @Test func bothSections() throws {
    try folder.write("aimet_quantizer: {calibration: {gamma: 2}}\ncalibration: {gamma: 3}\n", "c.yaml")
    let run = try quantize(["-l", "few.txt", "-c", "c.yaml", "--act_quantizer_calibration", "sqnr"])
    #expect(run.status == 0 && run.errors.contains("what is at the top counts"), "\(run.errors)")
  }

  @Test(arguments: [
    ("--weights_bitwidth 16 --weight_bw 8", "--weights_bitwidth is given 2 times"),
    ("--adjust_bias_encoding", "--adjust_bias_encoding changed nothing: biases have 8 bits"),
    ("--keep_float nosuch", "no operator's name fits"),
    ("--preserve_io_datatype nosuch", "no input or output nosuch"),
  ])
  func warningsAndMisses(words: String, message: String) throws {
    let run = try quantize(["-l", "few.txt", "--warnings-as-errors"] + words.split(separator: " ").map(String.init))
    #expect(run.status == 1 && run.errors.contains(message), "\(run.errors)")
  }

  /// Names are looked up before any sample runs, in a dry run too.
  @Test func missesAreFoundEarly() throws {
    for option in ["--keep_float", "--preserve_io_datatype"] {
      let run = try quantize(["-l", "few.txt", "--dry_run", option, "nosuch"])
      #expect(run.status == 1 && run.errors.contains("nosuch"), "\(run.errors)")
    }
  }

  @Test func floatWidthsWithoutEffect() throws {
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "q.dlc", "--dump_encoding_json", "all.json")
    let run = try ToolRun(
      "qconvert",
      [
        "-i", "\(ToolRun.digits)/digits.onnx", "-o", "y.dlc", "-q", "all.json", "--float_bitwidth", "16",
        "--missing_encodings", "calibrate",
      ], in: folder)
    #expect(run.status == 0 && run.errors.contains("--float_bitwidth 16 changed 0 tensors"), "\(run.errors)")
  }

  @Test func theBackendIsRecorded() throws {
    func backend(_ words: String...) throws -> String {
      #expect(try quantize(words).status == 0)
      let text = try folder.run("qinspect", "json", "x.dlc").output
      let document = try #require(
        try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
      return try #require((document["options"] as? [String: String])?["backend"])
    }
    #expect(try backend("-l", "few.txt") == "onednn")
    #expect(try backend("-l", "few.txt", "--backend", "reference", "--save_stats", "s") == "reference")
    #expect(try backend("--load_stats", "s") == "reference")
    #expect(try backend("-f") == "none")
  }

  @Test func allOperatorsInFloatTakeTheInputAlong() throws {
    #expect(try quantize(["-l", "few.txt", "--keep_float", "*"]).status == 0)
    let text = try folder.run("qinspect", "encodings", "x.dlc").output
    #expect(!text.contains("fixed"), "\(text)")
  }
}
