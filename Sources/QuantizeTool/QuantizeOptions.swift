import ArgumentParser
import EncodingTool
import Recovery
import ToolKit

/// All that quantizing a container takes; the same in qquantize and in a qconvert that quantizes too.
///
/// The groups of options that converting has use for as well are public: a program declares them here only.
public struct QuantizeOptions: ParsableArguments {
  @OptionGroup(title: "Calibration") var calibration: CalibrationOptions
  @OptionGroup(title: "From ranges to encodings") var quantization: QuantizationOptions
  @OptionGroup(title: "Winning back accuracy") var recovery: RecoveryArguments
  /// Encodings from a file.
  @OptionGroup(title: "Given encodings") public var overrides: OverrideOptions
  @OptionGroup(title: "Given encodings") var ignoring: IgnoreOptions
  @OptionGroup(title: "Given encodings") var quantsim: QuantsimOptions
  /// Widths of tensors that are float.
  @OptionGroup(title: "Types") public var float: FloatOptions
  /// Types of inputs and outputs.
  @OptionGroup(title: "Types") public var preserve: PreserveOptions
  /// The encodings as a file.
  @OptionGroup(title: "Further outputs") public var encodings: EncodingDumpOptions
  @OptionGroup(title: "Further outputs") var stripping: StrippedOptions
  @OptionGroup(title: "Further outputs") var reporting: ReportOptions
  @OptionGroup(title: "Further outputs") var suggesting: SuggestionOptions
  /// What changes nothing here.
  @OptionGroup(title: "Options of other tools") public var target: TargetOptions
  @OptionGroup(title: "Options of other tools") var native: NativeOutputOptions

  /// For the parser.
  public init() {}

  public func validate() throws {
    if ignoring.isGiven, overrides.isGiven {
      throw ValidationError("--ignore_quantization_overrides and --quantization_overrides exclude each other")
    }
    if ignoring.isGiven, calibration.floatFallback {
      throw ValidationError("--ignore_quantization_overrides and --enable_float_fallback exclude each other")
    }
    let others = [
      ("--act_quantizer_schema", quantization.actSchema != nil),
      ("--param_quantizer_schema", quantization.paramSchema != nil),
      ("--act_quantizer", quantization.actQuantizer != nil), ("--param_quantizer", quantization.paramQuantizer != nil),
      ("--use_per_row_quantization", quantization.perRow), ("--use_per_channel_quantization", quantization.perChannel),
    ]
    if quantsim.isGiven, let other = others.first(where: \.1) {
      throw ValidationError("--quantsim_config and \(other.0) exclude each other")
    }
    if calibration.floatFallback, !recovery.wanted.isEmpty {
      throw ValidationError("--apply_algorithms and --enable_float_fallback exclude each other")
    }
    if hasSource, calibration.inputList == nil, let option = optionThatNeedsSamples {
      throw ValidationError("\(option) needs --input_list")
    }
    if calibration.inputList != nil, !calibration.loadStats.isEmpty, !runsSamples {
      throw ValidationError(
        "--input_list and --load_stats exclude each other, but for --calibration_order sequential and "
          + "--apply_algorithms")
    }
  }

  /// The option that needs samples even where statistics tell the ranges of the float graph, nil where none is given.
  var optionThatNeedsSamples: String? {
    if quantization.calibrationOrder == .sequential { return "--calibration_order sequential" }
    if suggesting.isGiven { return "--suggest_overrides" }
    let needing = RecoveryAlgorithm.allCases.first { recovery.wanted.contains($0) && $0.needsSamples }
    return needing.map { "--apply_algorithms \($0.rawValue)" }
  }

  /// Whether samples are of use beside statistics.
  var runsSamples: Bool { optionThatNeedsSamples != nil || !recovery.wanted.isEmpty }

  /// Whether activations are kept from one step to the next.
  var keepsActivations: Bool {
    quantization.calibrationOrder == .sequential || !recovery.wanted.subtracting([.cle]).isEmpty
  }

  /// Whether one of `--input_list`, `--load_stats` and `--enable_float_fallback` is given: without them nothing
  /// can be quantized.
  public var hasSource: Bool { calibration.hasSource }

  /// Whether statistics are to be written, which makes the container optional.
  public var savesStatistics: Bool { calibration.saveStats != nil }

  /// The configuration file (`-c`); nil where none is given.
  public var configurationFile: String? { quantization.config }

  /// Sections of a configuration file that are about quantization.
  public static let quantizerSections = ["aimet_quantizer", "calibration"] + RecoveryConfiguration.keys
  /// Sections of a configuration file that are about a model's inputs and outputs.
  public static let ioSections = ["Converted Graph", "Input Tensor Configuration", "Output Tensor Configuration"]

  /// Whether NaN in weights is no error.
  public var skipsNonfinite: Bool { quantization.skipNonfinite }

  /// Names of the given options that only quantizing has use for.
  public var given: [String] {
    let own: [(String, Bool)] = [
      ("ignore_quantization_overrides", ignoring.isGiven), ("quantsim_config", quantsim.isGiven),
      ("export_stripped_dlc", stripping.isGiven), ("report", reporting.isGiven),
      ("suggest_overrides", suggesting.isGiven), ("use_native_output_files", native.isGiven),
    ]
    return calibration.given + quantization.given + recovery.given + own.filter(\.1).map(\.0)
  }
}

/// Whether given encodings count.
struct IgnoreOptions: ParsableArguments {
  @Flag(
    name: [.customLong("ignore_quantization_overrides"), .customLong("ignore_encodings")],
    help: "Calibrate all tensors: leave out encodings of overrides and of the source.")
  var isGiven = false
}

/// The float container without encodings as a further output.
struct StrippedOptions: ParsableArguments {
  @Option(
    name: .customLong("export_stripped_dlc"), defaultAsFlag: "",
    help: ArgumentHelp(
      "Write the float container without encodings too (default name: NAME_stripped.dlc).",
      valueName: "file"))
  var file: String?

  /// Whether it is wanted.
  var isGiven: Bool { file != nil }

  /// Where it goes, nil where none is wanted.
  func path(beside input: String) -> String? {
    file.map { $0.isEmpty ? FileReading.withoutExtension(input) + "_stripped.dlc" : $0 }
  }
}

/// What is accepted because other tools have it.
struct NativeOutputOptions: ParsableArguments {
  @Flag(
    name: .customLong("use_native_output_files"),
    help: "Accepted: no outputs of samples are written.")
  var isGiven = false
}
