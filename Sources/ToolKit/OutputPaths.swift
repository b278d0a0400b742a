import IR

/// Outputs that would destroy each other, or an input.
public enum OutputPaths {
  /// Throws a usage error where two outputs are one file, or where one is an input. `main` may replace
  /// the input `replaceable`.
  public static func check(
    main: String?, others: [String?], inputs: [String], replaceable: String? = nil
  ) throws(Diagnostic) {
    for path in ([main] + others).compactMap({ $0 }) { try checkWritable(path) }
    if let main, isReplaced(main), !(replaceable.map { areSame($0, main) } ?? false) {
      try checkInput(main, inputs)
    }
    var known = main.map { [$0] } ?? []
    for path in others.compactMap({ $0 }) where isReplaced(path) {
      if known.contains(where: { areSame($0, path) }) {
        throw Diagnostic(
          "output-twice", "two outputs would be written to one file",
          at: Diagnostic.Location(file: path), hint: "give each output a file of its own",
          kind: .usage)
      }
      try checkInput(path, inputs)
      known.append(path)
    }
  }

  private static func checkInput(_ path: String, _ inputs: [String]) throws(Diagnostic) {
    guard inputs.contains(where: { areSame($0, path) }) else { return }
    throw Diagnostic(
      "output-is-input", "this output would replace a file that is read",
      at: Diagnostic.Location(file: path), hint: "write to another file", kind: .usage)
  }

  /// Throws where a file cannot be put: its folder does not exist or the path is a folder. Found before
  /// the work, not after it.
  private static func checkWritable(_ path: String) throws(Diagnostic) {
    guard path != "-" else { return }
    let parent = FileReading.folder(of: path)
    let reason: String
    if FileReading.isFolder(path) {
      reason = "it is a folder"
    } else if !FileReading.isFolder(parent) {
      reason = "there is no folder \(parent)"
    } else {
      return
    }
    throw Diagnostic(
      "output-path", "cannot create the output: \(reason)", at: Diagnostic.Location(file: path),
      kind: .output)
  }

  private static func areSame(_ first: String, _ second: String) -> Bool {
    first == second || FileReading.areSame(first, second)
  }

  /// Whether writing replaces what is there: not so for standard output and devices.
  private static func isReplaced(_ path: String) -> Bool {
    guard path != "-" else { return false }
    return !FileReading.exists(path) || (try? FileReading.size(of: path)) != nil
  }
}
