import ArgumentParser
import IR
import Quantizer
import ToolKit

/// Widths of tensors that are float; the same in qconvert and qquantize.
public struct FloatOptions: ParsableArguments {
  /// Bits of float tensors, nil where not given.
  @Option(
    name: [.customLong("float_bitwidth"), .customLong("float_bw")],
    help: ArgumentHelp("Bits of float tensors: 16 or 32 (default: 32).", valueName: "bits"))
  public var bitwidth: Int?
  /// Bits of float biases, nil where not given.
  @Option(
    name: [.customLong("float_bias_bitwidth"), .customLong("float_bias_bw")],
    help: ArgumentHelp(
      "Bits of float biases: 16 or 32 (default: those of the operator).", valueName: "bits"))
  public var biasBitwidth: Int?

  /// For the parser.
  public init() {}

  public func validate() throws {
    for (option, value) in [("float_bitwidth", bitwidth), ("float_bias_bitwidth", biasBitwidth)] {
      if let value, value != 16, value != 32 {
        throw ValidationError("--\(option) must be 16 or 32, not \(value)")
      }
    }
  }

  /// What a container records of a run without these options.
  public static var none: [String: String] {
    ["float_bitwidth": "32", "float_bias_bitwidth": EffectiveOptions.none]
  }

  /// What a container records.
  public var effective: [String: String] {
    [
      "float_bitwidth": "\(bitwidth ?? 32)",
      "float_bias_bitwidth": biasBitwidth.map(String.init) ?? EffectiveOptions.none,
    ]
  }

  /// Puts the widths into the quantizer's options.
  public func apply(to options: inout QuantizerOptions) {
    options.floatBitwidth = bitwidth ?? 32
    options.floatBiasBitwidth = biasBitwidth
  }
}

/// Types of the graph's inputs and outputs; the same in qconvert and qquantize.
public struct PreserveOptions: ParsableArguments {
  @Option(
    name: .customLong("preserve_io_datatype"), parsing: .upToNextOption,
    help: ArgumentHelp(
      "Keep the float type of these inputs and outputs (without names: of all).", valueName: "name"))
  var names: [String] = []

  /// For the parser.
  public init() {}

  public func validate() throws {
    if names.contains(""), names.count > 1 {
      throw ValidationError("--preserve_io_datatype is given with and without names")
    }
  }

  /// Whether it is given.
  var isGiven: Bool { !names.isEmpty }

  /// Adds names, unless all are kept anyway.
  public mutating func keep(_ more: [String]) {
    if names != [""] { names += more.filter { !names.contains($0) } }
  }

  /// What a container records of a run without this option.
  public static var none: [String: String] { ["preserve_io_datatype": EffectiveOptions.list([])] }

  /// What a container records.
  public var effective: [String: String] {
    ["preserve_io_datatype": names == [""] ? "all" : EffectiveOptions.list(names.sorted())]
  }

  /// Throws where the graph has no input or output of a given name.
  func check(_ graph: Graph) throws(Diagnostic) {
    guard isGiven, names != [""] else { return }
    _ = try borderTensors(graph, names)
  }

  /// Applies it to a graph; one that is not materialised has the model's own types anyway.
  public func apply(to graph: Graph, _ session: ToolSession) throws(Diagnostic) -> Graph {
    guard isGiven else { return graph }
    let (result, changed) = try preservingTypes(graph, names: names == [""] ? nil : names)
    if changed == 0 {
      session.printer.report(
        Diagnostic(
          "option-without-effect",
          "--preserve_io_datatype changed 0 tensors: they have the model's types already",
          severity: .warning))
    }
    return result
  }
}

/// Options of other tools that change nothing here.
public struct TargetOptions: ParsableArguments {
  @Option(
    name: .customLong("target_backend"),
    help: ArgumentHelp("Accepted: the result suits HTP in any case.", valueName: "name"))
  var backend: String?
  @Option(
    name: .customLong("target_soc_model"),
    help: ArgumentHelp("Accepted without effect.", valueName: "model"))
  var soc: String?
  @Option(
    name: .customLong("op_package_lib"),
    help: ArgumentHelp("Accepted without effect: nothing runs on the target.", valueName: "file"))
  var package: String?
  @Option(
    name: .customLong("op_package_config"),
    help: ArgumentHelp(
      "Accepted without effect: operators of a package cannot be calibrated, and are errors.", valueName: "file"))
  var packageConfig: String?

  /// For the parser.
  public init() {}

  /// Notes about the options that are given.
  public var notes: [Diagnostic] {
    var found: [Diagnostic] = []
    if let backend, backend.uppercased() != "HTP" {
      found.append(
        Diagnostic(
          "option-without-effect", "--target_backend \(backend) changes nothing: the rules are HTP's",
          severity: .note))
    }
    let others = [("target_soc_model", soc), ("op_package_lib", package), ("op_package_config", packageConfig)]
    for (name, value) in others where value != nil {
      found.append(
        Diagnostic(
          "option-without-effect", "--\(name) changes nothing here", severity: .note))
    }
    return found
  }
}
