import Calibration
import IR
import Runtime
import Synchronization

/// Gives the inputs of sample `index` in the order of the graph's inputs, dense, in their logical
/// element types. Called from several threads.
public typealias SampleLoader = @Sendable (_ index: Int) throws(Diagnostic) -> [Bytes]

/// What is observed, and how.
public struct ObservationOptions: Sendable, Hashable {
  /// A histogram of every tensor, not only extrema.
  public var histograms = false
  /// NaN and infinities are left out and counted instead of being errors (`--skip_nonfinite`).
  public var skipNonfinite = false

  /// Extrema only; every value must be finite.
  public init() {}

  /// What `options` need.
  public init(_ options: QuantizerOptions) {
    histograms = options.needsHistograms
    skipNonfinite = options.skipNonfinite
  }
}

/// Samples to run: how many, where they come from, what they are called, on how many threads.
struct SampleRun {
  var count: Int
  var jobs: Int
  var load: SampleLoader
  var name: @Sendable (Int) -> String
  /// Told the number of finished samples, from several threads.
  var progress: (@Sendable (_ done: Int) -> Void)?
  /// Whether the hash of the samples is wanted.
  var hashes = true
  /// Shown the values of every tapped tensor, from several threads, one at a time for a sample.
  var show: (@Sendable (_ sample: Int, TensorID, UnsafeRawBufferPointer) -> Void)?
}

/// Runs the float graph over the samples and observes every tensor of its ``ObservationSet``, in
/// place; memory does not grow with the number of samples. The result is the same for every `jobs`
/// and every order of the samples.
///
/// A NaN or an infinity is an error that names tensor, sample and element, unless `options` leave them
/// out; then a tensor without any finite value is one. What a Softmax turns into nothing is left out
/// and counted (``MaskedValues``). `progress` is told the number of finished samples, from several
/// threads; `sampleName` names a sample in messages.
public func observe(
  _ graph: Graph, backend: any Backend, sampleCount: Int, load: @escaping SampleLoader, jobs: Int,
  options: ObservationOptions = .init(),
  sampleName: @escaping @Sendable (Int) -> String = { "\($0 + 1)" },
  progress: (@Sendable (_ done: Int) -> Void)? = nil
) throws(Diagnostic) -> Statistics {
  let set = ObservationSet(graph)
  let observed = ObservedGraph(
    graph: graph, tensors: set.tensors, paths: graph.softmaxPaths(), options: options)
  let plan = try backend.prepare(
    graph, options: PlanOptions(simulate: false, taps: Set(set.intermediates)))
  var statistics = try observed.run(
    plan,
    SampleRun(
      count: sampleCount, jobs: jobs, load: load, name: sampleName, progress: progress))
  statistics.graphHash = graph.observationHash()
  statistics.backends = [backend.description]
  return statistics
}

/// What one worker has: its executor and its own observers; memory for counting, which all observers
/// share.
private struct ObservationWorker {
  let executor: any PlanWorker
  var observers: [TensorStatistics]
  let scratch = HistogramScratch()
  let filter = MaskFilter()
  var hash = CalibrationHash()
  var samples = 0
}

/// A graph and the tensors that are watched while it runs.
struct ObservedGraph: Sendable {
  let graph: Graph
  let tensors: [TensorID]
  let options: ObservationOptions
  /// The place of each watched tensor among the observers.
  private let slots: [TensorID: Int]
  /// The ways of watched tensors that a Softmax alone reads.
  private let paths: [TensorID: SoftmaxPath]

  init(
    graph: Graph, tensors: [TensorID], paths: [TensorID: SoftmaxPath], options: ObservationOptions
  ) {
    self.graph = graph
    self.tensors = tensors
    self.options = options
    self.paths = paths
    var slots: [TensorID: Int] = [:]
    for (slot, id) in tensors.enumerated() { slots[id] = slot }
    self.slots = slots
  }

  /// Runs the samples; the graph's hash and the backend are left to the caller.
  func run(_ plan: any Plan, _ samples: SampleRun) throws(Diagnostic) -> Statistics {
    guard samples.count > 0 else {
      throw Diagnostic("no-samples", "calibration needs at least one sample")
    }
    let empty = tensors.map { TensorStatistics(name: graph[$0].name, histograms: options.histograms) }
    let done = Mutex(0)
    let workers = try runSamples(
      count: samples.count, jobs: max(1, min(samples.jobs, samples.count)),
      makeState: { (_: Int) throws(Diagnostic) -> ObservationWorker in
        ObservationWorker(executor: try plan.makeWorker(), observers: empty)
      },
      body: { (worker: inout ObservationWorker, index: Int) throws(Diagnostic) in
        let inputs = try samples.load(index)
        do throws(Diagnostic) {
          try observe(inputs, index, samples, on: &worker)
        } catch {
          throw error.inSample(samples.name(index))
        }
        if let progress = samples.progress {
          let count = done.withLock { (value: inout Int) -> Int in
            value += 1
            return value
          }
          progress(count)
        }
      })
    var statistics = Statistics(graphHash: "", tensors: empty)
    for worker in workers {
      statistics.sampleCount += worker.samples
      statistics.calibrationHash.merge(worker.hash)
      for slot in worker.observers.indices {
        statistics.tensors[slot].merge(worker.observers[slot])
      }
    }
    for (tensor, id) in zip(statistics.tensors, tensors) { try check(tensor, graph[id].type) }
    return statistics
  }

  /// Throws where nothing is known of a tensor after all samples.
  private func check(_ tensor: TensorStatistics, _ type: TensorType) throws(Diagnostic) {
    guard !tensor.observer.hasRange, tensor.masked.count == 0 else { return }
    if type.count == 0 {
      throw Diagnostic(
        "empty-tensor", "it has no elements (\(type)), so calibration finds no range",
        at: .init(tensor: tensor.name), hint: "convert the model with shapes that hold data")
    }
    if tensor.observer.count > 0 {
      throw Diagnostic(
        "non-finite-activation",
        "all \(tensor.observer.count) observed values are NaN or infinite",
        at: .init(tensor: tensor.name), hint: "no range can be found: repair the model or the samples")
    }
    throw Diagnostic(
      "unobserved-tensor", "the runtime showed no value of an observed tensor",
      at: .init(tensor: tensor.name), kind: .internal)
  }

  /// Hashes, checks, runs and observes one sample.
  private func observe(
    _ inputs: [Bytes], _ sample: Int, _ samples: SampleRun, on worker: inout ObservationWorker
  ) throws(Diagnostic) {
    guard inputs.count == graph.inputs.count else {
      throw Diagnostic(
        "sample-inputs", "a sample has \(inputs.count) inputs, the graph \(graph.inputs.count)")
    }
    var ready: [Bytes] = []
    for (id, bytes) in zip(graph.inputs, inputs) {
      let type = graph[id].type.logical
      guard bytes.count == type.byteCount else {
        throw Diagnostic(
          "sample-size", "a sample has \(bytes.count) bytes, \(type) needs \(type.byteCount)",
          at: .init(tensor: graph[id].name))
      }
      ready.append(bytes.aligned(to: 64))
    }
    defer { withExtendedLifetime(ready) {} }
    if samples.hashes { worker.hash.add(digest: digest(ready)) }
    // The tap may not capture an inout parameter: the observers go to a local variable and back.
    var observers = worker.observers
    worker.observers = []
    defer { worker.observers = observers }
    let (executor, scratch, filter) = (worker.executor, worker.scratch, worker.filter)
    for (id, bytes) in zip(graph.inputs, ready) {
      try observe(id, bytes.buffer, &observers, scratch, filter)
    }
    _ = try executor.run(
      ready,
      tap: { (id: TensorID, view: TensorView) throws(Diagnostic) in
        samples.show?(sample, id, view.bytes)
        try observe(id, view.bytes, &observers, scratch, filter)
      })
    worker.samples += 1
  }

  private func observe(
    _ id: TensorID, _ bytes: UnsafeRawBufferPointer, _ observers: inout [TensorStatistics],
    _ scratch: HistogramScratch, _ filter: MaskFilter
  ) throws(Diagnostic) {
    guard let slot = slots[id] else { return }
    let all = bytes.assumingMemoryBound(to: Float.self)
    var values = all
    if let path = paths[id] {
      let found = filter.unmasked(all, shape: graph[id].type.shape, path: path)
      values = found.values
      observers[slot].masked.merge(found.masked)
    }
    var seen = MinMaxObserver()
    seen.observe(values)
    if seen.nonFinite > 0, !options.skipNonfinite {
      let left = Set(values.lazy.filter { !$0.isFinite }.map(\.bitPattern))
      let element = all.firstIndex { left.contains($0.bitPattern) } ?? 0
      throw Diagnostic(
        "non-finite-activation",
        "\(seen.nonFinite) of \(all.count) values are NaN or infinite, the first is element "
          + "\(element)",
        at: .init(tensor: graph[id].name),
        hint: "look at the sample with qinspect or NumPy; --skip_nonfinite leaves such values out")
    }
    observers[slot].observe(values, seen: seen.withoutPlaces, scratch: scratch)
  }

  /// SHA-256 over the bytes of all inputs, in order of their names.
  private func digest(_ inputs: [Bytes]) -> [UInt8] {
    let order = graph.inputs.indices.sorted {
      graph[graph.inputs[$0]].name < graph[graph.inputs[$1]].name
    }
    var hasher = SHA256()
    for index in order { hasher.update(inputs[index].buffer) }
    return hasher.finalize()
  }
}

extension Diagnostic {
  /// A copy whose message names the sample.
  fileprivate func inSample(_ name: String) -> Diagnostic {
    var copy = self
    copy.message = "sample \(name): \(message)"
    return copy
  }
}
