import IR
import Testing

@testable import ToolKit

@Suite("Input lists: grammar")
struct InputListTests {
  struct Accepted: CustomTestStringConvertible {
    var name: String
    var text: String
    /// `line|input=path|...` for every sample.
    var samples: [String]
    var layers: [String] = []
    var tensors: [String] = []
    var testDescription: String { name }
  }

  static let accepted = [
    Accepted(name: "one path", text: "a.raw", samples: ["1|=a.raw"]),
    Accepted(name: "blank lines", text: "\n\na.raw\n  \nb.raw\n", samples: ["3|=a.raw", "5|=b.raw"]),
    Accepted(name: "named", text: "x:=a.raw\n", samples: ["1|x=a.raw"]),
    Accepted(name: "order free", text: "y:=b x:=a\n", samples: ["1|y=b|x=a"]),
    Accepted(name: "colon in name", text: "in:0:=a=b.raw\n", samples: ["1|in:0=a=b.raw"]),
    Accepted(name: "escaped space", text: "x:=my\\ file.raw\n", samples: ["1|x=my file.raw"]),
    Accepted(name: "other backslash", text: "a\\b\\\\ c\n", samples: ["1|=a\\b\\ c"]),
    Accepted(name: "carriage returns", text: "a\r\nb\r\n", samples: ["1|=a", "2|=b"]),
    Accepted(name: "tabs and blanks", text: "  x:=a\t y:=b \n", samples: ["1|x=a|y=b"]),
    Accepted(
      name: "outputs", text: "# conv1 conv2\n%t:0 u\na\n", samples: ["3|=a"],
      layers: ["conv1", "conv2"], tensors: ["t:0", "u"]),
    Accepted(name: "tensors only", text: "\n% t\\ 1\na", samples: ["3|=a"], tensors: ["t 1"]),
  ]

  @Test("is accepted", arguments: accepted)
  func accepts(_ example: Accepted) throws {
    let list = try InputList(text: example.text, file: "list.txt")
    let samples = list.samples.map { sample in
      "\(sample.line)|"
        + sample.entries.map { "\($0.input ?? "")=\($0.path)" }.joined(separator: "|")
    }
    #expect(samples == example.samples)
    #expect(list.outputLayers == example.layers)
    #expect(list.outputTensors == example.tensors)
  }

  struct Refused: CustomTestStringConvertible {
    var text: String
    var line: Int?
    var message: String
    var testDescription: String { message }
  }

  static let refused = [
    Refused(text: "", line: nil, message: "the list names no sample"),
    Refused(text: "# a\n\n", line: nil, message: "the list names no sample"),
    Refused(text: "a b", line: 1, message: "2 paths on one line do not say which input they are for"),
    Refused(
      text: "x:=a b", line: 1,
      message: "a path does not say which input it is for, others on the line do"),
    Refused(text: "x:=a x:=b", line: 1, message: "input x is given twice"),
    Refused(text: "\nx:=", line: 2, message: "input x has no path"),
    Refused(text: ":=a", line: 1, message: "a has an empty input name"),
    Refused(text: "a\n# b", line: 2, message: "a # line must stand before the first sample"),
    Refused(text: "a\n% b", line: 2, message: "a % line must stand before the first sample"),
    Refused(text: "% b\n# a\nx", line: 2, message: "the # line must stand before the % line 1"),
    Refused(text: "# a\n# b\nx", line: 2, message: "there is a # line already, line 1"),
    Refused(text: "%\nx", line: 1, message: "the % line names nothing"),
  ]

  @Test("is refused", arguments: refused)
  func refuses(_ example: Refused) {
    let error = #expect(throws: (any Error).self) {
      try InputList(text: example.text, file: "list.txt")
    }
    let found = error as? Diagnostic
    #expect(found?.message == example.message)
    #expect(found?.location.line == example.line)
    #expect(found?.location.file == "list.txt")
  }

  @Test("all errors of a list are told at once")
  func collects() {
    let error = #expect(throws: (any Error).self) {
      try InputList(text: "a b\nfine\nx:=\n", file: "list.txt")
    }
    #expect((error as? Diagnostic)?.all.map(\.location.line) == [1, 3])
  }
}
