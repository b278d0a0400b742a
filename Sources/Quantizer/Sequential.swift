import Calibration
import IR
import Runtime
import Synchronization

/// Observes every tensor with everything before it quantized (`--calibration_order sequential`).
///
/// Level by level in topological order: the tensors of a level are observed on the graph whose earlier
/// tensors and weights carry the encodings found so far; where those depend on later tensors too (a
/// Concat's other inputs), these count as observed in float. `float` are the statistics of the float
/// graph, with histograms where `options` need them, of the same samples: else `statistics-samples` is thrown.
///
/// The samples run once for each level. What a level saw is kept for all samples while it fits `cacheBytes`, and the
/// next one starts from there; without room, from what was kept before, at worst from the inputs. That changes time
/// and memory, never the result, which does not depend on `jobs` or the order of the samples either. `progress` is
/// told finished and planned runs, from several threads.
public func observeSequentially(
  _ graph: Graph, float: Statistics, options: QuantizerOptions, backend: any Backend,
  sampleCount: Int, load: @escaping SampleLoader, jobs: Int, cacheBytes: Int = 1 << 30,
  sampleName: @escaping @Sendable (Int) -> String = { "\($0 + 1)" },
  progress: (@Sendable (_ done: Int, _ total: Int) -> Void)? = nil
) throws(Diagnostic) -> Statistics {
  try float.check(graph)
  var statistics = float
  var places: [String: Int] = [:]
  for (place, tensor) in statistics.tensors.enumerated() { places[tensor.name] = place }
  let levels = graph.observationLevels()
  let paths = graph.softmaxPaths()
  let memo = CalibrationMemo()
  var cache = PrefixCache(graph, levels: levels, samples: sampleCount, limit: cacheBytes)
  for (done, level) in levels.enumerated() {
    let quantized = try assignEncodings(
      graph, statistics: statistics, options: options, jobs: jobs, memo: memo)
    let whole = quantized.prefix(before: level)
    let start = cache.start(of: whole, level: done)
    let open = start.graph.withFloatConstants(borders: start.borders, requantizes: whole.requantizes)
    let prefix = try materialize(
      open, borders: open.taking(start.borders, from: start.graph), dataInvariantOpsRequantize: whole.requantizes)
    var prefixPaths: [TensorID: SoftmaxPath] = [:]
    for (id, output) in zip(level, prefix.outputs) { prefixPaths[output] = paths[id] }
    let observed = ObservedGraph(
      graph: prefix, tensors: prefix.outputs, paths: prefixPaths,
      options: ObservationOptions(options))
    let kept = start.tensorsToKeep(in: prefix)
    let plan = try backend.prepare(
      prefix, options: PlanOptions(simulate: true, taps: Set(prefix.outputs).union(kept.keys)))
    let (before, total) = (done * sampleCount, levels.count * sampleCount)
    let store = cache.store
    var run = SampleRun(
      count: sampleCount, jobs: jobs,
      load: { (index) throws(Diagnostic) in try start.inputs(index, store, load) }, name: sampleName)
    run.hashes = done == 0
    run.show = { index, id, bytes in
      if let name = kept[id] { store.put(bytes, name, sample: index) }
    }
    if let progress { run.progress = { progress(before + $0, total) } }
    let seen = try observed.run(plan, run)
    if done == 0, seen.calibrationHash != float.calibrationHash {
      throw Diagnostic(
        "statistics-samples", "the statistics were made of other samples than the ones given",
        hint: "give the samples of --save_stats by --input_list, or leave out --load_stats")
    }
    cache.finish(start)
    for tensor in seen.tensors {
      if let place = places[tensor.name] { statistics.tensors[place] = tensor }
    }
  }
  return statistics
}

extension Graph {
  /// How often ``observeSequentially(_:float:options:backend:sampleCount:load:jobs:cacheBytes:sampleName:progress:)``
  /// runs every sample.
  public var sequentialRuns: Int { observationLevels().count }

  /// Watched results of nodes by how many watched tensors lie on the longest way to them: those of a
  /// level do not depend on one another.
  func observationLevels() -> [[TensorID]] {
    let watched = Set(ObservationSet(self).intermediates)
    var depth = [Int](repeating: 0, count: tensors.count)
    var levels: [[TensorID]] = []
    for node in nodes {
      let before = node.inputs.compactMap { $0.map { depth[$0.index] } }.max() ?? 0
      for output in node.outputs {
        let isWatched = watched.contains(output)
        depth[output.index] = before + (isWatched ? 1 : 0)
        guard isWatched else { continue }
        while levels.count <= before { levels.append([]) }
        levels[before].append(output)
      }
    }
    return levels
  }
}

/// The annotated graph that computes some tensors in float from quantized ones.
struct QuantizedPrefix {
  /// Its outputs are these tensors, in order.
  var graph: Graph
  /// Encodings by which integer operators read tensors that stay float.
  var borders: [TensorID: Encoding]
  /// Whether data-invariant operators requantize.
  var requantizes: Bool
}

extension QuantizationResult {
  /// The part of the graph before a level.
  fileprivate func prefix(before level: [TensorID]) -> QuantizedPrefix {
    var cut = graph
    let inner = graph.innerTensorsOfFusedPairs()
    let open = Set(level)
    for index in cut.tensors.indices {
      let id = TensorID(index)
      // A reader that is cut away makes no fused pair of the others.
      if inner[id] == nil { cut[id].isUnfused = true }
      guard open.contains(id) || inner[id].map(open.contains) == true else { continue }
      cut[id].encoding = nil
      cut[id].encodingSource = nil
      cut[id].state = .float
      cut[id].bitwidth = 32
    }
    cut.outputs = level
    let before = cut
    cut = cut.compacted()
    return QuantizedPrefix(
      graph: cut, borders: cut.taking(borders, from: before), requantizes: dataInvariantOpsRequantize)
  }
}

extension Graph {
  /// The graph with the values of quantized constants, as float constants, where operators read them in float: a
  /// Dequantize would hide from kernels that they are constants, and these would be others than those that compute the
  /// same tensor once it is quantized.
  fileprivate func withFloatConstants(borders: [TensorID: Encoding], requantizes: Bool) -> Graph {
    let rules = BorderRules(graph: self, borders: borders, requantizes: requantizes)
    var result = self
    var names = NameTable(self)
    var copies: [TensorID: TensorID] = [:]
    for (index, node) in nodes.enumerated() {
      for slot in node.inputs.indices where rules.need(node, slot) == .float(32) {
        guard let id = node.inputs[slot], let constant = self[id].constant, let encoding = self[id].encoding
        else { continue }
        if copies[id] == nil {
          let shape = constant.type.shape
          let codes = encoding.quantized(constant.floats(), shape: shape)
          let stored = Constant(type: TensorType(encoding.storage, shape), bytes: codes)
          var copy = Tensor(
            name: names.unique(BorderName.of(self[id].name, BorderName.dequantized)), type: self[id].type,
            constant: Constant(encoding.dequantized(stored), shape: shape))
          copy.state = .float
          copies[id] = result.add(copy)
        }
        result.nodes[index].inputs[slot] = copies[id]
      }
    }
    return result.compacted()
  }

  /// What is known of the tensors of another graph, for those of the same names here.
  func taking<Value>(_ values: [TensorID: Value], from other: Graph) -> [TensorID: Value] {
    let names = Dictionary(uniqueKeysWithValues: values.map { (other[$0.key].name, $0.value) })
    var result: [TensorID: Value] = [:]
    for (index, tensor) in tensors.enumerated() { result[TensorID(index)] = names[tensor.name] }
    return result
  }
}

/// Encodings found before, for assignments that differ in few tensors.
final class CalibrationMemo: Sendable {
  private struct Key: Hashable {
    var values: ObservedValues
    var bitwidth: Int?
  }
  private let activations = Mutex<[Key: Encoding]>([:])
  private let weights = Mutex<[TensorID: WeightResult]>([:])

  /// The encoding of observed values, by `make` where it is not known.
  func encoding(
    of values: ObservedValues, bitwidth: Int?, _ make: () throws(Diagnostic) -> Encoding
  ) throws(Diagnostic) -> Encoding {
    let key = Key(values: values, bitwidth: bitwidth)
    if let found = activations.withLock({ $0[key] }) { return found }
    let made = try make()
    activations.withLock { $0[key] = made }
    return made
  }

  /// What is known of a weight.
  subscript(weight id: TensorID) -> WeightResult? {
    get { weights.withLock { $0[id] } }
    set { weights.withLock { $0[id] = newValue } }
  }
}
