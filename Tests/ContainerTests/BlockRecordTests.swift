import Foundation
import IR
import Testing

@testable import Container

/// Records of block-wise and low-power blockwise encodings.
@Suite struct BlockRecordTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  /// A constant of each storage with blocks, and one of the float form.
  private var graph: Graph {
    var graph = tinyGraph()
    func add(_ name: String, _ type: TensorType, _ encoding: Encoding) {
      var tensor = Tensor(name: name, type: type)
      tensor.constant = Constant(
        type: type,
        bytes: Bytes(
          type.element == .float32
            ? [UInt8](repeating: 0, count: type.byteCount)
            : (0..<type.count).map { UInt8(truncatingIfNeeded: ($0 * 5) % 15 - (encoding.symmetric ? 7 : 0)) }))
      tensor.encoding = encoding
      tensor.encodingSource = .calibrated
      tensor.state = .given
      let id = graph.add(tensor)
      graph.outputs.append(id)
    }
    let symmetric = (0..<6).map { ScaleOffset(scale: 0.25 * Float($0 + 1), offset: -8) }
    let other = (0..<6).map { ScaleOffset(scale: 0.5, offset: Int32(-$0)) }
    let blocks = EncodingBlocks(axis: 1, size: 2)
    let low = LowPowerScales(
      channelScales: [0.3, 0.7, 1.1], factors: [13, 7, 16, 1, 5, 11], decompressedBitwidth: 8)
    add(
      "bytes", TensorType(.sfixed8, [3, 3]),
      Encoding(bitwidth: 4, symmetric: true, axis: 0, blocks: blocks, channels: symmetric, codeMin: 1))
    add(
      "packed", TensorType(.ufixed4, [3, 3]),
      Encoding(bitwidth: 4, axis: 0, blocks: blocks, channels: other))
    add(
      "rows", TensorType(.sfixed4, [3, 2]),
      Encoding(
        bitwidth: 4, symmetric: true, axis: 1, blocks: EncodingBlocks(axis: 0, size: 1),
        channels: symmetric))
    add(
      "low", TensorType(.sfixed4, [3, 5]),
      Encoding(bitwidth: 4, axis: 0, blockAxis: 1, blockSize: 3, lowPower: low))
    add(
      "float", TensorType(.float32, [5, 3]),
      Encoding(bitwidth: 4, axis: 1, blockAxis: 0, blockSize: 4, lowPower: low))
    return graph
  }

  private func contents(inlineLimit: Int = .max) throws -> HostileArchive {
    try ContainerWriter.write(
      ContainerFile(graph: graph), to: scratch.path(), inlineLimit: inlineLimit)
    let zip = try ZipReader(MappedFile(path: scratch.path()))
    var archive = HostileArchive()
    archive.members = try zip.entries.map { entry in
      .init(name: entry.name, data: try zip.content(of: entry, limit: .max).array(of: UInt8.self))
    }
    return archive
  }

  private func code(_ archive: HostileArchive) throws -> String? {
    try scratch.store(archive.bytes(), as: "hostile.dlc")
    let path = scratch.path("hostile.dlc")
    let full = diagnostic { () throws(Diagnostic) in
      _ = try ContainerReader.read(path: path, registry: probes)
    }
    let brief = diagnostic { () throws(Diagnostic) in
      _ = try ContainerReader.openInfo(path: path, registry: probes)
    }
    if full == nil { #expect(brief == nil) }
    return full?.code
  }

  @Test(arguments: [Int.max, 0])
  func everyFormComesBack(inlineLimit: Int) throws {
    let file = ContainerFile(graph: graph)
    #expect(graph.verify().map(\.message) == [])
    try ContainerWriter.write(file, to: scratch.path(), inlineLimit: inlineLimit)
    let back = try ContainerReader.read(path: scratch.path(), registry: probes, checkParameters: true)
    #expect(fingerprint(back.graph) == fingerprint(file.graph))
    #expect(ContainerReader.verify(path: scratch.path(), registry: probes) == [])
    let info = try ContainerReader.openInfo(path: scratch.path(), registry: probes)
    #expect(info.graph.tensors.map(\.encoding) == file.graph.tensors.map(\.encoding))
    let before = try scratch.bytes()
    try ContainerWriter.write(back, to: scratch.path(), inlineLimit: inlineLimit)
    #expect(try scratch.bytes() == before)
    #expect(
      try ContainerReader.members(path: scratch.path()).map(\.name)
        == ["dlc.metadata", "model", "model.params", "model.params.bin", "qtools.json"])
  }

  /// Only what block-wise encodings need goes to model.params.bin: three lists of two kinds.
  @Test func numbersAreAligned() throws {
    let archive = try contents()
    let bin = try #require(archive.members.first { $0.name == "model.params.bin" })
    #expect(bin.data.count == 5 * 64 + 24)
    #expect(bin.data[0..<4].elementsEqual([0, 0, 0x80, 0x3E]))
    #expect(archive.members[1].data[4] == 1 && archive.members[2].data[4] == 1)
  }

  @Test func numbersOutsideTheFileAreRefused() throws {
    let archive = try contents()
    let index = try #require(archive.members.firstIndex { $0.name == "model.params.bin" })
    var without = archive
    without.members.remove(at: index)
    #expect(try code(without) == "container-range")
    var short = archive
    short.members[index].data.removeLast()
    #expect(try code(short) == "container-range")
    for (bits, expected) in [
      (Float.nan.bitPattern, "container-encoding"), (0, "container-encoding"),
      (Float(-1).bitPattern, "container-encoding"), (Float.infinity.bitPattern, "container-encoding"),
      (Float(2).bitPattern, nil),
    ] {
      var changed = archive
      for byte in 0..<4 {
        changed.members[index].data[4 + byte] = UInt8(truncatingIfNeeded: bits >> (8 * byte))
      }
      #expect(try code(changed) == expected, "\(bits)")
    }
  }

  @Test func badFactorsAreRefused() throws {
    let archive = try contents()
    let factors: [UInt8] = [13, 0, 7, 0, 16, 0, 1, 0, 5, 0, 11, 0]
    let model = archive.members[1].data
    let places = model.indices.dropLast(12).filter { model[$0..<($0 + 12)].elementsEqual(factors) }
    #expect(places.count == 2)
    for place in places {
      for (value, expected) in [(0, "container-encoding"), (17, "container-encoding"), (2, nil)]
        as [(UInt8, String?)]
      {
        var changed = archive
        changed.members[1].data[place + 2] = value
        #expect(try code(changed) == expected)
      }
    }
    let scale = Float(0.7).bitPattern
    let bytes = (0..<4).map { UInt8(truncatingIfNeeded: scale >> (8 * $0)) }
    let at = try #require(model.indices.dropLast(4).first { model[$0..<($0 + 4)].elementsEqual(bytes) })
    var changed = archive
    changed.members[1].data.replaceSubrange(at..<(at + 4), with: [0, 0, 0xC0, 0x7F])
    #expect(try code(changed) == "container-encoding")
  }

  /// Any value anywhere gives a sound graph or a diagnostic.
  @Test(arguments: [UInt8(0x02), 0xFF])
  func noByteDoesHarm(value: UInt8) throws {
    let archive = try contents()
    for member in [1, 3] {
      for position in archive.members[member].data.indices
      where archive.members[member].data[position] != value {
        var damaged = archive
        damaged.members[member].data[position] = value
        if let found = try code(damaged) { #expect(!found.isEmpty) }
      }
    }
  }
}
