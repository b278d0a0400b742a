import IR
import ToolKit

/// The right class of every sample: one index a line in the list's order, or `file index`.
struct LabelFile {
  /// A class for each sample.
  let classes: [Int]

  /// Reads the labels of a list's samples; all errors at once.
  init(path: String, list: InputList) throws(Diagnostic) {
    var plain: [(line: Int, index: Int)] = []
    var named: [String: Int] = [:]
    var errors: [Diagnostic] = []
    var number = 0
    let text = try FileReading.text(of: path)
    for raw in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      let words = raw.split(whereSeparator: { $0 == " " || $0 == "\t" })
      guard let last = words.last else { continue }
      let location = Diagnostic.Location(file: path, line: number)
      guard let index = Int(last), index >= 0 else {
        errors.append(
          Diagnostic(
            "label-syntax", "\(last) is no class index", at: location,
            hint: "one class index a line, or file and index"))
        continue
      }
      if words.count == 1 {
        plain.append((number, index))
      } else {
        let file = String(raw[words[0].startIndex..<words[words.count - 2].endIndex])
        if let other = named.updateValue(index, forKey: file), other != index {
          errors.append(
            Diagnostic("label-twice", "\(file) has two labels, \(other) and \(index)", at: location))
        }
      }
    }
    if errors.isEmpty, !plain.isEmpty, !named.isEmpty {
      errors.append(
        Diagnostic(
          "label-syntax", "lines with and without file names are mixed",
          at: Diagnostic.Location(file: path)))
    }
    if let error = Diagnostic.combining(errors) { throw error }
    if named.isEmpty {
      guard plain.count == list.samples.count else {
        throw Diagnostic(
          "label-count", "there are \(plain.count) labels for \(list.samples.count) samples",
          at: Diagnostic.Location(file: path))
      }
      classes = plain.map(\.index)
    } else {
      classes = try LabelFile.matched(named, list, path)
    }
  }

  private static func matched(
    _ named: [String: Int], _ list: InputList, _ path: String
  ) throws(Diagnostic) -> [Int] {
    var byName: [String: Int?] = [:]
    for (file, index) in named {
      let name = FileReading.name(of: file)
      // A plain name that stands for several files decides nothing.
      byName[name] = byName[name] == nil ? index : .some(nil)
    }
    var classes: [Int] = []
    var errors: [Diagnostic] = []
    for sample in list.samples {
      let paths = sample.entries.map(\.path)
      let exact = paths.lazy.compactMap { named[$0] }.first
      let close = paths.lazy.compactMap { byName[FileReading.name(of: $0)] ?? nil }.first
      if let index = exact ?? close {
        classes.append(index)
      } else {
        errors.append(
          Diagnostic(
            "label-missing",
            "no label for \(paths.joined(separator: " ")), line \(sample.line) of "
              + list.file, at: Diagnostic.Location(file: path)))
      }
    }
    if let error = Diagnostic.combining(errors) { throw error }
    return classes
  }
}
