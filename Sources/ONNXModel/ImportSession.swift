import IR
import Operators

/// One import: the values so far, and everything that was found wrong.
final class ImportSession {
  /// Tensors up to this many elements are computed at import where their operands are constant.
  static let foldLimit = 65_536
  /// Newest operator set whose changes are known here.
  static let newestOpset = 26

  let model: ONNXModelProto
  var decoder: TensorDecoder
  private let options: ONNXImporter.Options
  let builder: GraphBuilder
  private let nodeNames: [String]
  private let opset: Int
  var values: [String: Value] = [:]
  private var producedNames: [String] = []
  private var errors: [Diagnostic] = []
  private var notes: [Diagnostic] = []
  private var misfits: [Diagnostic] = []
  private var declared: [String: ONNXValueInfo] = [:]
  private var symbols: [String: Int] = [:]
  private let readNames: Set<String>
  /// What the nodes make that could not be translated.
  private var failed = Set<String>()

  init(
    model: ONNXModelProto, decoder: TensorDecoder, options: ONNXImporter.Options
  ) throws(Diagnostic) {
    var model = model
    model.graph.nodes = try FunctionInliner.inlined(model)
    var names = model.graph.nodes.enumerated().map { index, node in
      node.name.isEmpty ? "\(node.opType)_\(index)" : node.name
    }
    if !options.outputs.isEmpty,
      let (cut, kept) = Cutting.pruned(model.graph, nodeNames: names, to: options.outputs)
    {
      model.graph = cut
      names = kept.map { names[$0] }
    }
    nodeNames = names
    self.model = model
    self.decoder = decoder
    self.options = options
    let graph = model.graph
    guard !graph.outputs.isEmpty else {
      throw Diagnostic("onnx-no-output", "the model's graph has no output")
    }
    let version = model.opsets[""] ?? 1
    guard version > 0 else {
      throw Diagnostic("onnx-opset", "operator set version \(version) is not valid")
    }
    guard version <= Int64(ImportSession.newestOpset) else {
      throw Diagnostic(
        "onnx-opset",
        "operator set \(version) is newer than \(ImportSession.newestOpset), the newest known one",
        hint: "convert the model with onnx.version_converter, or export it for an older set")
    }
    opset = Int(version)
    var tensorNames = Set(graph.inputs.map(\.name) + graph.initializers.map(\.name))
    tensorNames.formUnion(graph.sparseInitializers.map(\.values.name))
    for node in graph.nodes { tensorNames.formUnion(node.outputs) }
    tensorNames.remove("")
    var read = Set(graph.outputs.map(\.name))
    for node in graph.nodes {
      read.formUnion(node.inputs)
      for body in node.bodies { read.formUnion(body.readNames) }
    }
    readNames = read
    builder = GraphBuilder(
      name: graph.name.isEmpty ? "model" : graph.name, tensorNames: tensorNames,
      nodeNames: Set(nodeNames), foldLimit: ImportSession.foldLimit)
    for info in graph.valueInfos + graph.outputs { declared[info.name] = info }
    if model.opsets[""] == nil && model.irVersion >= 3 {
      notes.append(
        Diagnostic(
          "onnx-opset", "the model names no standard operator set; version 1 is assumed",
          severity: .warning))
    }
  }

  /// Reads inputs, constants and nodes. Throws all errors at once.
  func run() throws(Diagnostic) {
    addInitializers()
    addInputs()
    let known = Set(values.keys).union(model.graph.inputs.map(\.name))
      .union(model.graph.initializers.map(\.name))
    let order = NodeOrder.sorted(
      model.graph.nodes, names: nodeNames, known: known, errors: &errors)
    reportUnsupported()
    for index in order { translate(model.graph.nodes[index], named: nodeNames[index]) }
    adviseCut(order)
    if let error = Diagnostic.combining(errors) { throw error }
  }

  private func addInitializers() {
    func add(_ name: String, _ make: () throws(Diagnostic) -> Constant) {
      do throws(Diagnostic) {
        guard !name.isEmpty, values[name] == nil else {
          throw Diagnostic("onnx-duplicate-name", "two initializers are called \"\(name)\"")
        }
        values[name] = builder.constant(try make(), named: name, isSource: true)
      } catch {
        errors.append(error)
      }
    }
    for tensor in model.graph.initializers {
      add(tensor.name) { () throws(Diagnostic) in try decoder.constant(tensor) }
    }
    for sparse in model.graph.sparseInitializers {
      add(sparse.values.name) { () throws(Diagnostic) in try decoder.constant(sparse) }
    }
  }

  /// Inputs with an initializer of their name are constants (all of them before IR version 4).
  private func addInputs() {
    let initializers = Set(model.graph.initializers.map(\.name) + Array(values.keys))
    let inputs = model.graph.inputs.filter { !initializers.contains($0.name) }
    var shapes = InputShapes(inputs, options)
    var seen = Set<String>()
    for input in inputs {
      let location = Diagnostic.Location(tensor: input.name)
      guard !input.name.isEmpty, seen.insert(input.name).inserted else {
        errors.append(
          Diagnostic("onnx-duplicate-name", "two inputs are called \"\(input.name)\""))
        continue
      }
      guard input.isTensor, let code = input.dataType, let element = TensorDecoder.element(code)
      else {
        let kind = input.isTensor ? input.dataType.map(TensorDecoder.typeName) : "another kind"
        errors.append(
          Diagnostic(
            "onnx-input-type", "an input of \(kind ?? "unknown type") is not supported",
            at: location))
        continue
      }
      guard let shape = shapes.resolve(input) else { continue }
      let type = TensorType(element, shape)
      do throws(Diagnostic) {
        try GraphBuilder.check(type)
        guard type.rank <= 8 else {
          throw Diagnostic("onnx-too-large", "rank \(type.rank) is too large")
        }
        values[input.name] = builder.addInput(name: input.name, type: type)
      } catch {
        var copy = error
        copy.location.tensor = input.name
        errors.append(copy)
      }
    }
    shapes.finish()
    symbols = shapes.symbols
    errors += shapes.errors
    notes += shapes.notes
  }

  /// Where all that is wrong are nodes that cannot be had here: how to convert what is before them.
  private func adviseCut(_ order: [Int]) {
    let kinds: Set = ["onnx-unsupported-operator", "onnx-unsupported-form"]
    guard !errors.isEmpty, errors.allSatisfy({ kinds.contains($0.code) }) else { return }
    let names = Cutting.tensors(before: failed, in: model.graph, order: order) {
      values[$0]?.constant != nil
    }
    guard !names.isEmpty else { return }
    let place = errors.count == 1 ? "this node" : "these nodes"
    let advice = "what is before \(place) converts with --out_tensor_node \(names.joined(separator: " "))"
    let hint = errors[errors.count - 1].hint
    errors[errors.count - 1].hint = hint.map { "\($0); \(advice)" } ?? advice
  }

  /// One error for each operator that has no translation, with the number of its nodes.
  private func reportUnsupported() {
    var counts: [String: (count: Int, first: String)] = [:]
    var order: [String] = []
    for (index, node) in model.graph.nodes.enumerated() where translation(node) == nil {
      let key = node.callee
      failed.formUnion(node.outputs)
      if counts[key] == nil {
        counts[key] = (0, nodeNames[index])
        order.append(key)
      }
      counts[key]?.count += 1
    }
    for key in order {
      guard let entry = counts[key] else { continue }
      let times = entry.count == 1 ? "1 node" : "\(entry.count) nodes, the first is named here"
      errors.append(
        Diagnostic(
          "onnx-unsupported-operator",
          "operator \(key) of opset \(opset) is not supported (\(times))",
          at: Diagnostic.Location(node: entry.first),
          hint: ImportSession.hint(key)))
    }
  }

  static func hint(_ operatorName: String) -> String {
    switch operatorName {
    case "Loop", "Scan":
      "networks have no loops here: unroll it when exporting, or take it out of the model"
    default: "replace it by supported operators, or leave it out when exporting"
    }
  }

  func translation(_ node: ONNXNode) -> ONNXTranslation? {
    ONNXTranslation.all[node.domain.isEmpty ? node.opType : "\(node.domain).\(node.opType)"]
  }

  func translate(_ node: ONNXNode, named nodeName: String) {
    guard let translation = translation(node) else { return }
    var inputs: [Value?] = []
    for name in node.inputs {
      if name.isEmpty {
        inputs.append(nil)
      } else if let value = values[name] {
        inputs.append(value)
      } else {
        return  // Its producer has failed and said why.
      }
    }
    do throws(Diagnostic) {
      if node.opType == "If", node.domain.isEmpty {
        try takeBranch(of: node, named: nodeName, inputs)
      } else {
        try translate(node, nodeName, inputs, by: translation)
      }
    } catch {
      var copy = error.inNode(nodeName)
      if !copy.message.hasPrefix(node.opType) { copy.message = "\(node.opType): \(copy.message)" }
      errors.append(copy)
      failed.formUnion(node.outputs)
    }
  }

  private func translate(
    _ node: ONNXNode, _ nodeName: String, _ given: [Value?], by translation: ONNXTranslation
  ) throws(Diagnostic) {
    // Operators that only move values move codes by moving what they stand for.
    let moved = CodeMovers.grid(node, given)
    var inputs: [Value?] = []
    let staysWide =
      translation.takesDoubles && given.allSatisfy { $0 == nil || $0?.type.element == .float64 }
    for value in given {
      guard let value, !staysWide else {
        inputs.append(value)
        continue
      }
      inputs.append(try builder.widen(value))
    }
    if let moved { inputs = try CodeMovers.floats(node, inputs, moved, builder) }
    let context = NodeContext(
      builder: builder, node: node, name: nodeName,
      opset: node.opset.map { Int($0) } ?? opset, inputs: inputs,
      isOutputUsed: node.outputs.map { !$0.isEmpty && readNames.contains($0) },
      decode: { [self] (value) throws(Diagnostic) in
        switch value {
        case .tensor(let tensor): return try decoder.constant(tensor)
        case .sparse(let sparse): return try decoder.constant(sparse)
        default: throw Diagnostic("onnx-bad-node", "an attribute is not a tensor")
        }
      })
    var results = try translation.translate(context)
    try context.finish()
    if let moved { results = try CodeMovers.codes(results, node, moved, builder) }
    let narrow = inputs.compactMap { $0 }.first { $0.type.element.isFloat }?.narrow
    for (name, value) in zip(node.outputs, results) where !name.isEmpty {
      guard var value else { continue }
      if !translation.choosesElement, value.type.element == .float32 { value.narrow = narrow }
      bind(name, value)
    }
  }

  /// Gives a value the name that the source has for it.
  func bind(_ name: String, _ value: Value) {
    var bound = value
    switch value.source {
    case .tensor(let id):
      if builder.adopt(id, as: name) {
        bound.name = name
        bound.isNamedBySource = true
      }
    case .constant:
      if !value.isNamedBySource {
        bound.name = name
        bound.isNamedBySource = true
      }
    }
    values[name] = bound
    producedNames.append(name)
    compare(name, TensorType(bound.sourceElement, bound.shape))
  }

  /// Notes where the model declares another type than the one inferred.
  private func compare(_ name: String, _ type: TensorType) {
    guard let info = declared[name], info.isTensor else { return }
    let location = Diagnostic.Location(tensor: name)
    if let code = info.dataType, code != 0, TensorDecoder.element(code) != type.element {
      misfits.append(
        Diagnostic(
          "onnx-declared-type",
          "declared as \(TensorDecoder.typeName(code)), but it is \(type.element.rawValue)",
          at: location, severity: .warning))
    }
    guard let shape = info.shape else { return }
    let sizes = shape.map { dimension -> Int? in
      switch dimension {
      case .fixed(let size): return Int(size)
      case .symbol(let symbol): return symbols[symbol]
      case .unknown: return nil
      }
    }
    let fits =
      sizes.count == type.rank && zip(sizes, type.shape).allSatisfy { $0 == nil || $0 == $1 }
    if !fits {
      let text = sizes.map { $0.map(String.init) ?? "?" }.joined(separator: ", ")
      misfits.append(
        Diagnostic(
          "onnx-declared-shape", "declared as [\(text)], but it is \(type.shape)", at: location,
          severity: .warning))
    }
  }

  /// The finished graph; call after ``run()``.
  func finish() throws(Diagnostic) -> ImportedModel {
    try addOutputs()
    var graph = builder.graph.compacted()
    let live = Set(graph.tensors.map(\.name))
    var coded: [Int: String] = [:]
    for value in values.values where value.encoding != nil { coded[value.serial] = value.name }
    for name in producedNames + model.graph.initializers.map(\.name) where !live.contains(name) {
      guard let value = values[name] else { continue }
      if let real = builder.standIns[name] {
        let other = coded[real.serial] ?? real.name
        if live.contains(other) {
          graph.aliases[name] = other
          continue
        }
      }
      switch value.source {
      case .tensor(let id):
        let holder = builder.graph[id].name
        if live.contains(holder) {
          graph.aliases[name] = holder
        } else {
          graph.folded[name] = "nothing that remains reads it"
        }
      case .constant:
        let other = builder.graphName(of: value) ?? value.name
        if other != name && live.contains(other) {
          graph.aliases[name] = other
        } else {
          graph.folded[name] = "constant, used up at import"
        }
      }
    }
    for name in graph.batchNorms.keys where !live.contains(name) { graph.batchNorms[name] = nil }
    addNotes(graph)
    if let problem = Diagnostic.combining(graph.verify()) {
      var copy = problem
      copy.kind = .internal
      throw copy
    }
    return ImportedModel(
      graph: graph, files: decoder.externalFiles, diagnostics: notes, opset: opset)
  }

  private func addNotes(_ graph: Graph) {
    let unusedInputs = builder.graph.inputs.map { builder.graph[$0].name }
      .filter { !readNames.contains($0) }
    for name in unusedInputs {
      notes.append(
        Diagnostic(
          "onnx-unused-input", "no node reads this input",
          at: Diagnostic.Location(tensor: name), severity: .note))
    }
    let unused = model.graph.initializers.map(\.name).filter { !readNames.contains($0) }
    if let first = unused.first {
      notes.append(
        Diagnostic(
          "onnx-unused-initializer",
          "no node reads \(unused.count) of the initializers; the first is named here",
          at: Diagnostic.Location(tensor: first), severity: .note))
    }
    if var first = misfits.first {
      if misfits.count > 1 {
        first.message += " (and \(misfits.count - 1) more such contradictions)"
      }
      first.hint = "the inferred types are used"
      notes.append(first)
    }
  }
}
