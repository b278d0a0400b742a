import Calibration
import EncodingFiles
import IR

/// What a configuration of AIMET's makes of a graph and of the options.
public struct QuantsimPlan: Sendable {
  /// The graph with what the configuration decides: tensors that stay float, fixed ranges, 32-bit biases.
  public var graph: Graph
  /// The options with the schemas and granularity of the configuration.
  public var options: QuantizerOptions
  /// What has another meaning here, or none.
  public var notes: [Diagnostic] = []
  private let config: QuantsimConfig
  /// Tensors inside fused pairs, with the activation's output.
  private let inner: [TensorID: TensorID]

  /// Applies a configuration to a float graph; what overrides and the source decided stays. Throws
  /// `quantsim-kernel` where an operator has widths that its supported kernels have not.
  public init(
    _ graph: Graph, _ config: QuantsimConfig, options: QuantizerOptions
  ) throws(Diagnostic) {
    self.graph = graph
    self.options = options
    self.config = config
    inner = graph.innerTensorsOfFusedPairs()
    warnOfUnknownTypes()
    setOptions()
    setInputs()
    for index in graph.nodes.indices { setNode(index) }
    noteSupergroups()
    try checkKernels()
  }

  /// A type that is no operator of ONNX matches nothing in any model: a misspelling, most likely.
  private mutating func warnOfUnknownTypes() {
    let present = Set(graph.nodes.flatMap(\.onnxTypes))
    let places =
      config.operators.keys.sorted().map { ($0, "op_type.\($0)") }
      + config.supergroups.enumerated().flatMap { index, group in group.map { ($0, "supergroups[\(index)]") } }
    for (type, path) in places where !ONNXOperatorNames.known.contains(type) && !present.contains(type) {
      let wanted = Array(type.lowercased().utf8)
      let near = ONNXOperatorNames.known
        .map { (OverrideNames.distance(wanted, Array($0.lowercased().utf8)), $0) }
        .filter { $0.0 <= max(2, wanted.count / 3) }.sorted { $0 < $1 }.prefix(3).map(\.1)
      notes.append(
        Diagnostic(
          "quantsim-unknown-type", "\(type) is no operator of ONNX: it has no effect", at: .init(path: path),
          hint: near.isEmpty ? nil : "the nearest names are \(near.joined(separator: ", "))", severity: .warning))
    }
  }

  private func schema(_ isSymmetric: Bool?) -> QuantizerSchema {
    guard isSymmetric == true else { return .asymmetric }
    return config.isUnsignedSymmetric ? .unsignedSymmetric : .symmetric
  }

  private mutating func setOptions() {
    options.actSchema = schema(config.defaults.isSymmetric)
    options.paramSchema = schema(config.parameter("weight", of: "").isSymmetric)
    options.strictSymmetric = config.isStrictSymmetric
    options.perChannel = config.defaults.isPerChannel ?? false
    options.perRow = options.perChannel
  }

  private mutating func setInputs() {
    guard !config.quantizesInputs else { return }
    for id in graph.inputs { setFloat(id) }
  }

  private mutating func setFloat(_ id: TensorID) {
    guard graph[id].state == .open, graph[id].type.element == .float32 else { return }
    graph[id].state = .float
  }

  /// What is said of a node: its own type, where the configuration has it.
  private func rules(_ node: Node) -> (type: String, rules: QuantsimConfig.Rules) {
    for type in node.onnxTypes { if let rules = config.operators[type] { return (type, rules) } }
    return (node.onnxTypes.first ?? "", QuantsimConfig.Rules())
  }

  private mutating func setNode(_ index: Int) {
    let node = graph.nodes[index]
    let (type, own) = rules(node)
    let isQuantized = own.isOutputQuantized ?? config.defaults.isOutputQuantized ?? false
    let schema = schema(own.isSymmetric ?? config.defaults.isSymmetric)
    for (slot, id) in node.outputs.enumerated() where inner[id] == nil {
      if case .sameAsInput = node.op.quantization.output(slot) { continue }
      guard isQuantized || (config.quantizesOutputs && graph.outputs.contains(id)) else {
        setFloat(id)
        continue
      }
      if schema != options.actSchema { options.schemas[graph[id].name] = schema }
      constrain(id, own, schema, type)
    }
    for (slot, id) in node.inputs.enumerated() {
      guard let id, graph[id].constant != nil else { continue }
      switch node.op.quantization.input(slot) {
      case .weight: setWeight(id, of: node, type, own)
      case .bias:
        // A float bias is one that loses nothing: 32 bits, computed.
        if config.parameter("bias", of: type).isQuantized != true, graph[id].state == .open {
          graph[id].bitwidth = graph[id].bitwidth ?? 32
        }
      case .activation, .unquantized: break
      }
    }
  }

  private mutating func setWeight(
    _ id: TensorID, of node: Node, _ type: String, _ own: QuantsimConfig.Rules
  ) {
    let rule = config.parameter("weight", of: type)
    guard rule.isQuantized == true else {
      // An operator is all integer or all float.
      for operand in node.inputs.dropFirst().compactMap({ $0 }) where graph[operand].constant != nil {
        setFloat(operand)
      }
      for output in node.outputs { setFloat(inner[output] ?? output) }
      return
    }
    let name = graph[id].name
    let schema = schema(rule.isSymmetric)
    if schema != options.paramSchema { options.schemas[name] = schema }
    let isPerChannel = own.isPerChannel ?? config.defaults.isPerChannel ?? false
    if isPerChannel != options.perChannel { options.channelGrids[name] = isPerChannel }
  }

  /// Fixes the range of an output.
  private mutating func constrain(
    _ id: TensorID, _ rules: QuantsimConfig.Rules, _ schema: QuantizerSchema, _ type: String
  ) {
    guard let low = rules.minimum, graph[id].state == .open, graph[id].type.element == .float32 else { return }
    guard let high = rules.maximum else {
      // A least value of zero is what a range has anyway where no value is below.
      if low != 0 {
        note("op_type.\(type).encoding_constraints.min", "a lowest value alone fixes no range: it is calibrated")
      }
      return
    }
    graph[id].encoding = RangeToEncoding.encoding(
      min: low, max: high, bitwidth: graph[id].bitwidth ?? options.actBitwidth, schema: schema,
      strict: config.isStrictSymmetric)
    graph[id].encodingSource = .fixed
    graph[id].state = .given
    graph[id].bitwidth = nil
  }

  private mutating func note(_ path: String, _ message: String) {
    let made = Diagnostic("quantsim-note", message, at: .init(path: path), severity: .note)
    if !notes.contains(made) { notes.append(made) }
  }

  /// Supergroups are fused pairs here, which the operators' rules tell.
  private mutating func noteSupergroups() {
    let readers = graph.consumers()
    let fused = graph.fusedIntermediates()
    for (index, group) in config.supergroups.enumerated() {
      var other = 0
      for node in graph.nodes where node.onnxTypes.contains(group[0]) {
        var current = node
        var isFused = true
        var matches = true
        for type in group.dropFirst() {
          guard let output = current.outputs.first, readers[output.index].count == 1,
            let next = readers[output.index].first, graph[next].onnxTypes.contains(type)
          else {
            matches = false
            break
          }
          isFused = isFused && fused[output] != nil
          current = graph[next]
        }
        if matches && !isFused { other += 1 }
      }
      if other > 0 {
        note(
          "supergroups[\(index)]",
          "\(other) chains of \(group.joined(separator: ", ")) are no fused pairs here: each operator is quantized")
      }
    }
    let pairs = Set(config.supergroups.filter { $0.count == 2 })
    let producers = graph.producers()
    let extra = fused.filter { between, reader in
      guard let made = producers[between.index] else { return false }
      return !graph[made].onnxTypes.contains { first in
        graph[reader].onnxTypes.contains { pairs.contains([first, $0]) }
      }
    }
    if !extra.isEmpty {
      note("supergroups", "\(extra.count) fused pairs are none of the supergroups: they have one encoding all the same")
    }
  }

  private func checkKernels() throws(Diagnostic) {
    var errors: [Diagnostic] = []
    for node in graph.nodes {
      let (type, own) = rules(node)
      guard let kernels = own.kernels ?? config.defaults.kernels,
        let output = node.outputs.first.map({ inner[$0] ?? $0 }), graph[output].type.element == .float32,
        graph[output].state != .float
      else { continue }
      let width = graph[output].encoding?.bitwidth ?? graph[output].bitwidth ?? options.actBitwidth
      var weight: Int?
      for (slot, id) in node.inputs.enumerated() {
        if let id, graph[id].constant != nil, case .weight = node.op.quantization.input(slot) {
          weight = graph[id].encoding?.bitwidth ?? graph[id].bitwidth ?? options.weightsBitwidth
        }
      }
      let fits = kernels.contains { kernel in
        guard kernel.activation == .init(kind: .int, bitwidth: width) else { return false }
        guard let weight, let parameter = kernel.parameter else { return true }
        return parameter == .init(kind: .int, bitwidth: weight)
      }
      guard !fits else { continue }
      let list = kernels.map { "\($0.activation)" + ($0.parameter.map { " with \($0)" } ?? "") }
      errors.append(
        Diagnostic(
          "quantsim-kernel",
          "activations of int\(width)\(weight.map { " with weights of int\($0)" } ?? "") are none of the supported "
            + "kernels of \(type): \(list.joined(separator: ", "))",
          at: .init(
            node: node.name,
            path: own.kernels == nil ? "defaults.supported_kernels" : "op_type.\(type).supported_kernels")))
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
  }
}

extension Node {
  /// Types of ONNX operators that become this one.
  var onnxTypes: [String] { Self.sources[op.typeName] ?? [Self.plain(op.typeName)] }

  private static func plain(_ name: String) -> String {
    name.hasPrefix("ElementWise") ? String(name.dropFirst("ElementWise".count)) : name
  }

  private static let sources: [String: [String]] = [
    "Conv2d": ["Conv"], "DepthWiseConv2d": ["Conv"], "Conv3d": ["Conv"], "TransposeConv2d": ["ConvTranspose"],
    "TransposeConv3d": ["ConvTranspose"], "FullyConnected": ["Gemm", "MatMul"], "MatMul": ["MatMul", "Gemm"],
    "ReluMinMax": ["Clip"], "Prelu": ["PRelu"], "PoolMax2d": ["MaxPool", "GlobalMaxPool"],
    "PoolAvg2d": ["GlobalAveragePool", "AveragePool"], "ElementWiseSubtract": ["Sub"], "ElementWiseMultiply": ["Mul"],
    "ElementWiseDivide": ["Div"], "ElementWiseMaximum": ["Max"], "ElementWiseMinimum": ["Min"],
    "ElementWisePower": ["Pow"], "ElementWiseSquareRoot": ["Sqrt"], "ElementWiseSelect": ["Where"],
    "Batchnorm": ["BatchNormalization"], "LayerNorm": ["LayerNormalization"], "RmsNorm": ["RMSNormalization"],
    "InstanceNorm": ["InstanceNormalization"], "GroupNorm": ["GroupNormalization"], "Lrn": ["LRN"],
    "StridedSlice": ["Slice"], "Argmax": ["ArgMax"], "Argmin": ["ArgMin"], "GatherNd": ["GatherND"],
    "ScatterNd": ["ScatterND"], "PoolMax3d": ["MaxPool"], "PoolAvg3d": ["AveragePool"],
    "ResizeBilinear": ["Resize", "Upsample"], "ResizeNearestNeighbor": ["Resize", "Upsample"],
    "Resize": ["Resize", "Upsample"], "Lstm": ["LSTM"], "Gru": ["GRU"], "Rnn": ["RNN"],
  ]
}
