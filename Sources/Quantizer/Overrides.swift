import EncodingFiles
import IR

/// Applies the encodings of a file to a float graph: tensors become `given` with source override, or
/// `float`; everything else stays as it is. ``assignEncodings(_:statistics:options:)`` then fills what
/// is open and leaves what was given bit for bit.
///
/// `missing` is, unless given, what the file's version means: float for 2.0.0, calibrate before.
/// With `unfuse`, a tensor between an operator and its activation that the file names keeps an
/// encoding of its own; else naming it has no effect. Widths without a range go to
/// ``Tensor/bitwidth``, operators in 32-bit integers to ``Graph/integerNodes``.
/// Throws, all together: `override-unmatched` and `override-wrong-section` (strict), `override-no-match`,
/// `override-channels`, `override-asymmetric-channels`, `override-bitwidth`, `override-combination`,
/// `override-int32`, `encodings-unsupported`; each names the tensor and the place in the file.
public func applyOverrides(
  _ graph: Graph, _ file: EncodingFile, policy: OverridePolicy = .strict,
  missing: MissingEncodings? = nil, unfuse: Bool = false
) throws(Diagnostic) -> (Graph, OverrideReport) {
  guard !graph.isMaterialized else {
    throw Diagnostic(
      "already-quantized", "overrides apply to a float graph, this one is fixed point already")
  }
  var application = OverrideApplication(graph: graph, file: file, policy: policy, unfuse: unfuse)
  application.resolve()
  application.applyBiases()
  application.applyIntegerNodes()
  application.applyFloatTriples()
  application.checkCombinations()
  if (missing ?? .meant(by: file.generation)) == .float {
    application.leaveMissingFloat()
  }
  return try application.finish()
}

/// The state of one application; the steps run in the order of `applyOverrides`.
struct OverrideApplication {
  var graph: Graph
  let file: EncodingFile
  let policy: OverridePolicy
  let unfuse: Bool
  var report = OverrideReport()
  var errors: [Diagnostic] = []
  /// Uses of constants as weight or bias.
  var parameters: [TensorID: [ConstantUse]] = [:]
  /// Tensors inside fused pairs, with the activation's output.
  var inner: [TensorID: TensorID]
  /// The entry that decided about each tensor.
  var decided: [TensorID: Int] = [:]
  /// 32-bit entries of biases and of activations, which are looked at together.
  var biases: [TensorID: Int] = [:]
  var integers: [TensorID: Int] = [:]

  init(graph: Graph, file: EncodingFile, policy: OverridePolicy, unfuse: Bool) {
    self.graph = graph
    self.file = file
    self.policy = policy
    self.unfuse = unfuse
    inner = graph.innerTensorsOfFusedPairs()
    for (index, node) in graph.nodes.enumerated() {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil else { continue }
        let role = node.op.quantization.input(slot)
        switch role {
        case .weight, .bias:
          parameters[id, default: []].append(ConstantUse(node: index, slot: slot, role: role))
        case .activation, .unquantized: break
        }
      }
    }
  }

  /// An error or warning about an entry.
  func finding(
    _ code: String, _ message: String, _ entry: EncodingEntry, tensor: TensorID? = nil,
    hint: String? = nil, severity: Diagnostic.Severity = .error
  ) -> Diagnostic {
    Diagnostic(
      code, message,
      at: .init(tensor: tensor.map { graph[$0].name } ?? entry.name, path: entry.path), hint: hint,
      severity: severity)
  }

  /// Finds what every name means and applies it: exact names before aliases before patterns.
  mutating func resolve() {
    let names = OverrideNames(graph)
    let targets = file.entries.map { names.target(of: $0.name) }
    var outcomes = [OverrideReport.Outcome?](repeating: nil, count: targets.count)
    for (index, target) in targets.enumerated() {
      if case .tensor(let id) = target { outcomes[index] = decide(index, id, .matched) }
    }
    for (index, target) in targets.enumerated() {
      if case .alias(let id) = target {
        outcomes[index] = decide(index, id, .alias(of: graph[id].name))
      }
    }
    for (index, target) in targets.enumerated() {
      switch target {
      case .tensor, .alias: break
      case .folded(let reason): outcomes[index] = .withoutEffect(reason: reason)
      case .pattern(let ids): outcomes[index] = decide(index, pattern: ids)
      case .nothing: outcomes[index] = .unmatched(nearest: names.nearest(to: file.entries[index].name))
      }
    }
    for (entry, outcome) in zip(file.entries, outcomes) {
      guard let outcome else { continue }
      report.names.append(.init(name: entry.name, path: entry.path, outcome: outcome))
      note(entry, outcome)
    }
  }

  /// Applies a pattern to the tensors of its section that nothing nearer decided about.
  private mutating func decide(_ index: Int, pattern ids: [TensorID]) -> OverrideReport.Outcome {
    var reached: [String] = []
    for id in ids where decided[id] == nil && integers[id] == nil && biases[id] == nil {
      // A pattern does not take fused pairs apart: that is asked for by name.
      guard wrongSection(file.entries[index], id) == nil, inner[id] == nil, effectless(id) == nil else { continue }
      apply(index, id)
      reached.append(graph[id].name)
    }
    return reached.isEmpty
      ? .withoutEffect(reason: "no tensor that it fits can take it") : .pattern(reached)
  }

  private mutating func decide(
    _ index: Int, _ id: TensorID, _ outcome: OverrideReport.Outcome
  ) -> OverrideReport.Outcome {
    let entry = file.entries[index]
    if let expected = wrongSection(entry, id) { return .wrongSection(expected: expected) }
    if let reason = effectless(id) { return .withoutEffect(reason: reason) }
    if let other = decided[id] ?? integers[id] ?? biases[id] {
      // Names of what became one tensor, as of results of data movement, may say the same of it.
      if entry.isEquivalent(to: file.entries[other]) { return outcome }
      return .withoutEffect(
        reason: "\(graph[id].name) has its encoding from \(file.entries[other].name)")
    }
    apply(index, id)
    return outcome
  }

  /// Why nothing can be given for a tensor, nil where something can.
  private mutating func effectless(_ id: TensorID) -> String? {
    if graph[id].type.element != .float32 {
      return "it is \(graph[id].type.element.rawValue): only float tensors carry encodings"
    }
    if unfuse, inner.removeValue(forKey: id) != nil { graph[id].isUnfused = true }
    return inner[id].map { "it lies inside a fused pair with \(graph[$0].name)" }
  }

  /// The section that the tensor belongs to where it is not the entry's.
  private func wrongSection(_ entry: EncodingEntry, _ id: TensorID) -> String? {
    switch entry.section {
    case .any: nil
    case .param: graph[id].constant == nil ? "activation_encodings" : nil
    case .activation: parameters[id] != nil ? "param_encodings" : nil
    }
  }

  private mutating func note(_ entry: EncodingEntry, _ outcome: OverrideReport.Outcome) {
    var found: Diagnostic
    switch outcome {
    case .matched, .alias, .pattern, .withoutEffect: return
    case .wrongSection(let expected):
      found = finding(
        "override-wrong-section", "the tensor belongs to \(expected)", entry,
        hint: "move the entry to \(expected)")
    case .unmatched(let nearest):
      found = finding(
        "override-unmatched", "the graph has no tensor of this name", entry,
        hint: nearest.isEmpty ? nil : "the nearest names are \(nearest.joined(separator: ", "))")
    }
    if policy == .warn {
      found.severity = .warning
      report.diagnostics.append(found)
    } else {
      errors.append(found)
    }
  }

  private func isInner(_ name: String) -> Bool {
    inner.keys.contains { graph[$0].name == name }
  }

  /// The graph and the report, or all errors at once.
  mutating func finish() throws(Diagnostic) -> (Graph, OverrideReport) {
    let reached = report.names.contains {
      switch $0.outcome {
      case .matched, .alias, .pattern, .withoutEffect: true
      case .wrongSection, .unmatched: false
      }
    }
    if !reached && !file.entries.isEmpty && errors.isEmpty {
      errors = [
        Diagnostic(
          "override-no-match", "none of the \(file.entries.count) names belongs to this graph",
          hint: "the file was probably written for another model", related: report.diagnostics)
      ]
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
    let idle = report.names.filter {
      if case .withoutEffect = $0.outcome { true } else { false }
    }
    var notes = file.notes
    if file.entries.isEmpty {
      notes.append(
        Diagnostic("override-empty", "the encodings file names no tensor", severity: .warning))
    }
    if let first = idle.first, case .withoutEffect(let reason) = first.outcome {
      notes.append(
        Diagnostic(
          "override-without-effect",
          "\(idle.count) \(idle.count == 1 ? "name" : "names") of the encodings file without effect"
            + "\(idle.count == 1 ? "" : ", the first"): \(reason)",
          at: .init(tensor: first.name, path: first.path),
          hint: idle.contains { isInner($0.name) }
            ? "--unfuse_overridden honours encodings inside fused pairs" : nil,
          severity: .warning))
    }
    if let misfit = weightsOffRange() { notes.append(misfit) }
    if !report.missingFloat.isEmpty {
      notes.append(
        Diagnostic(
          "override-missing-float",
          "\(counted(report.missingFloat.count, "tensor")) that the encodings file does not name "
            + (report.missingFloat.count == 1 ? "stays float" : "stay float"),
          at: .init(tensor: report.missingFloat.first), severity: .note))
    }
    report.diagnostics = notes + report.diagnostics
    report.coverage = EncodingCoverage(graph)
    return (graph, report)
  }
}
