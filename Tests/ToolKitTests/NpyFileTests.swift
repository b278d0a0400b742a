import IR
import Testing

@testable import ToolKit

@Suite("NumPy array files")
struct NpyFileTests {
  static func file(_ header: String, version: UInt8 = 1, length: Int? = nil) -> [UInt8] {
    let count = length ?? header.utf8.count
    var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8) + [version, 0]
    bytes += [UInt8(count & 0xFF), UInt8(count >> 8 & 0xFF)]
    if version > 1 { bytes += [UInt8(count >> 16 & 0xFF), UInt8(count >> 24 & 0xFF)] }
    return bytes + Array(header.utf8)
  }

  static let plain = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n"

  @Test("versions 1 to 3", arguments: [UInt8(1), 2, 3])
  func versions(_ version: UInt8) throws {
    let parsed = try NpyFile(start: Self.file(Self.plain, version: version))
    #expect(parsed.descr == "<f4")
    #expect(parsed.element == .float32)
    #expect(!parsed.fortranOrder)
    #expect(parsed.shape == [2, 3])
    #expect(parsed.dataOffset == Self.plain.utf8.count + (version == 1 ? 10 : 12))
  }

  @Test("key order, double quotes, no blanks, scalars")
  func variants() throws {
    let header = "{\"shape\":(),\"fortran_order\":True,\"descr\":\"|u1\"}"
    let parsed = try NpyFile(start: Self.file(header))
    #expect(parsed.shape.isEmpty && parsed.fortranOrder && parsed.element == .uint8)
    let one = "{'descr': '<i8', 'fortran_order': False, 'shape': (5,)}"
    #expect(try NpyFile(start: Self.file(one)).shape == [5])
  }

  static let broken: [(String, [UInt8])] = [
    ("empty", []), ("text", Array("hello world, this is text".utf8)),
    ("only magic", Array(file(plain)[..<6])), ("version 9", file(plain, version: 9)),
    ("header cut", Array(file(plain)[..<40])), ("length too long", file(plain, length: 4000)),
    ("length enormous", file(plain, version: 2, length: 0x7FFF_FFFF)),
    ("no dictionary", file("descr = <f4")), ("missing key", file("{'descr': '<f4'}")),
    ("strange key", file("{'descr': '<f4', 'x': 1}")),
    ("key twice", file("{'descr': '<f4', 'descr': '<f4'}")),
    ("structured", file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}")),
    ("open quote", file("{'descr': '<f4}")),
    ("not a tuple", file("{'descr': '<f4', 'fortran_order': False, 'shape': 3}")),
    ("negative", file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}")),
    ("overflow", file("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}")),
    ("digits", file("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}")),
    ("truth", file("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}")),
    ("tail", file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x")),
  ]

  @Test("broken headers are refused", arguments: broken.indices)
  func refuses(_ index: Int) {
    #expect(throws: Diagnostic.self, "\(Self.broken[index].0)") {
      try NpyFile(start: Self.broken[index].1)
    }
  }

  @Test("every truncation of a good header is refused")
  func truncations() {
    let whole = Self.file(Self.plain)
    for count in 0..<whole.count {
      #expect(throws: Diagnostic.self) { try NpyFile(start: Array(whole[..<count])) }
    }
  }

  @Test("what is written reads back, elements aligned to 64")
  func roundTrip() throws {
    for shape in [[], [4], [2, 2], [1, 2, 2, 1]] {
      let count = shape.reduce(1, *)
      let type = TensorType(.float32, shape)
      let bytes = Bytes((0..<count).map { Float($0) })
      let file = try #require(NpyFile.encoded(type, bytes)).array(of: UInt8.self)
      let parsed = try NpyFile(start: file)
      #expect(parsed.shape == shape && parsed.element == .float32 && !parsed.fortranOrder)
      #expect(parsed.dataOffset % 64 == 0)
      #expect(file.count == parsed.dataOffset + count * 4)
    }
  }
}
