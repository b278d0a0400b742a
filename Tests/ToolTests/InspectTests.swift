import Foundation
import Testing

@Suite("qinspect: diff, json, export")
struct InspectTests {
  let folder: Scratch

  init() throws {
    folder = try Scratch()
    let digits = ToolRun.digits
    try folder.run("qconvert", "-i", "\(digits)/digits.onnx", "-o", "digits.dlc")
    try folder.run(
      "qquantize", "-i", "digits.dlc", "-l", "\(digits)/calibration.txt", "-o", "q.dlc",
      "--bias_bitwidth", "32", "--use_per_channel_quantization")
  }

  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test("diff of a container with itself prints nothing")
  func same() throws {
    #expect(try folder.run("qinspect", "diff", "q.dlc", "q.dlc").output == "")
    let document = try object(try folder.run("qinspect", "diff", "-i1", "q.dlc", "-i2", "q.dlc", "--json").output)
    #expect(document["same"] as? Bool == true && document["version"] as? Int == 1)
  }

  @Test("diff of float and quantized: a line a tensor, weights on their grids are the same weights")
  func floatAndQuantized() throws {
    let run = try ToolRun("qinspect", ["diff", "digits.dlc", "q.dlc"], in: folder)
    #expect(run.status == 2)
    let lines = run.output.split(separator: "\n")
    #expect(lines.contains { $0.hasPrefix("tensor conv1.weight: encoding: none -> (bw 8, symmetric, axis 3") })
    #expect(!lines.contains { $0.contains(": weight:") || $0.contains(": type:") })
    #expect(Set(lines).count == lines.count)
  }

  @Test("info -m, -d, -t: memory, grids a channel, names of the source")
  func details() throws {
    let plain = try folder.run("qinspect", "info", "q.dlc").output
    let full = try folder.run("qinspect", "-i", "q.dlc", "-m", "-d", "-t").output
    #expect(full.hasPrefix(plain.dropLast()))
    let added = full.dropFirst(plain.count - 1)
    #expect(added.contains("live activations") && added.contains("memory           "))
    let grids = added.split(separator: "\n").filter { $0.hasPrefix("conv1.weight ") }
    #expect(grids.count == 16 && grids.allSatisfy { $0.contains("-128") })
    #expect(added.contains("bn1_output") || added.contains("conv1_output"))
    let document = try object(try folder.run("qinspect", "info", "q.dlc", "-m", "-t", "--json").output)
    let memory = try #require(document["memory"] as? [String: Any])
    let rows = try #require(memory["operators"] as? [[String: Any]])
    let live = rows.compactMap { $0["live_bytes"] as? Int }
    #expect(live.max() == memory["peak_bytes"] as? Int && live.count == (document["operators"] as? [Any])?.count)
    let totals = try #require(document["totals"] as? [String: Any])
    #expect(memory["parameter_bytes"] as? Int == totals["parameter_bytes"] as? Int)
    #expect(rows.compactMap { $0["parameter_bytes"] as? Int }.reduce(0, +) == totals["parameter_bytes"] as? Int)
    #expect((document["trace"] as? [Any])?.isEmpty == false)
    #expect(try object(try folder.run("qinspect", "info", "q.dlc", "--json").output)["memory"] == nil)
  }

  @Test(
    "no table or page replaces the container it is about",
    arguments: [
      ["info", "q.dlc", "-s", "q.dlc"], ["json", "q.dlc", "-o", "q.dlc"], ["weights", "q.dlc", "--html", "./q.dlc"],
    ])
  func outputIsInput(words: [String]) throws {
    let before = try folder.data("q.dlc")
    let run = try ToolRun("qinspect", words, in: folder)
    #expect(run.status == 64 && run.errors.contains("would replace a file that is read"), "\(run.errors)")
    #expect(try folder.data("q.dlc") == before)
  }

  @Test("a misspelled name: the nearest ones")
  func nearNames() throws {
    let run = try ToolRun("qinspect", ["trace", "q.dlc", "conv1.weigth"], in: folder)
    #expect(run.status == 64 && run.errors.contains("nearest names are: conv1.weight"), "\(run.errors)")
  }

  @Test("diff needs two containers")
  func usage() throws {
    for arguments in [
      ["q.dlc"], ["q.dlc", "q.dlc", "q.dlc"], ["-i1", "q.dlc", "q.dlc"], ["q.dlc", "q.dlc", "--tolerance", "-1"],
    ] {
      #expect(try ToolRun("qinspect", ["diff"] + arguments, in: folder).status == 64)
    }
    #expect(try ToolRun("qinspect", ["diff", "q.dlc", "none.dlc"], in: folder).status == 1)
  }

  @Test("json holds nodes, attributes, encodings, constants; --values their numbers")
  func json() throws {
    let printed = try folder.run("qinspect", "json", "q.dlc").output
    let document = try object(printed)
    let nodes = try #require(document["nodes"] as? [[String: Any]])
    #expect(nodes.contains { ($0["attributes"] as? [String: Any])?["stride"] as? [Int] == [1, 1] })
    let tensors = try #require(document["tensors"] as? [[String: Any]])
    let weight = try #require(tensors.first { $0["name"] as? String == "conv1.weight" })
    let encoding = try #require(weight["encoding"] as? [String: Any])
    #expect(encoding["stored_offset"] as? [Int] == [Int](repeating: 0, count: 16))
    #expect(encoding["offset"] as? [Int] == [Int](repeating: -128, count: 16))
    let constant = try #require(weight["constant"] as? [String: Any])
    #expect((constant["sha256"] as? String)?.count == 64 && constant["values"] == nil)
    try folder.run("qinspect", "json", "q.dlc", "-o", "q.json")
    #expect(try folder.data("q.json") == Data(printed.utf8))
    let full = try object(try folder.run("qinspect", "json", "q.dlc", "--values").output)
    let all = try #require(full["tensors"] as? [[String: Any]])
    let values = all.first { $0["name"] as? String == "conv1.weight" }?["constant"] as? [String: Any]
    #expect((values?["values"] as? [Double])?.count == 144 && (values?["codes"] as? [Int])?.count == 144)
  }

  @Test("export: the float model imports again to the same container content")
  func exportFloat() throws {
    try folder.run("qinspect", "export", "digits.dlc", "--onnx", "again.onnx")
    try folder.run("qconvert", "-i", "again.onnx", "-o", "again.dlc")
    let run = try ToolRun("qinspect", ["diff", "digits.dlc", "again.dlc"], in: folder)
    let lines = run.output.split(separator: "\n").filter { !$0.contains("BatchNorm statistics") }
    #expect(lines == [])
  }

  @Test("export --qdq, --encodings, --external_data; options that do not go together")
  func exportForms() throws {
    let quantized = try object(
      try folder.run("qinspect", "export", "q.dlc", "--onnx", "q.onnx", "--qdq", "--json").output)
    let operators = try #require(quantized["operators"] as? [String])
    #expect(operators.contains("QuantizeLinear") && operators.contains("DequantizeLinear"))
    #expect(quantized["opset"] as? Int == 18)
    for version in ["0.6.1", "1.0.0", "2.0.0"] {
      try folder.run(
        "qinspect", "export", "q.dlc", "--onnx", "f.onnx", "--encodings", "f.encodings",
        "--encoding_version", version)
      #expect(
        try object(String(decoding: try folder.data("f.encodings"), as: UTF8.self))["version"] as? String == version)
      try folder.run("qconvert", "-i", "f.onnx", "-o", "f.dlc")
    }
    try folder.run("qinspect", "export", "digits.dlc", "--onnx", "e.onnx", "--external_data")
    #expect(folder.names.contains("e.onnx.data"))
    try folder.run("qconvert", "-i", "e.onnx", "-o", "e.dlc")
    try folder.run("qinspect", "export", "digits.dlc", "--onnx", "i.onnx")
    try folder.run("qconvert", "-i", "i.onnx", "-o", "i.dlc")
    #expect(try folder.run("qinspect", "diff", "e.dlc", "i.dlc").output == "")
    let warned = try folder.run("qinspect", "export", "digits.dlc", "--onnx", "n.onnx", "--qdq")
    #expect(warned.errors.contains("no tensor has an encoding"))
    for arguments in [["--qdq", "--encodings", "x"], ["--encoding_version", "1.0.0"], ["--encodings", "x.onnx"]] {
      let run = try ToolRun("qinspect", ["export", "q.dlc", "--onnx", "x.onnx"] + arguments, in: folder)
      #expect(run.status == 64)
    }
    #expect(!folder.names.contains("x.onnx"))
  }

  @Test("validate: rules, severities from a file, exit status")
  func validation() throws {
    let clean = try ToolRun("qinspect", ["validate", "q.dlc"], in: folder)
    #expect(clean.status == 0)
    #expect(clean.output.contains("symmetric-weights"))
    #expect(try ToolRun("qinspect", ["validate", "q.dlc", "--strict"], in: folder).status == 2)
    try folder.write(
      """
      severity: {symmetric-weights: off}
      rules:
        wide: {operators: Conv2d, bitwidth: 16}
        small: {tensors: image, place: input, max: 0.5, severity: warning}
      """, "rules.yaml")
    let run = try ToolRun(
      "qinspect", ["validate", "q.dlc", "--rules", "rules.yaml", "--format", "csv"], in: folder)
    #expect(run.status == 2)
    let lines = run.output.split(separator: "\n")
    #expect(lines.first == "severity,rule,node,tensor,finding")
    #expect(!run.output.contains("symmetric-weights"))
    let document = try object(
      try ToolRun("qinspect", ["validate", "q.dlc", "--rules", "rules.yaml", "--json"], in: folder).output)
    #expect(document["valid"] as? Bool == false)
    for (text, word) in [
      ("severity: {no-such-rule: error}", "no-such-rule"), ("limits: {range: wide}", "range"),
      ("rules: {x: {place: nowhere}}", "nowhere"), ("severity: {exact-zero: loud}", "loud"),
      ("rules: {exact-zero: {}}", "built-in"), ("[1, 2]", "map"),
    ] {
      try folder.write(text, "bad.yaml")
      let bad = try ToolRun("qinspect", ["validate", "q.dlc", "--rules", "bad.yaml"], in: folder)
      #expect(bad.status == 1)
      #expect(bad.errors.contains(word))
    }
    #expect(try folder.run("qinspect", "validate", "--list").output.contains("bias-scale"))
  }

  @Test("trace: forward from a folded name, back from a tensor")
  func trace() throws {
    let all = try folder.run("qinspect", "trace", "q.dlc").output
    #expect(all.contains("folded"))
    let forward = try folder.run("qinspect", "trace", "q.dlc", "conv1_output").output
    #expect(forward.contains("BatchNormalization"))
    let back = try folder.run("qinspect", "trace", "q.dlc", "conv1").output
    #expect(back.contains("conv1_output"))
    #expect(try ToolRun("qinspect", ["trace", "q.dlc", "nobody"], in: folder).status == 64)
  }

  @Test("weights: a line a tensor, channels on request")
  func weights() throws {
    let short = try folder.run("qinspect", "weights", "q.dlc", "--tensor", "conv1.*").output
    #expect(short.split(separator: "\n").count == 3)
    let long = try folder.run("qinspect", "weights", "q.dlc", "--tensor", "conv1.*", "--channels").output
    #expect(long.split(separator: "\n").count == 19)
    let document = try object(try folder.run("qinspect", "weights", "digits.dlc", "--json").output)
    let first = try #require((document["weights"] as? [[String: Any]])?.first)
    #expect((first["channels"] as? [Any])?.count == 16)
    #expect((first["histogram"] as? [Int])?.reduce(0, +) == 144)
  }

  @Test("weights as a page: a drawing for each, nothing to load")
  func weightsPage() throws {
    let folder = try Scratch()
    try folder.run("qconvert", "-i", "\(ToolRun.digits)/digits.onnx", "-o", "d.dlc")
    let json = try folder.run("qinspect", "weights", "d.dlc", "--json", "--html", "w.html").output
    let text = try String(decoding: folder.data("w.html"), as: UTF8.self)
    let count = json.components(separatedBy: "\"shape\"").count - 1
    #expect(count > 2 && text.components(separatedBy: "<section>").count - 1 == count)
    #expect(!text.contains("src=") && !text.contains("<script") && text.contains("<rect"))
    let one = try folder.run("qinspect", "weights", "d.dlc", "--tensor", "nosuch", "--html", "n.html")
    #expect(one.errors.contains("no weight matches"))
    let empty = try String(decoding: folder.data("n.html"), as: UTF8.self)
    #expect(!empty.contains("<section>"))
  }
}
