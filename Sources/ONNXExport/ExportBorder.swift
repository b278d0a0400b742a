import IR

/// Inputs and outputs of the written model, and where its tensors can be found.
extension ExportSession {
  func addInput(_ id: TensorID) {
    let tensor = graph[id]
    result.inputs.append(ExportedValue(name: tensor.name, type: type(id)))
    places[id] = Place(name: tensor.name, layout: plainLayout(id))
    if isHalf(id) { roundToHalf(id, tensor.name, plainLayout(id), into: names.unique(tensor.name + "_rounded")) }
    guard isQuantized(id), let encoding = tensor.encoding else { return }
    let value = names.unique(tensor.name + "_dequantized")
    do {
      try quantize(tensor.name, encoding, tensor: tensor, layout: plainLayout(id), into: value)
      places[id]?.name = value
    } catch {
      inputProblems.append(error)
    }
  }

  /// Gives every output of the graph its name, by renaming the value where that is possible.
  func addOutputs() throws(Diagnostic) {
    if let problem = Diagnostic.combining(inputProblems) { throw problem }
    let made = Set(result.nodes.flatMap(\.outputs))
    var taken = Set(graph.outputs.map { graph[$0].name })
    var renamed: [String: String] = [:]
    var done = Set<TensorID>()
    for id in graph.outputs where done.insert(id).inserted {
      let wanted = graph[id].name
      let value = try name(id)
      result.outputs.append(ExportedValue(name: wanted, type: type(id)))
      if value == wanted { continue }
      if made.contains(value), !taken.contains(value), renamed[value] == nil {
        renamed[value] = wanted
        taken.insert(value)
      } else {
        append("Identity", [renamed[value] ?? value], [], outputs: [wanted], name: wanted)
      }
    }
    for index in result.nodes.indices where !renamed.isEmpty {
      result.nodes[index].inputs = result.nodes[index].inputs.map { renamed[$0] ?? $0 }
      result.nodes[index].outputs = result.nodes[index].outputs.map { renamed[$0] ?? $0 }
    }
    for (old, new) in renamed {
      types[new] = types.removeValue(forKey: old)
      for (id, place) in places where place.name == old { places[id]?.name = new }
    }
  }

  func recordNames() {
    let border = Set(result.inputs.map(\.name) + result.outputs.map(\.name))
    let made = result.nodes.flatMap(\.outputs)
    result.values = made.compactMap { name in
      border.contains(name) ? nil : types[name].map { ExportedValue(name: name, type: $0) }
    }
    for (id, place) in places {
      result.names[id] = place.name
      result.layouts[id] = place.layout
    }
    for id in graph.inputs { result.names[id] = graph[id].name }
    for (key, name) in copies.sorted(by: { $0.value < $1.value })
    where graph[key.tensor].constant != nil && result.names[key.tensor] == nil {
      result.names[key.tensor] = name
      if key.rank == graph[key.tensor].type.rank { result.layouts[key.tensor] = key.layout }
    }
  }
}
