import IR

/// Outputs that would destroy each other, or an input.
public enum OutputPaths {
  /// Throws a usage error where two outputs are one file, or where one that may not replace an input
  /// is one. `main` is the output that may.
  public static func check(
    main: String?, others: [String?], inputs: [String]
  ) throws(Diagnostic) {
    var known = main.map { [$0] } ?? []
    for path in others.compactMap({ $0 }) where isReplaced(path) {
      if known.contains(where: { areSame($0, path) }) {
        throw Diagnostic(
          "output-twice", "two outputs would be written to one file",
          at: Diagnostic.Location(file: path), hint: "give each output a file of its own",
          kind: .usage)
      }
      if inputs.contains(where: { areSame($0, path) }) {
        throw Diagnostic(
          "output-is-input", "this output would replace a file that is read",
          at: Diagnostic.Location(file: path), hint: "write to another file", kind: .usage)
      }
      known.append(path)
    }
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
