import Foundation
import Testing

@Suite("Overrides, by the programs")
struct OverrideToolTests {
  let folder: Scratch
  let digits = ToolRun.digits
  let list: String

  init() throws {
    folder = try Scratch()
    list = "\(ToolRun.digits)/calibration.txt"
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "d.dlc")
  }

  /// Type, width, scales and offsets of every tensor; not where they come from.
  private func encodings(_ container: String) throws -> [String] {
    let text = try folder.run("qinspect", "encodings", container, "--format", "csv").output
    return text.split(separator: "\n").map { line in
      var cells = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      // The type is quoted and has commas of its own: source follows it.
      if let index = cells.firstIndex(where: { $0.hasSuffix("\"") || $0.hasSuffix("]") }), index + 1 < cells.count {
        cells[index + 1] = ""
      }
      return cells.joined(separator: ",")
    }
  }

  @Test("grids of the rule clip in each version: the same container", arguments: ["0.6.1", "1.0.0", "2.0.0"])
  func clipRoundTrip(_ version: String) throws {
    try folder.run(
      "qquantize", "-i", "d.dlc", "-l", list, "-o", "q.dlc", "--act_quantizer", "clip", "--bias_bitwidth", "32",
      "--dump_encoding_json", "--encoding_version", version)
    #expect(try String(decoding: folder.data("q_encodings.json"), as: UTF8.self).contains("\"clip\""))
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "b.dlc", "-q", "q_encodings.json")
    #expect(try folder.run("qinspect", "diff", "q.dlc", "b.dlc").output.isEmpty)
  }

  @Test("a float output beside a given weight: both float, or the weight kept quantized")
  func keptWeights() throws {
    try folder.run(
      "qquantize", "-i", "d.dlc", "-l", list, "-o", "q.dlc", "--dump_encoding_json", "e.json", "--encoding_version",
      "1.0.0")
    let text = try String(decoding: folder.data("e.json"), as: UTF8.self)
    let document = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let weight = try #require(
      (document["param_encodings"] as? [[String: Any]])?.first { ($0["name"] as? String)?.contains("weight") == true })
    let name = try #require(weight["name"] as? String)
    // The operator that reads the weight, by its row in the classic report.
    let report = try folder.run("qinspect", "json", "d.dlc").output
    let nodes = try #require(
      (try JSONSerialization.jsonObject(with: Data(report.utf8)) as? [String: Any])?["nodes"] as? [[String: Any]])
    let index = try #require(nodes.firstIndex { ($0["inputs"] as? [String])?.contains(name) == true })
    var output = try #require((nodes[index]["outputs"] as? [String])?.first)
    // The activation behind it, where there is one.
    if let next = nodes.first(where: { ($0["inputs"] as? [String])?.first == output }),
      (next["type"] as? String)?.hasPrefix("Relu") == true
    {
      output = try #require((next["outputs"] as? [String])?.first)
    }
    let overrides: [String: Any] = [
      "version": "1.0.0", "param_encodings": [weight],
      "activation_encodings": [["name": output, "dtype": "FLOAT", "bw": 32, "enc_type": "PER_TENSOR"]],
    ]
    try JSONSerialization.data(withJSONObject: overrides).write(to: URL(filePath: "\(folder.path)/o.json"))
    for (option, type) in [("", "float32"), ("--keep_weights_quantized", "fixed8")] {
      let run = try ToolRun(
        "qquantize", ["-i", "d.dlc", "-l", list, "-o", "k.dlc", "-q", "o.json"] + (option.isEmpty ? [] : [option]),
        in: folder)
      #expect(run.status == 0, "\(run.errors)")
      #expect(run.errors.contains("becomes float because") == option.isEmpty, "\(run.errors)")
      let row = try folder.run("qinspect", "encodings", "k.dlc", "--tensor", name, "--format", "csv").output
      #expect(row.contains(type) || (option.isEmpty && !row.contains("fixed")), "\(row)")
    }
  }

  @Test("dump and read back in each version: the same encodings and weights", arguments: ["0.6.1", "1.0.0", "2.0.0"])
  func roundTrip(_ version: String) throws {
    try folder.run(
      "qquantize", "-i", "d.dlc", "-l", list, "-o", "q.dlc", "--use_per_channel_quantization", "--bias_bitwidth", "32",
      "--dump_encoding_json", "--encoding_version", version)
    #expect(folder.names.contains("q_encodings.json"))
    let back = try folder.run(
      "qconvert", "-i", "\(digits)/digits.onnx", "-o", "b.dlc", "-q", "q_encodings.json", "--require_full_coverage",
      "--depfile", "b.d")
    #expect(back.output.contains("q_encodings.json: ") && !back.output.contains("unmatched"))
    #expect(try String(decoding: folder.data("b.d"), as: UTF8.self).contains("q_encodings.json"))
    #expect(try encodings("b.dlc") == encodings("q.dlc"))
    // The weights' codes: the text form has hashes of them.
    func weights(_ container: String) throws -> [String] {
      try folder.run("qinspect", "text", container).output.split(separator: "\n").filter { $0.contains("const ") }
        .map { line in
          String(line).replacing(" from override", with: "").replacing(" from calibrated", with: "")
            .replacing(" from computed", with: "").replacing(" from fixed", with: "")
        }
    }
    #expect(try weights("b.dlc") == weights("q.dlc"))
    // On the float container, with samples that then matter to nothing.
    try folder.run("qquantize", "-i", "d.dlc", "-l", list, "-o", "c.dlc", "-q", "q_encodings.json", "--act_bw", "16")
    #expect(try encodings("c.dlc") == encodings("q.dlc"))
    // qinspect writes the same file.
    let text = try folder.run("qinspect", "encodings", "q.dlc", "--format", "aimet-\(version)").output
    #expect(try Data(text.utf8) == folder.data("q_encodings.json"))
  }

  @Test("a partial file stays through qconvert and qquantize of any width")
  func partial() throws {
    try folder.write(
      """
      {"version": "1.0.0",
       "activation_encodings": [
         {"name": "image", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [0.0123], "offset": [-5]},
         {"name": "pool_output", "dtype": "INT", "bw": 16}],
       "param_encodings": [
         {"name": "classifier.weight", "dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": true, "scale": [0.0456], "offset": [-128]}]}
      """, "o.json")
    let convert = try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "a.dlc", "-q", "o.json")
    #expect(convert.output.contains("tensors are open") && convert.output.contains("coverage: override 2"))
    for width in ["8", "16"] {
      try folder.run("qquantize", "-i", "a.dlc", "-l", list, "-o", "q.dlc", "--act_bw", width)
      let rows = try folder.run("qinspect", "encodings", "q.dlc").output.split(separator: "\n")
      func row(_ name: String) throws -> Substring { try #require(rows.first { $0.hasPrefix(name + " ") }) }
      #expect(try row("image").contains("ufixed8") && row("image").contains("0.0123") && row("image").contains(" -5 "))
      #expect(try row("image").contains("override"))
      #expect(try row("classifier.weight").contains("0.0456"))
      #expect(try row("pool_output").contains("ufixed16"))
      #expect(try row("average_output").contains("ufixed\(width)"))
      // Two steps and one: the same bytes.
      try folder.run("qquantize", "-i", "d.dlc", "-l", list, "-o", "one.dlc", "--act_bw", width, "-q", "o.json")
      #expect(try folder.data("one.dlc") == folder.data("q.dlc"))
    }
    let info = try folder.run("qinspect", "q.dlc", "--json").output
    let document = try #require(try JSONSerialization.jsonObject(with: Data(info.utf8)) as? [String: Any])
    let options = try #require(document["options"] as? [String: String])
    #expect(options["quantization_overrides"]?.count == 64 && options["overrides_policy"] == "strict")
    #expect(options["missing_encodings"] == "calibrate" && options["unfuse_overridden"] == "false")
    // Left out again.
    try folder.run("qquantize", "-i", "a.dlc", "-l", list, "-o", "i.dlc", "--ignore_quantization_overrides")
    try folder.run("qquantize", "-i", "d.dlc", "-l", list, "-o", "p.dlc")
    #expect(try encodings("i.dlc") == encodings("p.dlc"))
  }

  @Test("a float container lists every name that can be overridden")
  func names() throws {
    let table = try folder.run("qinspect", "encodings", "d.dlc").output
    for name in ["image", "conv1.weight", "bn1_output", "conv1.bias", "bn1.running_mean", "conv1_output"] {
      #expect(table.contains("\n\(name) "), "\(name)")
    }
    let json = try folder.run("qinspect", "encodings", "d.dlc", "--json").output
    let document = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    let names = try #require(document["names"] as? [[String: Any]])
    #expect(names.contains { $0["name"] as? String == "bn1.running_mean" && $0["without_effect"] != nil })
  }

  struct Example: CustomTestStringConvertible {
    var file: String
    var options: String
    var status: Int32
    var messages: [String]
    var testDescription: String { messages[0] }
    init(_ file: String, _ options: String = "", _ status: Int32 = 1, _ messages: String...) {
      (self.file, self.options, self.status, self.messages) = (file, options, status, messages)
    }
  }

  private static func listed(_ name: String, _ rest: String, section: String = "activation_encodings") -> String {
    let other = section == "activation_encodings" ? "param_encodings" : "activation_encodings"
    return #"{"version": "1.0.0", "\#(section)": [{"name": "\#(name)", \#(rest)}], "\#(other)": []}"#
  }

  private static let int8 =
    #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [0.1], "offset": [-3]"#
  private static let both =
    #"{"version": "1.0.0", "activation_encodings": [{"name": "image", \#(int8)}, {"name": "imge", \#(int8)}], "param_encodings": []}"#

  static let examples = [
    Example("{", "", 1, "not valid JSON", "o.json, byte 1"),
    Example(#"{"version": "9"}"#, "", 1, "the version \"9\" is unknown", "at version"),
    Example(
      listed(
        "image", #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [-1], "offset": [0]"#),
      "", 1,
      "the scale -1.0 is not a positive number", "at activation_encodings[0].scale[0]", "tensor image"),
    Example(listed("imagee", int8), "", 1, "no tensor of this name", "hint: the nearest names are image"),
    Example(listed("imagee", int8), "--overrides_policy warn", 1, "none of the 1 names belongs"),
    Example(listed("image", int8, section: "param_encodings"), "", 1, "belongs to activation_encodings"),
    Example(
      listed(
        "conv1.weight",
        #""dtype": "INT", "bw": 8, "enc_type": "PER_CHANNEL", "is_sym": true, "scale": [1, 2], "offset": [-128, -128]"#,
        section: "param_encodings"),
      "", 1, "2 encodings are given, but 1 or 16 are expected"),
    Example(listed("image", #""dtype": "INT", "bw": 32"#), "", 1, "is not given as 32-bit integer too"),
    Example(listed("image", int8), "--require_full_coverage", 1, "no given encoding"),
    Example(
      listed("image", int8), "--unfuse_overridden --warnings-as-errors", 1, "--unfuse_overridden changed nothing"),
    Example(
      listed("bn1_output", int8), "--warnings-as-errors", 1, "inside a fused pair with relu1_output",
      "hint: --unfuse_overridden"),
    Example(both, "", 1, "tensor imge"),
    Example(both, "--overrides_policy warn", 0, "warning: the graph has no tensor of this name"),
    Example(
      listed("bn1.running_mean", int8, section: "param_encodings"), "", 0, "1 name of the encodings file without effect"
    ),
  ]

  @Test("misuse: status and message, nothing left behind", arguments: examples)
  func misuse(_ example: Example) throws {
    try folder.write(example.file, "o.json")
    let before = folder.names
    let words = example.options.split(separator: " ").map(String.init)
    let commands = [
      ["qconvert", "-i", "\(digits)/digits.onnx", "-o", "x.dlc", "-q", "o.json"],
      ["qquantize", "-i", "d.dlc", "-l", list, "-o", "x.dlc", "-q", "o.json"],
    ]
    for command in commands {
      let run = try ToolRun(command[0], Array(command.dropFirst()) + words, in: folder)
      #expect(run.status == example.status, "\(run.errors)")
      for message in example.messages { #expect(run.errors.contains(message), "\(command[0]): \(run.errors)") }
      if example.status != 0 { #expect(folder.names == before) }
    }
  }
}
