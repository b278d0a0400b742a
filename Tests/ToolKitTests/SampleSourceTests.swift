import IR
import Testing

@testable import ToolKit

@Suite("Samples of a list")
struct SampleSourceTests {
  let folder: ScratchFolder
  let input = SampleInput(name: "x", type: TensorType(.float32, [1, 2, 2, 1]), aliases: ["old_x"])

  init() throws { folder = try ScratchFolder() }

  private func source(_ text: String, _ inputs: [SampleInput]? = nil) throws -> SampleSource {
    let path = try folder.write(Array(text.utf8), "list.txt")
    return try SampleSource(try InputList(path: path), inputs: inputs ?? [input])
  }

  private func failure(_ text: String, _ inputs: [SampleInput]? = nil) throws -> Diagnostic {
    let error = #expect(throws: (any Error).self) { try source(text, inputs) }
    return try #require(error as? Diagnostic)
  }

  private func floats(_ values: [Float], _ name: String) throws {
    try folder.write(values.flatMap { value in withUnsafeBytes(of: value) { Array($0) } }, name)
  }

  @Test("paths are taken from the list's folder, named or not, aliases too")
  func loads() throws {
    try floats([1, 2, 3, 4], "a b.raw")
    let samples = try source("a\\ b.raw\nx:=a\\ b.raw\nold_x:=\(folder.path)/a\\ b.raw\n")
    #expect(samples.count == 3)
    for index in 0..<3 {
      #expect(try samples.load(index)[0].array(of: Float.self) == [1, 2, 3, 4])
    }
    #expect(samples.name(of: 1).hasPrefix("2 ("))
  }

  @Test("inputs come in the order of the graph, integers in their own type")
  func severalInputs() throws {
    try floats([1, 2, 3, 4], "a.raw")
    try folder.write([7, 0, 0, 0, 0, 0, 0, 0], "i.raw")
    let ids = SampleInput(name: "ids", type: TensorType(.int64, [1]))
    let samples = try source("ids:=i.raw x:=a.raw\n", [input, ids])
    let loaded = try samples.load(0)
    #expect(loaded[0].count == 16)
    #expect(loaded[1].array(of: Int64.self) == [7])
    #expect(try failure("x:=a.raw\n", [input, ids]).message == "input ids is missing")
    #expect(try failure("a.raw\n", [input, ids]).hint == "the inputs are: x, ids")
    #expect(
      try failure("x:=a.raw old_x:=a.raw\n", [input, ids]).message == "input x is given twice")
  }

  @Test(
    "a wrong size says what it looks like",
    arguments: [
      (32, "looks like float64, or looks like 2 samples in one file"), (8, "looks like float16"),
      (4, "looks like uint8"), (48, "looks like 3 samples in one file"), (0, "the file is empty"),
      (17, nil),
    ] as [(Int, String?)])
  func sizes(_ bytes: Int, _ hint: String?) throws {
    try folder.write([UInt8](repeating: 0, count: bytes), "a.raw")
    let error = try failure("a.raw")
    #expect(error.message.contains("the file has \(bytes) bytes, float32[1, 2, 2, 1] needs 16"))
    #expect(error.hint == hint)
  }

  @Test("every sample is checked before the first is loaded, all errors at once")
  func collects() throws {
    try floats([1, 2, 3, 4], "a.raw")
    let error = try failure("a.raw\nmissing.raw\ny:=a.raw\n.\n")
    #expect(error.all.count == 3)
  }

  @Test("NumPy arrays: type, shape, order and size are checked")
  func arrays() throws {
    let values = Bytes([1, 2, 3, 4] as [Float])
    let good = try #require(NpyFile.encoded(input.type, values)).array(of: UInt8.self)
    try folder.write(good, "a.npy")
    #expect(try source("a.npy").load(0)[0].array(of: Float.self) == [1, 2, 3, 4])
    func variant(_ old: String, _ new: String) throws -> String {
      let text = String(decoding: good[10..<128], as: UTF8.self)
      let changed = text.split(separator: old, maxSplits: 1).joined(separator: new)
      try folder.write(
        Array(good[..<10]) + Array(changed.utf8) + Array(good[128...]), "b.npy")
      return try failure("b.npy").code
    }
    #expect(try variant("<f4", "<i4") == "npy-type")
    #expect(try variant("<f4", ">f4") == "npy-type")
    #expect(try variant("(1, 2, 2, 1)", "(2, 2, 1, 1)") == "npy-shape")
    #expect(try variant("False", "True ") == "npy-order")
    try folder.write(Array(good.dropLast()), "b.npy")
    #expect(try failure("b.npy").code == "sample-size")
  }

  @Test("the first sample is described; constant and noise-like ones are warned of")
  func report() {
    let image = SampleInput(name: "x", type: TensorType(.float32, [1, 32, 32, 1]))
    func codes(_ value: (Int) -> Float) -> [String] {
      SampleReport.diagnostics([Bytes((0..<1024).map(value))], inputs: [image]).map(\.code)
    }
    var state: UInt64 = 1
    func noise() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / 16_777_216
    }
    #expect(codes { Float($0 % 32 + $0 / 32) } == ["sample-range"])
    #expect(codes { _ in 0.5 } == ["sample-range", "sample-constant"])
    #expect(codes { _ in noise() } == ["sample-range", "sample-noise"])
    #expect(codes { Float(bitPattern: UInt32($0) &* 2_654_435_761) }.contains("sample-noise"))
  }
}
