import Foundation
import Testing

@Suite("Granularity of weights, by the programs")
struct GranularityToolTests {
  let folder: Scratch
  let digits = ToolRun.digits

  init() throws {
    folder = try Scratch()
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "digits.dlc")
    try folder.run(
      "qquantize", "-i", "digits.dlc", "-l", "\(digits)/calibration.txt", "--save_stats", "s.stats")
  }

  @discardableResult
  private func quantize(_ output: String, _ options: String...) throws -> ToolRun {
    let run = try ToolRun(
      "qquantize", ["-i", "digits.dlc", "--load_stats", "s.stats", "-o", output] + options, in: folder)
    if run.status != 0 { throw ToolFailure(run: run) }
    return run
  }

  private func totals(_ container: String) throws -> [String: Any] {
    let info = try folder.run("qinspect", container, "--json").output
    let document = try JSONSerialization.jsonObject(with: Data(info.utf8)) as? [String: Any]
    return try #require(document?["totals"] as? [String: Any])
  }

  @Test("4-bit weights, packed and not: the same outputs, half the bytes")
  func packing() throws {
    let rows = ["--weights_bitwidth", "4", "--use_per_row_quantization", "--use_per_channel_quantization"]
    for (name, more) in [("plain", [] as [String]), ("packed", ["--pack_4_bit_weights"])] {
      let run = try ToolRun(
        "qquantize",
        ["-i", "digits.dlc", "--load_stats", "s.stats", "-o", "\(name).dlc"] + rows + more, in: folder)
      #expect(run.status == 0 && !run.errors.contains("option-without-effect"))
      #expect(try folder.run("qinspect", "verify", "\(name).dlc").output == "\(name).dlc: sound\n")
      for backend in ["onednn", "reference"] {
        try folder.run(
          "qrun", "execute", "\(name).dlc", "--input_list", "\(digits)/calibration.txt", "--output_dir",
          "\(name)-\(backend)", "--backend", backend)
      }
    }
    for backend in ["onednn", "reference"] {
      let results = try FileManager.default.subpathsOfDirectory(
        atPath: "\(folder.path)/plain-\(backend)"
      ).filter { $0.hasSuffix(".raw") }
      #expect(results.count == 100)
      for result in results {
        #expect(
          try folder.data("plain-\(backend)/\(result)") == folder.data("packed-\(backend)/\(result)"))
      }
    }
    let (plain, packed) = (try totals("plain.dlc"), try totals("packed.dlc"))
    let (wide, narrow) = (plain["parameter_bytes"] as? Int, packed["parameter_bytes"] as? Int)
    #expect(try #require(narrow) * 10 < #require(wide) * 6)
    let bits = try #require(packed["bits_per_weight"] as? Double)
    #expect(bits > 4 && bits < 4.5)
    let table = try folder.run("qinspect", "encodings", "packed.dlc").output
    #expect(table.contains("sfixed4["))
    // What was quantized before is dequantized to the same floats either way.
    for name in ["plain", "packed"] {
      try folder.run(
        "qquantize", "-i", "\(name).dlc", "-l", "\(digits)/calibration.txt", "-o", "\(name)-again.dlc",
        "--use_per_row_quantization")
    }
    let one = try folder.run("qinspect", "text", "plain-again.dlc").output
    #expect(try folder.run("qinspect", "text", "packed-again.dlc").output == one)
  }

  @Test("kept weights, operators in float, per-row biases: recorded and told")
  func options() throws {
    let run = try quantize(
      "k.dlc", "--keep_float", "*", "--keep_weights_quantized", "--weights_bitwidth", "4",
      "--pack_4_bit_weights", "--use_per_row_quantization", "--use_per_channel_quantization")
    #expect(run.status == 0)
    let text = try folder.run("qinspect", "text", "k.dlc").output
    #expect(text.contains("sfixed4[") && !text.contains("weight_dequantized"))
    let info = try folder.run("qinspect", "k.dlc").output
    #expect(info.contains("keep_float") && info.contains("pack_4_bit_weights"))
    let none = try ToolRun(
      "qquantize",
      ["-i", "digits.dlc", "--load_stats", "s.stats", "-o", "n.dlc", "--keep_float", "nothing*"],
      in: folder)
    #expect(none.status == 1 && none.errors.contains("no operator's name fits --keep_float \"nothing*\""))
    #expect(!folder.names.contains("n.dlc"))
    let idle = try quantize("i.dlc", "--pack_4_bit_weights", "--enable_per_row_quantized_bias")
    #expect(idle.errors.contains("--pack_4_bit_weights changed 0 weights"))
    #expect(idle.errors.contains("--enable_per_row_quantized_bias changed 0 biases"))
  }
}
