/// The ranges of the indices along an axis of a dense tensor, whose values come in pieces of any length, in order.
package struct ChannelRangeObserver {
  private let channels: Int
  private let inner: Int
  private var low: [Float]
  private var high: [Float]
  /// Channel of the next value, and its place inside the run of that.
  private var channel = 0
  private var place = 0

  /// An observer of a tensor of `shape`.
  package init(shape: [Int], axis: Int) {
    channels = shape[axis]
    inner = shape[(axis + 1)...].reduce(1, *)
    low = [Float](repeating: .infinity, count: channels)
    high = [Float](repeating: -.infinity, count: channels)
  }

  /// Adds the next values, which are finite.
  package mutating func observe(_ values: UnsafeBufferPointer<Float>) {
    var start = 0
    while start < values.count {
      if inner == 1 {
        let count = min(channels - channel, values.count - start)
        observeRow(values, start, count)
        start += count
        channel += count
        if channel == channels { channel = 0 }
      } else {
        let count = min(inner - place, values.count - start)
        var (least, most) = (low[channel], high[channel])
        for index in start..<start + count {
          // Zero is always the positive one.
          let value = values[index] + 0
          least = value < least ? value : least
          most = value > most ? value : most
        }
        (low[channel], high[channel]) = (least, most)
        start += count
        place += count
        if place == inner {
          place = 0
          channel = channel + 1 == channels ? 0 : channel + 1
        }
      }
    }
  }

  /// Neighbouring values of neighbouring channels.
  private mutating func observeRow(_ values: UnsafeBufferPointer<Float>, _ start: Int, _ count: Int) {
    let first = channel
    low.withUnsafeMutableBufferPointer { low in
      high.withUnsafeMutableBufferPointer { high in
        for index in 0..<count {
          let value = values[start + index] + 0
          let (least, most) = (low[first + index], high[first + index])
          low[first + index] = value < least ? value : least
          high[first + index] = value > most ? value : most
        }
      }
    }
  }

  /// The range of each channel; zero where there are no values.
  package var ranges: [ClosedRange<Float>] { zip(low, high).map { $0 <= $1 ? $0...$1 : 0...0 } }
}

/// The range of each index along an axis of a dense tensor with finite values.
package func channelRanges(_ values: [Float], shape: [Int], axis: Int) -> [ClosedRange<Float>] {
  var seen = ChannelRangeObserver(shape: shape, axis: axis)
  values.withUnsafeBufferPointer { seen.observe($0) }
  return seen.ranges
}
