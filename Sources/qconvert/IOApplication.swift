import IR
import ToolKit

extension IOConfiguration {
  /// Adds what the file says to the options. What the command line says of the same thing wins, with a note.
  func merge(
    into shapes: inout ShapeOptions, _ model: inout ModelOptions, _ colors: inout ColorOptions, _ session: ToolSession
  ) {
    func add(_ words: inout [String], _ option: String, _ values: [(String, String?)], step: Int = 2) {
      let known = Set(stride(from: 0, to: words.count, by: step).map { words[$0] })
      for (name, value) in values {
        guard let value else { continue }
        if known.contains(name) {
          noteOverridden("--\(option) \(name)", session)
        } else {
          words += [name, value]
        }
      }
    }
    add(&shapes.inputShape, "source_model_input_shape", inputs.map { ($0.name, $0.sourceShape) })
    add(&model.inputDatatype, "source_model_input_datatype", inputs.map { ($0.name, $0.sourceType) })
    // A layout that does not change needs no saying.
    let turned = inputs.filter { $0.layout != nil && $0.layout != $0.sourceLayout }
    add(&model.sourceInputLayout, "source_model_input_layout", turned.map { ($0.name, $0.sourceLayout) })
    add(&model.desiredInputLayout, "desired_input_layout", turned.map { ($0.name, $0.layout) })
    let others = outputs.filter { $0.layout != nil && $0.layout != $0.sourceLayout }
    add(&model.sourceOutputLayout, "source_model_output_layout", others.map { ($0.name, $0.sourceLayout) })
    add(&model.desiredOutputLayout, "desired_output_layout", others.map { ($0.name, $0.layout) })
    for entry in inputs where !entry.colors.isEmpty {
      if (ColorOptions.choices(colors.words) ?? []).contains(where: { $0.name == entry.name }) {
        noteOverridden("--desired_input_color_encoding \(entry.name)", session)
      } else {
        colors.words += [entry.name] + entry.colors
      }
    }
    if let outputNames {
      if model.outputs.isEmpty { model.outputs = outputNames } else { noteOverridden("--out_tensor_node", session) }
    }
  }

  private func noteOverridden(_ option: String, _ session: ToolSession) {
    session.printer.report(
      Diagnostic(
        "config-overridden", "\(option) on the command line wins over --config", severity: .note))
  }

  /// Names of the float inputs and outputs that keep float32 in a quantized container.
  var preserved: [String] { (inputs + outputs).filter { $0.type == "float32" }.map(\.name) }

  /// Checks names and shapes against the converted graph, and gives inputs and outputs the types and grids of the file.
  func apply(to graph: inout Graph) throws(Diagnostic) {
    var errors: [Diagnostic] = []
    if let inputNames {
      let own = graph.inputs.map { graph[$0].name }
      for name in inputNames where !own.contains(name) {
        errors.append(unknown("input", name, own))
      }
      for name in own where !inputNames.contains(name) {
        errors.append(
          Diagnostic(
            "config-value", "Input Tensors of --config leaves out the input \(name)",
            hint: "--remove_unused_inputs drops inputs that nothing reads", kind: .usage))
      }
    }
    for (what, list, ids) in [("input", inputs, graph.inputs), ("output", outputs, graph.outputs)] {
      for entry in list {
        guard let id = ids.first(where: { graph[$0].name == entry.name }) else {
          errors.append(unknown(what, entry.name, ids.map { graph[$0].name }))
          continue
        }
        if let shape = entry.shape, shape != graph[id].type.shape.map(String.init).joined(separator: ",") {
          errors.append(entry.map.failure("the shape of \(entry.name) becomes \(graph[id].type), not \(shape)"))
        }
        if let problem = entry.apply(to: &graph[id], isOutput: what == "output") {
          errors.append(entry.map.failure(problem))
        }
      }
    }
    if let failure = Diagnostic.combining(errors) { throw failure }
  }

  private func unknown(_ what: String, _ name: String, _ known: [String]) -> Diagnostic {
    let near = TensorSelection.nearest(to: name, in: known)
    return Diagnostic(
      "unknown-tensor", "--config speaks of \(name), but the model has no such \(what)",
      hint: near.isEmpty ? nil : "the nearest names are: \(near.joined(separator: ", "))", kind: .usage)
  }

  /// What is recorded of types and grids.
  var effective: [String: String] {
    let list = (inputs + outputs).compactMap { entry -> String? in
      guard entry.type != nil || entry.scale != nil else { return nil }
      let grid = entry.scale.map { ":\(Float($0)):\(entry.offset ?? 0)" } ?? ""
      return "\(entry.name)=\(entry.type ?? "uint8")\(grid)"
    }
    return ["desired_datatype": EffectiveOptions.list(list.sorted())]
  }
}

extension IOConfiguration.Entry {
  /// Gives a tensor its type and grid; the reason where it cannot have them.
  fileprivate func apply(to tensor: inout Tensor, isOutput: Bool) -> String? {
    if isOutput, let sourceType, sourceType != tensor.type.element.rawValue {
      return "\(name) is \(tensor.type.element.rawValue) in the model, not \(sourceType)"
    }
    guard type != nil || scale != nil else { return nil }
    let wanted = type ?? "uint8"
    guard tensor.type.element == .float32 else {
      return wanted == tensor.type.element.rawValue && scale == nil
        ? nil : "\(name) is \(tensor.type.element.rawValue) and stays it"
    }
    guard let bits = ["uint8": 8, "uint16": 16][wanted] else {
      if scale != nil { return "QuantParams of \(name) need the DataType uint8 or uint16, not \(wanted)" }
      switch wanted {
      case "float32": return nil
      case "float16":
        (tensor.state, tensor.bitwidth, tensor.encodingSource) = (.float, 16, .override)
        return nil
      default: return "\(name) cannot be \(wanted): float32, float16, uint8 and uint16 are possible"
      }
    }
    guard let scale, let offset else {
      tensor.bitwidth = bits
      return nil
    }
    let step = Float(scale)
    guard step > 0, step.isFinite, (-((1 << bits) - 1)...0).contains(offset) else {
      return "QuantParams of \(name): Scale must be positive, Offset \(-((1 << bits) - 1)) to 0"
    }
    tensor.encoding = Encoding(bitwidth: bits, channels: [ScaleOffset(scale: step, offset: Int32(offset))])
    (tensor.encodingSource, tensor.state, tensor.bitwidth) = (.override, .given, nil)
    return nil
  }
}

extension IOConfiguration {
  /// A file to fill in: names, types, layouts and shapes of the model, the rest empty.
  static func template(_ graph: Graph) -> String {
    func quoted(_ name: String) -> String { "'\(name.replacing("'", with: "''"))'" }
    func names(_ ids: [TensorID]) -> String { ids.map { quoted(graph[$0].name) }.joined(separator: ", ") }
    func source(_ id: TensorID, hasShape: Bool) -> String {
      let type = graph[id].type
      var text = "    Src Model Parameters:\n      DataType: \(type.element.rawValue)\n"
      text += "      Layout: \(TensorLayout.modelLayout(rank: type.rank))\n"
      if hasShape { text += "      Shape: \(quoted(type.shape.map(String.init).joined(separator: ",")))\n" }
      return text
    }
    let grid = "      QuantParams:\n        Scale:\n        Offset:\n"
    var text = """
      # Fill in what is to change; a key behind which nothing stands says nothing.
      Converted Graph:
        - Input Tensors: [\(names(graph.inputs))]
        - Output Tensors: [\(names(graph.outputs))]

      # DataType: float32, float16, uint8, uint16. Layout: \(TensorLayout.names.joined(separator: ", ")).
      # Color Conversion: as fed, and as the model takes it: \(ColorOptions.names.joined(separator: ", ")).
      Input Tensor Configuration:

      """
    for id in graph.inputs {
      text += "  - Name: \(quoted(graph[id].name))\n" + source(id, hasShape: true)
      text +=
        "    Desired Model Parameters:\n      DataType:\n      Layout:\n      Shape:\n      Color Conversion:\n" + grid
    }
    text += "\nOutput Tensor Configuration:\n"
    for id in graph.outputs {
      text += "  - Name: \(quoted(graph[id].name))\n" + source(id, hasShape: false)
      text += "    Desired Model Parameters:\n      DataType:\n      Layout:\n" + grid
    }
    return text
  }
}
