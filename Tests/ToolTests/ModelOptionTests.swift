import Foundation
import Testing

/// Inputs and outputs by options and by a configuration file.
@Suite("Inputs and outputs, by qconvert")
struct ModelOptionTests {
  let folder: Scratch
  let digits = "\(ToolRun.digits)/digits.onnx"
  /// Input x [1, 3, 6, 5], convolutions with a Relu between.
  let image = "\(ToolRun.minimal)/conv_relu_conv/model.onnx"

  init() throws { folder = try Scratch() }

  /// The outputs of a container for one input.
  private func outputs(_ container: String, _ values: [Float]) throws -> [Float] {
    try values.withUnsafeBytes { try Data($0).write(to: URL(filePath: "\(folder.path)/x.raw")) }
    try folder.write("x.raw\n", "x.txt")
    try folder.run("qrun", "execute", container, "-l", "x.txt", "--output_dir", "out", "--backend", "reference")
    let name = try #require(
      FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/out/Result_0").first { $0.hasSuffix(".raw") })
    let data = try folder.data("out/Result_0/\(name)")
    return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }

  private func planes(_ order: [Int]) -> [Float] {
    order.flatMap { channel in (0..<30).map { Float(channel * 30 + $0 % 7) * 0.1 - Float($0 % 5) } }
  }

  @Test(arguments: [
    ("rgb", [2, 1, 0]), ("rgba", [2, 1, 0, 3]), ("argb32", [0, 1, 2, 3]), ("rgb bgr", [2, 1, 0]),
    ("bgr rgb", [2, 1, 0]),
    ("rgba rgb", [0, 1, 2, 3]),
  ])
  func colors(words: String, fed: [Int]) throws {
    try folder.run("qconvert", "-i", image, "-o", "plain.dlc")
    let run = try ToolRun(
      "qconvert", ["-i", image, "-o", "c.dlc", "-e", "x"] + words.split(separator: " ").map(String.init), in: folder)
    #expect(run.status == 0, "\(run.errors)")
    // The model takes the channels 0, 1, 2.
    #expect(try outputs("c.dlc", planes(fed)) == outputs("plain.dlc", planes([0, 1, 2])))
    #expect(try outputs("c.dlc", planes(fed.reversed())) != outputs("plain.dlc", planes([0, 1, 2])))
  }

  /// Camera images: what the conversion in front gives is what the model takes, in either layout of the model.
  @Test(arguments: ["nv12", "nv21"], [("rgb", false), ("bgr", false), ("bgr", true)])
  func planes(fed: String, taken: (colors: String, isLast: Bool)) throws {
    let model = "\(ToolRun.minimal)/conv_depthwise_strided/model.onnx"  // x [1, 3, 8, 8]
    let luma = (0..<64).map { Float(($0 * 5) % 256) }
    let (blue, red) = ((0..<16).map { Float($0 * 16) }, (0..<16).map { Float(255 - $0 * 9) })
    var colors: [[Float]] = [[], [], []]
    for place in 0..<64 {
      let pair = place / 16 * 4 + place % 8 / 2
      let (y, u, v) = (1.164 * (luma[place] - 16), blue[pair] - 128, red[pair] - 128)
      for (color, value) in [y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u].enumerated() {
        colors[color].append(min(max(value, 0), 255))
      }
    }
    let chroma = zip(blue, red).flatMap { fed == "nv12" ? [$0, $1] : [$1, $0] }
    try folder.run("qconvert", "-i", model, "-o", "plain.dlc")
    let expected = try outputs("plain.dlc", Array((taken.colors == "rgb" ? colors : colors.reversed()).joined()))
    try folder.run("qconvert", "-i", model, "-o", "c.dlc", "-e", "x", fed, taken.colors)
    #expect(try folder.run("qinspect", "info", "c.dlc").output.contains("float32[1, 96]"))
    let found = try outputs("c.dlc", luma + chroma)
    #expect(expected.count == found.count && zip(expected, found).allSatisfy { abs($0 - $1) < 1e-3 * (1 + abs($0)) })
    if taken.isLast {
      // The same network whose input is channel-last needs no Transpose behind the conversion.
      try folder.run("qinspect", "export", "c.dlc", "--onnx", "c.onnx")
      try folder.run("qconvert", "-i", "c.onnx", "-o", "again.dlc")
      let again = try outputs("again.dlc", luma + chroma)
      #expect(zip(found, again).allSatisfy { abs($0 - $1) < 1e-3 * (1 + abs($0)) })
    }
  }

  @Test(arguments: [
    ("-e x nv12", 64, "sizes must be even"), ("-e x nv12 rgba", 64, "nv12 cannot become rgba"),
    ("-e x pink", 64, "not 'x pink'"), ("-e x", 64, "not 'x'"),
    ("-e y rgb", 64, "no input y"), ("-e x bgr --warnings-as-errors", 1, "leaves input x as it is"),
    ("-e x rgb --source_model_input_layout x NHWC", 64, "no image of three channels"),
  ])
  func colorMisuse(words: String, status: Int32, message: String) throws {
    let run = try ToolRun(
      "qconvert", ["-i", image, "-o", "c.dlc"] + words.split(separator: " ").map(String.init), in: folder)
    #expect(run.status == status && run.errors.contains(message), "\(run.errors)")
    #expect(folder.names.isEmpty || status == 0)
  }

  @Test func templateSaysNothingUntilFilledIn() throws {
    try folder.run("qconvert", "-i", digits, "--dump_config_template", "t.yaml", "-o", "x.dlc")
    #expect(folder.names == ["t.yaml"])
    let text = try String(decoding: folder.data("t.yaml"), as: UTF8.self)
    #expect(text.contains("Name: 'image'") && text.contains("Shape: '1,1,8,8'"))
    try folder.run("qconvert", "-i", digits, "-o", "a.dlc", "--config", "t.yaml")
    try folder.run("qconvert", "-i", digits, "-o", "b.dlc")
    #expect(try folder.run("qinspect", "diff", "a.dlc", "b.dlc").output.isEmpty)
  }

  @Test func fileAndOptionsSayTheSame() throws {
    try folder.write(
      """
      Converted Graph:
        - Input Tensors: [x]
      Input Tensor Configuration:
        - Name: x
          Src Model Parameters: {DataType: float32, Layout: NCHW, Shape: "(1, 3, 6, 5)"}
          Desired Model Parameters: {Layout: NHWC, Color Conversion: rgb}
      Output Tensor Configuration:
        - Name: y
          Desired Model Parameters: {Layout: NHWC}
      """, "io.yaml")
    let output = try folder.run("qconvert", "-i", image, "--onnx_summary", "-o", "p.dlc").output
    let name = try #require(output.split(separator: "\n").first { $0.hasPrefix("output") }?.split(separator: " ")[1])
    let text = try String(decoding: folder.data("io.yaml"), as: UTF8.self)
    try folder.write(text.replacingOccurrences(of: "Name: y", with: "Name: \(name)"), "io.yaml")
    try folder.run("qconvert", "-i", image, "-o", "a.dlc", "--config", "io.yaml", "--depfile", "a.d")
    #expect(try String(decoding: folder.data("a.d"), as: UTF8.self).contains("io.yaml"))
    try folder.run(
      "qconvert", "-i", image, "-o", "b.dlc", "-e", "x", "rgb", "--source_model_input_layout", "x", "NCHW",
      "--desired_input_layout", "x", "NHWC", "--desired_output_layout", "\(name)", "NHWC",
      "--source_model_input_datatype", "x", "float32", "-s", "x", "1,3,6,5")
    #expect(try folder.data("a.dlc") == folder.data("b.dlc"))
    // What the command line says wins.
    let run = try folder.run("qconvert", "-i", image, "-o", "c.dlc", "--config", "io.yaml", "-e", "x", "bgr", "rgb")
    #expect(run.errors.contains("wins over --config"))
    try folder.write("calibration: {gamma: 2}\n" + text, "both.yaml")
    let both = try ToolRun(
      "qconvert", ["-i", digits, "-o", "d.dlc", "-c", "both.yaml", "--warnings-as-errors"], in: folder)
    #expect(both.status != 0)
  }

  @Test func typesAndGrids() throws {
    func configure(_ type: String, _ grid: String = "") throws -> ToolRun {
      try folder.write(
        """
        Input Tensor Configuration:
          - Name: image
            Desired Model Parameters: {DataType: \(type)\(grid)}
        calibration: {percentile: 99}
        """, "io.yaml")
      return try ToolRun(
        "qconvert",
        [
          "-i", digits, "-o", "q.dlc", "-c", "io.yaml", "-l", "\(ToolRun.digits)/calibration.txt",
          "--act_quantizer_calibration", "percentile",
        ], in: folder)
    }
    func row() throws -> String {
      let text = try folder.run("qinspect", "encodings", "q.dlc", "--tensor", "image", "--format", "csv").output
      return try #require(text.split(separator: "\n").last.map(String.init))
    }
    #expect(try configure("uint8", ", QuantParams: {Scale: 0.125, Offset: -4}").status == 0)
    let given = try row()
    #expect(given.contains("override,8,asymmetric,,0.125,-4"), "\(given)")
    #expect(try configure("uint16").status == 0)
    let wide = try row()
    #expect(wide.contains("calibrated,16,"), "\(wide)")
    let float = try configure("float32")
    #expect(float.status == 0, "\(float.errors)")
    let plain = try row()
    #expect(plain.contains("float32"), "\(plain)")
    for (type, grid, message) in [
      ("int4", "", "cannot be int4"), ("float32", ", QuantParams: {Scale: 1, Offset: 0}", "need the DataType"),
      ("uint8", ", QuantParams: {Scale: 1, Offset: 3}", "Offset -255 to 0"),
      ("uint8", ", QuantParams: {Scale: 1}", "go together"), ("uint8", ", Color: rgb", "is no key of this file"),
    ] {
      let run = try configure(type, grid)
      #expect(run.status == 1 && run.errors.contains(message), "\(run.errors)")
    }
  }

  @Test func summaryAndValidation() throws {
    let run = try folder.run("qconvert", "-i", digits, "-o", "d.dlc", "--onnx_summary", "--onnx_validate_models")
    #expect(run.output.contains("Conv") && run.output.contains("operator set"))
    #expect(run.output.contains("largest difference"))
  }

  @Test func valuesThatAreNoNumbers() throws {
    let run = try ToolRun("qconvert", ["-i", digits, "-o", "d.dlc", "--skip_nonfinite"], in: folder)
    #expect(run.status == 0 && run.errors.contains("no weight holds a NaN"), "\(run.errors)")
  }
}
