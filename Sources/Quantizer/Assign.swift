import Calibration
import IR

/// Gives every open float tensor of a graph its encoding, by the rules of the operators:
/// activations from the statistics, weights and other constants from their values, biases from
/// both. Tensors in state given keep their encoding bit for bit, tensors in state float stay float, and
/// activations that only operands read which are never quantized.
///
/// Throws `missing-range` where an activation was not observed (statistics are nil, or of another
/// graph), `statistics-extrema-only` where a calibrator needs histograms, `non-finite-weight`,
/// `shared-weight-conflict`, `bias-overflow` where only a given weight encoding could be widened, and
/// usage errors of the options. Searches run on up to `jobs` threads; the result is the same for any.
public func assignEncodings(
  _ graph: Graph, statistics: Statistics?, options: QuantizerOptions, jobs: Int = 1
) throws(Diagnostic) -> QuantizationResult {
  try assignEncodings(graph, statistics: statistics, options: options, jobs: jobs, memo: nil)
}

/// The same with encodings remembered from one call to the next, for one graph and one set of options.
func assignEncodings(
  _ graph: Graph, statistics: Statistics?, options: QuantizerOptions, jobs: Int,
  memo: CalibrationMemo?
) throws(Diagnostic) -> QuantizationResult {
  try options.validate()
  guard !graph.isMaterialized else {
    throw Diagnostic(
      "already-quantized", "the graph is fixed point already", kind: .internal)
  }
  if let statistics {
    try statistics.check(graph)
    if options.needsHistograms {
      try statistics.requireHistograms(
        for: "--act_quantizer_calibration \(options.actCalibration.rawValue)")
    }
    if !options.skipNonfinite { try statistics.requireFinite() }
  }
  var kept = try keepingFloat(graph, options.keepFloat)
  let operands = kept.graph.activationsOfFloatOperands()
  for id in operands { kept.graph[id].state = .float }
  var assigner = Assigner(graph: kept.graph, options: options, jobs: jobs, memo: memo)
  assigner.notes = kept.notes
  if !operands.isEmpty {
    let names = operands.map { kept.graph[$0].name }.sorted()
    assigner.notes.append(
      Diagnostic(
        "float-operands",
        "\(names.count) \(names.count == 1 ? "tensor stays" : "tensors stay") float, as what reads them never takes codes "
          + "(coordinates, boxes): \(names.prefix(5).joined(separator: ", "))\(names.count > 5 ? ", ..." : "")",
        severity: .note))
  }
  assigner.settleFloatTriples()
  try assigner.observe(statistics)
  try assigner.assignTiedWeights()
  try assigner.assignActivations()
  assigner.findUses()
  try assigner.assignWeights()
  try assigner.assignOperands()
  try assigner.assignBiases()
  assigner.noteOptionsWithoutEffect()
  assigner.settle()
  assigner.noteWeightsStoredTwice()
  assigner.noteIdleOptions()
  return QuantizationResult(
    graph: assigner.graph, notes: assigner.notes, borders: assigner.borders,
    dataInvariantOpsRequantize: options.includeDataInvariantOps,
    keepsWeightsQuantized: options.keepsWeightsQuantized, packs4BitWeights: options.packs4BitWeights)
}

/// A constant operand of a node that works on fixed point.
struct ConstantUse {
  let node: Int
  let slot: Int
  let role: QuantizationRule.Input
}

/// The state of one assignment; the steps run in the order of `assignEncodings`.
struct Assigner {
  var graph: Graph
  let options: QuantizerOptions
  let jobs: Int
  let memo: CalibrationMemo?
  var notes: [Diagnostic] = []
  var borders: [TensorID: Encoding] = [:]
  /// What was observed of each activation; values of constants that an operator ties.
  var observed: [TensorID: ObservedValues] = [:]
  /// Uses of float constants by fixed-point nodes, and the constants in order of first use.
  var uses: [TensorID: [ConstantUse]] = [:]
  var constants: [TensorID] = []

  /// Biases that got a grid a row.
  var rowBiases = 0
  /// Weights that got their encoding before the activations, because they are data too.
  var tiedWeights: [TensorID: WeightResult] = [:]
  /// Uses of weights by float nodes that read them quantized.
  var keptWeights = 0

  /// Whether each tensor had nothing decided about it at the start; bias copies come after these.
  var wasOpen: [Bool]

  init(graph: Graph, options: QuantizerOptions, jobs: Int, memo: CalibrationMemo? = nil) {
    self.memo = memo
    self.graph = graph
    self.jobs = jobs
    self.options = options
    wasOpen = graph.tensors.map { $0.state == .open }
  }

  var rules: BorderRules {
    BorderRules(
      graph: graph, borders: borders, requantizes: options.includeDataInvariantOps,
      keepsWeights: options.keepsWeightsQuantized)
  }

  /// Annotates a tensor.
  mutating func give(_ id: TensorID, _ encoding: Encoding, _ source: EncodingSource) {
    graph[id].encoding = encoding
    graph[id].encodingSource = source
    graph[id].state = .given
    graph[id].bitwidth = nil
  }

  /// Collects the ranges of activations and of constants that share an activation's encoding.
  mutating func observe(_ statistics: Statistics?) throws(Diagnostic) {
    var ids: [String: TensorID] = [:]
    for (index, tensor) in graph.tensors.enumerated() { ids[tensor.name] = TensorID(index) }
    for tensor in statistics?.tensors ?? [] {
      guard let id = ids[tensor.name], let values = ObservedValues(tensor) else { continue }
      observed[id] = values
    }
    placeMasks(statistics, ids)
    if options.skipNonfinite { try skipNonfiniteConstants() }
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, observed[id] == nil, graph[id].type.element == .float32,
          node.outputs.indices.contains(where: {
            node.op.quantization.ties(input: slot, output: $0)
          }), let constant = graph[id].constant
        else { continue }
        try observe(id, constant)
      }
    }
  }

  /// Takes the values of a constant for observed ones.
  private mutating func observe(_ id: TensorID, _ constant: Constant) throws(Diagnostic) {
    let values = constant.floats()
    _ = try constantRange(graph[id], values)
    observed[id] = ObservedValues(values.isEmpty ? [0] : values, histogram: options.needsHistograms)
  }

  /// Encodings of inputs, results and tied constants; then of what lies inside fused pairs.
  mutating func assignActivations() throws(Diagnostic) {
    let groups = try ActivationGroups(graph, values: observed, options: options, jobs: jobs, memo: memo)
    for node in groups.conflicts {
      notes.append(
        Diagnostic(
          "encoding-conflict",
          "the given encodings of its input and output differ: values are converted",
          at: .init(node: node), severity: .warning))
    }
    if options.includeDataInvariantOps && !Self.hasTies(graph) {
      notes.append(
        Diagnostic(
          "option-without-effect",
          "--include_data_invariant_ops changed 0 tensors: no operator is data-invariant",
          severity: .warning))
    }
    var missing: [Diagnostic] = []
    for index in graph.tensors.indices where graph.tensors[index].state == .open {
      let id = TensorID(index)
      guard groups.contains(id) else { continue }
      if let found = groups.encoding(of: id) {
        give(id, found.encoding, found.source)
      } else {
        missing.append(
          Diagnostic(
            "missing-range", "nothing was observed of this tensor",
            at: .init(tensor: graph[id].name),
            hint: "give samples by --input_list or matching statistics by --load_stats"))
      }
    }
    if let failure = Diagnostic.combining(missing) { throw failure }
    shareInFusedPairs()
    try findBorders()
  }

  /// Whether an operator ties a float input to an output.
  private static func hasTies(_ graph: Graph) -> Bool {
    graph.nodes.contains { node in
      node.outputs.indices.contains { output in
        graph[node.outputs[output]].type.element == .float32
          && node.inputs.indices.contains { node.op.quantization.ties(input: $0, output: output) }
      }
    }
  }

  /// The tensor inside a fused pair takes what the activation's output has.
  mutating func shareInFusedPairs() {
    let pairs = graph.innerTensorsOfFusedPairs().sorted { $0.key.index < $1.key.index }
    for (inner, outer) in pairs {
      let outside = graph[outer]
      if graph[inner].state != .open && graph[inner].encoding != outside.encoding {
        notes.append(
          Diagnostic(
            "encoding-without-effect",
            "what is given for it has no effect: it lies inside a fused pair with \(outside.name)",
            at: .init(tensor: graph[inner].name), severity: .warning))
      }
      graph[inner].encoding = outside.encoding
      graph[inner].encodingSource = outside.encodingSource
      graph[inner].state = outside.state
      graph[inner].bitwidth = outside.bitwidth
    }
  }

  /// Encodings for tensors that stay float by choice and that a fixed-point node reads.
  private mutating func findBorders() throws(Diagnostic) {
    findFixedBorders()
    for node in graph.nodes {
      for slot in node.inputs.indices where rules.need(node, slot) == .unknown {
        guard let id = node.inputs[slot], graph[id].state == .float else { continue }
        if observed[id] == nil, let constant = graph[id].constant { try observe(id, constant) }
        guard let values = observed[id] else { continue }
        borders[id] = try values.encoding(by: options.actCalibrator(), jobs: jobs)
      }
    }
  }

  /// Lists the float constants that fixed-point nodes read, and with `keepsWeightsQuantized` the
  /// weights of float ones.
  mutating func findUses() {
    let rules = rules
    for (index, node) in graph.nodes.enumerated() {
      let isQuantized = rules.isQuantized(node)
      guard isQuantized || options.keepsWeightsQuantized else { continue }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil, graph[id].type.element == .float32
        else { continue }
        let role = node.op.quantization.input(slot)
        guard role != .unquantized else { continue }
        if !isQuantized {
          guard case .weight = role else { continue }
          keptWeights += 1
        }
        if uses[id] == nil { constants.append(id) }
        uses[id, default: []].append(ConstantUse(node: index, slot: slot, role: role))
      }
    }
  }

  /// What stays without an encoding is float from here on, with a width.
  mutating func settle() {
    for index in graph.tensors.indices
    where graph.tensors[index].type.element.isFloat && graph.tensors[index].state == .open {
      graph.tensors[index].state = .float
    }
    settleFloatWidths()
  }
}
