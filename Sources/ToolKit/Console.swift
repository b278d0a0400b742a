import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Standard error, shared by messages and the progress line so that they do not mix.
public final class Console: Sendable {
  /// Receives whole pieces of text; replaced in tests.
  public typealias Sink = @Sendable (String) -> Void

  /// Whether a progress line can be drawn over.
  public let isTerminal: Bool
  /// Whether colours are wanted: a terminal, and no NO_COLOR in the environment.
  public let hasColor: Bool
  private let sink: Sink
  /// The progress line on the screen, empty where there is none.
  private let line = Mutex("")

  /// The process's standard error.
  public static let standard = Console(
    isTerminal: isatty(STDERR_FILENO) == 1, noColor: environmentFlag("NO_COLOR"),
    sink: { writeAll($0, to: STDERR_FILENO) })

  /// A console that writes into `sink`.
  public init(isTerminal: Bool, noColor: Bool, sink: @escaping Sink) {
    self.isTerminal = isTerminal
    self.hasColor = isTerminal && !noColor
    self.sink = sink
  }

  /// Prints text and a line end; a progress line is moved below it.
  public func print(_ text: String) {
    line.withLock { line in
      sink(line.isEmpty ? text + "\n" : "\r\u{1B}[K\(text)\n\(line)")
    }
  }

  /// Draws `text` over the last line; empty text removes it. For terminals only.
  func draw(_ text: String) {
    line.withLock { line in
      if line.isEmpty && text.isEmpty { return }
      sink("\r\u{1B}[K\(text)")
      line = text
    }
  }

  /// `text` in a colour (an SGR number), where colours are wanted.
  func colored(_ text: String, _ color: Int) -> String {
    hasColor ? "\u{1B}[\(color)m\(text)\u{1B}[0m" : text
  }
}

/// Whether an environment variable is set and not empty.
private func environmentFlag(_ name: String) -> Bool {
  guard let value = getenv(name) else { return false }
  return value.pointee != 0
}

/// Writes text whole; false where the descriptor takes no more.
@discardableResult
func writeAll(_ text: String, to descriptor: Int32) -> Bool {
  var text = text
  return text.withUTF8 { bytes in
    var done = 0
    while done < bytes.count {
      let written = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
      if written < 0, errno == EINTR { continue }
      if written <= 0 { return false }
      done += written
    }
    return true
  }
}
