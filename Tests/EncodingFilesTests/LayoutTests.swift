import EncodingFiles
import IR
import Testing

@Suite("Layouts of encodings files") struct LayoutTests {
  private let x = [ScaleOffset(scale: 0.01, offset: -100)]
  private let w = [ScaleOffset(scale: 0.01, offset: -128), ScaleOffset(scale: 0.02, offset: -128)]

  @Test("0.4.0, 0.6.1: objects by name", arguments: [Document.v04, Document.v061])
  func keyed(_ text: String) throws {
    let file = try read(text)
    #expect(file.generation == .keyed && file.notes.isEmpty)
    let (x, w) = (try file.find("x"), try file.find("w"))
    #expect(x.section == .activation && x.grids == self.x && !x.symmetric && x.granularity == .perTensor)
    #expect(x.path == "activation_encodings.x" && x.bitwidth == 8)
    #expect(w.section == .param && w.grids == self.w && w.symmetric && !w.strict)
    #expect(w.granularity == .perChannel && w.axis == nil)
  }

  @Test("0.5.0: floats") func floats() throws {
    let file = try read(Document.v05)
    #expect(try file.find("x").grids == x)
    for name in ["h", "w"] {
      let entry = try file.find(name)
      #expect(entry.kind == .float && entry.bitwidth == 16 && entry.grids.isEmpty && !entry.isPrecisionOnly)
    }
  }

  @Test("1.0.0: lists, blocks, LPBQ") func listed() throws {
    let file = try read(Document.v1)
    #expect(file.version == "1.0.0" && file.generation == .listed)
    #expect(try file.find("x").grids == x)
    #expect(try file.find("h").kind == .float)
    #expect(try file.find("w").grids == w && file.find("w").symmetric)
    #expect(try file.find("w").path == "param_encodings[0]")
    let v = try file.find("v")
    #expect(v.granularity == .perBlock && v.blockSize == 2 && v.bitwidth == 4)
    #expect(v.grids.map(\.scale) == [0.1, 0.2, 0.3, 0.4] && v.grids.allSatisfy { $0.offset == -8 })
    let u = try file.find("u")
    #expect(u.bitwidth == 4 && u.blockSize == 2 && u.symmetric)
    #expect(
      u.granularity
        == .lowPowerBlocks(.init(channelScales: [0.0125, 0.025], factors: [16, 8, 16, 12], decompressedBitwidth: 8)))
    let scales: [Float] = [0.2, 0.1, 0.4, 0.3]
    for (grid, scale) in zip(u.grids, scales) { #expect(abs(grid.scale - scale) < 1e-7 && grid.offset == -8) }
  }

  @Test("2.0.0, 2.1.0: QuantizeLinear", arguments: ["2.0.0", "2.1.0"])
  func onnx(_ version: String) throws {
    let file = try read(Document.v2.replacing("\"version\": \"2.0.0\"", with: "\"version\": \"\(version)\""))
    #expect(file.version == version && file.generation == .onnx)
    let x = try file.find("x")
    #expect(x.grids == self.x && !x.symmetric && x.section == .any)
    let w = try file.find("w")
    #expect(w.grids == self.w && w.symmetric && w.axis == 0 && w.granularity == .perChannel)
    let b = try file.find("b")
    #expect(b.bitwidth == 32 && b.grids.map(\.offset) == [.min, .min])
    let v = try file.find("v")
    #expect(v.granularity == .perBlock && v.axis == 1 && v.blockSize == 2 && v.blockShape == [2, 2])
    let u = try file.find("u")
    #expect(
      u.granularity
        == .lowPowerBlocks(.init(channelScales: [0.0125, 0.025], factors: [16, 8, 16, 12], decompressedBitwidth: 8)))
    #expect(try u.grids == read(Document.v1).find("u").grids)
  }

  @Test("versions say the same of the same tensor") func agreement() throws {
    let files = try [Document.v04, Document.v061, Document.v1, Document.v2].map { try read($0) }
    for name in ["x", "w"] {
      let grids = try files.map { try $0.find(name).grids }
      #expect(Set(grids).count == 1)
    }
  }

  @Test("a missing version is 0.4") func noVersion() throws {
    let file = try read(Document.v04.replacing("\"version\": \"0.4.0\",", with: ""))
    #expect(file.version == "0.4.0" && file.entries.count == 2)
    let error = #expect(throws: Diagnostic.self) {
      try read(Document.v2.replacing("\"version\": \"2.0.0\",", with: ""))
    }
    #expect(error?.code == "encodings-version" && error?.location.path == "encodings")
  }

  @Test("truth values as text and boolean, any case", arguments: ["\"True\"", "\"true\"", "\"TRUE\"", "true"])
  func truth(_ value: String) throws {
    let made = try entry(
      Document.keyed(#""bitwidth": 8, "dtype": "int", "is_symmetric": \#(value), "scale": 0.5, "offset": -128"#))
    #expect(made.symmetric && made.grids == [ScaleOffset(scale: 0.5, offset: -128)])
  }

  @Test("bitwidth and dtype alone give a precision") func precision() throws {
    for text in [
      Document.keyed(#""bitwidth": 16, "dtype": "int""#), Document.keyed(#""bitwidth": 16, "dtype": "INT""#),
      Document.listed(#""dtype": "INT", "bw": 16, "enc_type": "PER_TENSOR""#),
      Document.onnx(#""output_dtype": "uint16""#),
    ] {
      let made = try entry(text)
      #expect(made.isPrecisionOnly && made.bitwidth == 16)
    }
  }

  @Test("the page's example: offsets of the wrong sign are computed again from the range")
  func recomputed() throws {
    let ranges = [(0.0, 12.8234, 0.0, 0), (-1.00393, 0.996087, 127, -128), (-2.10065, 1.70056, 140, -141)]
    for (low, high, written, expected) in ranges {
      let scale = (high - low) / 255
      let made = try entry(
        Document.keyed(
          #""bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": \#(low), "max": \#(high), "#
            + #""scale": \#(scale), "offset": \#(written)"#))
      #expect(made.grids[0].offset == Int32(expected))
      #expect(abs(Double(made.grids[0].scale) - scale) < 1e-7)
    }
  }

  @Test("range and scale that disagree: the range wins, with a warning") func disagreement() throws {
    let text = Document.keyed(
      #""bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": 0, "max": 2.55, "scale": 0.02, "offset": 0"#)
    let file = try read(text)
    #expect(file.entries[0].grids == [ScaleOffset(scale: 0.01, offset: 0)])
    #expect(file.notes.map(\.code) == ["encodings-disagree"] && file.notes[0].severity == .warning)
    #expect(file.notes[0].location.path == "activation_encodings.x[0]" && file.notes[0].location.tensor == "x")
    let near = try read(text.replacing("0.02", with: "0.010005"))
    #expect(near.notes.isEmpty && near.entries[0].grids == [ScaleOffset(scale: 0.01, offset: 0)])
  }

  @Test("a range of equal reach on both sides is strict symmetric") func strict() throws {
    let file = try read(
      Document.keyed(#""bitwidth": 8, "dtype": "int", "is_symmetric": "True", "min": -1.27, "max": 1.27"#))
    #expect(file.entries[0].symmetric && file.entries[0].strict)
    #expect(file.entries[0].grids == [ScaleOffset(scale: 0.01, offset: -128)])
    let one = try entry(
      Document.listed(
        #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": true, "scale": [0.01], "offset": [-127]"#))
    #expect(one.symmetric && one.strict && one.grids == file.entries[0].grids)
    let unsigned = try entry(
      Document.listed(
        #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": true, "scale": [0.01], "offset": [0]"#))
    #expect(!unsigned.symmetric && unsigned.grids == [ScaleOffset(scale: 0.01, offset: 0)])
  }

  @Test("unknown keys at the top are a note") func unknownTop() throws {
    let file = try read(Document.v2.replacing("\"producer\"", with: "\"maker\""))
    #expect(file.notes.map(\.code) == ["encodings-unknown-key"] && file.notes[0].severity == .note)
    #expect(file.notes[0].location.path == "maker" && file.entries.count == 5)
  }

  @Test("zero point shifts that are zero are none") func zeroShift() throws {
    let base = #""dtype": "INT", "bw": 8, "enc_type": "PER_TENSOR", "is_sym": false, "scale": [0.5], "offset": [-3]"#
    #expect(try entry(Document.listed(base + #", "zero_point_shift": [0.0]"#)).grids[0].offset == -3)
  }

  @Test("2.0.0: signed types move to the unsigned grid") func signed() throws {
    let made = try entry(Document.onnx(#""output_dtype": "int8", "y_scale": 0.5, "y_zero_point": -28"#))
    #expect(made.grids == [ScaleOffset(scale: 0.5, offset: -100)] && !made.symmetric)
    let zero = try entry(Document.onnx(#""output_dtype": "int16", "y_scale": 0.5, "y_zero_point": 0"#))
    #expect(zero.symmetric && zero.grids == [ScaleOffset(scale: 0.5, offset: -32768)])
    let unsigned = try entry(Document.onnx(#""output_dtype": "uint8", "y_scale": 0.5"#))
    #expect(!unsigned.symmetric && unsigned.grids == [ScaleOffset(scale: 0.5, offset: 0)])
  }

  @Test("blocks of another axis come in the order [channel][block]") func blockOrder() throws {
    let made = try entry(
      Document.onnx(
        #""output_dtype": "int4", "y_scale": [[1, 2, 3], [4, 5, 6]], "axis": 0, "block_size": 4"#))
    #expect(made.grids.map(\.scale) == [1, 4, 2, 5, 3, 6] && made.axis == 0 && made.blockShape == [2, 3])
  }
}
