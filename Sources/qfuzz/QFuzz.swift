import ArgumentParser
import CSystem
import Glibc
import IR
import ToolKit

/// Feeds mutated input to a reader, in a child process that is started again where it ends, and keeps
/// what ended it. See docs/fuzzing.md.
@main
struct QFuzz: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "qfuzz", abstract: "Feeds mutated input to the readers of qtools and keeps what ends them.")

  static var targets: [any FuzzTarget.Type] {
    [
      ONNXTarget.self, ContainerTarget.self, DocumentTarget.self, InputTarget.self,
    ]
  }

  @Argument(help: ArgumentHelp("One of onnx, container, documents, inputs.", valueName: "target"))
  var target: String
  @Option(help: "Folder of the corpus.")
  var fixtures = "Fixtures"
  @Option(help: "Folder for what is found.")
  var out = "fuzz-found"
  @Option(help: "Seconds to run.")
  var seconds = 60
  @Option(help: "Seed of the mutations.")
  var seed: UInt64 = 1
  @Option(help: "First case.")
  var first = 0
  @Option(help: "Cases a child process runs before it is replaced.")
  var batch = 5000
  @Option(help: "Processor seconds that one case may take.")
  var limit = 10
  @Option(help: "Mebibytes of address space of the child.")
  var memory = 4096
  @Option(help: "Stop after this many different findings.")
  var most = 40
  @Option(help: "Read these files once, instead of fuzzing.")
  var files: [String] = []
  @Option(help: "Write this case of the run into --out, instead of fuzzing.")
  var emit: Int?
  @Flag(help: .hidden)
  var child = false

  func validate() throws {
    if !QFuzz.targets.contains(where: { $0.name == target }) { throw ValidationError("no target \(target)") }
  }

  /// Errors of qfuzz itself, which are no findings.
  static let ownErrors: [ExitStatus] = [ExitStatus(.output), ExitStatus(.usage)]

  func run() throws {
    do throws(Diagnostic) {
      try fuzz()
    } catch {
      DiagnosticPrinter(program: "qfuzz").report(error)
      throw ExitCode(ExitStatus(error.kind).rawValue)
    }
  }

  private func fuzz() throws(Diagnostic) {
    guard let type = QFuzz.targets.first(where: { $0.name == target }) else { return }
    _ = mkdir(out, 0o777)
    let scratch = "\(out)/scratch.\(target).\(seed)"
    _ = mkdir(scratch, 0o777)
    // oneDNN keeps primitives, up to a number.
    setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8", 1)
    if !child, emit == nil, files.isEmpty {
      defer {
        for file in Files.below(scratch, [""]) { unlink(file) }
        rmdir(scratch)
      }
      try FuzzParent(options: self).run()
      return
    }
    if child { Guard.limit(megabytes: memory) }
    let made = try type.init(fixtures: fixtures, scratch: scratch)
    guard !made.seeds.isEmpty else {
      throw Diagnostic(
        "no-corpus", "there is nothing to start from for \(target)", at: .init(file: fixtures),
        hint: "--fixtures names the folder Fixtures of the repository", kind: .usage)
    }
    if let emit {
      let made = made.makeCase(seed: seed, number: emit)
      try Files.write(made.bytes, to: "\(out)/\(target)-\(seed)-\(emit).\(made.kind)")
    } else if child {
      try runCases(made)
    } else {
      for file in files { try made.run(Files.read(file), kind: Files.kind(of: file)) }
    }
  }

  /// The child's work: the number of the case stands in a file before it runs.
  private func runCases(_ target: some FuzzTarget) throws(Diagnostic) {
    let path = "\(out)/state.\(self.target).\(seed)"
    let state = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard state >= 0 else {
      throw Diagnostic(
        "output-failed", "cannot be opened: \(String(cString: strerror(errno)))", at: .init(file: path), kind: .output)
    }
    var start = 0
    for number in first..<first + batch {
      var value = Int64(number)
      pwrite(state, &value, 8, 0)
      Guard.arm(seconds: limit)
      let made = target.makeCase(seed: seed, number: number)
      try target.run(made.bytes, kind: made.kind)
      // What is made once and kept is made in the first fifth.
      if number == first + batch / 5 { start = Int(qtools_bytes_in_use()) }
    }
    Guard.arm(seconds: 0)
    var numbers = (Int64(first + batch), Int64(start), Int64(qtools_bytes_in_use()))
    pwrite(state, &numbers, 24, 0)
  }
}

/// Limits of the child.
enum Guard {
  /// Bounds the address space.
  static func limit(megabytes: Int) {
    var limits = rlimit(rlim_cur: rlim_t(megabytes) << 20, rlim_max: rlim_t(megabytes) << 20)
    setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limits)
  }

  /// Ends the process by SIGPROF after so many seconds of processor time; 0: not.
  static func arm(seconds: Int) {
    var timer = itimerval()
    timer.it_value.tv_sec = seconds
    setitimer(__itimer_which_t(ITIMER_PROF.rawValue), &timer, nil)
  }
}
