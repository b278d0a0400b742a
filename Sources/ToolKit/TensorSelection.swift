import IR

/// Finding tensors by the names that users give them.
public enum TensorSelection {
  /// The tensors that a list's `#` and `%` lines ask for, each once; all errors at once.
  public static func outputs(
    of list: InputList, in graph: Graph
  ) throws(Diagnostic) -> [TensorID] {
    var errors: [Diagnostic] = []
    var found: [TensorID] = []
    for name in list.outputLayers {
      if let node = graph.nodes.first(where: { $0.name == name }) {
        found += node.outputs
      } else {
        errors.append(missing("layer", name, of: graph.nodes.map(\.name)))
      }
    }
    do throws(Diagnostic) {
      found += try tensors(named: list.outputTensors, in: graph)
    } catch {
      errors += error.all
    }
    for index in errors.indices {
      errors[index].kind = .input
      errors[index].location.file = list.file
    }
    if let error = Diagnostic.combining(errors) { throw error }
    return unique(found)
  }

  /// The tensors that runs compute, by name or alias, in the order given; all errors at once.
  public static func tensors(
    named names: [String], in graph: Graph
  ) throws(Diagnostic) -> [TensorID] {
    var byName: [String: TensorID] = [:]
    for (index, tensor) in graph.tensors.enumerated() where tensor.constant == nil {
      byName[tensor.name] = TensorID(index)
    }
    var errors: [Diagnostic] = []
    var found: [TensorID] = []
    for name in names {
      if let id = byName[name] ?? graph.aliases[name].flatMap({ byName[$0] }) {
        found.append(id)
      } else if let reason = graph.folded[name] {
        errors.append(
          Diagnostic("unknown-tensor", "tensor \(name) exists no more: \(reason)", kind: .usage))
      } else {
        errors.append(missing("tensor", name, of: Array(byName.keys)))
      }
    }
    if let error = Diagnostic.combining(errors) { throw error }
    return unique(found)
  }

  private static func unique(_ list: [TensorID]) -> [TensorID] {
    var seen = Set<TensorID>()
    return list.filter { seen.insert($0).inserted }
  }

  private static func missing(_ what: String, _ name: String, of names: [String]) -> Diagnostic {
    let near = nearest(to: name, in: names)
    return Diagnostic(
      "unknown-\(what)", "the model has no \(what) \(name)",
      hint: near.isEmpty ? nil : "the nearest names are: \(near.joined(separator: ", "))",
      kind: .usage)
  }

  /// The three of some names that are most like one, best first.
  public static func nearest(to name: String, in names: [String]) -> [String] {
    names.map { (editDistance($0, name), $0) }.sorted { $0 < $1 }.prefix(3).map(\.1)
  }

  /// Levenshtein's distance between the UTF-8 of two names.
  static func editDistance(_ first: String, _ second: String) -> Int {
    let columns = Array(second.utf8)
    var row = Array(0...columns.count)
    for (line, byte) in first.utf8.enumerated() {
      var diagonal = row[0]
      row[0] = line + 1
      for column in columns.indices {
        let above = row[column + 1]
        row[column + 1] = min(
          above + 1, row[column] + 1, diagonal + (columns[column] == byte ? 0 : 1))
        diagonal = above
      }
    }
    return row[columns.count]
  }
}
