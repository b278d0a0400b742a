import ArgumentParser
import Container
import IR
import Operators
import ToolKit

/// What becomes of the model's inputs and outputs, and what is written about it.
struct ModelOptions: ParsableArguments {
  @Option(
    name: [.customLong("out_tensor_node"), .customLong("out_tensor_name"), .customLong("out_node")],
    parsing: .upToNextOption,
    help: ArgumentHelp("Cut the graph at this tensor or node; repeatable.", valueName: "name"))
  var outputs: [String] = []
  @Option(
    name: .customLong("source_model_input_layout"), parsing: .upToNextOption,
    help: ArgumentHelp("Layout of an input in the model, NCHW say; repeatable.", valueName: "name layout"))
  var sourceInputLayout: [String] = []
  @Option(
    name: .customLong("desired_input_layout"), parsing: .upToNextOption,
    help: ArgumentHelp("Layout of an input in the container; repeatable.", valueName: "name layout"))
  var desiredInputLayout: [String] = []
  @Option(
    name: .customLong("source_model_output_layout"), parsing: .upToNextOption,
    help: ArgumentHelp("Layout of an output in the model; repeatable.", valueName: "name layout"))
  var sourceOutputLayout: [String] = []
  @Option(
    name: .customLong("desired_output_layout"), parsing: .upToNextOption,
    help: ArgumentHelp("Layout of an output in the container; repeatable.", valueName: "name layout"))
  var desiredOutputLayout: [String] = []
  @Option(
    name: .customLong("source_model_input_datatype"), parsing: .upToNextOption,
    help: ArgumentHelp(
      "Element type of an input; an error where the model has another; repeatable.",
      valueName: "name type"))
  var inputDatatype: [String] = []
  @Flag(name: .customLong("remove_unused_inputs"), help: "Leave out inputs that nothing reads.")
  var removesUnusedInputs = false
  @Option(
    name: .customLong("set_model_version"),
    help: ArgumentHelp("Version of the model, for the container's metadata.", valueName: "text"))
  var modelVersion: String?
  @Option(
    name: .customLong("copyright_file"),
    help: ArgumentHelp("Copyright text for the container's metadata.", valueName: "file"))
  var copyrightFile: String?

  func validate() throws {
    for (option, words) in [
      ("source_model_input_layout", sourceInputLayout), ("desired_input_layout", desiredInputLayout),
      ("source_model_output_layout", sourceOutputLayout),
      ("desired_output_layout", desiredOutputLayout), ("source_model_input_datatype", inputDatatype),
    ] {
      guard words.count.isMultiple(of: 2) else {
        throw ValidationError("--\(option) takes pairs of words, not '\(words.joined(separator: " "))'")
      }
      let table = ModelOptions.pairs(words)
      if Set(table.map(\.name)).count < table.count {
        throw ValidationError("--\(option) names a tensor twice")
      }
      for (_, value) in table where option.hasSuffix("layout") {
        if !TensorLayout.names.contains(value) {
          throw ValidationError(
            "--\(option) does not know '\(value)'; layouts are \(TensorLayout.names.joined(separator: ", "))")
        }
      }
    }
  }

  /// Names and values that alternate.
  static func pairs(_ words: [String]) -> [(name: String, value: String)] {
    stride(from: 0, to: words.count - 1, by: 2).map { (words[$0], words[$0 + 1]) }
  }

  /// What is recorded in the container.
  var effective: [String: String] {
    func list(_ words: [String]) -> String {
      EffectiveOptions.list(ModelOptions.pairs(words).map { "\($0.name)=\($0.value)" }.sorted())
    }
    return [
      "out_tensor_node": EffectiveOptions.list(outputs),
      "source_model_input_layout": list(sourceInputLayout),
      "desired_input_layout": list(desiredInputLayout),
      "source_model_output_layout": list(sourceOutputLayout),
      "desired_output_layout": list(desiredOutputLayout),
      "remove_unused_inputs": "\(removesUnusedInputs)",
    ]
  }

  /// Layouts of the model's inputs where they are said.
  var sourceLayouts: [String: String] {
    Dictionary(ModelOptions.pairs(sourceInputLayout).map { ($0.name, $0.value) }) { $1 }
  }

  /// Model version and copyright text.
  func metadata() throws(Diagnostic) -> (version: String, copyright: String) {
    var copyright = ""
    if let copyrightFile { copyright = try FileReading.text(of: copyrightFile) }
    return (modelVersion ?? "", copyright)
  }

  /// Files that are read.
  var files: [String] { copyrightFile.map { [$0] } ?? [] }

  /// Cuts the graph and changes the layout of its inputs and outputs; before the passes, which then move
  /// the Transposes to where they cancel. `colored` inputs had use for their layout in the model already.
  func apply(to graph: inout Graph, colored: Set<String>, _ session: ToolSession) throws(Diagnostic) {
    try checkDatatypes(graph)
    if !outputs.isEmpty { try cut(&graph) }
    let inputs = try relayouts(
      "input", graph.inputs,
      ModelOptions.pairs(sourceInputLayout).filter { pair in
        !colored.contains(pair.name) || ModelOptions.pairs(desiredInputLayout).contains { $0.name == pair.name }
      },
      ModelOptions.pairs(desiredInputLayout), graph, session)
    for (id, permutation) in inputs { TensorLayout.turnInput(id, permutation, &graph) }
    let results = try relayouts(
      "output", graph.outputs, ModelOptions.pairs(sourceOutputLayout),
      ModelOptions.pairs(desiredOutputLayout), graph, session)
    for (id, permutation) in results { TensorLayout.turnOutput(id, permutation, &graph) }
  }

  /// Drops inputs that nothing reads; after the passes.
  func removeUnused(_ graph: inout Graph, _ session: ToolSession) {
    guard removesUnusedInputs else { return }
    let readers = graph.consumers()
    let before = graph.inputs.count
    graph.inputs.removeAll { readers[$0.index].isEmpty && !graph.outputs.contains($0) }
    guard graph.inputs.count == before else { return graph = graph.compacted() }
    session.printer.report(
      Diagnostic(
        "option-without-effect", "--remove_unused_inputs removed 0 inputs: all are read",
        severity: .warning))
  }

  private func checkDatatypes(_ graph: Graph) throws(Diagnostic) {
    var errors: [Diagnostic] = []
    for (name, type) in ModelOptions.pairs(inputDatatype) {
      guard let id = graph.inputs.first(where: { graph[$0].name == name }) else {
        errors.append(unknown("input", name, graph.inputs, graph))
        continue
      }
      if graph[id].type.element.rawValue != type {
        errors.append(
          Diagnostic(
            "input-type", "--source_model_input_datatype says \(type), the model \(graph[id].type)",
            at: .init(tensor: name), hint: "the model's own type is kept; leave the option out",
            kind: .usage))
      }
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
  }

  private func cut(_ graph: inout Graph) throws(Diagnostic) {
    var errors: [Diagnostic] = []
    var found: [TensorID] = []
    for name in outputs {
      let names = [name, graph.aliases[name]]
      let tensor = graph.tensors.indices.first {
        names.contains(graph.tensors[$0].name)
          && (graph.tensors[$0].constant == nil || graph.outputs.contains(TensorID($0)))
      }
      if let tensor {
        found.append(TensorID(tensor))
      } else if let node = graph.nodes.first(where: { $0.name == name }) {
        found += node.outputs
      } else {
        let known = graph.nodes.flatMap(\.outputs)
        errors.append(unknown("tensor or node", name, known, graph))
      }
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
    graph.outputs = []
    for id in found where !graph.outputs.contains(id) { graph.outputs.append(id) }
    graph = graph.compacted()
  }

  private func unknown(
    _ what: String, _ name: String, _ known: [TensorID], _ graph: Graph
  ) -> Diagnostic {
    let near = TensorSelection.nearest(to: name, in: known.map { graph[$0].name })
    return Diagnostic(
      "unknown-tensor", "the model has no \(what) \(name)",
      hint: "the nearest names are: \(near.joined(separator: ", "))", kind: .usage)
  }

  /// For each tensor whose layout changes, the axes of the model's layout in the order of the container's.
  private func relayouts(
    _ what: String, _ ids: [TensorID], _ source: [(name: String, value: String)],
    _ desired: [(name: String, value: String)], _ graph: Graph, _ session: ToolSession
  ) throws(Diagnostic) -> [(TensorID, [Int])] {
    var errors: [Diagnostic] = []
    var result: [(TensorID, [Int])] = []
    for name in Set((source + desired).map(\.name)).sorted() {
      guard let id = ids.first(where: { graph[$0].name == name }) else {
        errors.append(unknown(what, name, ids, graph))
        continue
      }
      let type = graph[id].type
      let from =
        source.first { $0.name == name }?.value ?? TensorLayout.modelLayout(rank: type.rank)
      let to = desired.first { $0.name == name }?.value
      guard from == "NONTRIVIAL" || from.count == type.rank else {
        errors.append(
          Diagnostic(
            "bad-layout", "layout \(from) does not fit \(type)", at: .init(tensor: name), kind: .usage))
        continue
      }
      guard let to, to != from else {
        session.printer.report(
          Diagnostic(
            "option-without-effect", "the layout of \(what) \(name) does not change", severity: .warning))
        continue
      }
      guard let permutation = TensorLayout.permutation(from: from, to: to) else {
        errors.append(
          Diagnostic(
            "bad-layout", "layout \(from) cannot become \(to)", at: .init(tensor: name),
            hint: "say what the model's is by --source_model_\(what)_layout", kind: .usage))
        continue
      }
      result.append((id, permutation))
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
    return result
  }
}

/// Order of the axes of images, sequences and volumes.
enum TensorLayout {
  static let names = [
    "NCHW", "NHWC", "NCW", "NWC", "NCDHW", "NDHWC", "NCF", "NFC", "NTF", "TNF", "NF", "NC", "F",
    "NONTRIVIAL",
  ]

  /// The layout that ONNX gives a tensor.
  static func modelLayout(rank: Int) -> String {
    switch rank {
    case 1: "F"
    case 2: "NC"
    case 3: "NCW"
    case 4: "NCHW"
    case 5: "NCDHW"
    default: "NONTRIVIAL"
    }
  }

  /// For each axis of the one layout its place in the other; nil where they do not have the same axes.
  static func permutation(from: String, to: String) -> [Int]? {
    guard from != "NONTRIVIAL", to != "NONTRIVIAL", from.count == to.count else { return nil }
    let axes = Array(from)
    let places = to.compactMap { axes.firstIndex(of: $0) }
    return places.count == axes.count ? places : nil
  }

  /// Gives an input another layout; a Transpose behind it gives the model's.
  static func turnInput(_ id: TensorID, _ permutation: [Int], _ graph: inout Graph) {
    let source = graph[id].type
    let inner = graph.add(
      Tensor(name: graph.uniqueName("\(graph[id].name)_source_layout"), type: source))
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    graph[id].type = TensorType(source.element, permutation.map { source.shape[$0] })
    graph.nodes.insert(
      Node(
        name: graph[inner].name, op: Transpose(perm: inversePermutation(permutation)), inputs: [id],
        outputs: [inner]), at: 0)
  }

  /// Gives an output another layout by a Transpose before it.
  static func turnOutput(_ id: TensorID, _ permutation: [Int], _ graph: inout Graph) {
    guard let producer = graph.nodes.firstIndex(where: { $0.outputs.contains(id) }) else { return }
    let source = graph[id].type
    let inner = graph.add(
      Tensor(name: graph.uniqueName("\(graph[id].name)_source_layout"), type: source))
    let outputs = graph.outputs
    graph.replaceUses(of: id, with: inner)
    graph.outputs = outputs
    graph.nodes[producer].outputs = graph.nodes[producer].outputs.map { $0 == id ? inner : $0 }
    graph[id].type = TensorType(source.element, permutation.map { source.shape[$0] })
    graph.nodes.append(
      Node(
        name: graph[inner].name, op: Transpose(perm: permutation), inputs: [inner], outputs: [id]))
  }
}
