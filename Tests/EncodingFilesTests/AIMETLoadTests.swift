import EncodingFiles
import Foundation
import IR
import Testing

/// Our files as AIMET's loader understood them (AIMET/README.md tells how the record was made).
@Suite("Files that AIMET loaded") struct AIMETLoadTests {
  struct Quantizer: Decodable {
    var bitwidth: Int
    var symmetric: Bool
    var delta: [Double]
    var offset: [Double]
  }

  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
    "AIMET")

  private func bytes(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: Self.folder.appendingPathComponent(name)))
  }

  @Test(arguments: [("loaded.json", 5, 6), ("exported.json", 7, 8), ("layouts.json", 1, 14)])
  func gridsAreThose(_ record: String, _ files: Int, _ count: Int) throws {
    let loaded = try JSONDecoder().decode([String: [String: Quantizer]].self, from: Data(try bytes(record)))
    #expect(loaded.count == files)
    for (name, quantizers) in loaded {
      let file = try EncodingFile(decoding: try bytes(name))
      #expect(file.notes.isEmpty && quantizers.count == count)
      for (tensor, quantizer) in quantizers {
        let entry = try file.find(tensor)
        #expect(entry.bitwidth == quantizer.bitwidth && entry.symmetric == quantizer.symmetric)
        #expect(entry.grids.map(\.scale) == quantizer.delta.map { Float($0) }, "\(name) \(tensor)")
        #expect(entry.grids.map { Double($0.offset) } == quantizer.offset, "\(name) \(tensor)")
      }
    }
  }

  /// What AIMET loaded is what we write today.
  @Test func writtenAgain() throws {
    for name in ["ours.0.6.1.encodings", "ours.1.0.0.encodings", "ours.2.0.0.encodings", "layouts.2.0.0.encodings"] {
      let bytes = try bytes(name)
      #expect(try EncodingFile(decoding: bytes).encoded() == bytes, "\(name)")
    }
  }

  /// The axes that AIMET took for weights of every layout.
  @Test func axes() throws {
    let file = try EncodingFile(decoding: try bytes("layouts.2.0.0.encodings"))
    let axes = ["conv_w": 0, "depth_w": 0, "up_w": 1, "plain_w": 1, "turned_w": 0, "product_w": 1]
    for (name, axis) in axes { #expect(try file.find(name).axis == axis, "\(name)") }
  }
}
