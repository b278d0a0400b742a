import Foundation
import Testing

/// Converting and quantizing in one run gives what the two programs give.
@Suite("Converting and quantizing in one run")
struct OneRunTests {
  let folder: Scratch
  let model = "\(ToolRun.digits)/digits.onnx"

  init() throws {
    folder = try Scratch()
    let samples = ["000", "001", "002"].map { name in "\(ToolRun.digits)/calibration/\(name).raw" }
      .filter { FileManager.default.fileExists(atPath: $0) }
    try #require(samples.count == 3)
    try folder.write(samples.joined(separator: "\n") + "\n", "list.txt")
    try folder.write("#pool\n\(samples[0])\n", "layers.txt")
    try folder.write(
      """
      {"version": "1.0.0",
       "activation_encodings": [
         {"name": "image", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [0.0123],
          "offset": [-5]},
         {"name": "pool_output", "dtype": "INT", "bw": 16}],
       "param_encodings": []}
      """, "partial.json")
    try folder.write(
      """
      {"version": "1.0.0",
       "activation_encodings": [
         {"name": "pool_output", "dtype": "FLOAT", "bw": 16}, {"name": "average_output", "dtype": "FLOAT", "bw": 16}],
       "param_encodings": [{"name": "classifier.weight", "dtype": "FLOAT", "bw": 16}]}
      """, "float.json")
    try folder.write(
      """
      {"defaults": {"ops": {"is_output_quantized": "True"},
                    "params": {"is_quantized": "True", "is_symmetric": "True"},
                    "per_channel_quantization": "True"},
       "params": {"bias": {"is_quantized": "False"}}, "op_type": {}, "supergroups": [],
       "model_input": {"is_input_quantized": "True"}, "model_output": {}}
      """, "quantsim.json")
    try folder.write("calibration:\n  gamma: 2\n", "gamma.yaml")
  }

  /// Options of one run, of which some go to both programs where there are two.
  struct Case: CustomTestStringConvertible, Sendable {
    var convert = ""
    var quantize: String
    var testDescription: String { "\(convert) + \(quantize)" }
  }

  static let cases = [
    Case(quantize: "-l list.txt"),
    Case(quantize: "-l list.txt --use_per_channel_quantization --bias_bitwidth 32"),
    Case(quantize: "-l list.txt --act_bw 16 --act_quantizer_calibration sqnr -c gamma.yaml"),
    Case(convert: "-q partial.json", quantize: "-l list.txt --weight_bw 4 --pack_4_bit_weights"),
    Case(convert: "-q float.json --float_bitwidth 16", quantize: "-l list.txt --float_bitwidth 16"),
    Case(quantize: "-l list.txt --quantsim_config quantsim.json"),
    Case(convert: "--desired_input_layout image NHWC", quantize: "-f --float_bitwidth 16 --preserve_io_datatype"),
    Case(convert: "--set_model_version 7", quantize: "-l layers.txt --keep_float *pool*"),
    Case(quantize: "-l list.txt --calibration_order sequential --use_aimet_quantizer --preserve_io_datatype image"),
  ]

  private func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

  private func run(_ program: String, _ arguments: [String]) throws -> ToolRun {
    let run = try ToolRun(program, arguments, in: folder)
    if run.status != 0 { throw ToolFailure(run: run) }
    return run
  }

  @Test("the same bytes as by two programs", arguments: cases)
  func sameBytes(_ options: Case) throws {
    _ = try run("qconvert", ["-i", model, "-o", "float.dlc"] + words(options.convert))
    _ = try run(
      "qquantize",
      ["-i", "float.dlc", "-o", "two.dlc", "--dump_encoding_json", "two.json", "--export_stripped_dlc", "two_s.dlc"]
        + words(options.quantize))
    // What both programs take is given once.
    let convert = words(options.convert.replacing("--float_bitwidth 16", with: ""))
    _ = try run(
      "qconvert",
      ["-i", model, "-o", "one.dlc", "--dump_encoding_json", "one.json", "--export_stripped_dlc", "one_s.dlc"]
        + convert + words(options.quantize))
    #expect(try folder.data("one.dlc") == folder.data("two.dlc"))
    #expect(try folder.data("one.json") == folder.data("two.json"))
    #expect(try folder.data("one_s.dlc") == folder.data("two_s.dlc"))
    #expect(try folder.data("one.dlc") != folder.data("float.dlc"))
  }

  @Test("encodings of the source stay, complete and with samples for what is open")
  func source() throws {
    let qat = URL(filePath: ToolRun.digits).deletingLastPathComponent().appending(path: "qat")
    _ = try run("qconvert", ["-i", "\(qat.path)/torch_qat.onnx", "-o", "float.dlc"])
    _ = try run("qquantize", ["-i", "float.dlc", "-o", "two.dlc", "-l", "list.txt", "--bias_bw", "32"])
    let one = try run(
      "qconvert", ["-i", "\(qat.path)/torch_qat.onnx", "-o", "one.dlc", "-l", "list.txt", "--bias_bw", "32"])
    #expect(try folder.data("one.dlc") == folder.data("two.dlc"))
    #expect(!one.output.contains("tensors are open"))
  }

  @Test("statistics alone, and their use")
  func statistics() throws {
    _ = try run("qconvert", ["-i", model, "-o", "float.dlc"])
    _ = try run("qquantize", ["-i", "float.dlc", "-l", "list.txt", "--save_stats", "two.stats"])
    let before = folder.names
    _ = try run("qconvert", ["-i", model, "-l", "list.txt", "--save_stats", "one.stats"])
    #expect(Set(folder.names).subtracting(before) == ["one.stats"])
    #expect(try folder.data("one.stats") == folder.data("two.stats"))
    _ = try run("qquantize", ["-i", "float.dlc", "-l", "list.txt", "-o", "two.dlc"])
    _ = try run("qconvert", ["-i", model, "--load_stats", "one.stats", "-o", "one.dlc"])
    #expect(try folder.data("one.dlc") == folder.data("two.dlc"))
  }

  @Test("the rule for Make names model, list and samples; the graph is dumped as well")
  func depfile() throws {
    let run = try self.run(
      "qconvert",
      [
        "-i", model, "-l", "list.txt", "-q", "partial.json", "-o", "one.dlc", "--depfile", "one.d", "--dump_ir",
        "one.ir",
      ])
    let rule = try String(decoding: folder.data("one.d"), as: UTF8.self)
    #expect(rule.hasPrefix("one.dlc:"))
    for name in [model, "list.txt", "partial.json", "000.raw", "002.raw"] { #expect(rule.contains(name)) }
    #expect(try !folder.data("one.ir").isEmpty)
    #expect(run.output.contains("3 samples"))
  }

  @Test("a dry run tells what would be quantized and writes nothing")
  func dryRun() throws {
    let before = folder.names
    let run = try self.run("qconvert", ["-i", model, "-l", "list.txt", "--act_bw", "16", "-o", "one.dlc", "--dry_run"])
    #expect(run.output.contains("all operators are supported") && run.output.contains("calibrated, 16 bit"))
    #expect(folder.names == before)
  }

  @Test(
    "options about quantizing need something to quantize with",
    arguments: [
      "--weights_bitwidth 8", "--act_bw 8", "--no_adjust_bias_encoding", "--save_stats s", "--jobs 2",
      "--calibration_order simultaneous", "--keep_float a", "--ignore_encodings", "--quantsim_config quantsim.json",
      "--export_stripped_dlc", "-c gamma.yaml", "--use_native_input_files", "--backend reference",
    ])
  func misuse(_ options: String) throws {
    let run = try ToolRun("qconvert", ["-i", model, "-o", "one.dlc"] + words(options), in: folder)
    #expect(run.status == 64)
    #expect(run.errors.contains("needs one of --input_list, --load_stats and --enable_float_fallback"))
    #expect(!folder.names.contains("one.dlc"))
  }

  @Test(
    "other misuse",
    arguments: [
      ("-l list.txt -f", 64, "exclude each other"), ("-l list.txt -q partial.json --ignore_encodings", 64, "exclude"),
      ("-l list.txt --act_bw 7", 64, "act_bitwidth"), ("-l list.txt --save_stats one.dlc", 64, "to one file"),
      ("-l list.txt --save_stats list.txt", 64, "a file that is read"), ("-l missing.txt", 1, "No such file"),
      ("-l list.txt --dump_ir one.dlc", 64, "to one file"),
      ("-l list.txt --require_full_coverage", 1, "no given encoding"),
    ])
  func otherMisuse(_ options: String, _ status: Int, _ message: String) throws {
    let run = try ToolRun("qconvert", ["-i", model, "-o", "one.dlc"] + words(options), in: folder)
    #expect(Int(run.status) == status)
    #expect(run.errors.contains(message))
    #expect(!folder.names.contains("one.dlc"))
  }
}
