import EncodingFiles
import IR
import Testing

@Suite("Writing and reading encodings files") struct RoundTripTests {
  private static let keyed: [EncodingEntry] = [
    EncodingEntry(
      name: "a \"b\"\n", section: .activation, bitwidth: 8, grids: [ScaleOffset(scale: 0.1, offset: -3)]),
    EncodingEntry(
      name: "wide", section: .activation, bitwidth: 16, grids: [ScaleOffset(scale: 1.5e-9, offset: -65535)]),
    EncodingEntry(
      name: "sym", section: .activation, bitwidth: 8, grids: [ScaleOffset(scale: 0.3, offset: -128)], symmetric: true),
    EncodingEntry(
      name: "w", section: .param, bitwidth: 4, granularity: .perChannel,
      grids: [ScaleOffset(scale: 0.1, offset: -8), ScaleOffset(scale: .leastNormalMagnitude, offset: -8)],
      symmetric: true),
    EncodingEntry(
      name: "strict", section: .param, bitwidth: 8, grids: [ScaleOffset(scale: 2.5e36, offset: -128)],
      symmetric: true, strict: true),
    EncodingEntry(name: "half", section: .activation, kind: .float, bitwidth: 16),
    EncodingEntry(name: "float", section: .param, kind: .float, bitwidth: 32),
    EncodingEntry(name: "precision", section: .activation, bitwidth: 16),
  ]

  private static let blocks: [EncodingEntry] = [
    EncodingEntry(
      name: "v", section: .param, bitwidth: 4, granularity: .perBlock,
      grids: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6].map { ScaleOffset(scale: $0, offset: -8) }, symmetric: true,
      axis: 0, blockSize: 2, blockShape: [2, 3]),
    EncodingEntry(
      name: "u", section: .param, bitwidth: 4,
      granularity: .lowPowerBlocks(
        .init(channelScales: [0.0125, 0.025], factors: [16, 8, 1, 12], decompressedBitwidth: 8)),
      grids: [(0.0125, 16), (0.0125, 8), (0.025, 1), (0.025, 12)].map { (scale: Float, factor: Int) in
        ScaleOffset(scale: Float(Double(scale) * Double(factor)), offset: -8)
      }, symmetric: true, axis: 1, blockSize: 2, blockShape: [2, 2]),
  ]

  /// What a layout keeps of an entry.
  private func kept(_ entry: EncodingEntry, _ generation: EncodingGeneration) -> EncodingEntry {
    var entry = entry
    entry.path = ""
    if generation == .onnx {
      entry.section = .any
      entry.strict = false
    } else {
      entry.axis = nil
      entry.blockShape = nil
    }
    return entry
  }

  private func check(_ entries: [EncodingEntry], _ generation: EncodingGeneration) throws {
    let bytes = try EncodingFile(generation: generation, entries: entries).encoded()
    let back = try EncodingFile(decoding: bytes)
    #expect(back.generation == generation && back.notes.isEmpty)
    var expected = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, kept($0, generation)) })
    for entry in back.entries {
      #expect(kept(entry, generation) == expected.removeValue(forKey: entry.name))
    }
    for missing in expected.values { #expect(generation == .onnx && missing.kind == .float) }
    // The same bytes again, whatever the order of keys in memory.
    #expect(try EncodingFile(generation: generation, entries: entries).encoded() == bytes)
  }

  @Test("0.6.1") func keyed() throws { try check(Self.keyed, .keyed) }
  @Test("1.0.0") func listed() throws { try check(Self.keyed + Self.blocks, .listed) }
  @Test("2.0.0") func onnx() throws {
    try check(
      (Self.keyed + Self.blocks).map { entry in
        var entry = entry
        if entry.granularity == .perChannel { entry.axis = 1 }
        // A width alone is unsigned there, as of activations.
        return entry
      }, .onnx)
  }

  @Test("grids of every width survive, to the bit", arguments: EncodingGeneration.allCases)
  func widths(_ generation: EncodingGeneration) throws {
    var entries: [EncodingEntry] = []
    for bitwidth in generation == .onnx ? [2, 4, 8, 16] : Array(2...24) {
      let top = (1 << bitwidth) - 1
      for (index, offset) in [0, top / 3, top].enumerated() {
        let scale = Float(0.1) / Float(top) * Float(index + 1)
        entries.append(
          EncodingEntry(
            name: "t\(bitwidth)_\(index)", section: .activation, bitwidth: bitwidth,
            grids: [ScaleOffset(scale: scale, offset: Int32(-offset))]))
      }
    }
    try check(entries, generation)
  }

  @Test("32-bit biases") func biases() throws {
    let bias = EncodingEntry(
      name: "b", section: .param, bitwidth: 32, granularity: .perChannel,
      grids: [ScaleOffset(scale: 1e-4, offset: .min), ScaleOffset(scale: 2e-4, offset: .min)], symmetric: true, axis: 0)
    for generation in EncodingGeneration.allCases { try check([bias], generation) }
  }

  @Test("what a layout cannot hold is an error") func unwritable() throws {
    func code(_ entries: [EncodingEntry], _ generation: EncodingGeneration) -> String? {
      do throws(Diagnostic) {
        _ = try EncodingFile(generation: generation, entries: entries).encoded()
        return nil
      } catch {
        return error.location.tensor.map { "\(error.code) \($0)" }
      }
    }
    #expect(code(Self.blocks, .keyed) == "encodings-unwritable v")
    let odd = EncodingEntry(
      name: "o", section: .activation, bitwidth: 7, grids: [ScaleOffset(scale: 1, offset: 0)])
    #expect(code([odd], .onnx) == "encodings-unwritable o" && code([odd], .listed) == nil)
    #expect(code([Self.keyed[3]], .onnx) == "encodings-unwritable w")
  }

  @Test("AIMET's form of the numbers") func form() throws {
    let text = String(
      decoding: try EncodingFile(generation: .keyed, entries: [Self.keyed[2]]).encoded(), as: UTF8.self)
    #expect(text.contains("\"offset\": -128.0") && text.contains("\"is_symmetric\": \"True\""))
    #expect(text.contains("\"activation_encodings\": {\n        \"sym\": ["))
    #expect(text.contains("\"param_encodings\": {}"))
    let onnx = String(
      decoding: try EncodingFile(generation: .onnx, entries: [Self.keyed[0], Self.keyed[5]]).encoded(), as: UTF8.self)
    #expect(onnx.contains("\"y_zero_point\": 3") && !onnx.contains("half"))
  }
}
