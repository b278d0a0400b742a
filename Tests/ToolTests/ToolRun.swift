import Foundation

/// What a program that ran gave back.
struct ToolRun {
  var status: Int32
  var output: String
  var errors: String

  /// Folder of the programs: that of the test bundle.
  private static let folder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent()

  /// The digits network and its data.
  static let digits = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fixtures/digits").path

  /// Small models.
  static let minimal = URL(filePath: digits).deletingLastPathComponent().appending(path: "minimal")
    .path

  /// Starts a program in a folder.
  static func start(
    _ program: String, _ arguments: [String], in folder: String, output: Any, errors: Any
  ) throws -> Process {
    let process = Process()
    process.executableURL = ToolRun.folder.appending(path: program)
    process.arguments = arguments
    process.currentDirectoryURL = URL(filePath: folder)
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    return process
  }

  /// Runs a program to its end.
  init(_ program: String, _ arguments: [String], in folder: Scratch) throws {
    let name = UUID().uuidString
    let streams = try ["out", "err"].map { kind in
      let path = NSTemporaryDirectory() + "qtools-\(name).\(kind)"
      try Data().write(to: URL(filePath: path))
      return path
    }
    defer { for path in streams { try? FileManager.default.removeItem(atPath: path) } }
    let process = try ToolRun.start(
      program, arguments, in: folder.path,
      output: try FileHandle(forWritingTo: URL(filePath: streams[0])),
      errors: try FileHandle(forWritingTo: URL(filePath: streams[1])))
    process.waitUntilExit()
    status = process.terminationStatus
    output = try String(contentsOfFile: streams[0], encoding: .utf8)
    errors = try String(contentsOfFile: streams[1], encoding: .utf8)
  }
}

/// A folder of a test's own, removed with the value.
final class Scratch: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "qtools-\(UUID())").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Names of all files, hidden ones too, sorted.
  var names: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  /// The content of a file.
  func data(_ name: String) throws -> Data { try Data(contentsOf: URL(filePath: "\(path)/\(name)")) }

  /// Writes a text file and gives its name.
  @discardableResult
  func write(_ text: String, _ name: String) throws -> String {
    try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)"))
    return name
  }

  /// Runs a program here that must succeed.
  @discardableResult
  func run(_ program: String, _ arguments: String...) throws -> ToolRun {
    let run = try ToolRun(program, arguments, in: self)
    if run.status != 0 { throw ToolFailure(run: run) }
    return run
  }
}

/// A program that should have succeeded.
struct ToolFailure: Error {
  var run: ToolRun
}
