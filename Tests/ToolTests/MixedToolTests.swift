import Foundation
import Testing

@Suite("Float16, native files and the model's own types, by the programs")
struct MixedToolTests {
  let folder: Scratch
  let digits = ToolRun.digits

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc")
  }

  private func correct(_ names: String...) throws -> [(correct: Int, bytes: Int)] {
    let table = try ToolRun(
      "qrun",
      ["evaluate"] + names + [
        "-l", "\(digits)/test.txt", "--labels", "\(digits)/test_labels.txt", "--json",
      ], in: folder
    ).output
    let result = try JSONDecoder().decode(
      MainJobTests.EvaluationResult.self, from: Data(table.utf8))
    return result.containers.map { ($0.top[0].correct, $0.parameter_bytes) }
  }

  private func oneSample() throws {
    try folder.write("\(digits)/test/000.raw\n", "one.txt")
  }

  @Test("a float16 container is half as large and as right; it can be quantized")
  func half() throws {
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "h.dlc", "--float_bitwidth", "16")
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "b.dlc", "--float_bw", "16",
      "--float_bias_bw", "32")
    let found = try correct("d.dlc", "h.dlc", "b.dlc")
    #expect(found[1].bytes * 2 == found[0].bytes && found[2].bytes > found[1].bytes)
    #expect(abs(found[1].correct - found[0].correct) <= 1)
    #expect(try folder.run("qinspect", "verify", "h.dlc").output == "h.dlc: sound\n")
    let run = try folder.run(
      "qquantize", "-i", "h.dlc", "-l", "\(digits)/calibration.txt", "-o", "q.dlc")
    #expect(run.errors.contains("already"))
    #expect(try correct("q.dlc")[0].correct >= 394)
  }

  @Test("native files hold codes and float16; what was written can be read")
  func nativeFiles() throws {
    try oneSample()
    try folder.run("qquantize", "-i", "d.dlc", "-l", "\(digits)/calibration.txt", "-o", "q.dlc")
    try folder.run(
      "qrun", "execute", "q.dlc", "-l", "one.txt", "--debug", "--output_dir", "n",
      "--use_native_output_files")
    try folder.run("qrun", "execute", "q.dlc", "-l", "one.txt", "--output_dir", "f")
    #expect(try folder.data("n/Result_0/image.raw").count == 64)
    #expect(try folder.data("n/Result_0/probabilities.raw").count == 10)
    try folder.write("n/Result_0/image.raw\n", "native.txt")
    try folder.run(
      "qrun", "execute", "q.dlc", "-l", "native.txt", "--output_dir", "g", "--use_native_input_files")
    #expect(
      try folder.data("g/Result_0/probabilities.raw") == folder.data("f/Result_0/probabilities.raw"))
    try folder.run(
      "qrun", "execute", "q.dlc", "-l", "one.txt", "--debug", "--output_dir", "p",
      "--use_native_output_files", "--output_format", "npy")
    try folder.write("p/Result_0/image.npy\n", "array.txt")
    try folder.run(
      "qrun", "execute", "q.dlc", "-l", "array.txt", "--output_dir", "g", "--use_native_input_files")
    #expect(
      try folder.data("g/Result_0/probabilities.raw") == folder.data("f/Result_0/probabilities.raw"))
    let wrong = try ToolRun("qrun", ["execute", "q.dlc", "-l", "array.txt"], in: folder)
    #expect(wrong.status == 1 && wrong.errors.contains("the array is of type |u1"))
  }

  @Test("inputs and outputs keep float32 where that is asked for")
  func preserve() throws {
    try oneSample()
    let list = "\(digits)/calibration.txt"
    try folder.run("qquantize", "-i", "d.dlc", "-l", list, "-o", "q.dlc")
    try folder.run("qquantize", "-i", "d.dlc", "-l", list, "-o", "p.dlc", "--preserve_io_datatype")
    try folder.run(
      "qquantize", "-i", "d.dlc", "-l", list, "-o", "i.dlc", "--preserve_io_datatype", "image")
    let text = try folder.run("qinspect", "text", "p.dlc").output
    #expect(text.contains("input %image: float32") && text.contains("Quantize(%image)"))
    #expect(text.contains("= Dequantize("))
    #expect(try !folder.run("qinspect", "text", "i.dlc").output.contains("= Dequantize("))
    for name in ["q", "p", "i"] {
      try folder.run("qrun", "execute", "\(name).dlc", "-l", "one.txt", "--output_dir", name)
    }
    let expected = try folder.data("q/Result_0/probabilities.raw")
    #expect(try folder.data("p/Result_0/probabilities.raw") == expected)
    #expect(try folder.data("i/Result_0/probabilities.raw") == expected)
  }

  @Test("without samples all is float, at the width asked for")
  func fallback() throws {
    try folder.run("qquantize", "-i", "d.dlc", "-f", "-o", "f.dlc", "--float_bitwidth", "16")
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "h.dlc", "--float_bitwidth", "16")
    let found = try correct("f.dlc", "h.dlc")
    #expect(found[0] == found[1])
  }

  @Test("a stripped container is the float one")
  func strip() throws {
    try folder.run(
      "qquantize", "-i", "d.dlc", "-l", "\(digits)/calibration.txt", "-o", "q.dlc",
      "--export_stripped_dlc")
    #expect(folder.names.contains("d_stripped.dlc"))
    #expect(try folder.data("d_stripped.dlc") == folder.data("d.dlc"))
  }

  @Test("a partly overridden container loses nothing: other widths, then stripped, bit for bit")
  func partlyOverridden() throws {
    try folder.write(
      """
      {"version": "1.0.0",
       "activation_encodings": [
         {"name": "image", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false,
          "scale": [0.0123], "offset": [-5]},
         {"name": "pool_output", "dtype": "FLOAT", "bw": 16}],
       "param_encodings": [
         {"name": "classifier.weight", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR",
          "is_sym": true, "scale": [0.0456], "offset": [-128]}]}
      """, "o.json")
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "a.dlc", "-q", "o.json")
    let list = "\(digits)/calibration.txt"
    for width in ["8", "16"] {
      try folder.run(
        "qquantize", "-i", "a.dlc", "-l", list, "-o", "q.dlc", "--act_bw", width,
        "--export_stripped_dlc", "s.dlc")
      #expect(try folder.data("s.dlc") == folder.data("d.dlc"))
      let rows = try folder.run("qinspect", "text", "q.dlc").output.split(separator: "\n")
      #expect(rows.contains { $0.contains("%image: ufixed8") && $0.contains("grid 0.0123 -5") })
      #expect(rows.contains { $0.contains("%pool_output: float16") })
      #expect(rows.contains { $0.contains("= Dequantize(") } && rows.contains { $0.contains("= Quantize(") })
      #expect(rows.contains { $0.contains("%classifier.weight: sfixed8") && $0.contains("grid 0.0456 -128") })
      // What was given is there still when the quantized container is quantized again.
      try folder.run("qquantize", "-i", "q.dlc", "-l", list, "-o", "again.dlc", "--act_bw", width)
      let again = try folder.run("qinspect", "text", "again.dlc").output.split(separator: "\n")
      for name in ["image", "pool_output"] {
        let row = try #require(rows.first { $0.contains("%\(name): ") })
        #expect(again.contains(row), "\(row)")
      }
    }
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "s.dlc", "-q", "o.json", "--export_format",
      "DLC_STRIP_QUANT")
    #expect(
      try folder.run("qinspect", "text", "s.dlc").output
        == folder.run("qinspect", "text", "d.dlc").output)
  }

  @Test("layouts, a cut, version and copyright")
  func modelOptions() throws {
    try oneSample()
    try folder.write("Copyright us\nAll rights", "copyright.txt")
    try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "l.dlc", "--desired_input_layout", "image",
      "NHWC", "--set_model_version", "7.1", "--copyright_file", "copyright.txt", "--out_node",
      "probabilities", "--target_backend", "HTP")
    let text = try folder.run("qinspect", "text", "l.dlc").output
    #expect(text.contains("input %image: float32[1, 8, 8, 1]"))
    for name in ["d", "l"] {
      try folder.run("qrun", "execute", "\(name).dlc", "-l", "one.txt", "--output_dir", name)
    }
    #expect(
      try folder.data("d/Result_0/probabilities.raw") == folder.data("l/Result_0/probabilities.raw"))
    let whole = String(decoding: try folder.data("l.dlc"), as: UTF8.self)
    #expect(whole.contains("7.1") && whole.contains("All rights"))
  }
}
