import ArgumentParser
import Foundation
import IR

/// Options of a command that take one value: given twice, the parser keeps the last one without a word.
struct RepeatedOptions {
  /// The main name of an option by all its spellings on the command line.
  private var names: [String: String] = [:]

  private struct Document: Decodable {
    struct Command: Decodable { var arguments: [Argument]? }
    struct Argument: Decodable {
      struct Name: Decodable {
        var kind: String
        var name: String
        var spelling: String { kind == "long" ? "--\(name)" : "-\(name)" }
      }
      var kind: String
      var isRepeating: Bool
      var names: [Name]?
    }
    var command: Command
  }

  /// Looks at the options that a command declares.
  init<Command: ParsableCommand>(_ command: Command.Type) {
    let text = Data(command._dumpHelp().utf8)
    guard let document = try? JSONDecoder().decode(Document.self, from: text) else { return }
    for argument in document.command.arguments ?? []
    where argument.kind == "option" && !argument.isRepeating {
      let spellings = (argument.names ?? []).map(\.spelling)
      for spelling in spellings { names[spelling] = spellings.first { $0.hasPrefix("--") } ?? spelling }
    }
  }

  /// A warning for each such option that is given more than once.
  func warnings(_ arguments: [String]) -> [Diagnostic] {
    var counts: [String: Int] = [:]
    for argument in arguments.prefix(while: { $0 != "--" }) {
      let spelling = argument.split(separator: "=", maxSplits: 1).first.map(String.init) ?? argument
      if let name = names[spelling] { counts[name, default: 0] += 1 }
    }
    return counts.filter { $0.value > 1 }.sorted { $0.key < $1.key }.map {
      Diagnostic(
        "option-repeated", "\($0.key) is given \($0.value) times: the last one counts", severity: .warning)
    }
  }
}
