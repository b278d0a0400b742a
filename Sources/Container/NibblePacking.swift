import IR

/// Two 4-bit codes a byte, low nibble first. Per tensor in row-major order; per channel the bytes of
/// each channel follow each other, its values in row-major order of the other axes, and an odd count
/// ends with a zero nibble.
struct NibblePacking {
  /// Elements of one channel, and channels.
  private let inner: Int
  private let channels: Int
  private let outer: Int

  /// For a dense tensor of `shape`; `axis` where its encoding is per channel.
  init(shape: [Int], axis: Int?) {
    if let axis, shape.indices.contains(axis) {
      outer = shape[..<axis].reduce(1, *)
      channels = shape[axis]
      inner = shape[(axis + 1)...].reduce(1, *)
    } else {
      outer = 1
      channels = 1
      inner = shape.reduce(1, *)
    }
  }

  private var bytesPerChannel: Int { (outer * inner + 1) / 2 }

  /// Bytes of the packed tensor, by ``Encoding/packedByteCount(shape:axis:)``.
  var packedCount: Int { channels * bytesPerChannel }

  /// Calls `body` with (position of the element in the dense tensor, number of its nibble).
  private func forEach(_ body: (Int, Int) -> Void) {
    for channel in 0..<channels {
      var nibble = channel * bytesPerChannel * 2
      for block in 0..<outer {
        let start = (block * channels + channel) * inner
        for element in start..<(start + inner) {
          body(element, nibble)
          nibble += 1
        }
      }
    }
  }

  /// The packed form of a tensor with one code a byte.
  func pack(_ dense: Bytes) -> Bytes {
    Bytes(count: packedCount) { target in
      dense.withBuffer { source in
        forEach { element, nibble in
          target[nibble / 2] |= (source[element] & 0xF) << UInt8(nibble % 2 * 4)
        }
      }
    }
  }

  /// The tensor with one code a byte; `signed` codes are sign-extended. `packed` has at least
  /// ``packedCount`` bytes.
  func unpack(_ packed: Bytes, signed: Bool) -> Bytes {
    Bytes(count: outer * channels * inner) { target in
      packed.withBuffer { source in
        forEach { element, nibble in
          let code = source[nibble / 2] >> UInt8(nibble % 2 * 4) & 0xF
          target[element] = signed && code >= 8 ? code | 0xF0 : code
        }
      }
    }
  }
}
