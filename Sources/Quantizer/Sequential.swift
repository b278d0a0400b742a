import Calibration
import IR
import Runtime
import Synchronization

/// Observes every tensor with everything before it quantized (`--calibration_order sequential`).
///
/// Level by level in topological order: the tensors of a level are observed on the graph whose earlier
/// tensors and weights carry the encodings found so far; where those depend on later tensors too (a
/// Concat's other inputs), these count as observed in float. `float` are the statistics of the float
/// graph, with histograms where `options` need them. The samples run once for each level, through the
/// part of the graph before it: about half as many whole runs as there are levels; memory is that of
/// one observation. The result does not depend on `jobs` or the order of the samples. `progress` is
/// told finished and planned runs, from several threads.
public func observeSequentially(
  _ graph: Graph, float: Statistics, options: QuantizerOptions, backend: any Backend,
  sampleCount: Int, load: @escaping SampleLoader, jobs: Int,
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
  for (done, level) in levels.enumerated() {
    let quantized = try assignEncodings(
      graph, statistics: statistics, options: options, jobs: jobs, memo: memo)
    let prefix = try quantized.prefix(before: level)
    var prefixPaths: [TensorID: SoftmaxPath] = [:]
    for (id, output) in zip(level, prefix.outputs) { prefixPaths[output] = paths[id] }
    let observed = ObservedGraph(
      graph: prefix, tensors: prefix.outputs, paths: prefixPaths,
      options: ObservationOptions(options))
    let plan = try backend.prepare(
      prefix, options: PlanOptions(simulate: true, taps: Set(prefix.outputs)))
    let (before, total) = (done * sampleCount, levels.count * sampleCount)
    var run = SampleRun(count: sampleCount, jobs: jobs, load: load, name: sampleName)
    if let progress { run.progress = { progress(before + $0, total) } }
    let seen = try observed.run(plan, run)
    for tensor in seen.tensors {
      if let place = places[tensor.name] { statistics.tensors[place] = tensor }
    }
  }
  return statistics
}

extension Graph {
  /// How often ``observeSequentially(_:float:options:backend:sampleCount:load:jobs:sampleName:progress:)``
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

extension QuantizationResult {
  /// The fixed-point graph that computes some tensors in float from quantized ones: its outputs, in
  /// order.
  fileprivate func prefix(before level: [TensorID]) throws(Diagnostic) -> Graph {
    var cut = graph
    let inner = graph.innerTensorsOfFusedPairs()
    let open = Set(level)
    for index in cut.tensors.indices {
      let id = TensorID(index)
      guard open.contains(id) || inner[id].map(open.contains) == true else { continue }
      cut[id].encoding = nil
      cut[id].encodingSource = nil
      cut[id].state = .float
      cut[id].bitwidth = 32
    }
    cut.outputs = level
    let names = Dictionary(
      uniqueKeysWithValues: borders.map { (graph[$0.key].name, $0.value) })
    cut = cut.compacted()
    var kept: [TensorID: Encoding] = [:]
    for (index, tensor) in cut.tensors.enumerated() { kept[TensorID(index)] = names[tensor.name] }
    return try materialize(
      cut, borders: kept, dataInvariantOpsRequantize: dataInvariantOpsRequantize)
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
