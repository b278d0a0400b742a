@testable import Calibration
import IR
import Quantizer
import Testing

@Suite struct ObserverTests {
  private func observed(_ values: ArraySlice<Float>) -> MinMaxObserver {
    var result = MinMaxObserver()
    Array(values).withUnsafeBufferPointer { result.observe($0) }
    return result
  }

  private func values(_ count: Int, _ random: inout SplitMix, special: Bool) -> [Float] {
    (0..<count).map { _ in
      switch Int.random(in: 0..<40, using: &random) {
      case 0: 0
      case 1: -0.0
      case 2 where special: .nan
      case 3 where special: .infinity
      default: Float.random(in: -100...100, using: &random)
      }
    }
  }

  @Test(arguments: [0, 1, 15, 16, 17, 4095, 4096, 4097, 10_000], [false, true])
  func matchesThePlainLoop(count: Int, special: Bool) {
    var random = SplitMix(state: UInt64(count))
    let list = values(count, &random, special: special)
    let seen = observed(list[...])
    let finite = list.filter(\.isFinite)
    #expect(seen.count == count)
    #expect(seen.minimum == finite.min() ?? .infinity)
    #expect(seen.maximum == finite.max() ?? -.infinity)
    #expect(seen.zeros == finite.count { $0 == 0 })
    #expect(seen.nonFinite == count - finite.count)
    #expect(seen.firstNonFinite == list.firstIndex { !$0.isFinite })
  }

  /// Any split, merged, is the whole; the empty observer is neutral; merging is associative.
  @Test(arguments: 0..<20) func monoidLaws(seed: Int) {
    var random = SplitMix(state: UInt64(seed))
    let list = values(Int.random(in: 0..<9000, using: &random), &random, special: seed % 2 == 1)
    let cuts = (0..<2).map { _ in Int.random(in: 0...list.count, using: &random) }.sorted()
    let parts = [
      observed(list[..<cuts[0]]), observed(list[cuts[0]..<cuts[1]]), observed(list[cuts[1]...]),
    ]
    let whole = observed(list[...])
    var left = MinMaxObserver()
    for part in parts { left.merge(part) }
    var tail = parts[1]
    tail.merge(parts[2])
    var right = parts[0]
    right.merge(tail)
    right.merge(MinMaxObserver())
    #expect(left == whole)
    #expect(right == whole)
    if seed % 2 == 0 {
      var turned = parts[2]
      turned.merge(parts[0])
      turned.merge(parts[1])
      #expect(turned == whole)
    }
  }

  @Test func zeroHasNoSign() {
    #expect(observed([-0.0]).minimum.sign == .plus)
    #expect(observed([-0.0, -1]).maximum.sign == .plus)
  }
}

@Suite struct SHA256Tests {
  private func hex(_ text: String) -> String {
    SHA256.hex(Array(text.utf8).withUnsafeBytes { SHA256.hash($0) })
  }

  /// Examples that NIST publishes with FIPS 180-4.
  @Test func publishedVectors() {
    #expect(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(
      hex(String(repeating: "a", count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  @Test func everySplitGivesTheSameDigest() {
    let text = Array(String(repeating: "0123456789", count: 20).utf8)
    let whole = text.withUnsafeBytes { SHA256.hash($0) }
    for cut in 0...text.count {
      var hasher = SHA256()
      text.withUnsafeBytes { bytes in
        hasher.update(UnsafeRawBufferPointer(rebasing: bytes[..<cut]))
        hasher.update(UnsafeRawBufferPointer(rebasing: bytes[cut...]))
      }
      #expect(hasher.finalize() == whole)
    }
  }

  @Test func calibrationHashAddsModulo() throws {
    var hash = CalibrationHash()
    hash.add(digest: [UInt8](repeating: 0xFF, count: 32))
    #expect(hash.hex == String(repeating: "f", count: 64))
    hash.add(digest: [UInt8](repeating: 0, count: 31) + [2])
    #expect(hash.hex == String(repeating: "0", count: 63) + "1")
    #expect(CalibrationHash(hex: hash.hex) == hash)
    #expect(CalibrationHash(hex: "12") == nil)
  }
}
