import IR
import Runtime
import Synchronization

/// Runs a graph over all samples piece by piece: what the pieces still to come need is kept for every
/// sample, so that each node runs about once though the constants behind the cut may change in between.
///
/// Where what is to be kept would take more than `limit` bytes, the cut stays behind and later pieces run
/// from there again. Tensors on a grid are kept as codes, bit for bit.
final class StageRunner {
  private(set) var graph: Graph
  private let samples: SampleSet
  private let simulate: Bool
  private let limit: Int
  /// Nodes before this one have run; what later ones need of them is kept.
  private(set) var cut = 0
  private var live: [TensorID]
  private let kept = KeptSamples()
  private let producers: [NodeID?]
  private let lastUse: [Int]

  /// What is kept of each sample; nothing while the cut is at the start. A sample's are replaced as soon as what
  /// follows from them is made, so that no more than the larger of both is held.
  private final class KeptSamples: Sendable {
    private let samples = Mutex([Int: [Kept]]())

    subscript(rank: Int) -> [Kept]? {
      get { samples.withLock { $0[rank] } }
      set { samples.withLock { $0[rank] = newValue } }
    }
  }

  /// A tensor of a sample.
  private enum Kept: Sendable {
    case plain(Bytes)
    case codes(Constant, Encoding)

    var bytes: Bytes {
      switch self {
      case .plain(let bytes): bytes
      case .codes(let constant, let encoding): Bytes(encoding.dequantized(constant))
      }
    }
  }

  /// A runner at the start of a graph; `simulate` applies the encodings of the graph.
  init(_ graph: Graph, _ samples: SampleSet, simulate: Bool, limit: Int) {
    self.graph = graph
    self.samples = samples
    self.simulate = simulate
    self.limit = limit
    live = graph.inputs
    producers = graph.producers()
    var uses = [Int](repeating: -1, count: graph.tensors.count)
    for (index, node) in graph.nodes.enumerated() {
      for input in node.inputs { if let input { uses[input.index] = index } }
    }
    lastUse = uses
  }

  /// Puts another value in the place of a constant.
  func replace(_ id: TensorID, with tensor: Tensor) { graph[id] = tensor }

  /// Runs up to node `end`, which is not run, and keeps what is needed from there on, if it fits.
  func advance(to end: Int) throws(Diagnostic) {
    guard end > cut else { return }
    let needed = graph.tensors.indices.map(TensorID.init).filter { id in
      guard graph[id].constant == nil, lastUse[id.index] >= end else { return false }
      return graph.inputs.contains(id) || producers[id.index].map { $0.index < end } ?? false
    }
    let bytes = needed.reduce(0) { $0 + keptBytes($1) }
    guard bytes * samples.count <= limit else { return }
    let grids = needed.map(grid)
    let types = needed.map { graph[$0].type.logical }
    try forEach(needed, upTo: end) { [kept] (rank: Int, values: [Bytes]) throws(Diagnostic) in
      let found = zip(values, zip(grids, types)).map { bytes, form -> Kept in
        guard let encoding = form.0 else { return .plain(bytes) }
        let codes = encoding.quantized(bytes.array(of: Float.self), shape: form.1.shape)
        return .codes(
          Constant(type: TensorType(encoding.storage, form.1.shape), bytes: codes), encoding)
      }
      kept[rank] = found
    }
    live = needed
    cut = end
  }

  /// Calls `body` on some threads with tensors of every sample, or of the first ones in their canonical
  /// order, computed by the nodes before `end`.
  func forEach(
    _ tensors: [TensorID], upTo end: Int, first count: Int = .max,
    _ body: @Sendable (_ rank: Int, _ values: [Bytes]) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    let stage = try Stage(self, tensors, end)
    try samples.forEach(worker: stage.makeWorker) {
      (worker: any PlanWorker, rank: Int) throws(Diagnostic) in
      guard rank < count else { return }
      try body(rank, try stage.values(rank, worker))
    }
  }

  /// Adds up something over tensors of every sample in the fixed order of ``SampleSet``.
  func reduce<Sum: Sendable>(
    _ tensors: [TensorID], upTo end: Int, elements: Int, into empty: Sum,
    _ body: @Sendable (inout Sum, _ rank: Int, _ values: [Bytes]) throws(Diagnostic) -> Void,
    merge: (inout Sum, Sum) -> Void
  ) throws(Diagnostic) -> Sum {
    let stage = try Stage(self, tensors, end)
    return try samples.reduce(
      chunks: samples.chunks(elements: elements), into: empty, worker: stage.makeWorker,
      { (sum: inout Sum, worker: any PlanWorker, rank: Int) throws(Diagnostic) in
        try body(&sum, rank, try stage.values(rank, worker))
      }, merge: merge)
  }

  /// As ``reduce(_:upTo:elements:into:_:merge:)``, with tensors of the same sample in another graph beside.
  func reduce<Sum: Sendable>(
    _ tensors: [TensorID], upTo end: Int, beside other: StageRunner, _ others: [TensorID], upTo otherEnd: Int,
    elements: Int, into empty: Sum,
    _ body: @Sendable (inout Sum, _ rank: Int, _ values: [Bytes], _ others: [Bytes]) throws(Diagnostic) -> Void,
    merge: (inout Sum, Sum) -> Void
  ) throws(Diagnostic) -> Sum {
    let (stage, second) = (try Stage(self, tensors, end), try Stage(other, others, otherEnd))
    return try samples.reduce(
      chunks: samples.chunks(elements: elements), into: empty,
      worker: { () throws(Diagnostic) in (try stage.makeWorker(), try second.makeWorker()) },
      { (sum: inout Sum, workers: (any PlanWorker, any PlanWorker), rank: Int) throws(Diagnostic) in
        try body(&sum, rank, try stage.values(rank, workers.0), try second.values(rank, workers.1))
      }, merge: merge)
  }

  private func grid(_ id: TensorID) -> Encoding? {
    guard simulate, let encoding = graph[id].encoding, encoding.axis == nil, encoding.bitwidth <= 16,
      graph[id].type.element.logical == .float32
    else { return nil }
    return encoding
  }

  private func keptBytes(_ id: TensorID) -> Int {
    let type = graph[id].type
    if let encoding = grid(id) { return type.count * encoding.storage.byteWidth }
    return type.logical.byteCount
  }

  /// What is run between the cut and a place behind it.
  private struct Stage: Sendable {
    let plan: any Plan
    let samples: SampleSet
    let kept: KeptSamples
    /// Where each wanted tensor comes from: an output of the plan, or an input of it.
    let outputs: [Int?]
    let inputs: [Int?]

    init(_ runner: StageRunner, _ tensors: [TensorID], _ end: Int) throws(Diagnostic) {
      samples = runner.samples
      kept = runner.kept
      let live = runner.live
      inputs = tensors.map { live.firstIndex(of: $0) }
      var part = runner.graph
      part.nodes = Array(part.nodes[runner.cut..<max(end, runner.cut)])
      part.inputs = live
      part.outputs = tensors.filter { !live.contains($0) }
      var place = -1
      outputs = tensors.map {
        if live.contains($0) { return nil }
        place += 1
        return place
      }
      plan = try runner.samples.backend.prepare(
        part.compacted(), options: PlanOptions(simulate: runner.simulate))
    }

    @Sendable func makeWorker() throws(Diagnostic) -> any PlanWorker { try plan.makeWorker() }

    func values(_ rank: Int, _ worker: any PlanWorker) throws(Diagnostic) -> [Bytes] {
      let ready: [Bytes]
      if let kept = kept[rank] { ready = kept.map(\.bytes) } else { ready = try samples.load(rank) }
      let made = outputs.contains { $0 != nil } ? try worker.run(ready) : []
      return zip(inputs, outputs).map { input, output in
        output.map { made[$0] } ?? input.map { ready[$0] } ?? Bytes([Float]())
      }
    }
  }
}
