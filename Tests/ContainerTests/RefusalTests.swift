import Foundation
import IR
import Testing

@testable import Container

/// One hostile or foreign file for each diagnostic.
@Suite struct RefusalTests {
  let scratch: Scratch
  /// Contents of a sound container's members.
  let contents: [(String, [UInt8])]

  init() throws {
    scratch = try Scratch()
    try ContainerWriter.write(ContainerFile(graph: tinyGraph()), to: scratch.path())
    let zip = try ZipReader(MappedFile(path: scratch.path()))
    contents = try zip.entries.map { entry in
      (entry.name, try zip.content(of: entry, limit: .max).array(of: UInt8.self))
    }
  }

  private func archive(_ change: (inout HostileArchive) -> Void = { _ in }) -> [UInt8] {
    var archive = HostileArchive()
    archive.members = contents.map { HostileArchive.Member(name: $0.0, data: $0.1) }
    change(&archive)
    return archive.bytes()
  }

  private func code(_ bytes: [UInt8]) throws -> String? {
    try scratch.store(bytes, as: "hostile.dlc")
    let path = scratch.path("hostile.dlc")
    return diagnostic { () throws(Diagnostic) in
      _ = try ContainerReader.read(path: path, registry: probes)
    }?.code
  }

  @Test func otherWritersArchivesAreRead() throws {
    #expect(try code(archive()) == nil)
    #expect(try code(archive { $0.comment = Array("hello PK".utf8) }) == nil)
    #expect(try code(archive { $0.members.reverse() }) == nil)
    #expect(
      try code(
        archive { archive in
          for index in archive.members.indices { archive.members[index].hasDescriptor = true }
        }) == nil)
    #expect(
      try code(
        archive { archive in
          for index in archive.members.indices { deflate(&archive.members[index]) }
        }) == nil)
  }

  private func deflate(_ member: inout HostileArchive.Member) {
    member.sum = Bytes(member.data).withBuffer { checksum($0) }
    member.size = member.data.count
    member.data = HostileArchive.deflate(member.data)
    member.method = 8
  }

  @Test func zipRefusals() throws {
    #expect(try code([]) == "container-not-zip")
    #expect(try code(Array("no zip at all, but long enough".utf8)) == "container-not-zip")
    #expect(try code(archive { $0.members[1].flags = 1 }) == "container-encrypted")
    #expect(try code(archive { $0.members[1].method = 12 }) == "container-method")
    #expect(try code(archive { $0.members.append($0.members[0]) }) == "container-duplicate-member")
    #expect(
      try code(archive { $0.members.append(.init(name: "model", data: [], shares: 1)) })
        == "container-duplicate-member")
    #expect(try code(archive { $0.members[0].localName = "model.bin!!!" }) == "container-bad-header")
    #expect(try code(archive { $0.directorySlack = 1 }) == "container-bad-directory")
    #expect(try code(archive { $0.count = 3 }) == "container-bad-directory")
    #expect(try code(archive { $0.count = 5 }) == "container-bad-directory")
    #expect(try code(archive { $0.disk = 1 }) == "container-several-disks")
    #expect(try code(archive { $0.members[1].sum = 1 }) == "container-checksum")
    #expect(try code(archive { $0.members[1].size = 1 }) == "container-bad-directory")
    #expect(try code(archive { $0.members[0].name = "a\u{0}b" }) == "container-bad-name")
    #expect(try code(archive { $0.prefix = [0x50, 0x4B, 0, 0] }) == nil)
  }

  @Test func overlapIsRefused() throws {
    // The second member's directory record points into the first one's data, where a header lies.
    let inner = HostileArchive(members: [.init(name: "in", data: [1, 2])]).bytes()
    var bytes = HostileArchive(members: [
      .init(name: "a", data: inner), .init(name: "in", data: [1, 2]),
    ]).bytes()
    let record = try #require(lastRecord(bytes))
    let inside = UInt32(30 + 1)
    for byte in 0..<4 { bytes[record + 42 + byte] = UInt8(truncatingIfNeeded: inside >> (8 * byte)) }
    #expect(try code(bytes) == "container-overlap")
  }

  private func lastRecord(_ bytes: [UInt8]) -> Int? {
    bytes.indices.dropLast(4).last { bytes[$0..<($0 + 4)].elementsEqual([0x50, 0x4B, 1, 2]) }
  }

  @Test func deflateRefusals() throws {
    func broken(_ change: (inout HostileArchive.Member) -> Void) throws -> String? {
      try code(
        archive { archive in
          deflate(&archive.members[1])
          change(&archive.members[1])
        })
    }
    #expect(try broken { $0.size = 1 << 31 } == "container-deflate-bomb")
    #expect(try broken { $0.size = ($0.size ?? 0) - 1 } == "container-deflate")
    #expect(try broken { $0.size = ($0.size ?? 0) + 1 } == "container-deflate")
    #expect(try broken { $0.data[0] = 7 } == "container-deflate")
    #expect(try broken { $0.data.append(0) } == "container-deflate")
    #expect(try broken { $0.data.removeLast() } == "container-deflate")
  }

  @Test(arguments: [
    (0, UInt8(0), "container-magic"), (2, 3, "container-generation"),
    (2, 5, "container-generation"), (4, 2, "container-generation"), (6, 1, "container-magic"),
    (12, 0x58, "container-identifier"), (8, 0xFF, "container-verifier"),
  ])
  func payloadRefusals(position: Int, value: UInt8, expected: String) throws {
    for member in [1, 2] {
      #expect(try code(archive { $0.members[member].data[position] = value }) == expected)
    }
  }

  @Test func memberRefusals() throws {
    #expect(try code(archive { $0.members.remove(at: 1) }) == "container-missing-member")
    #expect(try code(archive { $0.members.remove(at: 2) }) == "container-missing-member")
    #expect(try code(archive { $0.members[1].data = [1] }) == "container-short-payload")
    #expect(try code(archive { $0.members[3].data = Array("{".utf8) }) == "container-sidecar")
    let later = Array(#"{"version": 2}"#.utf8)
    #expect(try code(archive { $0.members[3].data = later }) == "container-sidecar-version")
    #expect(try code(archive { $0.members[0].data = [0xFF] }) == "container-metadata")
  }

  @Test func sidecarIsOptional() throws {
    try scratch.store(archive { $0.members.remove(at: 3) }, as: "plain.dlc")
    let path = scratch.path("plain.dlc")
    let back = try ContainerReader.read(path: path, registry: probes)
    #expect(fingerprint(back.graph) == fingerprint(tinyGraph()))
    let info = try ContainerReader.openInfo(path: path, registry: probes)
    #expect(info.graph.nodes.first?.op.attributes == Probe().attributes)
  }

  @Test func unknownOperatorsAreNamed() throws {
    let found = diagnostic { () throws(Diagnostic) in
      _ = try ContainerReader.read(path: scratch.path(), registry: OperatorRegistry([]))
    }
    #expect(found?.code == "unknown-operator")
    #expect(found?.location.member == "model" && found?.location.node == "n")
    #expect(found?.location.byte != nil && found?.location.file != nil)
  }

  @Test func encodingsAgainstData() throws {
    var graph = tinyGraph()
    let type = TensorType(.ufixed8, [2])
    graph.tensors[1].type = type
    graph.tensors[1].constant = Constant(type: type, bytes: Bytes([UInt8]([1, 250])))
    graph.tensors[1].encoding = Encoding(
      bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: 0)], codeMax: 200)
    try ContainerWriter.write(ContainerFile(graph: graph), to: scratch.path("codes.dlc"))
    let found = ContainerReader.verify(path: scratch.path("codes.dlc"), registry: probes)
    #expect(found.map(\.code) == ["container-code-range"])
  }
}
