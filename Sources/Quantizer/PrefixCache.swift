import IR
import Synchronization

/// Values of tensors, a set for each sample; filled and read by several threads, each with samples of its own.
final class ActivationStore: Sendable {
  private let samples: Mutex<[[String: Bytes]]>

  init(samples: Int) { self.samples = Mutex(Array(repeating: [:], count: samples)) }

  /// What is kept of a sample; from then on only what `wanted` names.
  func take(_ sample: Int, keeping wanted: Set<String>) -> [String: Bytes] {
    samples.withLock { list in
      let found = list[sample]
      list[sample] = found.filter { wanted.contains($0.key) }
      return found
    }
  }

  /// Keeps a copy of a tensor's values.
  func put(_ bytes: UnsafeRawBufferPointer, _ name: String, sample: Int) {
    let copy = Bytes(count: bytes.count) { $0.copyMemory(from: bytes) }
    samples.withLock { $0[sample][name] = copy }
  }
}

/// Where a run of a level starts, and what it keeps for the next.
struct PrefixStart: Sendable {
  /// Where an input of the graph comes from.
  enum Input: Sendable {
    case sample(Int)
    case kept(String)
  }
  /// The annotated graph from there on.
  var graph: Graph
  var borders: [TensorID: Encoding]
  /// One for each input of the graph.
  var sources: [Input]
  /// Names of tensors to keep from this run, with what decides their values.
  var added: [String: PrefixCache.Entry] = [:]
  /// Names of all that is kept after it.
  var wanted: Set<String> = []

  /// The tensors to keep, in the graph made of this one.
  func tensorsToKeep(in prefix: Graph) -> [TensorID: String] {
    var found: [TensorID: String] = [:]
    for (index, tensor) in prefix.tensors.enumerated() where added[tensor.name] != nil {
      found[TensorID(index)] = tensor.name
    }
    return found
  }

  /// The inputs of one sample.
  func inputs(
    _ index: Int, _ store: ActivationStore, _ load: SampleLoader
  ) throws(Diagnostic) -> [Bytes] {
    let kept = store.take(index, keeping: wanted)
    let readsSample = sources.contains { if case .sample = $0 { true } else { false } }
    let given = readsSample ? try load(index) : []
    var result: [Bytes] = []
    for source in sources {
      switch source {
      case .sample(let slot): if given.indices.contains(slot) { result.append(given[slot]) }
      case .kept(let name): if let bytes = kept[name] { result.append(bytes) }
      }
    }
    return result
  }
}

/// Keeps activations between the levels of calibration in order, so that a level need not run all before it again.
///
/// A kept value is used only where everything that decides it is the same as when it was made: operators, their
/// operands, and the grids of these.
struct PrefixCache {
  /// A kept tensor: the number of its value before its own grid, and the grid it was stored on.
  struct Entry: Sendable, Hashable {
    var value: Int
    var grid: OperandNeed
  }

  let store: ActivationStore
  private let limit: Int
  private let samples: Int
  private var numbers: ValueNumbers
  private var entries: [String: Entry] = [:]
  /// For every level the names of observed tensors that later levels read.
  private var needed: [Set<String>]

  /// A cache of up to `limit` bytes; it stays empty where operators compute in 32-bit integers, whose values depend
  /// on their readers.
  init(_ graph: Graph, levels: [[TensorID]], samples: Int, limit: Int) {
    store = ActivationStore(samples: samples)
    self.limit = graph.integerNodes.isEmpty ? limit : 0
    self.samples = samples
    numbers = ValueNumbers(graph)
    needed = Self.needed(graph, levels)
  }

  private static func needed(_ graph: Graph, _ levels: [[TensorID]]) -> [Set<String>] {
    var levelOf: [TensorID: Int] = [:]
    for (index, level) in levels.enumerated() { for id in level { levelOf[id] = index } }
    var lastUse = [Int](repeating: -1, count: graph.tensors.count)
    for node in graph.nodes.reversed() {
      let use = node.outputs.map { levelOf[$0] ?? lastUse[$0.index] }.max() ?? -1
      for case let id? in node.inputs { lastUse[id.index] = max(lastUse[id.index], use) }
    }
    return levels.indices.map { level in
      Set(
        levelOf.filter { $0.value <= level && lastUse[$0.key.index] > level }.map { graph[$0.key].name })
    }
  }

  /// Cuts a prefix where values are kept, and decides what its run keeps.
  mutating func start(of prefix: QuantizedPrefix, level: Int) -> PrefixStart {
    let graph = prefix.graph
    let inputs = graph.inputs.indices.map { PrefixStart.Input.sample($0) }
    var start = PrefixStart(graph: graph, borders: prefix.borders, sources: inputs)
    guard limit > 0 else { return start }
    let values = numbers.values(of: prefix)
    var valid: [TensorID: String] = [:]
    for (index, tensor) in graph.tensors.enumerated() {
      guard let entry = entries[tensor.name] else { continue }
      let id = TensorID(index)
      let isSame = entry.value == values.raw[id] && (entry.grid == .asIs || entry.grid == values.grid(id))
      if isSame { valid[id] = tensor.name } else { entries[tensor.name] = nil }
    }
    let computed = cut(&start, valid)
    let wanted = needed[level]
    var byteCount = 0
    for (index, tensor) in graph.tensors.enumerated() where wanted.contains(tensor.name) {
      let id = TensorID(index)
      guard computed.contains(id), let value = values.raw[id] else { continue }
      start.added[tensor.name] = Entry(value: value, grid: values.grid(id))
      byteCount += tensor.type.logical.byteCount
    }
    for name in entries.keys where wanted.contains(name) && start.added[name] == nil {
      byteCount += numbers.byteCount(name)
    }
    if byteCount * samples <= limit {
      start.wanted = wanted
    } else {
      start.added = [:]
      start.wanted = Set(entries.keys)
    }
    return start
  }

  /// Remembers what a run has kept.
  mutating func finish(_ start: PrefixStart) {
    entries = entries.filter { start.wanted.contains($0.key) }
    entries.merge(start.added) { $1 }
  }

  /// Makes kept tensors inputs of the graph; gives the tensors that are computed still.
  private func cut(_ start: inout PrefixStart, _ valid: [TensorID: String]) -> Set<TensorID> {
    let graph = start.graph
    let producers = graph.producers()
    let readers = graph.consumers()
    let outputs = Set(graph.outputs)
    /// Whether every result of the operator that somebody reads is kept.
    func isStart(_ id: TensorID) -> Bool {
      guard valid[id] != nil, let made = producers[id.index] else { return false }
      return graph[made].outputs.allSatisfy {
        valid[$0] != nil || (readers[$0.index].isEmpty && !outputs.contains($0))
      }
    }
    var reached = Set<TensorID>()
    var starts = Set<TensorID>()
    var nodes = Set<Int>()
    var computed = Set<TensorID>()
    var stack = graph.outputs
    while let id = stack.popLast() {
      guard reached.insert(id).inserted else { continue }
      if isStart(id) {
        starts.insert(id)
      } else if let made = producers[id.index], nodes.insert(made.index).inserted {
        computed.formUnion(graph[made].outputs)
        stack += graph[made].inputs.compactMap { $0 }
      }
    }
    guard !starts.isEmpty else { return computed }
    var result = graph
    result.nodes = graph.nodes.indices.filter(nodes.contains).map { graph.nodes[$0] }
    result.inputs = []
    start.sources = []
    for (slot, id) in graph.inputs.enumerated() where reached.contains(id) {
      result.inputs.append(id)
      start.sources.append(.sample(slot))
    }
    for id in starts.sorted(by: { $0.index < $1.index }) {
      result.inputs.append(id)
      start.sources.append(.kept(graph[id].name))
    }
    start.graph = result.compacted()
    start.borders = start.graph.taking(start.borders, from: graph)
    return computed
  }
}

/// Numbers for values of tensors: the same number only where all that decides a value is the same.
struct ValueNumbers {
  private struct Read: Hashable {
    let value: Int
    let need: OperandNeed
  }
  private enum Source: Hashable {
    case input(String)
    /// Its content too where it is not that of the network.
    case constant(String, changed: String?)
    /// By the name of the operator's first result.
    case result(of: String, slot: Int, [Read?])
    case onGrid(Int, OperandNeed)
  }
  /// The numbers of one graph.
  struct Values {
    /// Before the tensor's own grid.
    fileprivate(set) var raw: [TensorID: Int] = [:]
    fileprivate var grids: [TensorID: OperandNeed] = [:]
    /// The grid of a tensor; `asIs` where it has none.
    func grid(_ id: TensorID) -> OperandNeed { grids[id] ?? .asIs }
  }

  private var numbers: [Source: Int] = [:]
  private let network: [String: Tensor]

  init(_ graph: Graph) {
    network = Dictionary(uniqueKeysWithValues: graph.tensors.map { ($0.name, $0) })
  }

  /// Bytes of a tensor of the network while it runs.
  func byteCount(_ name: String) -> Int { network[name]?.type.logical.byteCount ?? 0 }

  private mutating func number(_ source: Source) -> Int {
    if let known = numbers[source] { return known }
    numbers[source] = numbers.count
    return numbers.count - 1
  }

  /// The numbers of all tensors of a prefix.
  mutating func values(of prefix: QuantizedPrefix) -> Values {
    let graph = prefix.graph
    let inner = graph.fusedIntermediates()
    let rules = BorderRules(graph: graph, borders: prefix.borders, requantizes: prefix.requantizes)
    var values = Values()
    var settled: [TensorID: Int] = [:]
    func grid(_ id: TensorID) -> OperandNeed {
      if inner[id] != nil { return .asIs }
      if let encoding = graph[id].encoding { return .fixed(encoding) }
      return graph[id].floatBitwidth == 16 ? .float(16) : .asIs
    }
    func settle(_ id: TensorID, _ source: Source) {
      let raw = number(source)
      let own = grid(id)
      values.raw[id] = raw
      values.grids[id] = own
      settled[id] = own == .asIs ? raw : number(.onGrid(raw, own))
    }
    for id in graph.inputs { settle(id, .input(graph[id].name)) }
    for (index, tensor) in graph.tensors.enumerated() {
      guard let constant = tensor.constant else { continue }
      let isSame = network[tensor.name]?.constant?.isSameView(as: constant) ?? false
      settle(
        TensorID(index), .constant(tensor.name, changed: isSame ? nil : constant.contentHash))
    }
    for node in graph.nodes {
      let reads = node.inputs.indices.map { slot -> Read? in
        guard let id = node.inputs[slot], let value = settled[id] else { return nil }
        return Read(value: value, need: Self.plain(rules.need(node, slot), graph[id]))
      }
      let name = node.outputs.first.map { graph[$0].name } ?? ""
      for (slot, output) in node.outputs.enumerated() {
        settle(output, .result(of: name, slot: slot, reads))
      }
    }
    return values
  }

  /// Float values of what is fixed point are the values on its grid.
  private static func plain(_ need: OperandNeed, _ tensor: Tensor) -> OperandNeed {
    need == .float(32) && (tensor.encoding != nil || tensor.constant == nil) ? .asIs : need
  }
}

extension Constant {
  /// Whether both are views on the same bytes; true only for equal values.
  fileprivate func isSameView(as other: Constant) -> Bool {
    stored.base == other.stored.base && stored.count == other.stored.count && pending == other.pending
      && type == other.type
  }

  /// SHA-256 of the elements.
  fileprivate var contentHash: String {
    var hasher = SHA256()
    forEachBlock { hasher.update($0) }
    return SHA256.hex(hasher.finalize())
  }
}
