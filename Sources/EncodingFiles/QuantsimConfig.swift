import IR

/// AIMET's runtime configuration (`--quantsim_config`): what is quantized, by operator type of ONNX.
/// Source: aimet-onnx 2.42.0's schema; every truth value there is the text "True" or "False".
public struct QuantsimConfig: Sendable, Hashable {
  /// What is said of a kind of parameter; nil where nothing is.
  public struct Parameter: Sendable, Hashable {
    public var isQuantized: Bool?
    public var isSymmetric: Bool?

    /// Makes a rule.
    public init(isQuantized: Bool? = nil, isSymmetric: Bool? = nil) {
      self.isQuantized = isQuantized
      self.isSymmetric = isSymmetric
    }
  }

  /// Widths that a kernel takes together.
  public struct Kernel: Sendable, Hashable {
    /// One side of a kernel.
    public struct Side: Sendable, Hashable, CustomStringConvertible {
      public var kind: EncodingEntry.Kind
      public var bitwidth: Int
      public var description: String { "\(kind.rawValue)\(bitwidth)" }

      /// Makes a side.
      public init(kind: EncodingEntry.Kind, bitwidth: Int) {
        self.kind = kind
        self.bitwidth = bitwidth
      }
    }
    public var activation: Side
    /// nil: any.
    public var parameter: Side?
  }

  /// What is said of operators: of all by default, or of one type.
  public struct Rules: Sendable, Hashable {
    public var isOutputQuantized: Bool?
    /// Of activations.
    public var isSymmetric: Bool?
    /// By `weight`, `bias` or a parameter's name.
    public var parameters: [String: Parameter] = [:]
    public var isPerChannel: Bool?
    public var kernels: [Kernel]?
    /// Range of the outputs; without a highest value it is observed.
    public var minimum: Double?
    public var maximum: Double?

    /// Nothing said.
    public init() {}
  }

  /// Of all operators; the parameters' rule is under the empty name.
  public var defaults = Rules()
  public var isStrictSymmetric = false
  public var isUnsignedSymmetric = false
  public var hardware: String?
  /// By operator type of ONNX.
  public var operators: [String: Rules] = [:]
  /// Operator types that are quantized as one.
  public var supergroups: [[String]] = []
  public var passes: [String] = []
  public var quantizesInputs = false
  public var quantizesOutputs = false

  /// Nothing is quantized.
  public init() {}

  /// What is said of a parameter of an operator type, the most specific first.
  public func parameter(_ kind: String, of type: String) -> Parameter {
    var result = defaults.parameters[""] ?? Parameter()
    for more in [defaults.parameters[kind], operators[type]?.parameters[kind]] {
      result.isQuantized = more?.isQuantized ?? result.isQuantized
      result.isSymmetric = more?.isSymmetric ?? result.isSymmetric
    }
    return result
  }

  /// Reads a file. Throws `json-syntax`, `json-duplicate-key` and `quantsim-format`, with the JSON path.
  public init(decoding bytes: [UInt8]) throws(Diagnostic) {
    do throws(Diagnostic) {
      try read(try JSONParser.parse(bytes))
    } catch {
      var error = error
      if error.code == "encodings-format" { error.code = "quantsim-format" }
      throw error
    }
  }

  private mutating func read(_ document: JSONValue) throws(Diagnostic) {
    let root = try JSONFields(document, JSONPath())
    try root.check(known: [
      "defaults", "params", "op_type", "supergroups", "supergroup_pass_list", "model_input", "model_output",
    ])
    try readDefaults(try root.object("defaults"))
    let kinds = try root.object("params")
    for kind in kinds.keys { defaults.parameters[kind] = try parameter(try kinds.object(kind)) }
    let types = try root.object("op_type")
    for type in types.keys { operators[type] = try rules(try types.object(type)) }
    for (index, value) in try root.array("supergroups").enumerated() {
      let group = try JSONFields(value, root.path.member("supergroups").element(index))
      try group.check(known: ["op_list"])
      let list = try group.strings("op_list")
      guard list.count > 1 else { throw group.failure("a supergroup has at least two operators", "op_list") }
      supergroups.append(list)
    }
    if root.has("supergroup_pass_list") {
      passes = try root.strings("supergroup_pass_list")
      let known = ["LayerNormalization", "RMSNormalization", "MatmulAdd"]
      if let index = passes.firstIndex(where: { !known.contains($0) }) {
        throw JSONFields.failure(
          "the pass \(passes[index].debugDescription) is unknown: \(known.joined(separator: ", "))",
          root.path.member("supergroup_pass_list").element(index), nil)
      }
    }
    let input = try root.object("model_input")
    try input.check(known: ["is_input_quantized"])
    quantizesInputs = try input.onlyTrue("is_input_quantized")
    let output = try root.object("model_output")
    try output.check(known: ["is_output_quantized"])
    quantizesOutputs = try output.onlyTrue("is_output_quantized")
  }

  private mutating func readDefaults(_ fields: JSONFields) throws(Diagnostic) {
    try fields.check(known: [
      "ops", "params", "strict_symmetric", "unsigned_symmetric", "per_channel_quantization", "supported_kernels",
      "hw_version",
    ])
    let ops = try fields.object("ops")
    try ops.check(known: ["is_input_quantized", "is_output_quantized", "is_symmetric"])
    if ops.has("is_input_quantized") {
      throw ops.failure("is_input_quantized is not supported for all operators", "is_input_quantized")
    }
    defaults.isOutputQuantized = try ops.onlyTrue("is_output_quantized")
    defaults.isSymmetric = try ops.truth("is_symmetric")
    defaults.parameters[""] = try parameter(try fields.object("params"))
    isStrictSymmetric = try fields.truth("strict_symmetric") ?? false
    isUnsignedSymmetric = try fields.truth("unsigned_symmetric") ?? false
    defaults.isPerChannel = try fields.truth("per_channel_quantization")
    defaults.kernels = try kernels(fields, parameterNeeded: true)
    if fields.has("hw_version") { hardware = try fields.string("hw_version") }
  }

  private func rules(_ fields: JSONFields) throws(Diagnostic) -> Rules {
    try fields.check(known: [
      "is_input_quantized", "is_output_quantized", "is_symmetric", "params", "per_channel_quantization",
      "supported_kernels", "encoding_constraints",
    ])
    var rules = Rules()
    _ = try fields.onlyTrue("is_input_quantized")
    rules.isOutputQuantized = try fields.truth("is_output_quantized")
    rules.isSymmetric = try fields.truth("is_symmetric")
    rules.isPerChannel = try fields.truth("per_channel_quantization")
    rules.kernels = try kernels(fields, parameterNeeded: false)
    if fields.has("params") {
      let kinds = try fields.object("params")
      for kind in kinds.keys { rules.parameters[kind] = try parameter(try kinds.object(kind)) }
    }
    if fields.has("encoding_constraints") {
      let range = try fields.object("encoding_constraints")
      try range.check(known: ["min", "max"])
      rules.minimum = try range.double("min")
      if range.has("max") { rules.maximum = try range.double("max") }
      if let low = rules.minimum, let high = rules.maximum, low >= high {
        throw range.failure("min \(low) is not below max \(high)", "min")
      }
    }
    return rules
  }

  private func parameter(_ fields: JSONFields) throws(Diagnostic) -> Parameter {
    try fields.check(known: ["is_quantized", "is_symmetric"])
    return Parameter(isQuantized: try fields.truth("is_quantized"), isSymmetric: try fields.truth("is_symmetric"))
  }

  private func kernels(_ fields: JSONFields, parameterNeeded: Bool) throws(Diagnostic) -> [Kernel]? {
    guard fields.has("supported_kernels") else { return nil }
    var result: [Kernel] = []
    for (index, value) in try fields.array("supported_kernels").enumerated() {
      let kernel = try JSONFields(value, fields.path.member("supported_kernels").element(index))
      try kernel.check(known: ["activation", "param"])
      let parameter = parameterNeeded || kernel.has("param") ? try side(try kernel.object("param")) : nil
      result.append(Kernel(activation: try side(try kernel.object("activation")), parameter: parameter))
    }
    guard !result.isEmpty else { throw fields.failure("the list is empty", "supported_kernels") }
    return result
  }

  private func side(_ fields: JSONFields) throws(Diagnostic) -> Kernel.Side {
    try fields.check(known: ["bitwidth", "dtype"])
    let kind = try fields.kind("dtype")
    let bitwidth = try fields.int("bitwidth")
    let allowed = kind == .int ? [4, 8, 16, 32] : [16, 32]
    guard allowed.contains(bitwidth) else {
      let list = allowed.map(String.init).joined(separator: ", ")
      throw fields.failure("a bitwidth of \(kind.rawValue) is one of \(list), not \(bitwidth)", "bitwidth")
    }
    return Kernel.Side(kind: kind, bitwidth: bitwidth)
  }
}

extension JSONFields {
  /// The object under a key.
  fileprivate func object(_ key: String) throws(Diagnostic) -> JSONFields {
    try JSONFields(try require(key), path.member(key))
  }

  fileprivate func strings(_ key: String) throws(Diagnostic) -> [String] {
    var result: [String] = []
    for (index, value) in try array(key).enumerated() {
      guard case .string(let text) = value else {
        throw Self.failure("text is expected, not \(value.kind)", path.member(key).element(index), nil)
      }
      result.append(text)
    }
    return result
  }

  /// "True" or "False", nil where the key is absent.
  fileprivate func truth(_ key: String) throws(Diagnostic) -> Bool? {
    guard has(key) else { return nil }
    guard case .string(let text) = try require(key), text == "True" || text == "False" else {
      throw failure("\"True\" or \"False\" is expected, not \(try require(key).kind)", key)
    }
    return text == "True"
  }

  /// A key that may only be "True"; false where it is absent.
  fileprivate func onlyTrue(_ key: String) throws(Diagnostic) -> Bool {
    guard let value = try truth(key) else { return false }
    guard value else { throw failure("only \"True\" is allowed here", key) }
    return true
  }
}
