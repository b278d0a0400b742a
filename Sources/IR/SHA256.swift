internal import CDigest

/// SHA-256 (FIPS 180-4), incremental. Used for content hashes, not for secrets.
public struct SHA256: Sendable {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab,
    0x5be0_cd19,
  ]
  /// Bytes that do not fill a block yet; always fewer than 64.
  private var pending: [UInt8] = []
  private var length: UInt64 = 0

  /// The state before any byte.
  public init() { pending.reserveCapacity(64) }

  /// Takes more bytes of the message.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    length &+= UInt64(bytes.count)
    var rest = bytes[...]
    if !pending.isEmpty {
      let taken = rest.prefix(64 - pending.count)
      pending.append(contentsOf: taken)
      rest = rest.dropFirst(taken.count)
      guard pending.count == 64 else { return }
      pending.withUnsafeBytes { compressBlocks($0, into: &state) }
      pending.removeAll(keepingCapacity: true)
    }
    let whole = rest.count & ~63
    if whole > 0 {
      compressBlocks(UnsafeRawBufferPointer(rebasing: rest.prefix(whole)), into: &state)
    }
    pending.append(contentsOf: rest.dropFirst(whole))
  }

  /// Takes the UTF-8 bytes of a text.
  public mutating func update(_ text: String) {
    var text = text
    text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
  }

  /// The digest of everything taken, 32 bytes. The value itself can go on taking bytes.
  public func finalize() -> [UInt8] {
    var tail = pending
    tail.append(0x80)
    while tail.count % 64 != 56 { tail.append(0) }
    withUnsafeBytes(of: (length &* 8).bigEndian) { tail.append(contentsOf: $0) }
    var final = state
    tail.withUnsafeBytes { compressBlocks($0, into: &final) }
    return final.flatMap { word in withUnsafeBytes(of: word.bigEndian) { [UInt8]($0) } }
  }

  /// The digest of one run of bytes.
  public static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var hasher = SHA256()
    hasher.update(bytes)
    return hasher.finalize()
  }

  /// Lower-case hexadecimal digits of a digest.
  public static func hex(_ digest: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in digest {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }
}

private let roundConstants: [UInt32] = [
  0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4,
  0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe,
  0x9bdc_06a7, 0xc19b_f174, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f,
  0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7,
  0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc,
  0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85, 0xa2bf_e8a1, 0xa81a_664b,
  0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070, 0x19a4_c116,
  0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
  0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7,
  0xc671_78f2,
]

@inline(__always)
private func rotateRight(_ word: UInt32, _ count: UInt32) -> UInt32 {
  word &>> count | word &<< (32 &- count)
}

/// One round; the caller renames the working variables instead of moving them.
@inline(__always)
private func round(
  _ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: inout UInt32, _ e: UInt32, _ f: UInt32,
  _ g: UInt32, _ h: inout UInt32, _ input: UInt32
) {
  let sum1 = rotateRight(e, 6) ^ rotateRight(e, 11) ^ rotateRight(e, 25)
  let choice = g ^ (e & (f ^ g))
  let first = h &+ sum1 &+ choice &+ input
  let sum0 = rotateRight(a, 2) ^ rotateRight(a, 13) ^ rotateRight(a, 22)
  let majority = (a & b) | (c & (a | b))
  d = d &+ first
  h = first &+ sum0 &+ majority
}

/// Runs the compression function over a whole number of 64-byte blocks.
func compressBlocks(_ blocks: UnsafeRawBufferPointer, into state: inout [UInt32]) {
  guard let start = blocks.baseAddress else { return }
  if !digest_sha256(&state, start, blocks.count / 64) { compressPortably(blocks, into: &state) }
}

/// ``compressBlocks(_:into:)`` without instructions for it.
func compressPortably(_ blocks: UnsafeRawBufferPointer, into state: inout [UInt32]) {
  guard var block = blocks.baseAddress else { return }
  roundConstants.withUnsafeBufferPointer { constants in
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { schedule in
      guard let k = constants.baseAddress, let w = schedule.baseAddress else { return }
      for _ in 0..<(blocks.count / 64) {
        for index in 0..<16 {
          w[index] = UInt32(
            bigEndian: block.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
        }
        for index in 16..<64 {
          let near = w[index &- 2]
          let far = w[index &- 15]
          let sigma1 = rotateRight(near, 17) ^ rotateRight(near, 19) ^ near &>> 10
          let sigma0 = rotateRight(far, 7) ^ rotateRight(far, 18) ^ far &>> 3
          w[index] = w[index &- 16] &+ sigma0 &+ w[index &- 7] &+ sigma1
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        var (e, f, g, h) = (state[4], state[5], state[6], state[7])
        var index = 0
        while index < 64 {
          round(a, b, c, &d, e, f, g, &h, k[index] &+ w[index])
          round(h, a, b, &c, d, e, f, &g, k[index &+ 1] &+ w[index &+ 1])
          round(g, h, a, &b, c, d, e, &f, k[index &+ 2] &+ w[index &+ 2])
          round(f, g, h, &a, b, c, d, &e, k[index &+ 3] &+ w[index &+ 3])
          round(e, f, g, &h, a, b, c, &d, k[index &+ 4] &+ w[index &+ 4])
          round(d, e, f, &g, h, a, b, &c, k[index &+ 5] &+ w[index &+ 5])
          round(c, d, e, &f, g, h, a, &b, k[index &+ 6] &+ w[index &+ 6])
          round(b, c, d, &e, f, g, h, &a, k[index &+ 7] &+ w[index &+ 7])
          index &+= 8
        }
        state[0] &+= a
        state[1] &+= b
        state[2] &+= c
        state[3] &+= d
        state[4] &+= e
        state[5] &+= f
        state[6] &+= g
        state[7] &+= h
        block += 64
      }
    }
  }
}
