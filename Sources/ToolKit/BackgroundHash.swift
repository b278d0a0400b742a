import Glibc
import IR

/// The hash of files, made on a thread of its own while the program does other things.
public final class BackgroundHash: @unchecked Sendable {
  // Written by the thread only, and read after it has ended.
  private var result: Result<String, Diagnostic>?
  private let paths: [String]
  private var thread: pthread_t?

  /// Starts hashing the files, one after the other.
  public init(of paths: [String]) {
    self.paths = paths
    var handle = pthread_t()
    let start = Unmanaged.passRetained(self)
    let status = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<BackgroundHash>.fromOpaque(argument).takeRetainedValue().work()
        return nil
      }, start.toOpaque())
    if status == 0 { thread = handle } else { start.release() }
  }

  private func work() {
    do throws(Diagnostic) {
      result = .success(try FileReading.sha256(of: paths))
    } catch {
      result = .failure(error)
    }
  }

  /// Waits for the hash, in hexadecimal digits. To be called by one thread.
  public func value() throws(Diagnostic) -> String {
    if let thread {
      pthread_join(thread, nil)
      self.thread = nil
    }
    if result == nil { work() }
    guard let result else { return "" }
    return try result.get()
  }
}
