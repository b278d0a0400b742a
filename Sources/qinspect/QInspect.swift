import ArgumentParser
import Container
import IR
import Operators
import ToolKit

/// Looks into containers.
@main
struct QInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "qinspect", abstract: "Looks into a container.", version: ToolIdentity.version,
    subcommands: [
      InfoCommand.self, EncodingsCommand.self, DiffCommand.self, JSONCommand.self, TextCommand.self,
      VerifyCommand.self, ValidateCommand.self, TraceCommand.self, WeightsCommand.self,
      ExportCommand.self,
    ],
    defaultSubcommand: InfoCommand.self)

  static func main() { ToolProgram.main(QInspect.self) }
}

/// The container that a command looks into.
struct ContainerArgument: ParsableArguments {
  @Argument(help: "The container.")
  var container: String?
  @Option(
    name: [.customShort("i"), .customLong("input_dlc")],
    help: ArgumentHelp("The container, as an option.", valueName: "model.dlc"))
  var inputDLC: String?

  func validate() throws {
    if container != nil, inputDLC != nil {
      throw ValidationError("The container is given twice, as argument and by --input_dlc")
    }
    if container == nil, inputDLC == nil {
      throw ValidationError("Missing expected argument '<container>'")
    }
  }

  /// Path of the container.
  var path: String { container ?? inputDLC ?? "" }
}

/// `qinspect verify`: checksums, references, shapes, encodings against data.
struct VerifyCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Checks checksums, references, shapes and encodings.",
    discussion: "Exit status 1 where the container cannot be opened, 2 where a check fails.")

  @OptionGroup var container: ContainerArgument
  @Flag(help: "Print the result as JSON.")
  var json = false
  @OptionGroup var common: CommonOptions

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let path = container.path
    _ = try ContainerReader.read(path: path, registry: .standard)
    let findings = ContainerReader.verify(path: path, registry: .standard)
    if json {
      try session.printResult(VerifyDocument(findings))
    } else {
      session.printer.report(findings)
      if findings.isEmpty { try session.printSummary("\(path): sound") }
    }
    return findings.isEmpty ? .done : .difference
  }
}

/// What a check found.
struct VerifyDocument: JSONDocument {
  struct Finding: Encodable {
    var code: String
    var message: String
    var location: String
  }

  let version = 1
  var sound: Bool
  var findings: [Finding]

  init(_ diagnostics: [Diagnostic]) {
    sound = diagnostics.isEmpty
    findings = diagnostics.flatMap(\.all).map {
      Finding(code: $0.code, message: $0.message, location: $0.location.description)
    }
  }
}

/// `qinspect text`: the graph in the IR's text form.
struct TextCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "text", abstract: "Prints the graph in text form.")

  @OptionGroup var container: ContainerArgument
  @Option(
    help: ArgumentHelp(
      "Constants up to this many elements print their values, others a hash.", valueName: "count"))
  var inline = 16
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if inline < 0 { throw ValidationError("--inline must not be negative") }
  }

  func perform(in session: ToolSession) throws(Diagnostic) -> ExitStatus {
    let file = try ContainerReader.read(path: container.path, registry: .standard)
    try session.printResult(file.graph.text(inlineLimit: inline))
    return .done
  }
}
