import IR
import Operators

extension ImportSession {
  /// The outputs under the names of the source: a value that has another name as well gives it up,
  /// and where it cannot, a copy is made.
  func addOutputs() throws(Diagnostic) {
    var used = Set<TensorID>()
    let inputs = Set(builder.graph.inputs)
    for output in model.graph.outputs {
      guard var value = values[output.name] else {
        throw Diagnostic(
          "onnx-missing-value", "output \(output.name) is made by no node",
          at: Diagnostic.Location(tensor: output.name))
      }
      let element = output.dataType.flatMap(TensorDecoder.element) ?? value.sourceElement
      if element == .float64, value.type.element == .float32 { value = try wide(value, output.name) }
      let isHalf = element == .float16 && value.type.element == .float32
      let id = builder.operand(value)
      if element == .float32, builder.graph[id].type.element == .float16, !inputs.contains(id) {
        // Behind a Cast from float16 the numbers are float32 again.
        if builder.graph[id].name == output.name { builder.release(id, for: "float16") }
        let copy = builder.copy(value, named: output.name)
        used.insert(copy)
        builder.addOutput(copy)
        continue
      }
      if builder.graph[id].name == output.name && !used.contains(id), !isHalf || !inputs.contains(id),
        !isHalf || value.constant == nil
      {
        if isHalf { builder.makeHalf(id) }
        used.insert(id)
        builder.addOutput(id)
        continue
      }
      let isNeeded = model.graph.outputs.contains { $0.name == builder.graph[id].name }
      if !used.contains(id), !inputs.contains(id), value.constant == nil, !isNeeded,
        !builder.isTaken(output.name)
      {
        builder.rename(id, to: output.name)
        if isHalf { builder.makeHalf(id) }
        used.insert(id)
        builder.addOutput(id)
        continue
      }
      if isHalf, builder.graph[id].name == output.name { builder.release(id, for: "float32") }
      let copy = builder.copy(value, named: output.name)
      if isHalf { builder.makeHalf(copy) }
      used.insert(copy)
      builder.addOutput(copy)
    }
  }

  /// The value as float64, for an output of that name.
  private func wide(_ value: Value, _ name: String) throws(Diagnostic) -> Value {
    if case .tensor(let id) = value.source, builder.graph[id].name == name {
      builder.release(id, for: "float32")
    }
    return try builder.emit(Cast(to: .float64), [value], node: "\(name).float64", tensors: [name])[0]
  }
}
