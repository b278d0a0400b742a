import Foundation
import IR
import Testing

@testable import Container

@Suite struct RoundTripTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  var full: ContainerFile {
    ContainerFile(
      graph: richGraph(),
      metadata: ContainerMetadata(
        modelVersion: "1=2", converterCommand: "qtools --a b", converterVersion: "0.1",
        modelCopyright: "first\nsecond=x\n"),
      annotations: ContainerAnnotations(
        options: ["a/b": "c", "Z": ""], modelHash: "12", calibrationHash: "34",
        calibrationCount: 5),
      foreignMembers: [ForeignMember(name: "notes/größe.txt", bytes: Bytes([UInt8]([1, 2, 3])))])
  }

  @Test(arguments: [Int.max, 0])
  func everythingComesBack(inlineLimit: Int) throws {
    try ContainerWriter.write(full, to: scratch.path(), inlineLimit: inlineLimit)
    let back = try ContainerReader.read(
      path: scratch.path(), registry: probes, checkParameters: true)
    #expect(fingerprint(back.graph) == fingerprint(full.graph))
    #expect(back.metadata == full.metadata)
    #expect(back.annotations == full.annotations)
    #expect(back.foreignMembers.map(\.name) == ["notes/größe.txt"])
    #expect(back.foreignMembers.first?.bytes.array(of: UInt8.self) == [1, 2, 3])
    #expect(ContainerReader.verify(path: scratch.path(), registry: probes) == [])

    // Writing what was read gives the same bytes, over the very file it is mapped from.
    let before = try scratch.bytes()
    try ContainerWriter.write(back, to: scratch.path(), inlineLimit: inlineLimit)
    #expect(try scratch.bytes() == before)
    #expect(scratch.names == ["model.dlc"])
  }

  @Test func whatEqualizationDidComesBack() throws {
    var file = full
    file.graph.channelScales = ["last": [0.5, 4]]
    file.graph.channelShifts = ["last": [0, -1.5], "w": [3, 2]]
    try ContainerWriter.write(file, to: scratch.path())
    let back = try ContainerReader.read(path: scratch.path(), registry: probes).graph
    #expect(back.channelScales == file.graph.channelScales && back.channelShifts == file.graph.channelShifts)
    for shifts in [[1], [.nan, 0]] as [[Float]] {
      file.graph.channelShifts = ["last": shifts]
      try ContainerWriter.write(file, to: scratch.path())
      #expect {
        try ContainerReader.read(path: scratch.path(), registry: probes)
      } throws: { ($0 as? Diagnostic)?.message.contains("the shifts are damaged") == true }
    }
  }

  @Test func tensorBytesAreAligned() throws {
    for limit in [Int.max, 0] {
      try ContainerWriter.write(full, to: scratch.path(), inlineLimit: limit)
      let back = try ContainerReader.read(path: scratch.path(), registry: probes)
      for tensor in back.graph.tensors where !tensor.type.element.isPacked {
        if let constant = tensor.constant {
          #expect(Int(bitPattern: constant.stored.base) % 64 == 0, "\(tensor.name)")
        }
      }
    }
  }

  @Test func membersAreInOrderAndStored() throws {
    try ContainerWriter.write(full, to: scratch.path())
    let members = try ContainerReader.members(path: scratch.path())
    #expect(
      members.map(\.name)
        == ["dlc.metadata", "model", "model.params", "qtools.json", "notes/größe.txt"])
    #expect(members.allSatisfy { $0.size == $0.storedSize })
    #expect(members[2].dataOffset % 64 == 56)
    #expect(members.map(\.isKnown) == [true, true, true, true, false])
  }

  @Test func infoDoesNotNeedTheParameters() throws {
    try ContainerWriter.write(full, to: scratch.path())
    let member = try ContainerReader.members(path: scratch.path())[2]
    var bytes = try scratch.bytes()
    for index in 0..<member.size { bytes[member.dataOffset + index] = 0xEE }
    try scratch.store(bytes)
    let info = try ContainerReader.openInfo(path: scratch.path(), registry: probes)
    #expect(info.graph.nodes.map(\.op.attributes) == full.graph.nodes.map(\.op.attributes))
    #expect(
      info.staticTensors.map(\.index)
        == full.graph.tensors.indices.filter { full.graph.tensors[$0].constant != nil })
    #expect(info.metadata == full.metadata)
    #expect(
      diagnostic { () throws(Diagnostic) in
        _ = try ContainerReader.read(path: scratch.path(), registry: probes)
      }?.code == "container-magic")
  }

  @Test func zip64ArchivesAreRead() throws {
    let output = try AtomicFile(path: scratch.path("big.zip"))
    let archive = ZipWriter(output, threshold: 40)
    try archive.add("small", Bytes([UInt8]([1])))
    try archive.add("large", Bytes([UInt8](repeating: 7, count: 50)), alignment: .data)
    try archive.add("last", Bytes([UInt8]([9])))
    try archive.finish()
    try output.commit()
    let zip = try ZipReader(MappedFile(path: scratch.path("big.zip")))
    #expect(zip.entries.map(\.name) == ["small", "large", "last"])
    #expect(zip.entries.map(\.size) == [1, 50, 1])
    #expect(zip.entries[1].dataOffset % 64 == 0)
    for entry in zip.entries { _ = try zip.content(of: entry, limit: 100) }
  }

  @Test(arguments: [DataType.bfloat16, .int4, .uint4])
  func typesTheFormatLacksAreRefused(type: DataType) {
    var graph = tinyGraph()
    let odd = TensorType(type, [1])
    let constant = Constant(type: odd, bytes: Bytes([UInt8](repeating: 0, count: 8)))
    graph.outputs.append(graph.add(Tensor(name: "odd", type: odd, constant: constant)))
    let path = scratch.path()
    let found = diagnostic { () throws(Diagnostic) in
      try ContainerWriter.write(ContainerFile(graph: graph), to: path)
    }
    #expect(found?.code == "container-type")
    #expect(found?.location.tensor == "odd")
    #expect(scratch.names.isEmpty)
  }

  @Test func aFullDiskLeavesNothing() throws {
    try ContainerWriter.write(full, to: scratch.path("old.dlc"))
    let old = try scratch.bytes("old.dlc")
    let path = scratch.path("old.dlc")
    let other = ContainerFile(graph: tinyGraph())
    for capacity in stride(from: 0, to: 2500, by: 50) {
      let found = diagnostic { () throws(Diagnostic) in
        try ContainerWriter.write(other, to: path, inlineLimit: .max, capacity: UInt64(capacity))
      }
      #expect(found?.kind == .output, "\(capacity)")
      #expect(scratch.names == ["old.dlc"])
      #expect(try scratch.bytes("old.dlc") == old)
    }
    let missing = diagnostic { () throws(Diagnostic) in
      try ContainerWriter.write(other, to: scratch.path("no/such/file.dlc"))
    }
    #expect(missing?.kind == .output)
  }

  @Test(arguments: [
    (TensorType(.sfixed4, [3, 2]), Int?.none, 3), (TensorType(.sfixed4, [3, 2]), 0, 3),
    (TensorType(.sfixed4, [3, 2]), 1, 4), (TensorType(.ufixed4, [5]), nil, 3),
    (TensorType(.ufixed4, [0, 4]), 1, 0),
  ])
  func nibblesPack(type: TensorType, axis: Int?, count: Int) {
    let signed = type.element == .sfixed4
    let codes = (0..<type.count).map { (index: Int) -> UInt8 in
      signed ? UInt8(bitPattern: Int8(index * 3 % 16 - 8)) : UInt8(index * 3)
    }
    let packing = NibblePacking(shape: type.shape, axis: axis)
    let packed = packing.pack(Bytes(codes))
    #expect(packed.count == count)
    #expect(packing.unpack(packed, signed: signed).array(of: UInt8.self) == codes)
  }

  /// The specification's vectors.
  @Test func nibbleVectors() {
    #expect(
      NibblePacking(shape: [2], axis: nil).pack(Bytes([UInt8]([10, 4]))).array(of: UInt8.self) == [0x4A])
    let shape = [3, 3, 3, 32]
    let codes = (0..<(27 * 32)).map { UInt8($0 % 15 + 1) }
    let packed = NibblePacking(shape: shape, axis: 3).pack(Bytes(codes)).array(of: UInt8.self)
    #expect(packed.count == 32 * 14)
    #expect(Encoding.packedByteCount(shape: shape, axis: 3) == packed.count)
    for channel in 0..<32 {
      let bytes = packed[(channel * 14)..<(channel * 14 + 14)]
      let nibbles = bytes.flatMap { [$0 & 15, $0 >> 4] }
      #expect(nibbles == (0..<27).map { codes[$0 * 32 + channel] } + [0])
    }
  }

  @Test func channelMajorNibbles() {
    let packed = NibblePacking(shape: [3, 2], axis: 1).pack(Bytes([UInt8]([1, 2, 3, 4, 5, 6])))
    #expect(packed.array(of: UInt8.self) == [0x31, 0x05, 0x42, 0x06])
  }
}
