import Synchronization

/// Shows how far long work has come: a bar with rate and time left on a terminal, elsewhere a plain
/// line at most every 10 s. May be advanced from any thread.
public final class Progress: Sendable {
  private struct State {
    var done = 0
    var lastShown: ContinuousClock.Instant
    var finished = false
  }

  private let title: String
  private let total: Int
  private let unit: String
  private let console: Console
  private let enabled: Bool
  private let start: ContinuousClock.Instant
  private let now: @Sendable () -> ContinuousClock.Instant
  private let state: Mutex<State>

  /// Progress of `total` units called `unit`; shows nothing where it is not `enabled`.
  public init(
    _ title: String, total: Int, unit: String = "samples", enabled: Bool = true,
    console: Console = .standard,
    now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
  ) {
    self.title = title
    self.total = total
    self.unit = unit
    self.console = console
    self.enabled = enabled && total > 0
    self.now = now
    start = now()
    state = Mutex(State(lastShown: start))
  }

  /// Reports that `count` more units are done.
  public func advance(by count: Int = 1) {
    guard enabled else { return }
    let interval: Duration = console.isTerminal ? .milliseconds(100) : .seconds(10)
    state.withLock { state in
      state.done += count
      let time = now()
      guard time - state.lastShown >= interval, !state.finished else { return }
      state.lastShown = time
      let line = text(done: state.done, elapsed: seconds(time - start))
      if console.isTerminal { console.draw(line) } else { console.print(line) }
    }
  }

  /// Removes the bar. Nothing is shown after.
  public func finish() {
    state.withLock { state in
      if enabled, !state.finished, console.isTerminal { console.draw("") }
      state.finished = true
    }
  }

  private func text(done: Int, elapsed: Double) -> String {
    let rate = elapsed > 0 ? Double(done) / elapsed : 0
    let left = rate > 0 ? Double(max(total - done, 0)) / rate : 0
    let tail =
      "\(done)/\(total) \(unit), \(fixed(rate, digits: rate < 10 ? 1 : 0))/s, \(clock(left)) left"
    guard console.isTerminal else { return "\(title): \(tail)" }
    let width = 24
    let filled = min(width, done * width / max(total, 1))
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
    return "\(title) [\(bar)] \(tail)"
  }

  private func clock(_ seconds: Double) -> String {
    let whole = Int(min(seconds, 1e9).rounded(.up))
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }
}

/// A duration in seconds.
public func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}
