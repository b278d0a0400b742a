internal import CZlib
import Container

/// Changes containers by their members, whose checksums and sizes are made right again, so that the
/// change is seen by the reader of the member.
enum ArchiveMutator {
  private typealias Member = (name: String, content: [UInt8])

  /// The members of the container at `path`, whose bytes are `bytes`; nil where they cannot be found.
  static func members(of bytes: [UInt8], path: String) -> [(name: String, content: [UInt8])]? {
    guard let list = try? ContainerReader.members(path: path) else { return nil }
    return list.map { member in
      (member.name, Array(bytes[member.dataOffset..<member.dataOffset + member.storedSize]))
    }
  }

  /// A changed container; `other` lends parts.
  static func mutate(
    _ seed: [(name: String, content: [UInt8])], other: [(name: String, content: [UInt8])], _ random: inout Random
  ) -> [UInt8] {
    var members = seed
    for _ in 0...random.below(3) {
      guard !members.isEmpty else { break }
      let wanted = [
        "model", "model", "model", "qtools.json", "qtools.json", "model.params", "model.params.bin", "dlc.metadata",
      ]
      let name = wanted[random.below(wanted.count)]
      let place = members.firstIndex { $0.name == name } ?? random.below(members.count)
      let lent = other.first { $0.name == members[place].name }?.content ?? []
      switch random.below(40) {
      case 0: members.remove(at: place)
      case 1: members.append(members[place])
      case 2: members.swapAt(place, random.below(members.count))
      case 3: members[place].content = lent
      case 4: members[place].name = ["model.params.bin", "x", "", "../x", "model"][random.below(5)]
      default:
        if members[place].name.hasPrefix("model") {
          changeBuffer(&members[place].content, other: lent, &random)
        } else {
          members[place].content = TextMutator.mutate(members[place].content, other: lent, &random)
        }
      }
    }
    var bytes = archive(members, aligned: !random.one(in: 8))
    if random.one(in: 12) {
      // The directory lies at the end.
      let tail = min(bytes.count, 400)
      var end = Array(bytes.suffix(tail))
      ByteMutator.mutate(&end, &random)
      bytes.replaceSubrange((bytes.count - tail)..., with: end)
    }
    return bytes
  }

  /// Changes the offsets and numbers of a FlatBuffer behind its header of eight bytes.
  private static func changeBuffer(_ bytes: inout [UInt8], other: [UInt8], _ random: inout Random) {
    // Weights lie behind the structure.
    let size = min(bytes.count, random.one(in: 10) ? .max : 20_000)
    guard size >= 16, !random.one(in: 10) else {
      ByteMutator.mutate(&bytes, &random, other: other)
      return
    }
    func load(_ offset: Int, _ width: Int) -> UInt64 {
      (0..<width).reversed().reduce(0) { $0 << 8 | UInt64(bytes[offset + $1]) }
    }
    let width = [1, 2, 4, 4, 4, 4, 8][random.below(7)]
    let place = random.below((size - 8) / width) * width
    let old = load(place, width)
    let new: UInt64 =
      switch random.below(6) {
      case 0: old &+ UInt64(4 * random.below(16))
      case 1: old &- UInt64(4 * random.below(16))
      case 2: load(random.below((size - 8) / width) * width, width)
      case 3: UInt64(random.floatBits())
      case 4: other.count > place + width ? UInt64(other[place]) : 0
      default: random.integer(near: old)
      }
    for index in 0..<width { bytes[place + index] = UInt8(truncatingIfNeeded: new >> UInt64(8 * index)) }
  }

  /// An archive of stored members; `aligned`: data starts at 56 modulo 64.
  static func archive(_ members: [(name: String, content: [UInt8])], aligned: Bool) -> [UInt8] {
    var bytes: [UInt8] = []
    var directory: [UInt8] = []
    func little(_ value: Int, _ width: Int) -> [UInt8] {
      (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    for (name, content) in members {
      let sum = content.withUnsafeBufferPointer { Int(crc32_z(0, $0.baseAddress, $0.count)) }
      let start = bytes.count
      let names = Array(name.utf8)
      var extra: [UInt8] = []
      if aligned {
        var gap = (64 + 56 - (start + 30 + names.count) % 64) % 64
        while gap > 0, gap < 6 { gap += 64 }
        if gap > 0 { extra = little(0xD935, 2) + little(gap - 4, 2) + little(64, 2) + little(0, gap - 6) }
      }
      let common =
        little(10, 2) + little(0, 2) + little(0, 2) + little(0, 4) + little(sum, 4) + little(content.count, 4)
        + little(content.count, 4) + little(names.count, 2)
      bytes += little(0x0403_4B50, 4) + common + little(extra.count, 2) + names + extra + content
      directory += little(0x0201_4B50, 4) + little(0x032D, 2) + common + little(0, 2) + little(0, 2) + little(0, 2)
      directory += little(0, 2) + little(0, 4) + little(start, 4) + names
    }
    let start = bytes.count
    bytes += directory
    bytes += little(0x0605_4B50, 4) + little(0, 4) + little(members.count, 2) + little(members.count, 2)
    return bytes + little(directory.count, 4) + little(start, 4) + little(0, 2)
  }
}
