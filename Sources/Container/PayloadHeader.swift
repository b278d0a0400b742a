import IR

/// The eight bytes in front of each FlatBuffer: magic, generation, minor.
enum PayloadHeader {
  static let size = 8
  /// The generation we write and read.
  static let generation: UInt16 = 4

  static func bytes(minor: UInt16) -> [UInt8] {
    var header: [UInt8] = [0xD5, 0x0A]
    header.appendLittle(generation)
    header.appendLittle(minor)
    header.appendLittle(UInt16(0))
    return header
  }

  /// Checks the header and the FlatBuffers identifier of a member's content; gives the minor number.
  static func check(_ content: UnsafeRawBufferPointer, identifier: String, member: String)
    throws(Diagnostic) -> UInt16
  {
    let bytes = LittleEndian(buffer: content)
    guard let magic = bytes.load(0, UInt16.self), let found = bytes.load(2, UInt16.self),
      let minor = bytes.load(4, UInt16.self), let rest = bytes.load(6, UInt16.self),
      content.count >= size + 8
    else {
      throw ContainerFailure.input(
        "short-payload", "\(content.count) bytes are too few for a payload", member: member, byte: 0)
    }
    guard magic == 0x0AD5, rest & 0xFF == 0 else {
      throw ContainerFailure.input(
        "magic", "the payload does not begin with D5 0A", member: member, byte: 0,
        hint: "the file is damaged or no DLC")
    }
    guard found == generation, minor <= 1 else {
      throw ContainerFailure.input(
        "generation", "generation \(found).\(minor) is not supported", member: member, byte: 2,
        hint: "convert the model again; generation 4 is what qtools reads and writes")
    }
    guard content[12..<16].elementsEqual(identifier.utf8) else {
      let name = String(decoding: content[12..<16], as: UTF8.self)
      throw ContainerFailure.input(
        "identifier", "the payload is \(name.debugDescription) instead of \(identifier)",
        member: member, byte: 12)
    }
    return minor
  }
}
