import Foundation
import Testing

/// Calibration through the command line, on the digits network.
@Suite("Options of calibration")
struct CalibrationOptionTests {
  let folder: Scratch
  let list = "\(ToolRun.digits)/calibration.txt"

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "d.dlc")
    let lines = try String(contentsOfFile: list, encoding: .utf8).split(separator: "\n").prefix(12)
    let paths = lines.map { $0.hasPrefix("/") ? String($0) : "\(ToolRun.digits)/\($0)" }
    try folder.write(paths.joined(separator: "\n") + "\n", "few.txt")
  }

  private func run(_ words: [String]) throws -> ToolRun {
    try ToolRun("qquantize", ["-i", "d.dlc"] + words, in: folder)
  }

  /// Everything is derived again from saved statistics: the bytes of a run over the samples.
  @Test func savedStatisticsServeEveryCalibration() throws {
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "--save_stats", "s")
    for options in [
      ["--act_quantizer_calibration", "sqnr"], ["--act_quantizer_calibration", "entropy"],
      ["--act_quantizer_calibration", "percentile", "--percentile_calibration_value", "99.5"],
      ["--act_quantizer_calibration", "mse", "--act_quantizer_schema", "symmetric", "--act_bw", "16"],
      ["--param_quantizer_calibration", "sqnr", "--use_per_channel_quantization", "--bias_bw", "32"],
      ["--act_quantizer", "clip", "--param_quantizer", "adjusted"],
      ["--act_quantizer_schema", "unsignedsymmetric", "--restrict_quantization_steps", "-0x80 0x7F"],
      ["--use_aimet_quantizer"],
    ] {
      let full = try run(["-l", "few.txt", "-o", "full.dlc", "--jobs", "1"] + options)
      #expect(full.status == 0, "\(full.errors)")
      let loaded = try run(["--load_stats", "s", "-o", "loaded.dlc", "--jobs", "2"] + options)
      #expect(loaded.status == 0, "\(loaded.errors)")
      #expect(try folder.data("full.dlc") == folder.data("loaded.dlc"), "\(options)")
    }
  }

  /// A list that names outputs leaves statistics that serve the plain model.
  @Test func statisticsOfAListWithOutputs() throws {
    let samples = try String(decoding: folder.data("few.txt"), as: UTF8.self)
    try folder.write("%bn1_output\n" + samples, "outputs.txt")
    let saved = try run(["-l", "outputs.txt", "--save_stats", "o"])
    try #require(saved.status == 0, "\(saved.errors)")
    try folder.run("qquantize", "-i", "d.dlc", "-l", "few.txt", "-o", "full.dlc")
    try folder.run("qquantize", "-i", "d.dlc", "--load_stats", "o", "-o", "loaded.dlc")
    #expect(try folder.data("full.dlc") == folder.data("loaded.dlc"))
  }

  @Test func sequentialOrder() throws {
    for jobs in ["1", "2"] {
      let run = try run([
        "-l", "few.txt", "-o", "s\(jobs).dlc", "--calibration_order", "sequential", "--jobs", jobs,
        "--act_quantizer_calibration", "sqnr", "--bias_bw", "32",
      ])
      #expect(run.status == 0, "\(run.errors)")
    }
    #expect(try folder.data("s1.dlc") == folder.data("s2.dlc"))
  }

  /// Saved statistics save the pass over the float graph; what is kept between levels changes no byte.
  @Test func sequentialOrderFromStatistics() throws {
    let sequential = ["--calibration_order", "sequential", "--act_quantizer_calibration", "mse"]
    let first = try run(["-l", "few.txt", "-o", "a.dlc", "--save_stats", "s", "--activation_cache", "0"] + sequential)
    #expect(first.status == 0 && first.errors.contains("of the float graph, all at once"), "\(first.errors)")
    let second = try run(["-l", "few.txt", "--load_stats", "s", "-o", "b.dlc", "--jobs", "1"] + sequential)
    #expect(second.status == 0, "\(second.errors)")
    #expect(try folder.data("a.dlc") == folder.data("b.dlc"))
    let samples = try String(decoding: folder.data("few.txt"), as: UTF8.self).split(separator: "\n").dropLast()
    try folder.write(samples.joined(separator: "\n") + "\n", "fewer.txt")
    let other = try run(["-l", "fewer.txt", "--load_stats", "s", "-o", "c.dlc"] + sequential)
    #expect(other.status == 1 && other.errors.contains("other samples"), "\(other.errors)")
  }

  @Test func configurationFiles() throws {
    let options = ["-l", "few.txt", "--act_quantizer_calibration", "percentile"]
    try folder.write("calibration:\n  percentile: 99\n", "plain.yaml")
    try folder.write(
      "aimet_quantizer:\n  calibration: {act: {percentile: 99}, param: {percentile: 99}}\n", "nested.yaml")
    for (name, more) in [
      ("plain", ["-c", "plain.yaml"]), ("nested", ["--config", "nested.yaml"]),
      ("option", ["--percentile_calibration_value", "99"]),
      ("wins", ["-c", "other.yaml", "--percentile_calibration_value", "99"]),
    ] {
      try folder.write("calibration:\n  percentile: 95\n", "other.yaml")
      let run = try run(options + more + ["-o", "\(name).dlc"])
      #expect(run.status == 0, "\(run.errors)")
      #expect(try folder.data("\(name).dlc") == folder.data("plain.dlc"), "\(name)")
    }
    for (text, message) in [
      ("calibration:\n  gama: 3\n", "calibration.gama"), ("clee: {}\n", "clee"),
      ("calibration:\n  act: {gamma: 0.1}\n", "gamma is 0.1"), ("calibration: 3\n", "must be a map"),
      ("calibration:\n  num_bins: many\n", "a whole number"), ("a: [\n", "not YAML"),
    ] {
      try folder.write(text, "bad.yaml")
      let run = try run(options + ["-c", "bad.yaml", "-o", "x.dlc"])
      #expect(run.status == 1 && run.errors.contains(message), "\(text): \(run.errors)")
    }
    let unused = try run(["-l", "few.txt", "-o", "x.dlc", "-c", "plain.yaml", "--warnings-as-errors"])
    #expect(unused.status == 1 && unused.errors.contains("--config changed nothing"))
  }

  @Test(arguments: [
    ("--percentile_calibration_value 50 --act_quantizer_calibration percentile", 64, "90 to 100"),
    ("--restrict_quantization_steps -0x80,0x100 --act_quantizer_schema symmetric", 64, "do not fit 8 bits"),
    ("--restrict_quantization_steps 5,1", 64, "do not go from zero"),
    ("--act_quantizer_calibration best", 64, "percentile"),
    ("--act_quantizer enhanced --act_quantizer_calibration sqnr", 64, "exclude each other"),
    ("--param_quantizer clip --param_quantizer_calibration sqnr", 64, "exclude each other"),
    ("--param_quantizer adjusted --weight_bw 16", 64, "at most 8 bits"),
    ("--calibration_order sequential --load_stats s", 64, "needs --input_list"),
    ("-l few.txt --load_stats s", 64, "but for --calibration_order sequential"),
    ("-l few.txt --activation_cache -1", 64, "--activation_cache"),
    ("-l few.txt -o x.dlc --activation_cache 8 --warnings-as-errors", 1, "--activation_cache changed nothing"),
    ("-l few.txt -o x.dlc --percentile_calibration_value 99 --warnings-as-errors", 1, "changed nothing"),
    ("-l few.txt -o x.dlc --restrict_quantization_steps -8,7 --warnings-as-errors", 1, "0 tensors"),
  ]) func misuse(words: String, status: Int32, message: String) throws {
    var arguments = words.split(separator: " ").map(String.init)
    if !arguments.contains("-l"), !arguments.contains("--load_stats") { arguments += ["-l", "few.txt"] }
    let run = try run(arguments)
    #expect(run.status == status && run.errors.contains(message), "\(run.errors)")
  }
}
