import Foundation
import Testing

/// Algorithms that win back accuracy, through the command line on the digits network.
@Suite("Winning back accuracy")
struct RecoveryToolTests {
  let folder: Scratch

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "d.dlc")
    let list = try String(contentsOfFile: "\(ToolRun.digits)/calibration.txt", encoding: .utf8)
    let paths = list.split(separator: "\n").prefix(12).map {
      $0.hasPrefix("/") ? String($0) : "\(ToolRun.digits)/\($0)"
    }
    try folder.write(paths.joined(separator: "\n") + "\n", "few.txt")
    try folder.write(paths.reversed().joined(separator: "\n") + "\n", "reversed.txt")
  }

  private func run(_ words: String...) throws -> ToolRun {
    try ToolRun("qquantize", ["-i", "d.dlc"] + words, in: folder)
  }

  /// The same bytes for any number of jobs and order of samples, and in one run of qconvert.
  @Test(arguments: [
    "cle bias_correction", "gptq", "seqmse bias_correction", "cle seqmse adaround bias_correction",
  ])
  func sameBytes(algorithms: String) throws {
    try folder.write("adaround: {default_num_iterations: 20}\ncle: {steps: 50}\n", "c.yaml")
    let words =
      ["--weights_bitwidth", "4", "--bias_bitwidth", "32", "--use_per_channel_quantization", "-c", "c.yaml"]
      + ["--apply_algorithms"] + algorithms.split(separator: " ").map(String.init)
    for (name, more) in [
      ("a", ["-l", "few.txt", "--jobs", "1"]), ("b", ["-l", "reversed.txt", "--jobs", "2"]),
    ] {
      let done = try ToolRun("qquantize", ["-i", "d.dlc", "-o", "\(name).dlc"] + more + words, in: folder)
      #expect(done.status == 0, "\(done.errors)")
    }
    let once = try ToolRun(
      "qconvert", ["-i", "\(ToolRun.digits)/digits.onnx", "-o", "c.dlc", "-l", "few.txt"] + words, in: folder)
    #expect(once.status == 0, "\(once.errors)")
    #expect(try folder.data("a.dlc") == folder.data("b.dlc"))
    #expect(try folder.data("a.dlc") == folder.data("c.dlc"))
    let checked = try ToolRun("qinspect", ["verify", "a.dlc"], in: folder)
    #expect(checked.status == 0, "\(checked.errors)")
    let info = try ToolRun("qinspect", ["info", "a.dlc"], in: folder)
    #expect(info.output.contains("apply_algorithms"))
  }

  /// A run that goes on from a checkpoint writes the same bytes; another run's checkpoint is refused.
  @Test func checkpointsServeOneRun() throws {
    let words = ["--weights_bitwidth", "4", "-l", "few.txt", "--apply_algorithms", "gptq"]
    #expect(try ToolRun("qquantize", ["-i", "d.dlc", "-o", "a.dlc"] + words, in: folder).status == 0)
    for name in ["b", "c"] {
      let done = try ToolRun(
        "qquantize", ["-i", "d.dlc", "-o", "\(name).dlc", "--checkpoint", "kept"] + words, in: folder)
      #expect(done.status == 0, "\(done.errors)")
      #expect(try folder.data("a.dlc") == folder.data("\(name).dlc"))
      if name == "b" { try FileManager.default.removeItem(atPath: folder.path + "/kept/layer-0002.json") }
    }
    let other = try ToolRun(
      "qquantize", ["-i", "d.dlc", "-o", "d2.dlc", "--checkpoint", "kept", "--act_bitwidth", "16"] + words, in: folder)
    #expect(other.status == 1 && other.errors.contains("other options"))
  }

  /// From statistics alone: cle by ranges and bias correction by BatchNorm statistics need no sample.
  @Test func statisticsAloneServeWhatNeedsNoSamples() throws {
    try folder.write("cle: {objective: range}\n", "r.yaml")
    let saved = try run(
      "-l", "few.txt", "--save_stats", "s", "--apply_algorithms", "bias_correction", "--bias_bitwidth", "32", "-o",
      "a.dlc")
    #expect(saved.status == 0, "\(saved.errors)")
    let loaded = try run(
      "--load_stats", "s", "--apply_algorithms", "bias_correction", "--bias_bitwidth", "32", "-o", "b.dlc")
    #expect(loaded.status == 0 && loaded.errors.contains("without samples"), "\(loaded.errors)")
  }

  @Test(arguments: [
    (["--apply_algorithms", "gptq", "adaround", "-l", "few.txt"], 64, "exclude each other"),
    (["--apply_algorithms", "autoquant", "-l", "few.txt"], 64, "not there yet"),
    (["--apply_algorithms", "ggptq", "-l", "few.txt"], 64, "no algorithm"),
    (["--apply_algorithms", "cle", "cle", "-l", "few.txt"], 64, "twice"),
    (["--apply_algorithms", "gptq", "--load_stats", "s"], 64, "--input_list"),
    (["--apply_algorithms", "cle", "-f"], 64, "exclude each other"),
    (["--cle_relu6", "maybe", "-l", "few.txt"], 64, "cle_relu6"),
    (["--cle_relu6", "skip", "-l", "few.txt", "--warnings-as-errors"], 1, "cle is not applied"),
    (["--checkpoint", "k", "-l", "few.txt", "--warnings-as-errors"], 1, "--checkpoint changed nothing"),
    (["--seed", "4", "-l", "few.txt", "--warnings-as-errors"], 1, "--seed changed nothing"),
  ])
  func misuse(words: [String], status: Int, says: String) throws {
    let done = try ToolRun("qquantize", ["-i", "d.dlc", "-o", "x.dlc"] + words, in: folder)
    #expect(Int(done.status) == status && done.errors.contains(says), "\(done.status): \(done.errors)")
    #expect(!folder.names.contains("x.dlc"))
  }

  @Test(arguments: [
    ("cle: {objective: least}", "cle"), ("cle: {absorb: maybe}", "cle"), ("cle: {stepps: 3}", "cle.stepps"),
    ("gptq: {damping: 0}", "gptq.damping"), ("gptq: {follow: 1.5}", "gptq.follow"),
    ("adaround: {default_beta_range: [2]}", "two numbers"),
    ("adaround: {default_beta_range: 3}", "adaround.default_beta_range"),
    ("adaround: {dataset: none}", "not among the datasets"), ("gptq: {num_batches: 0}", "num_batches"),
    ("datasets: {d: {dataloader_callback: my.module.loader}}", "Python function"),
    ("datasets: {d: {}}", "dataloader_callback is missing"), ("gptq: 3", "gptq"),
  ])
  func badConfigurations(text: String, says: String) throws {
    for nested in [false, true] {
      try folder.write(nested ? "aimet_quantizer:\n  \(text)\n" : "\(text)\n", "bad.yaml")
      let done = try run(
        "-l", "few.txt", "-o", "x.dlc", "-c", "bad.yaml", "--apply_algorithms", "cle", "gptq")
      #expect((done.status == 1 || done.status == 64) && done.errors.contains(says), "\(done.errors)")
      #expect(!folder.names.contains("x.dlc"))
    }
  }

  /// A data set of its own, and a part of the samples.
  @Test func dataSetsAndBatches() throws {
    try folder.write(
      """
      aimet_quantizer:
        datasets:
          mine: {dataloader_callback: reversed.txt}
        adaround:
          dataset: mine
          num_batches: 2
          batch_size: 3
          optional_adaround_param_args: {default_num_iterations: 5, default_beta_range: [20, 2]}
      """, "c.yaml")
    let done = try run(
      "-l", "few.txt", "-o", "x.dlc", "-c", "c.yaml", "--apply_algorithms", "adaround", "--depfile", "x.d")
    #expect(done.status == 0, "\(done.errors)")
    #expect(String(decoding: try folder.data("x.d"), as: UTF8.self).contains("reversed.txt"))
  }
}
