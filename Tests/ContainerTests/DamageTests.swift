import Foundation
import IR
import Testing

@testable import Container

@Suite struct DamageTests {
  let scratch: Scratch
  let bytes: [UInt8]
  let reference: [String]

  init() throws {
    scratch = try Scratch()
    let foreign = ForeignMember(name: "x", bytes: Bytes([UInt8]([1])))
    let file = ContainerFile(graph: tinyGraph(), foreignMembers: [foreign])
    try ContainerWriter.write(file, to: scratch.path())
    bytes = try scratch.bytes()
    reference = fingerprint(file.graph)
  }

  /// Reads damaged bytes: the fingerprint or the diagnostic.
  private func outcome(_ damaged: [UInt8], check: Bool) throws -> Result<[String], Diagnostic> {
    try scratch.store(damaged, as: "damaged.dlc")
    do throws(Diagnostic) {
      let file = try ContainerReader.read(
        path: scratch.path("damaged.dlc"), registry: probes, checkParameters: check)
      _ = try ContainerReader.openInfo(path: scratch.path("damaged.dlc"), registry: probes)
      return .success(fingerprint(file.graph))
    } catch {
      return .failure(error)
    }
  }

  @Test func truncationIsNoticedAtEveryByte() throws {
    for length in bytes.indices {
      guard case .failure(let found) = try outcome(Array(bytes[..<length]), check: true) else {
        Issue.record("\(length) bytes were enough")
        return
      }
      #expect(found.location.file != nil && !found.code.isEmpty)
    }
  }

  @Test(arguments: [UInt8(0x01), 0x80, 0xFF])
  func everyMutationIsHarmless(mask: UInt8) throws {
    for position in bytes.indices {
      var damaged = bytes
      damaged[position] ^= mask
      if case .success(let graph) = try outcome(damaged, check: true) {
        #expect(graph == reference, "byte \(position)")
      }
    }
  }

  /// With the checksum made good again, what is behind it has to cope.
  @Test(arguments: ["model", "model.params", "qtools.json", "dlc.metadata"])
  func everyMutationBehindTheChecksumIsSurvived(member: String) throws {
    let zip = try ZipReader(MappedFile(path: scratch.path()))
    let entry = try #require(zip.entry(named: member))
    let record = try #require(centralRecord(of: member))
    for position in entry.dataOffset..<(entry.dataOffset + entry.size) {
      for value: UInt8 in [0x00, 0x01, 0x7F, 0x80, 0xFF, bytes[position] ^ 0x04] {
        var damaged = bytes
        damaged[position] = value
        let content = Bytes(Array(damaged[entry.dataOffset..<(entry.dataOffset + entry.size)]))
        let sum = content.withBuffer { checksum($0) }
        for place in [entry.headerOffset + 14, record + 16] {
          for byte in 0..<4 { damaged[place + byte] = UInt8(truncatingIfNeeded: sum >> (8 * byte)) }
        }
        if case .failure(let found) = try outcome(damaged, check: true) {
          #expect(found.code != "container-checksum")
        }
      }
    }
  }

  private func centralRecord(of name: String) -> Int? {
    let wanted = Array(name.utf8)
    return bytes.indices.dropLast(46).first { start in
      bytes[start..<(start + 4)].elementsEqual([0x50, 0x4B, 1, 2])
        && Int(bytes[start + 28]) == wanted.count
        && bytes[(start + 46)...].starts(with: wanted)
    }
  }
}
