import FoundationEssentials
import IR

/// What was found of each layer, in the files of a folder, so that an interrupted run goes on
/// (`--checkpoint`).
///
/// A file a layer, `layer-NNNN.json`, bound to a hash of all that decides the result. Files of another
/// run are an error, not taken and not overwritten.
public struct Checkpoint: Sendable {
  private let folder: String
  private let key: String
  /// Writes a file whole or not at all.
  private let write: @Sendable (Bytes, String) throws(Diagnostic) -> Void

  private struct Entry: Codable {
    var version = 1
    var key: String
    var node: String
    var weight: Weight?
    var bias: Data?

    struct Weight: Codable {
      var name: String
      var values: Data
      var bitwidth: Int
      var symmetric: Bool
      var codes: [Int]
      var axis: Int?
      var block: [Int]?
      var scales: Data
      var offsets: [Int32]
    }
  }

  /// A folder that exists; `key` is a hash of graph, options and samples.
  public init(
    folder: String, key: String, write: @escaping @Sendable (Bytes, String) throws(Diagnostic) -> Void
  ) {
    self.folder = folder
    self.key = key
    self.write = write
  }

  private func path(_ index: Int) -> String {
    let digits = "\(index)"
    return "\(folder)/layer-\(String(repeating: "0", count: max(0, 4 - digits.count)))\(digits).json"
  }

  /// What is kept of layer number `index`; nil where nothing is.
  func update(_ index: Int, layer: String) throws(Diagnostic) -> LayerUpdate? {
    let path = path(index)
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    func damaged(_ message: String) -> Diagnostic {
      Diagnostic(
        "checkpoint", message, at: .init(file: path),
        hint: "remove the folder, or name another one with --checkpoint")
    }
    guard let entry = try? JSONDecoder().decode(Entry.self, from: data), entry.version == 1 else {
      throw damaged("this is no checkpoint of a layer")
    }
    guard entry.key == key, entry.node == layer else {
      throw damaged("the checkpoint is of another model, other options or other samples")
    }
    var update = LayerUpdate(node: entry.node)
    if let bias = entry.bias { update.bias = floats(bias) }
    if let weight = entry.weight {
      let scales = floats(weight.scales)
      guard scales.count == weight.offsets.count, weight.codes.count == 2, (2...32).contains(weight.bitwidth),
        weight.block == nil || weight.block?.count == 2
      else { throw damaged("the checkpoint is damaged") }
      let encoding = Encoding(
        bitwidth: weight.bitwidth, symmetric: weight.symmetric, axis: weight.axis,
        blocks: weight.block.map { EncodingBlocks(axis: $0[0], size: $0[1]) },
        channels: zip(scales, weight.offsets).map { ScaleOffset(scale: $0, offset: $1) },
        codeMin: weight.codes[0], codeMax: weight.codes[1])
      update.weight = .init(name: weight.name, values: floats(weight.values), encoding: encoding)
    }
    return update
  }

  /// Keeps what was found of layer number `index`.
  func keep(_ index: Int, _ update: LayerUpdate) throws(Diagnostic) {
    var entry = Entry(key: key, node: update.node)
    entry.bias = update.bias.map(data)
    if let weight = update.weight {
      // Low-power blocks have scales that are products: they would not come back the same.
      guard weight.encoding.blocks?.lowPower == nil else { return }
      entry.weight = Entry.Weight(
        name: weight.name, values: data(weight.values), bitwidth: weight.encoding.bitwidth,
        symmetric: weight.encoding.symmetric, codes: [weight.encoding.codeMin, weight.encoding.codeMax],
        axis: weight.encoding.axis, block: weight.encoding.blocks.map { [$0.axis, $0.size] },
        scales: data(weight.encoding.channels.map(\.scale)), offsets: weight.encoding.channels.map(\.offset))
    }
    guard let text = try? JSONEncoder().encode(entry) else {
      throw Diagnostic("checkpoint", "the checkpoint cannot be written", kind: .internal)
    }
    try write(Bytes(Array(text)), path(index))
  }

  private func data(_ values: [Float]) -> Data { values.withUnsafeBytes { Data($0) } }

  private func floats(_ data: Data) -> [Float] {
    let usable = data.count / 4 * 4
    var result = [Float](repeating: 0, count: usable / 4)
    result.withUnsafeMutableBytes { target in _ = data.prefix(usable).copyBytes(to: target) }
    return result
  }
}
