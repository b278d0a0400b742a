import IR

@testable import Container

/// Builds archives that the writer would not: any method, flag, name, place.
struct HostileArchive {
  struct Member {
    var name: String
    var data: [UInt8]
    var method: UInt16 = 0
    var flags: UInt16 = 0
    var size: Int?
    var sum: UInt32?
    /// Name in the local header, where it is another.
    var localName: String?
    /// Uses the local header of this earlier member.
    var shares: Int?
    /// Size and checksum follow the data.
    var hasDescriptor = false
  }
  var members: [Member] = []
  var comment: [UInt8] = []
  var prefix: [UInt8] = []
  var directorySlack = 0
  var count: UInt16?
  var disk: UInt16 = 0

  func bytes() -> [UInt8] {
    var file = prefix
    var directory: [UInt8] = []
    var offsets: [Int] = []
    for member in members {
      let offset = member.shares.map { offsets[$0] } ?? file.count
      offsets.append(offset)
      let flags = member.flags | (member.hasDescriptor ? 8 : 0)
      let sum = member.sum ?? Bytes(member.data).withBuffer { checksum($0) }
      let size = member.size ?? member.data.count
      func common(_ name: String, _ local: Bool) -> [UInt8] {
        var fields: [UInt8] = []
        fields.appendLittle(UInt16(20))
        fields.appendLittle(flags)
        fields.appendLittle(member.method)
        fields.appendLittle(UInt32(0))
        let hidden = local && member.hasDescriptor
        fields.appendLittle(hidden ? 0 : sum)
        fields.appendLittle(UInt32(hidden ? 0 : member.data.count))
        fields.appendLittle(UInt32(hidden ? 0 : size))
        fields.appendLittle(UInt16(name.utf8.count))
        fields.appendLittle(UInt16(0))
        return fields
      }
      if member.shares == nil {
        let name = member.localName ?? member.name
        file.appendLittle(ZipFormat.localSignature)
        file += common(name, true) + Array(name.utf8) + member.data
        if member.hasDescriptor {
          file.appendLittle(sum)
          file.appendLittle(UInt32(member.data.count))
          file.appendLittle(UInt32(size))
        }
      }
      directory.appendLittle(ZipFormat.centralSignature)
      directory.appendLittle(UInt16(20))
      directory += common(member.name, false)
      directory += [UInt8](repeating: 0, count: 10)
      directory.appendLittle(UInt32(offset))
      directory += Array(member.name.utf8)
    }
    let start = file.count
    file += directory + [UInt8](repeating: 0, count: directorySlack)
    file.appendLittle(ZipFormat.endSignature)
    file.appendLittle(disk)
    file.appendLittle(disk)
    file.appendLittle(count ?? UInt16(members.count))
    file.appendLittle(count ?? UInt16(members.count))
    file.appendLittle(UInt32(directory.count))
    file.appendLittle(UInt32(start))
    file.appendLittle(UInt16(comment.count))
    return file + comment
  }

  /// A deflate stream of one stored block.
  static func deflate(_ data: [UInt8]) -> [UInt8] {
    let length = UInt16(data.count)
    var stream: [UInt8] = [1]
    stream.appendLittle(length)
    stream.appendLittle(~length)
    return stream + data
  }
}
