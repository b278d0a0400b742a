import CIntegers
import COneDNN
import IR
import Operators

/// Memory of a packed constant, zeros at first, beside those of oneDNN. `@unchecked Sendable` because it is written
/// only before it is shared.
final class PackedConstant: @unchecked Sendable {
  let address: UnsafeMutableRawPointer
  let byteCount: Int
  private let owner: UnsafeMutableRawPointer

  /// Throws where there is no memory.
  init(byteCount: Int) throws(Diagnostic) {
    var owner: UnsafeMutableRawPointer?
    guard let address = qdnn_constant_allocate(byteCount, &owner), let owner else {
      throw Diagnostic("memory", "no memory for \(byteCount) bytes of packed weights")
    }
    (self.address, self.byteCount, self.owner) = (address, byteCount, owner)
  }

  deinit { qdnn_constant_free(owner) }
}

/// A copy of an activation with a border around it, or with gaps between its pixels.
struct PaddedCopy: Sendable, Hashable {
  /// Input and padded shape, [N, D, H, W, C], and the pads before.
  let input: [Int]
  let padded: [Int]
  let before: [Int]
  /// Elements behind the copy that are read too, whatever they hold.
  var slack = 0

  /// Elements, those behind it included.
  var count: Int { padded.reduce(1, *) + slack }

  /// Copies `source` into the middle of `target` and puts `value` around it.
  func fill<Element>(
    _ value: Element, _ source: UnsafePointer<Element>, _ target: UnsafeMutablePointer<Element>
  ) {
    var to = target
    for n in 0..<input[0] {
      for z in 0..<padded[1] {
        for y in 0..<padded[2] {
          let (plane, line) = (z - before[0], y - before[1])
          if (0..<input[1]).contains(plane), (0..<input[2]).contains(line) {
            let start = ((n * input[1] + plane) * input[2] + line) * input[3] * input[4]
            fillLine(value, source + start, to)
          } else {
            to.update(repeating: value, count: padded[3] * padded[4])
          }
          to += padded[3] * padded[4]
        }
      }
    }
    to.update(repeating: value, count: slack)
  }

  private func fillLine<Element>(
    _ value: Element, _ source: UnsafePointer<Element>, _ target: UnsafeMutablePointer<Element>
  ) {
    let (left, right) = (before[2] * padded[4], (padded[3] - before[2] - input[3]) * padded[4])
    target.update(repeating: value, count: left)
    if input[4] == padded[4] {
      (target + left).update(from: source, count: input[3] * input[4])
    } else {
      for x in 0..<input[3] {
        (target + left + x * padded[4]).update(from: source + x * input[4], count: input[4])
      }
    }
    (target + left + input[3] * padded[4]).update(repeating: value, count: right)
  }
}

/// How the window of a convolution of one group walks over a channel-last input, for a kernel that holds some
/// neighbouring pixels by some channels in registers: sums over runs of neighbouring bytes.
struct PackedWindow: Sendable {
  /// Bytes from the start of a window to each run.
  let runs: [Int]
  /// Bytes of a run, of one or more positions of the window.
  let runLength: Int
  /// Bytes that are read of a run: whole groups of four.
  let packedLength: Int
  /// Bytes between the windows of neighbouring pixels.
  let step: Int
  /// Segments of the output: the last one of a line may overlap the one before.
  let segments: [qint_segment]
  /// Pixels of a segment.
  let segmentLength: Int
  /// The copy that the windows walk over, where they leave the input.
  let copy: PaddedCopy?

  /// `input` and `output` are [N, D, H, W, C]. nil where lines are shorter than a segment may be.
  init?(input: [Int], output: [Int], window: WindowGeometry) {
    var padded = input
    for axis in 0..<3 {
      let reach = (output[axis + 1] - 1) * window.stride[axis] + (window.filter[axis] - 1) * window.dilation[axis] + 1
      padded[axis + 1] = max(input[axis + 1] + window.pads[2 * axis], reach)
    }
    guard padded.reduce(1.0, { $0 * Double($1) }) <= 0x1p31 else { return nil }
    // Pixels of a segment would share a set of the first cache, which holds fewer.
    let collides = window.stride[2] * input[4] % Self.cacheSet == 0
    if collides { padded[4] += Self.cacheLine }
    let strides = [padded[1] * padded[2] * padded[3], padded[2] * padded[3], padded[3], 1].map { $0 * padded[4] }
    let isDense = window.dilation[2] == 1 && (!collides || window.filter[2] == 1)
    var runs: [Int] = []
    for z in 0..<window.filter[0] {
      for y in 0..<window.filter[1] {
        let start = z * window.dilation[0] * strides[1] + y * window.dilation[1] * strides[2]
        for x in 0..<(isDense ? 1 : window.filter[2]) { runs.append(start + x * window.dilation[2] * strides[3]) }
      }
    }
    self.runs = runs
    runLength = (isDense ? window.filter[2] : 1) * input[4]
    packedLength = (runLength + Self.quad - 1) / Self.quad * Self.quad
    let step = window.stride[2] * strides[3]
    self.step = step
    let slack = packedLength - runLength
    copy =
      padded == input && slack == 0
      ? nil
      : PaddedCopy(
        input: input, padded: padded, before: [0, 2, 4].map { window.pads[$0] }, slack: slack)

    // Where every pixel is a window of its own all lines are one.
    let isFlat = Array(padded[..<4]) == Array(output[..<4]) && window.filter == [1, 1, 1]
    let width = isFlat ? output[..<4].reduce(1, *) : output[3]
    guard let length = Self.segmentLength(width) else { return nil }
    segmentLength = length

    var list: [qint_segment] = []
    func addLine(_ start: Int, _ number: Int) {
      for first in stride(from: 0, to: width, by: length) {
        let x = min(first, width - length)
        list.append(qint_segment(in: start + x * step, out: number * width + x))
      }
    }
    if isFlat {
      addLine(0, 0)
    } else {
      var number = 0
      for n in 0..<output[0] {
        for z in 0..<output[1] {
          for y in 0..<output[2] {
            addLine(n * strides[0] + z * window.stride[0] * strides[1] + y * window.stride[1] * strides[2], number)
            number += 1
          }
        }
      }
    }
    segments = list
  }

  /// Bytes that are multiplied together.
  private static let quad = 4

  /// Bytes after which addresses share a set of the first cache, and those of a line.
  private static let (cacheSet, cacheLine) = (4096, 64)

  /// The length of segments that computes fewest pixels of a line twice, the longest one of those; nil where lines
  /// are too short.
  private static func segmentLength(_ width: Int) -> Int? {
    let lengths = (Int(qint_shortest_segment)...Int(qint_longest_segment)).reversed().filter { $0 <= width }
    return lengths.min { computed($0, width) < computed($1, width) }
  }

  private static func computed(_ length: Int, _ width: Int) -> Int { (width + length - 1) / length * length }

  /// The share of computed products that is of use; 0 where lines are too short. `input` and `output` are
  /// [N, D, H, W, C].
  static func efficiency(input: [Int], output: [Int], window: WindowGeometry) -> Double {
    let isFlat = window.filter == [1, 1, 1] && Array(input[..<4]) == Array(output[..<4])
    let width = isFlat ? output[..<4].reduce(1, *) : output[3]
    guard let length = segmentLength(width) else { return 0 }
    let run = (window.dilation[2] == 1 ? window.filter[2] : 1) * input[4]
    func share(_ count: Int, of unit: Int) -> Double { Double(count) / Double((count + unit - 1) / unit * unit) }
    return share(width, of: length) * share(run, of: quad) * share(output[4], of: Int(qint_channel_block))
  }

  /// The least ``efficiency(input:output:window:)`` that is worth it.
  static let leastEfficiency = 0.8

  /// Calls `body` with the window as the C kernel takes it.
  func withPointers(channels: Int, block: Int, _ body: (UnsafePointer<qint_window>) -> Void) {
    runs.withUnsafeBufferPointer { runs in
      segments.withUnsafeBufferPointer { segments in
        guard let run = runs.baseAddress, let segment = segments.baseAddress else { return }
        var window = qint_window(
          runs: run, run_count: runs.count, run_length: packedLength, step: step,
          segments: segment, segment_count: segments.count, segment_length: segmentLength, block: block,
          channels: channels)
        body(&window)
      }
    }
  }

  /// Segments that see all channels before the next ones do, so that they stay in the first cache, or in the second
  /// one where weights of `weightBytes` do not stay there themselves.
  func block(weightBytes: Int) -> Int {
    let room = weightBytes < 400_000 ? 20_000 : 250_000
    return max(4, room / (segmentLength * step * runs.count) / 2 * 2)
  }
}
