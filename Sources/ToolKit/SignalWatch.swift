import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Ends the program on INT, TERM and HUP: removes temporary outputs and exits with 128+n.
///
/// The signals are blocked in every thread (started before all others, whose masks are inherited) and
/// taken by one thread that waits for them, so that the clean-up is ordinary code. Signals ignored by
/// the parent (`nohup`) stay ignored.
public enum SignalWatch {
  private static let started = Mutex(false)
  private static let ending = Atomic(false)

  /// Waits for ever where a signal is ending the program, so that an error it causes elsewhere (a
  /// temporary file gone) does not decide the exit status.
  static func yieldIfEnding() {
    while ending.load(ordering: .acquiring) { pause() }
  }

  fileprivate static func markEnding() { ending.store(true, ordering: .releasing) }

  /// Starts the watching thread; once, and before any other thread is started.
  public static func start() {
    let first = started.withLock { started in
      defer { started = true }
      return !started
    }
    guard first else { return }
    // A write past a size limit is an error like a full disk.
    signal(SIGXFSZ, SIG_IGN)
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      var old = sigaction()
      let isIgnored = sigaction(number, nil, &old) == 0 && isIgnoring(old)
      if !isIgnored { sigaddset(&set, number) }
    }
    guard pthread_sigmask(SIG_BLOCK, &set, nil) == 0 else { return }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(SignalSet(set))
    let status = pthread_create(&thread, nil, watch, box.toOpaque())
    if status == 0 {
      pthread_detach(thread)
    } else {
      box.release()
      pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }
  }

  private static func isIgnoring(_ action: sigaction) -> Bool {
    #if canImport(Glibc)
      let handler = action.__sigaction_handler.sa_handler
    #else
      let handler = action.__sigaction_u.__sa_handler
    #endif
    return unsafeBitCast(handler, to: Int.self) == 1
  }
}

private final class SignalSet {
  var set: sigset_t
  init(_ set: sigset_t) { self.set = set }
}

private func watch(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let argument else { return nil }
  let box = Unmanaged<SignalSet>.fromOpaque(argument).takeRetainedValue()
  var signal: Int32 = 0
  while sigwait(&box.set, &signal) != 0 {}
  SignalWatch.markEnding()
  TemporaryFiles.removeAll()
  Console.standard.draw("")
  _exit(128 + signal)
}
