import IR

/// Finds the tensors that the names of an encodings file mean.
struct OverrideNames {
  /// What a name means.
  enum Target: Hashable {
    case tensor(TensorID)
    case alias(TensorID)
    case folded(reason: String)
    case pattern([TensorID])
    case nothing
  }

  private let graph: Graph
  private var ids: [String: TensorID] = [:]
  /// Biases by names that only other tools give them.
  private var biases: [String: TensorID] = [:]
  /// Names of the source by those that they had in another layout when a pass recorded them.
  private var relaid: [String: String] = [:]

  init(_ graph: Graph) {
    self.graph = graph
    for (index, tensor) in graph.tensors.enumerated() { ids[tensor.name] = TensorID(index) }
    nameBiases()
    for recorded in Array(graph.folded.keys) + Array(graph.aliases.keys) {
      let source = Self.sourceName(recorded)
      if source != recorded { relaid[source] = recorded }
    }
  }

  /// The name without the suffixes of tensors in another layout, `.nhwc` and `.nhwc_1`.
  private static func sourceName(_ name: String) -> String {
    var base = Substring(name)
    while true {
      var end = base
      let digits = end.reversed().prefix { $0.isNumber }.count
      if digits > 0, end.dropLast(digits).hasSuffix("_") { end = end.dropLast(digits + 1) }
      guard end.hasSuffix(".nhwc") else { return String(base) }
      base = end.dropLast(5)
    }
  }

  /// `<node>.bias`, and AIMET's rule for nodes without a name: the k-th of a type is `/Conv` for k = 0
  /// and `/Conv_<2k>` after that. The importer calls such a node `Conv_<position>`.
  /// Source: aimet-onnx 2.42.0.
  private mutating func nameBiases() {
    var unnamed: [String: [(position: Int, bias: TensorID?)]] = [:]
    for node in graph.nodes {
      var bias: TensorID?
      for (slot, id) in node.inputs.enumerated() {
        guard let id, node.op.quantization.input(slot) == .bias, graph[id].constant != nil else {
          continue
        }
        biases["\(node.name).bias"] = id
        bias = id
      }
      let parts = node.name.split(separator: "_", omittingEmptySubsequences: false)
      if parts.count == 2, let position = Int(parts[1]) {
        unnamed[String(parts[0]), default: []].append((position, bias))
      }
    }
    for (type, list) in unnamed {
      for (order, item) in list.sorted(by: { $0.position < $1.position }).enumerated() {
        let name = order == 0 ? "/\(type).bias" : "/\(type)_\(2 * order).bias"
        if biases[name] == nil, let bias = item.bias { biases[name] = bias }
      }
    }
  }

  /// The result of a convolution that a BatchNorm was folded into, for the convolution's own output:
  /// AIMET folds too and keeps that name for the result. A BatchNorm's constants have no such tensor.
  private func normalized(_ name: String, _ reason: String) -> TensorID? {
    let (start, end) = ("folded into ", " with its BatchNormalization")
    guard reason.hasPrefix(start), reason.hasSuffix(end), !name.hasSuffix(".weight"),
      !name.hasSuffix(".bias")
    else { return nil }
    let layer = reason.dropFirst(start.count).dropLast(end.count)
    return graph.nodes.first { $0.name == layer }?.outputs.first
  }

  /// What a name means; patterns are tried last.
  func target(of name: String) -> Target {
    if let id = ids[name] { return .tensor(id) }
    var current = name
    var seen: Set<String> = [name]
    while let next = graph.aliases[current] ?? relaid[current], seen.insert(next).inserted {
      if let id = ids[next] { return .alias(id) }
      current = next
    }
    if let id = biases[name] { return .alias(id) }
    if let reason = graph.folded[name] ?? graph.folded[current] ?? graph.folded[Self.sourceName(current)] {
      return normalized(name, reason).map(Target.alias) ?? .folded(reason: reason)
    }
    guard name.contains("*") || name.contains("?") else { return .nothing }
    let pattern = Array(name.unicodeScalars)
    let found = graph.tensors.indices.filter {
      Self.matches(Array(graph.tensors[$0].name.unicodeScalars), pattern)
    }
    return found.isEmpty ? .nothing : .pattern(found.map { TensorID($0) })
  }

  /// Whether a text fits a pattern in which `*` is any run of characters and `?` any one.
  static func matches(_ text: [Unicode.Scalar], _ pattern: [Unicode.Scalar]) -> Bool {
    var (t, p) = (0, 0)
    var star: (pattern: Int, text: Int)?
    while t < text.count {
      if p < pattern.count, pattern[p] == "*" {
        star = (p, t)
        p += 1
      } else if p < pattern.count, pattern[p] == "?" || pattern[p] == text[t] {
        (t, p) = (t + 1, p + 1)
      } else if let last = star {
        star = (last.pattern, last.text + 1)
        (t, p) = (last.text + 1, last.pattern + 1)
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == "*" }
  }

  /// All names that no tensor carries, sorted.
  var others: [String] {
    Set(graph.aliases.keys).union(relaid.keys).union(biases.keys).union(graph.folded.keys)
      .filter { ids[$0] == nil }.sorted()
  }

  /// The three names of the graph that are most like a name, best first.
  func nearest(to name: String) -> [String] {
    let wanted = Array(name.utf8)
    var best: [(distance: Int, name: String)] = []
    for candidate in Set(ids.keys).union(graph.aliases.keys).union(biases.keys) {
      let limit = best.count < 3 ? Int.max : best[2].distance
      let other = Array(candidate.utf8)
      guard abs(other.count - wanted.count) <= limit else { continue }
      best.append((Self.distance(wanted, other), candidate))
      best.sort { ($0.distance, $0.name) < ($1.distance, $1.name) }
      if best.count > 3 { best.removeLast() }
    }
    return best.map(\.name)
  }

  /// Number of insertions, deletions and replacements between two texts (Levenshtein).
  static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for (i, first) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, second) in b.enumerated() {
        let above = row[j + 1]
        row[j + 1] = min(diagonal + (first == second ? 0 : 1), above + 1, row[j] + 1)
        diagonal = above
      }
    }
    return row[b.count]
  }
}

/// A name by which an encodings file can speak of a graph.
public struct OverridableName: Sendable, Hashable {
  public var name: String
  /// The tensor it means; nil where it means none any more.
  public var tensor: String?
  /// Why it has no effect, where it has none.
  public var reason: String?
}

extension Graph {
  /// Every name that `--quantization_overrides` knows: those of float tensors in the order of the graph,
  /// then other names for them and names without effect, sorted.
  public func overridableNames() -> [OverridableName] {
    let names = OverrideNames(self)
    let inner = innerTensorsOfFusedPairs()
    func reason(_ id: TensorID) -> String? {
      inner[id].map { "inside a fused pair with \(self[$0].name): --unfuse_overridden honours it" }
    }
    var result: [OverridableName] = []
    for (index, tensor) in tensors.enumerated() where tensor.type.logical.element == .float32 {
      result.append(OverridableName(name: tensor.name, tensor: tensor.name, reason: reason(TensorID(index))))
    }
    for name in names.others {
      switch names.target(of: name) {
      case .alias(let id) where self[id].type.logical.element == .float32:
        result.append(OverridableName(name: name, tensor: self[id].name, reason: reason(id)))
      case .folded(let text): result.append(OverridableName(name: name, tensor: nil, reason: text))
      case .tensor, .alias, .pattern, .nothing: break
      }
    }
    return result
  }
}
