import Glibc
import IR

/// Starts children, watches them and keeps what ends them.
final class FuzzParent {
  private let options: QFuzz
  private var found: [String: Int] = [:]
  private var state: String { "\(options.out)/state.\(options.target).\(options.seed)" }
  private var errors: String { "\(options.out)/stderr.\(options.target).\(options.seed)" }
  /// Wall seconds after which a child that makes no case is ended: it waits for something.
  private static let patience = 600

  init(options: QFuzz) { self.options = options }

  /// Runs until the time is up.
  func run() throws(Diagnostic) {
    var next = options.first
    var leaks = 0
    let start = now()
    var shown = start
    while now() - start < Double(options.seconds), found.count < options.most {
      let status = try runChild(from: next, until: start + Double(options.seconds))
      let numbers = readState()
      if status == .ended {
        next = numbers.number
        // Less than a byte a case is what buffers of the library grow by.
        if numbers.end - numbers.start > max(1 << 20, options.batch * 64) {
          leaks += 1
          say("leak: \(numbers.start) to \(numbers.end) bytes in cases up to \(next)")
        }
      } else if status == .stopped {
        next = numbers.number
      } else {
        try keep(numbers.number, status)
        next = numbers.number + 1
      }
      if now() - shown > 60 {
        shown = now()
        say("\(options.target): \(Int(shown - start)) s, \(next) cases, \(found.count) findings")
      }
    }
    for file in [state, errors] { unlink(file) }
    say(
      "\(options.target): \(Int(now() - start)) s, seed \(options.seed), cases \(options.first) to \(next), "
        + "\(found.count) findings (\(found.values.reduce(0, +)) cases), \(leaks) leaks")
    if !found.isEmpty || leaks > 0 { throw Diagnostic("findings", "there are findings", at: .init(file: options.out)) }
  }

  private enum End: Equatable {
    case ended, stopped
    case exit(Int32)
    case signal(Int32)
  }

  private func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  private func readState() -> (number: Int, start: Int, end: Int) {
    let bytes = Files.read(state)
    func load(_ place: Int) -> Int {
      bytes.count < place + 8 ? 0 : (0..<8).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
    }
    return (load(0), load(8), load(16))
  }

  private func runChild(from first: Int, until end: Double) throws(Diagnostic) -> End {
    try Files.write((0..<8).map { UInt8(truncatingIfNeeded: first >> (8 * $0)) }, to: state)
    let arguments = [
      "qfuzz", options.target, "--child", "--fixtures", options.fixtures, "--out", options.out, "--seed",
      "\(options.seed)", "--first", "\(first)", "--batch", "\(options.batch)", "--limit", "\(options.limit)",
      "--memory", "\(options.memory)",
    ]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process = pid_t()
    let failure = posix_spawn(&process, "/proc/self/exe", &actions, nil, &vector, environ)
    guard failure == 0 else {
      throw Diagnostic("child-failed", "the child cannot be started: \(String(cString: strerror(failure)))")
    }
    var last = (number: -1, time: now())
    while true {
      var status: Int32 = 0
      if waitpid(process, &status, WNOHANG) == process {
        if status & 0x7F == 0 {
          let code = status >> 8 & 0xFF
          if QFuzz.ownErrors.contains(where: { $0.rawValue == code }) {
            let said = String(decoding: Files.read(errors), as: UTF8.self)
            throw Diagnostic("child-failed", "the child cannot work: \(said)", kind: code == 73 ? .output : .usage)
          }
          return code == 0 ? .ended : .exit(code)
        }
        return .signal(status & 0x7F)
      }
      let number = readState().number
      if number != last.number { last = (number, now()) }
      let isStuck = now() - last.time > Double(FuzzParent.patience)
      if isStuck || now() > end {
        kill(process, SIGKILL)
        waitpid(process, &status, 0)
        return isStuck ? .signal(SIGKILL) : .stopped
      }
      usleep(20_000)
    }
  }

  /// Keeps the case with what the child said, once for every place in the program.
  private func keep(_ number: Int, _ end: End) throws(Diagnostic) {
    let text = String(decoding: Files.read(errors), as: UTF8.self)
    var signature = "\(end)"
    if end == .signal(SIGPROF) {
      signature += " \(number)"
    } else {
      // Frames read "3 [ra] 0x0000563c5d51b48a name in program at file:line".
      let frames = text.split(separator: "\n").filter { $0.contains(" in ") && $0.contains(" at /") }.map { line in
        let words = line.split(separator: " ")
        return words.drop { !$0.hasPrefix("0x") }.dropFirst().joined(separator: " ")
      }
      signature +=
        " "
        + frames.filter { !$0.contains("compiler-generated") && !$0.contains("/qfuzz/") }.prefix(3).joined(
          separator: "; ")
      if let words = text.split(separator: "\n").first(where: { $0.contains("Fatal error") }) {
        signature += " " + words.drop { $0 != " " }
      }
    }
    found[signature, default: 0] += 1
    guard found[signature] == 1 else { return }
    say("\(options.target): case \(number) of seed \(options.seed): \(signature.prefix(300))")
    let name = "\(options.out)/\(options.target)-\(options.seed)-\(number)"
    try Files.write(Array("\(end)\n\(text.suffix(8000))".utf8), to: "\(name).txt")
    var process = pid_t()
    let arguments = [
      "qfuzz", options.target, "--fixtures", options.fixtures, "--out", options.out, "--seed", "\(options.seed)",
      "--emit", "\(number)",
    ]
    var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    if posix_spawn(&process, "/proc/self/exe", nil, nil, &vector, environ) == 0 { waitpid(process, nil, 0) }
  }
}

/// Prints a line at once.
private func say(_ line: String) {
  let bytes = Array((line + "\n").utf8)
  _ = write(1, bytes, bytes.count)
}
