import Foundation
import Testing

@Suite("How the programs end")
struct ExitStatusTests {
  let folder: Scratch
  let digits = ToolRun.digits

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc")
  }

  /// A variable of a script that is not set, say.
  @Test func emptyArguments() throws {
    for (words, message) in [
      (["-i", "", "-o", "x.dlc"], "The value of -i is empty"),
      (["-i", "\(digits)/digits.onnx", "-o", ""], "of -o is empty"),
      ([""], "Argument 1 is empty"),
    ] {
      let run = try ToolRun("qconvert", words, in: folder)
      #expect(run.status == 64 && run.errors.contains(message), "\(run.errors)")
    }
    let text = ["-i", "\(digits)/digits.onnx", "-o", "x.dlc", "--set_model_version", ""]
    #expect(try ToolRun("qconvert", text, in: folder).status == 0)
  }

  struct Example: CustomTestStringConvertible {
    var command: String
    var status: Int32
    var message: String
    var testDescription: String { command }
    init(_ command: String, _ status: Int32, _ message: String) {
      self.command = command
      self.status = status
      self.message = message
    }
  }

  /// `@` stands for the folder of the digits network.
  static let examples = [
    Example("qconvert", 64, "Missing expected argument"),
    Example("qconvert -i missing.onnx", 1, "No such file"),
    Example("qconvert -i @/calibration.txt -o x.dlc", 1, "error:"),
    Example("qconvert -i @/digits.onnx -o no/folder.dlc", 73, "cannot create the output"),
    Example("qconvert -i @/digits.onnx --dump_ir_after zip", 64, "no pass is called zip"),
    Example("qconvert -i @/digits.onnx -s image", 64, "takes name and dimensions"),
    Example("qconvert -i @/digits.onnx -s image 1,x", 64, "takes name and dimensions"),
    Example("qconvert -i @/digits.onnx --onnx_define_symbol N 1 N 2", 64, "given twice"),
    Example("qconvert -i @/digits.onnx --onnx_override_batch 0", 64, "at least 1"),
    Example("qconvert -i @/digits.onnx --dry_run --dump_ir -", 64, "excludes --dump_ir"),
    Example("qconvert -i @/digits.onnx --quantization_overrides missing.json -o x.dlc", 1, "No such file"),
    Example("qconvert -i @/digits.onnx --overrides_policy warn", 64, "needs --quantization_overrides"),
    Example("qconvert -i @/digits.onnx -q f --missing_encodings guess", 64, "--missing_encodings"),
    Example("qconvert -i @/digits.onnx --encoding_version 1.0.0", 64, "needs --dump_encoding_json"),
    Example("qconvert -i @/digits.onnx --require_full_coverage -o x.dlc", 1, "no given encoding"),
    Example("qconvert -i @/digits.onnx --float_bitwidth 8", 64, "must be 16 or 32"),
    Example("qconvert -i @/digits.onnx -o x.dlc --out_node zip", 64, "nearest names"),
    Example("qconvert -i @/digits.onnx -o x.dlc --desired_input_layout image NHWX", 64, "does not know"),
    Example("qconvert -i @/digits.onnx -o x.dlc --desired_input_layout image TNF", 64, "cannot become"),
    Example("qconvert -i @/digits.onnx -o x.dlc --source_model_input_datatype image int8", 64, "says int8"),
    Example(
      "qconvert -i @/digits.onnx -o x.dlc --export_format DLC_STRIP_QUANT --warnings-as-errors", 1,
      "removed 0 encodings"),
    Example(
      "qconvert -i @/digits.onnx -o x.dlc --preserve_io_datatype --warnings-as-errors", 1,
      "changed 0 tensors"),
    Example("qconvert -i @/digits.onnx -o x.dlc --preserve_io_datatype zip", 1, "no input or output zip"),
    Example(
      "qconvert -i @/digits.onnx -o x.dlc --onnx_define_symbol N 1 --warnings-as-errors", 1,
      "warnings-as-errors"),
    Example("qquantize -i d.dlc", 64, "One of --input_list"),
    Example("qquantize -i d.dlc -l a --seed -3", 64, "--name=-1"),
    Example("qquantize -i d.dlc -l a --load_stats b", 64, "exclude each other"),
    Example("qquantize -i d.dlc -l a --act_bw 4", 64, "must be 8 or 16"),
    Example("qquantize -i d.dlc -l a --weight_bw 5", 64, "must be 4, 8 or 16"),
    Example("qquantize -i d.dlc -l a --bias_bw 16", 64, "must be 8 or 32"),
    Example("qquantize -i d.dlc -l a --jobs 0", 64, "at least 1"),
    Example("qquantize -i d.dlc -l a --backend cuda", 64, "backend"),
    Example(
      "qquantize -i d.dlc -l a --act_quantizer tf --act_quantizer_schema symmetric", 64,
      "exclude each other"),
    Example(
      "qquantize -i d.dlc -l a --param_quantizer tf --param_quantizer_schema symmetric", 64,
      "exclude each other"),
    Example("qquantize -i d.dlc -l a --act_quantizer better", 64, "enhanced"),
    Example("qquantize -i d.dlc -l a --apply_algorithms amp", 64, "not there yet"),
    Example("qquantize -i d.dlc -l a --enable_float_fallback", 64, "exclude each other"),
    Example("qquantize -i d.dlc -f --save_stats x", 64, "exclude each other"),
    Example("qquantize -i d.dlc -f --ignore_encodings", 64, "exclude each other"),
    Example("qquantize -i d.dlc -f -o x.dlc --backend onednn --warnings-as-errors", 1, "no sample is run"),
    Example("qquantize -i d.dlc -f -o x.dlc --export_stripped_dlc x.dlc", 64, "to one file"),
    Example(
      "qquantize -i d.dlc -f -o x.dlc --act_bw 16 --warnings-as-errors", 1, "--act_bitwidth changed nothing"),
    Example(
      "qquantize -i d.dlc -l a --act_quantizer adjusted --param_quantizer_schema symmetric", 64,
      "exclude each other"),
    Example("qquantize -i d.dlc -l @/test.txt -o no/x.dlc --save_stats s.json", 73, "no folder no"),
    Example("qquantize -i d.dlc -l missing.txt", 1, "No such file"),
    Example("qquantize -i d.dlc -l @/test.txt --quantsim_config missing.json", 1, "No such file"),
    Example("qquantize -i d.dlc -l @/test.txt --quantsim_config short_list.txt", 1, "not valid JSON"),
    Example(
      "qquantize -i d.dlc -l a --quantsim_config c --act_quantizer_schema symmetric", 64, "exclude each other"),
    Example("qquantize -i d.dlc -l a -q f --ignore_encodings", 64, "exclude each other"),
    Example(
      "qquantize -i d.dlc -l short_list.txt --ignore_encodings --warnings-as-errors -o x.dlc", 1, "changed 0 tensors"),
    Example("qquantize -i d.dlc -l @/test_labels.txt -o x.dlc", 1, "No such file"),
    Example("qquantize -i d.dlc -l empty.txt -o x.dlc", 1, "names no sample"),
    Example("qquantize -i d.dlc -l short.txt -o x.dlc", 1, "looks like float16"),
    Example("qquantize -i d.dlc -l nan.txt -o x.dlc", 1, "NaN"),
    Example("qquantize -i d.dlc --load_stats short.txt -o x.dlc", 1, "error:"),
    Example("qquantize -i d.dlc -l @/test.txt -o no/folder.dlc", 73, "cannot create the output"),
    Example("qquantize -i d.dlc -l @/test.txt -o d.dlc --depfile x.d", 64, "none of the inputs"),
    Example("qquantize -i d.dlc -l @/test.txt -o x.dlc --save_stats x.dlc", 64, "to one file"),
    Example("qquantize -i d.dlc -l @/test.txt --save_stats d.dlc", 64, "a file that is read"),
    Example("qquantize -i d.dlc -l short_list.txt --save_stats short_list.txt", 64, "a file that is read"),
    Example("qquantize -i d.dlc -l @/test.txt -o x.dlc --depfile x.dlc", 64, "to one file"),
    Example("qquantize -i d.dlc --load_stats a b a", 64, "twice"),
    Example(
      "qquantize -i d.dlc -l short_list.txt --save_stats x --act_bw 16 --warnings-as-errors", 1,
      "--act_bitwidth changed nothing"),
    Example("qconvert -i @/digits.onnx -o x.dlc --dump_ir x.dlc", 64, "to one file"),
    Example("qconvert -i @/digits.onnx -o x.dlc --depfile @/digits.onnx", 64, "a file that is read"),
    Example("qinspect", 64, "Missing expected argument"),
    Example("qinspect missing.dlc", 1, "No such file"),
    Example("qinspect short.txt", 1, "error:"),
    Example("qinspect verify cut.dlc", 1, "error:"),
    Example("qinspect verify damaged.dlc", 2, "error:"),
    Example("qinspect diff d.dlc", 64, "error:"),
    Example("qrun execute d.dlc", 64, "Missing expected argument"),
    Example("qrun execute d.dlc -l @/test.txt --set_output_tensors probabilties", 64, "nearest"),
    Example("qrun execute d.dlc -l @/test.txt --set_output_tensors ,", 64, "names no tensor"),
    Example(
      "qrun execute d.dlc -l @/test.txt --float --warnings-as-errors", 1, "--float changed nothing"),
    Example("qrun execute d.dlc -l layers.txt", 1, "no layer pol"),
    Example("qrun execute d.dlc -l folded.txt", 1, "tensor conv1_output exists no more: folded"),
    Example("qrun execute d.dlc -l @/test.txt --output_dir /proc/none", 73, "error:"),
    Example("qrun evaluate d.dlc -l @/test.txt --labels empty.txt", 1, "0 labels for 400"),
    Example("qrun evaluate d.dlc -l @/test.txt --labels @/test.txt", 1, "no class index"),
    Example("qrun evaluate d.dlc -l @/test.txt --labels x --top_k 0", 64, "--top_k"),
    Example("qrun compare d.dlc", 64, "error:"),
  ]

  @Test("status and message of a failure, nothing left behind", arguments: examples)
  func failure(_ example: Example) throws {
    try prepareInputs()
    let before = folder.names
    let words = example.command.split(separator: " ").map { word in
      word.hasPrefix("@") ? digits + word.dropFirst() : String(word)
    }
    let run = try ToolRun(words[0], Array(words.dropFirst()), in: folder)
    #expect(run.status == example.status)
    #expect(run.errors.contains(example.message), "\(run.errors)")
    #expect(run.errors.contains("\(words[0]): error:"))
    #expect(folder.names == before)
  }

  /// Lists and containers with something wrong.
  private func prepareInputs() throws {
    try folder.write("\n\n", "empty.txt")
    try folder.write("short.raw\n", "short.txt")
    try folder.write("\(digits)/test/000.raw\n", "short_list.txt")
    try folder.write("# pol\n\(digits)/test/000.raw\n", "layers.txt")
    try folder.write("%conv1_output\n\(digits)/test/000.raw\n", "folded.txt")
    try Data(count: 128).write(to: URL(filePath: "\(folder.path)/short.raw"))
    var values = Data(count: 252)
    values.append(contentsOf: [0, 0, 0xC0, 0x7F])
    try values.write(to: URL(filePath: "\(folder.path)/nan.raw"))
    try folder.write("nan.raw\n", "nan.txt")
    let whole = try folder.data("d.dlc")
    try whole.prefix(whole.count / 2).write(to: URL(filePath: "\(folder.path)/cut.dlc"))
    // A weight of the largest member, flipped: only its checksum tells.
    var damaged = whole
    let start = try #require(whole.range(of: Data("model.params".utf8))).upperBound
    damaged[start + 4000] ^= 0xFF
    try damaged.write(to: URL(filePath: "\(folder.path)/damaged.dlc"))
  }

  @Test("help and version go to standard output", arguments: ["qconvert", "qquantize", "qinspect", "qrun"])
  func help(_ program: String) throws {
    let help = try folder.run(program, "--help")
    #expect(help.output.contains("USAGE: \(program)") && help.errors.isEmpty)
    #expect(try folder.run(program, "--version").output == "0.1.0\n")
  }

  @Test("a dry run checks all and writes nothing")
  func dryRun() throws {
    let before = folder.names
    let convert = try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "x.dlc", "--dry_run")
    #expect(convert.output.contains("all operators are supported"))
    let quantize = try folder.run(
      "qquantize", "-i", "d.dlc", "-l", "\(digits)/calibration.txt", "-o", "x.dlc", "--dry_run")
    #expect(quantize.output.contains("calibrated, 8 bit"))
    #expect(folder.names == before)
  }

  @Test("an output of more than one sample is no list of scores")
  func batchedScores() throws {
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "two.dlc", "--onnx_override_batch", "2")
    let image = try Data(contentsOf: URL(filePath: "\(digits)/test/000.raw"))
    try (image + image).write(to: URL(filePath: "\(folder.path)/two.raw"))
    try folder.write("two.raw\n", "two.txt")
    try folder.write("12\n", "labels.txt")
    let run = try ToolRun(
      "qrun", ["evaluate", "two.dlc", "-l", "two.txt", "--labels", "labels.txt"], in: folder)
    #expect(run.status == 1 && run.errors.contains("no list of scores"))
  }

  @Test("a backend for statistics that are loaded is a warning")
  func unusedBackend() throws {
    try folder.write("\(digits)/test/000.raw\n", "list.txt")
    try folder.run("qquantize", "-i", "d.dlc", "-l", "list.txt", "--save_stats", "s")
    let run = try folder.run(
      "qquantize", "-i", "d.dlc", "--load_stats", "s", "-o", "q.dlc", "--backend", "reference")
    #expect(run.errors.contains("warning: --backend changed nothing"))
    let plain = try folder.run("qquantize", "-i", "d.dlc", "--load_stats", "s", "-o", "q.dlc")
    #expect(!plain.errors.contains("changed nothing"))
  }

  @Test("quiet says nothing, timing tells the phases")
  func verbosity() throws {
    let quiet = try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc", "--quiet")
    #expect(quiet.output.isEmpty && quiet.errors.isEmpty)
    let timing = try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc", "--timing", "--dump_ir", "-")
    #expect(timing.output.contains("graph \"digits\""))
    #expect(timing.errors.contains("passes") && timing.errors.contains("peak memory"))
  }

  @Test("a signal ends the work with 128+n and leaves nothing", arguments: [SIGTERM, SIGHUP])
  func signals(_ signal: Int32) throws {
    let lines = (0..<400).map { _ in
      (0..<100).map { "\(digits)/calibration/\(String(format: "%03d", $0)).raw" }
        .joined(separator: "\n")
    }
    try folder.write(lines.joined(separator: "\n"), "long.txt")
    let before = folder.names
    let process = try ToolRun.start(
      "qrun", ["execute", "d.dlc", "-l", "long.txt", "--output_dir", "out", "--debug"],
      in: folder.path, output: FileHandle.nullDevice, errors: FileHandle.nullDevice)
    for _ in 0..<1000 where folder.names == before { usleep(10_000) }
    #expect(folder.names != before)
    kill(process.processIdentifier, signal)
    process.waitUntilExit()
    #expect(process.terminationStatus == 128 + signal)
    #expect(process.terminationReason == .exit)
    #expect(folder.names == before)
  }
}
