import IR

/// A list of samples as it stands in its file: grammar only, no look at model or disk.
///
/// One line a sample: `input:=path` pairs separated by blanks, or one path alone; `#` at a line's
/// start names output layers, `%` output tensors, both before the first sample; `\ ` is a space that
/// belongs to a name.
public struct InputList: Sendable, Hashable {
  /// One file of a sample, with the input it is for where that is said.
  public struct Entry: Sendable, Hashable {
    /// Name of the input, nil where the path stands alone.
    public var input: String?
    /// Path as written.
    public var path: String

    /// An entry of a line.
    public init(input: String?, path: String) {
      self.input = input
      self.path = path
    }
  }

  /// One line of files.
  public struct Sample: Sendable, Hashable {
    /// Line of the list, from 1.
    public var line: Int
    /// Its files in the order of the line.
    public var entries: [Entry]
  }

  /// Path of the list.
  public var file: String
  /// The samples in order.
  public var samples: [Sample] = []
  /// Layers of a `#` line.
  public var outputLayers: [String] = []
  /// Tensors of a `%` line.
  public var outputTensors: [String] = []

  /// Reads and parses a list; all errors at once.
  public init(path: String) throws(Diagnostic) {
    try self.init(text: try FileReading.text(of: path), file: path)
  }

  /// Parses the text of the list called `file`; all errors at once.
  public init(text: String, file: String) throws(Diagnostic) {
    self.file = file
    var errors: [Diagnostic] = []
    var number = 0
    var layersLine: Int?
    var tensorsLine: Int?
    for raw in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      let location = Diagnostic.Location(file: file, line: number)
      switch raw.first {
      case "#", "%":
        let isLayers = raw.first == "#"
        let names = InputList.words(raw.dropFirst())
        if let problem = InputList.placement(
          isLayers: isLayers, names: names, afterSample: !samples.isEmpty, layersLine: layersLine,
          tensorsLine: tensorsLine)
        {
          errors.append(Diagnostic("list-outputs", problem, at: location))
        } else if isLayers {
          layersLine = number
          outputLayers = names
        } else {
          tensorsLine = number
          outputTensors = names
        }
      default:
        let words = InputList.words(raw)
        if words.isEmpty { continue }
        let entries = words.map(InputList.entry)
        if let problem = InputList.problem(entries) {
          errors.append(
            Diagnostic(
              "list-syntax", problem, at: location,
              hint: "write input:=path for every input; a space in a path is written as \\ and space"))
        } else {
          samples.append(Sample(line: number, entries: entries))
        }
      }
    }
    if errors.isEmpty, samples.isEmpty {
      errors.append(
        Diagnostic(
          "list-empty", "the list names no sample", at: Diagnostic.Location(file: file),
          hint: "one line a sample, the path of its file on it"))
    }
    if let error = Diagnostic.combining(errors) { throw error }
  }

  /// A warning for each line that names outputs, for commands that have no use for them.
  public var idleOutputLines: [Diagnostic] {
    [("#", outputLayers), ("%", outputTensors)].filter { !$0.1.isEmpty }.map { sign, names in
      Diagnostic(
        "option-without-effect",
        "the \(sign) line names outputs (\(names.count)), which this command does not ask for", at: .init(file: file),
        severity: .warning)
    }
  }

  private static func placement(
    isLayers: Bool, names: [String], afterSample: Bool, layersLine: Int?, tensorsLine: Int?
  ) -> String? {
    let sign = isLayers ? "#" : "%"
    if afterSample { return "a \(sign) line must stand before the first sample" }
    if let before = isLayers ? layersLine : tensorsLine {
      return "there is a \(sign) line already, line \(before)"
    }
    if isLayers, let tensorsLine { return "the # line must stand before the % line \(tensorsLine)" }
    if names.isEmpty { return "the \(sign) line names nothing" }
    return nil
  }

  private static func problem(_ entries: [Entry]) -> String? {
    var seen = Set<String>()
    for entry in entries {
      if entry.path.isEmpty { return "input \(entry.input ?? "") has no path" }
      if let input = entry.input {
        if input.isEmpty { return "\(entry.path) has an empty input name" }
        if !seen.insert(input).inserted { return "input \(input) is given twice" }
      }
    }
    let unnamed = entries.count { $0.input == nil }
    if unnamed > 1 { return "\(unnamed) paths on one line do not say which input they are for" }
    if unnamed == 1, entries.count > 1 {
      return "a path does not say which input it is for, others on the line do"
    }
    return nil
  }

  /// The words of a line, `\ ` joined; blanks are spaces and tabs.
  private static func words(_ line: Substring) -> [String] {
    var words: [String] = []
    var word = ""
    var isEscaped = false
    for character in line {
      if isEscaped {
        if character != " " { word.append("\\") }
        isEscaped = false
        if character == " " {
          word.append(" ")
          continue
        }
      }
      switch character {
      case "\\": isEscaped = true
      case " ", "\t":
        if !word.isEmpty { words.append(word) }
        word = ""
      default: word.append(character)
      }
    }
    if isEscaped { word.append("\\") }
    if !word.isEmpty { words.append(word) }
    return words
  }

  /// `name:=path` or a path alone.
  private static func entry(_ word: String) -> Entry {
    var index = word.startIndex
    while let colon = word[index...].firstIndex(of: ":") {
      let next = word.index(after: colon)
      if next < word.endIndex, word[next] == "=" {
        return Entry(
          input: String(word[..<colon]), path: String(word[word.index(after: next)...]))
      }
      index = next
    }
    return Entry(input: nil, path: word)
  }
}
