/// The range of each index along an axis of a dense tensor with finite values.
package func channelRanges(_ values: [Float], shape: [Int], axis: Int) -> [ClosedRange<Float>] {
  let channels = shape[axis]
  let inner = shape[(axis + 1)...].reduce(1, *)
  var low = [Float](repeating: .infinity, count: channels)
  var high = [Float](repeating: -.infinity, count: channels)
  guard !values.isEmpty, inner > 0 else {
    return [ClosedRange<Float>](repeating: 0...0, count: channels)
  }
  var start = 0
  while start < values.count {
    if inner == 1 {
      for channel in 0..<channels {
        let value = values[start + channel] + 0
        low[channel] = value < low[channel] ? value : low[channel]
        high[channel] = value > high[channel] ? value : high[channel]
      }
      start += channels
    } else {
      for channel in 0..<channels {
        for value in values[start..<(start + inner)] {
          low[channel] = min(low[channel], value + 0)
          high[channel] = max(high[channel], value + 0)
        }
        start += inner
      }
    }
  }
  return zip(low, high).map { $0...$1 }
}
