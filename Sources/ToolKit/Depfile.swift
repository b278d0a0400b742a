import IR

/// A dependency file for Make and Ninja: `target: inputs` and an empty rule for each input, so that
/// one that was deleted does not break the build.
public struct Depfile: Sendable {
  /// Output that the rule makes.
  public var target: String
  /// Files that were read, in order of first use, each once.
  public private(set) var inputs: [String] = []
  private var known: Set<String> = []

  /// A file with no inputs yet.
  public init(target: String) { self.target = target }

  /// Notes a file that was read.
  public mutating func add(_ path: String) {
    if known.insert(path).inserted { inputs.append(path) }
  }

  /// The text; throws where the output is one of the inputs or a name cannot be put.
  public func text() throws(Diagnostic) -> String {
    for input in inputs where input == target || FileReading.areSame(input, target) {
      throw Diagnostic(
        "depfile-cycle", "--depfile needs an output that is none of the inputs",
        at: Diagnostic.Location(file: input), hint: "write to another file", kind: .usage)
    }
    for name in [target] + inputs where name.contains(where: \.isNewline) {
      throw Diagnostic(
        "depfile-name", "a name with a line end cannot stand in a dependency file",
        at: Diagnostic.Location(file: name), kind: .usage)
    }
    let names = inputs.map { Depfile.escaped($0) }
    var text = Depfile.escaped(target, isTarget: true) + ":"
    for name in names { text += " \\\n  \(name)" }
    text += "\n"
    for name in inputs { text += "\n\(Depfile.escaped(name, isTarget: true)):\n" }
    return text
  }

  /// A name with what Make reads as syntax escaped: space, tab, `#`, `:`, `$`, and backslashes before
  /// them. In a target `%` too, which makes a pattern there and nowhere else.
  static func escaped(_ name: String, isTarget: Bool = false) -> String {
    var text = ""
    var backslashes = 0
    for character in name.unicodeScalars {
      switch character {
      case "\\":
        backslashes += 1
        text.unicodeScalars.append(character)
        continue
      case " ", "\t", "#", ":":
        text += String(repeating: "\\", count: backslashes + 1)
      case "%" where isTarget:
        text += String(repeating: "\\", count: backslashes + 1)
      case "$":
        text += "$"
      default: break
      }
      backslashes = 0
      text.unicodeScalars.append(character)
    }
    return text
  }
}
