import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Seconds spent in the phases of a run, for `--timing`.
public final class Timing: Sendable {
  private let phases = Mutex<[(name: String, seconds: Double)]>([])
  private let start = ContinuousClock.now

  /// Starts the clock.
  public init() {}

  /// Runs `body` and books its time under `name`; phases of the same name add up.
  public func measure<Result, Failure: Error>(
    _ name: String, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let begin = ContinuousClock.now
    defer { book(name, seconds(ContinuousClock.now - begin)) }
    return try body()
  }

  private func book(_ name: String, _ time: Double) {
    phases.withLock { phases in
      if let index = phases.firstIndex(where: { $0.name == name }) {
        phases[index].seconds += time
      } else {
        phases.append((name, time))
      }
    }
  }

  /// The table: a line a phase in order of first use, the total, the peak memory.
  public var table: String {
    var table = TextTable(["phase", "seconds"], alignment: [.left, .right])
    for phase in phases.withLock({ $0 }) { table.add([phase.name, fixed(phase.seconds, digits: 3)]) }
    table.add(["total", fixed(seconds(ContinuousClock.now - start), digits: 3)])
    return table.text + "\npeak memory \(byteText(peakMemory()))"
  }
}

/// Largest resident size of this process so far, in bytes.
public func peakMemory() -> Int {
  var usage = rusage()
  guard getrusage(__rusage_who_t(0), &usage) == 0 else { return 0 }
  return usage.ru_maxrss * 1024
}
