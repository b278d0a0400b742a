import IR
import QuantizeTool
import ToolKit

/// What a YAML file says about inputs and outputs (`--config`), in QAIRT's layout; `--dump_config_template` writes one
/// to fill in. A key behind which nothing stands says nothing.
///
/// ```yaml
/// Converted Graph:
///   - Input Tensors: [image]
///   - Output Tensors: [logits]
/// Input Tensor Configuration:
///   - Name: image
///     Src Model Parameters: {DataType: float32, Layout: NCHW, Shape: "1,3,224,224"}
///     Desired Model Parameters:
///       DataType: uint8
///       Layout: NHWC
///       Color Conversion: rgb bgr
///       QuantParams: {Scale: 0.0078125, Offset: -128}
/// ```
struct IOConfiguration {
  /// What is said of one input or output.
  struct Entry {
    var name: String
    var sourceType: String?
    var sourceLayout: String?
    var sourceShape: String?
    var type: String?
    var layout: String?
    var shape: String?
    var colors: [String] = []
    var scale: Double?
    var offset: Int?
    /// Place in the file, for messages.
    var map: ConfigurationMap
  }

  /// Names of the inputs that the graph is to have; nil: not said.
  private(set) var inputNames: [String]?
  private(set) var outputNames: [String]?
  private(set) var inputs: [Entry] = []
  private(set) var outputs: [Entry] = []

  /// Whether the file has sections about quantizing.
  private(set) var isAboutQuantizing = false

  /// Whether nothing is said of inputs and outputs.
  var isEmpty: Bool { inputNames == nil && outputNames == nil && inputs.isEmpty && outputs.isEmpty }

  /// Nothing said.
  init() {}

  /// Reads the sections of a file; those about quantizing are left to ``QuantizeOptions``.
  init(path: String) throws(Diagnostic) {
    var top = try ConfigurationMap(file: path)
    for var item in try top.maps("Converted Graph") ?? [] {
      inputNames = try item.strings("Input Tensors") ?? inputNames
      outputNames = try item.strings("Output Tensors") ?? outputNames
      try item.finish(known: ["Input Tensors", "Output Tensors"])
    }
    for map in try top.maps("Input Tensor Configuration") ?? [] { inputs.append(try Self.entry(map, isInput: true)) }
    for map in try top.maps("Output Tensor Configuration") ?? [] { outputs.append(try Self.entry(map, isInput: false)) }
    for list in [inputs, outputs] {
      var names = Set<String>()
      for entry in list where !names.insert(entry.name).inserted {
        throw entry.map.failure("\(entry.name) is configured twice")
      }
    }
    isAboutQuantizing = top.keys.contains("aimet_quantizer") || top.keys.contains("calibration")
    for key in QuantizeOptions.quantizerSections { top.skip(key) }
    try top.finish(known: QuantizeOptions.ioSections + QuantizeOptions.quantizerSections)
  }

  private static func entry(_ given: ConfigurationMap, isInput: Bool) throws(Diagnostic) -> Entry {
    var map = given
    map.dropEmpty()
    guard let name = try map.string("Name") else { throw map.failure("\(map.path) has no Name") }
    var entry = Entry(name: name, map: given)
    if var source = try map.map("Src Model Parameters") {
      source.dropEmpty()
      entry.sourceType = try source.string("DataType")
      entry.sourceLayout = try layout(&source)
      if isInput { entry.sourceShape = try shape(&source) }
      try source.finish(known: ["DataType", "Layout"] + (isInput ? ["Shape"] : []))
    }
    if var desired = try map.map("Desired Model Parameters") {
      desired.dropEmpty()
      entry.type = try desired.string("DataType")
      entry.layout = try layout(&desired)
      if isInput {
        entry.shape = try shape(&desired)
        entry.colors = (try desired.string("Color Conversion") ?? "").split(separator: " ").map(String.init)
        if !entry.colors.isEmpty, ColorOptions.choices([name] + entry.colors)?.count != 1 {
          throw desired.failure(
            "Color Conversion is one or two of \(ColorOptions.names.joined(separator: ", "))")
        }
      }
      if var grid = try desired.map("QuantParams") {
        grid.dropEmpty()
        entry.scale = try grid.double("Scale")
        entry.offset = try grid.int("Offset")
        try grid.finish(known: ["Scale", "Offset"])
        if (entry.scale == nil) != (entry.offset == nil) { throw grid.failure("Scale and Offset go together") }
      }
      try desired.finish(
        known: ["DataType", "Layout", "QuantParams"] + (isInput ? ["Shape", "Color Conversion"] : []))
    }
    try map.finish(known: ["Name", "Src Model Parameters", "Desired Model Parameters"])
    return entry
  }

  private static func layout(_ map: inout ConfigurationMap) throws(Diagnostic) -> String? {
    guard let name = try map.string("Layout") else { return nil }
    guard TensorLayout.names.contains(name) else {
      throw map.failure("Layout \(name) is none of \(TensorLayout.names.joined(separator: ", "))")
    }
    return name
  }

  /// Dimensions as the option has them: `1,3,8,8`; brackets, parentheses and spaces are let pass.
  private static func shape(_ map: inout ConfigurationMap) throws(Diagnostic) -> String? {
    let words: [String]
    guard let list = try map.strings("Shape") else { return nil }
    words = list.flatMap { $0.split { "()[], ".contains($0) }.map(String.init) }
    guard !words.isEmpty, words.allSatisfy({ Int($0).map { $0 >= 0 } ?? false }) else {
      throw map.failure("Shape is a list of sizes")
    }
    return words.joined(separator: ",")
  }
}
