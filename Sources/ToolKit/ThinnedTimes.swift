/// Times of any number of runs in bounded memory: all of them up to a limit, then every second, every fourth one.
/// The least and the largest are always among them.
public struct ThinnedTimes: Sendable {
  private let limit: Int
  private var kept: [Double] = []
  private var stride = 1
  private var least = Double.infinity
  private var largest = -Double.infinity
  /// Number of times that were added.
  public private(set) var count = 0

  /// No times yet; at most `limit` are kept, an even number.
  public init(limit: Int = 1 << 20) { self.limit = limit }

  /// Adds a time.
  public mutating func add(_ time: Double) {
    defer { count += 1 }
    (least, largest) = (min(least, time), max(largest, time))
    guard count % stride == 0 else { return }
    kept.append(time)
    guard kept.count == limit else { return }
    kept = Swift.stride(from: 0, to: limit, by: 2).map { kept[$0] }
    stride *= 2
  }

  /// What is kept, without an order; empty where nothing was added.
  public var times: [Double] { stride == 1 ? kept : kept + [least, largest] }
}
