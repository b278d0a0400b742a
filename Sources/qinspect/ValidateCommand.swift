import ArgumentParser
import Container
import IR
import Inspection
import Operators
import ToolKit

/// `qinspect validate`: encodings against rules.
struct ValidateCommand: ToolCommand {
  /// How the result is printed.
  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable { case table, json, csv }

  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Checks encodings against rules.",
    discussion: """
      Exit status 2 where a rule of severity error does not hold, or one of severity warning with \
      --strict. --list prints the built-in rules.
      """)

  @Argument(help: "The container.")
  var container: String?
  @Option(
    name: [.customShort("i"), .customLong("input_dlc")],
    help: ArgumentHelp("The container, as an option.", valueName: "model.dlc"))
  var inputDLC: String?
  @Option(help: ArgumentHelp("Severities, limits and further rules, as YAML.", valueName: "file"))
  var rules: String?
  @Flag(help: "Warnings are violations, too.")
  var strict = false
  @Flag(help: "Print the built-in rules.")
  var list = false
  @Option(help: "How the result is printed (default: table).")
  var format: Format?
  @Flag(help: "The same as --format json.")
  var json = false
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if json, let format, format != .json {
      throw ValidationError("--json and --format \(format.rawValue) exclude each other")
    }
    if container != nil, inputDLC != nil {
      throw ValidationError("The container is given twice, as argument and by --input_dlc")
    }
    if !list, container == nil, inputDLC == nil {
      throw ValidationError("Missing expected argument '<container>'")
    }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let file = try rules.map { path throws(Diagnostic) in try RuleFile(path: path) } ?? RuleFile()
    if list {
      try printRules(file, session)
      return .done
    }
    let path = container ?? inputDLC ?? ""
    let graph = try session.phase("read") { () throws(Diagnostic) in
      try ContainerReader.read(path: path, registry: .standard).graph
    }
    var found: [EncodingRule.Violation] = []
    for rule in EncodingRule.builtIn {
      found += rule.violations(in: graph, limits: file.limits, severity: file.severities[rule.name])
    }
    for rule in file.rules { found += rule.violations(in: graph) }
    var table = TextTable(["severity", "rule", "node", "tensor", "finding"])
    for item in found {
      table.add([item.severity.rawValue, item.rule, item.node ?? "", item.tensor, item.message])
    }
    let isClean = !found.contains { strict || $0.severity == .error }
    switch json ? .json : format ?? .table {
    case .table:
      if !table.isEmpty { try session.printResult(table.text) }
      if found.isEmpty { try session.printSummary("\(path): every rule holds") }
    case .csv: try session.printResult(table.csv)
    case .json: try session.printResult(ValidateDocument(found, valid: isClean))
    }
    return isClean ? .done : .difference
  }

  private func printRules(_ file: RuleFile, _ session: ToolSession) throws(Diagnostic) {
    var table = TextTable(["rule", "severity", "holds where"])
    for rule in EncodingRule.builtIn {
      table.add([rule.name, (file.severities[rule.name] ?? rule.severity).rawValue, rule.summary])
    }
    for rule in file.rules { table.add([rule.name, rule.severity.rawValue, "from the file"]) }
    try session.printResult(table.text)
  }
}

/// Violations as JSON.
struct ValidateDocument: JSONDocument {
  struct Violation: Encodable {
    var severity: String
    var rule: String
    var node: String?
    var tensor: String
    var message: String
  }

  let version = 1
  var valid: Bool
  var violations: [Violation]

  init(_ found: [EncodingRule.Violation], valid: Bool) {
    self.valid = valid
    violations = found.map {
      Violation(
        severity: $0.severity.rawValue, rule: $0.rule, node: $0.node, tensor: $0.tensor,
        message: $0.message)
    }
  }
}
