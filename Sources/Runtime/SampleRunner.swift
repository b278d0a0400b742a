import Glibc
import IR
import Synchronization

/// The wish to stop, expressed from anywhere (a signal handler, say) and seen between samples.
public enum Cancellation {
  private static let flag = Atomic<Bool>(false)

  /// Whether work in progress should end.
  public static var isRequested: Bool { flag.load(ordering: .relaxed) }

  /// Asks work in progress to end. Safe in a signal handler.
  public static func request() { flag.store(true, ordering: .relaxed) }

  /// Forgets the wish; for tests and programs that go on.
  public static func reset() { flag.store(false, ordering: .relaxed) }

  /// Throws where the wish is there.
  public static func check() throws(Diagnostic) {
    if isRequested { throw Diagnostic("cancelled", "interrupted", kind: .input) }
  }
}

/// Calls `body` for the samples 0 ..< `count` on `jobs` threads at most, each with a state of its own.
///
/// Samples are handed out in order to whichever thread is free. A failing sample keeps later ones from
/// starting; of all failures the one of the lowest sample is thrown, so that it does not depend on
/// `jobs`. With one job everything runs on the calling thread.
///
/// - Parameters:
///   - count: number of samples.
///   - jobs: number of threads wanted, at least 1; no more are made than there are samples.
///   - goesOn: whether a sample is still wanted; a thread that is told no ends.
///   - makeState: makes the state of thread 0, 1, ..., on that thread.
///   - body: handles one sample.
/// - Returns: the states of all threads in their order; how samples were spread over them is not
///   determined, so merge them by operations that do not depend on it.
public func runSamples<State>(
  count: Int, jobs: Int, goesOn: @Sendable (Int) -> Bool = { _ in true },
  makeState: @Sendable (Int) throws(Diagnostic) -> State,
  body: @Sendable (inout State, Int) throws(Diagnostic) -> Void
) throws(Diagnostic) -> [State] {
  let threads = max(1, min(jobs, count))
  let queue = SampleQueue(count: count)
  let slots = StateSlots<State>(count: threads)

  func work(_ thread: Int) {
    do throws(Diagnostic) {
      var state = try makeState(thread)
      while let sample = queue.next(), goesOn(sample) {
        do throws(Diagnostic) {
          try Cancellation.check()
          try body(&state, sample)
        } catch {
          queue.fail(sample, error)
        }
      }
      slots.set(thread, state)
    } catch {
      queue.fail(-1, error)
    }
  }

  if threads == 1 {
    work(0)
  } else {
    withoutActuallyEscaping(work) { runThreads(threads, $0) }
  }
  if let failure = queue.failure { throw failure }
  return slots.states
}

/// Hands out samples and collects failures.
private final class SampleQueue: Sendable {
  private struct State {
    var next = 0
    /// No sample from here on is handed out.
    var end: Int
    var failure: (sample: Int, error: Diagnostic)?
  }
  private let state: Mutex<State>

  init(count: Int) { state = Mutex(State(end: count)) }

  func next() -> Int? {
    state.withLock { state in
      guard state.next < state.end else { return nil }
      state.next += 1
      return state.next - 1
    }
  }

  func fail(_ sample: Int, _ error: Diagnostic) {
    state.withLock { state in
      if sample < state.failure?.sample ?? .max { state.failure = (sample, error) }
      state.end = min(state.end, max(sample, 0))
    }
  }

  var failure: Diagnostic? { state.withLock { $0.failure?.error } }
}

/// States of the threads. `@unchecked Sendable` because every thread writes its own slot only, and the
/// slots are read after all threads have ended.
private final class StateSlots<State>: @unchecked Sendable {
  private let slots: UnsafeMutableBufferPointer<State?>

  init(count: Int) {
    slots = .allocate(capacity: count)
    slots.initialize(repeating: nil)
  }

  deinit {
    slots.deinitialize()
    slots.deallocate()
  }

  func set(_ thread: Int, _ state: State) { slots[thread] = state }
  var states: [State] { slots.compactMap { $0 } }
}

/// What a thread needs to start.
private final class ThreadStart {
  let index: Int
  let work: (Int) -> Void
  init(_ index: Int, _ work: @escaping (Int) -> Void) {
    self.index = index
    self.work = work
  }
}

/// Calls `work` with 0 ..< `count`, each on a thread of its own (0 on the calling one), and waits.
/// Where the system refuses a thread, the remaining ones are left out: the others do their work.
private func runThreads(_ count: Int, _ work: @escaping (Int) -> Void) {
  var handles: [pthread_t] = []
  for index in 1..<count {
    var handle = pthread_t()
    let start = Unmanaged.passRetained(ThreadStart(index, work))
    let status = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        start.work(start.index)
        return nil
      }, start.toOpaque())
    guard status == 0 else {
      start.release()
      break
    }
    handles.append(handle)
  }
  work(0)
  for handle in handles { pthread_join(handle, nil) }
}
