import Calibration
import IR
import Runtime

/// Runs a float graph and graphs made from it over the same samples and sums up, for pairs of tensors,
/// how they differ.
struct ComparisonRun: Sendable {
  let reference: Graph
  /// The graph whose inputs the samples are of.
  let container: Graph
  let pairs: [TensorPair]
  /// Graphs to compare, each with the tensor of every pair; nil where it has none.
  let candidates: [(graph: Graph, tensors: [TensorID?])]
  /// Whether tensors are also quantized alone.
  let isolates: Bool
  let histograms: Bool

  /// The sums of all samples, a row a pair.
  struct Result {
    var isolated: [ErrorSums]
    var candidates: [[ErrorSums]]
    /// The same of channels that the container computes nothing for, which the other sums leave out.
    var isolatedEmpty: [ErrorSums]
    var empty: [[ErrorSums]]
    var emptyChannels: [EmptyChannels]
    var before: [HistogramObserver]
    var after: [HistogramObserver]
  }

  func measure(_ samples: MeasurementSamples) throws(Diagnostic) -> Result {
    let order = try InputOrder(reference, container)
    let plan = try samples.backend.prepare(
      reference, options: PlanOptions(simulate: reference.isMaterialized, taps: Set(pairs.map(\.reference))))
    var plans: [any Plan] = []
    var orders: [InputOrder] = []
    for (graph, tensors) in candidates {
      plans.append(
        try samples.backend.prepare(
          graph, options: PlanOptions(simulate: true, taps: Set(tensors.compactMap { $0 }))))
      orders.append(try InputOrder(graph, container))
    }
    let (made, madeOrders) = (plans, orders)
    let workers = try runSamples(
      count: samples.count, jobs: samples.jobs,
      makeState: { (_) throws(Diagnostic) -> ComparisonWorker in
        var workers: [any PlanWorker] = []
        for plan in made { workers.append(try plan.makeWorker()) }
        return ComparisonWorker(self, reference: try plan.makeWorker(), candidates: workers)
      },
      body: { (worker: inout ComparisonWorker, sample: Int) throws(Diagnostic) in
        let inputs = try samples.load(sample)
        try worker.run(
          order.arranged(inputs), candidates: madeOrders.map { $0.arranged(inputs) })
        samples.progress()
      })
    guard var result = workers.first?.result else {
      throw Diagnostic("no-samples", "a comparison needs at least one sample")
    }
    for worker in workers.dropFirst() { result.merge(worker.result) }
    // Channels that are not constant were lost by quantization: they count.
    for row in pairs.indices where !result.emptyChannels[row].areConstant {
      result.isolated[row].merge(result.isolatedEmpty[row])
      for place in candidates.indices { result.candidates[place][row].merge(result.empty[place][row]) }
    }
    return result
  }
}

extension ComparisonRun.Result {
  fileprivate mutating func merge(_ other: Self) {
    for row in isolated.indices {
      isolated[row].merge(other.isolated[row])
      isolatedEmpty[row].merge(other.isolatedEmpty[row])
    }
    for place in candidates.indices {
      for row in candidates[place].indices {
        candidates[place][row].merge(other.candidates[place][row])
        empty[place][row].merge(other.empty[place][row])
      }
    }
    for row in emptyChannels.indices { emptyChannels[row].merge(other.emptyChannels[row]) }
    for row in before.indices { before[row].merge(other.before[row]) }
    for row in after.indices { after[row].merge(other.after[row]) }
  }
}

/// How the inputs of one graph are arranged to be those of another.
struct InputOrder: Sendable {
  private let places: [Int]

  /// Matches inputs by name, then by alias; throws `reference-input` where that fails.
  init(_ graph: Graph, _ source: Graph) throws(Diagnostic) {
    var byName: [String: Int] = [:]
    for (alias, name) in source.aliases {
      if let place = source.inputs.firstIndex(where: { source[$0].name == name }) { byName[alias] = place }
    }
    for (place, id) in source.inputs.enumerated() { byName[source[id].name] = place }
    var places: [Int] = []
    for id in graph.inputs {
      let aliases = graph.aliases.filter { $0.value == graph[id].name }.keys.sorted()
      guard let place = ([graph[id].name] + aliases).lazy.compactMap({ byName[$0] }).first else {
        throw Diagnostic(
          "reference-input", "the reference has an input that the container has not",
          at: .init(tensor: graph[id].name),
          hint: "the reference must be the model that the container was made from")
      }
      let (own, other) = (graph[id].type.logical, source[source.inputs[place]].type.logical)
      guard own == other else {
        throw Diagnostic(
          "reference-input", "the input is \(own) in the reference and \(other) in the container",
          at: .init(tensor: graph[id].name), hint: "convert both with the same layouts and shapes")
      }
      places.append(place)
    }
    self.places = places
  }

  func arranged(_ inputs: [Bytes]) -> [Bytes] { places.map { inputs[$0] } }
}

/// The executors and sums of one thread.
private final class ComparisonWorker {
  private let run: ComparisonRun
  private let reference: any PlanWorker
  private let candidates: [any PlanWorker]
  /// Rows of each tensor, in the reference and in each candidate.
  private let rows: [TensorID: [Int]]
  private let candidateRows: [[TensorID: [Int]]]
  /// The reference's values of this sample, a buffer a row.
  private var values: [UnsafeMutableBufferPointer<Float>]
  private let scratch: UnsafeMutableBufferPointer<Float>
  /// For both sides of a tensor with empty channels, sorted apart.
  private var full: (reference: [Float], other: [Float]) = ([], [])
  private var hollow: (reference: [Float], other: [Float]) = ([], [])
  /// For each row with empty channels the place of every channel among them.
  private let emptyPlaces: [[Int?]]
  private let counters = HistogramScratch()
  var result: ComparisonRun.Result

  init(_ run: ComparisonRun, reference: any PlanWorker, candidates: [any PlanWorker]) {
    self.run = run
    self.reference = reference
    self.candidates = candidates
    rows = Self.table(run.pairs.map(\.reference))
    candidateRows = run.candidates.map { Self.table($0.tensors) }
    let sizes = run.pairs.map { run.reference[$0.reference].type.count }
    values = sizes.map { .allocate(capacity: max($0, 1)) }
    for buffer in values { buffer.initialize(repeating: 0) }
    scratch = .allocate(capacity: max(sizes.max() ?? 0, 1))
    scratch.initialize(repeating: 0)
    let empty = run.pairs.map { _ in ErrorSums() }
    emptyPlaces = run.pairs.map { pair in
      guard !pair.emptyChannels.isEmpty else { return [] }
      var places = [Int?](repeating: nil, count: run.reference[pair.reference].type.shape.last ?? 0)
      for (place, channel) in pair.emptyChannels.enumerated() { places[channel] = place }
      return places
    }
    let histograms = run.histograms ? run.pairs.map { _ in HistogramObserver() } : []
    result = ComparisonRun.Result(
      isolated: empty, candidates: candidates.map { _ in empty }, isolatedEmpty: empty,
      empty: candidates.map { _ in empty },
      emptyChannels: run.pairs.map { EmptyChannels(count: $0.emptyChannels.count) }, before: histograms,
      after: histograms)
  }

  deinit {
    for buffer in values { buffer.deallocate() }
    scratch.deallocate()
  }

  private static func table(_ tensors: [TensorID?]) -> [TensorID: [Int]] {
    var result: [TensorID: [Int]] = [:]
    for (row, id) in tensors.enumerated() { if let id { result[id, default: []].append(row) } }
    return result
  }

  func run(_ inputs: [Bytes], candidates others: [[Bytes]]) throws(Diagnostic) {
    _ = try reference.run(inputs) { (id, view) throws(Diagnostic) in self.keep(id, view) }
    for (place, worker) in candidates.enumerated() {
      _ = try worker.run(others[place]) { (id, view) throws(Diagnostic) in
        self.compare(id, view, place)
      }
    }
  }

  /// Keeps a tensor of the reference; quantizes it alone.
  private func keep(_ id: TensorID, _ view: TensorView) {
    let floats = view.elements(as: Float.self)
    for row in rows[id] ?? [] {
      guard let source = floats.baseAddress, let kept = values[row].baseAddress else { continue }
      let count = floats.count
      kept.update(from: source, count: count)
      let pair = run.pairs[row]
      let places = emptyPlaces[row]
      if !places.isEmpty {
        for index in 0..<count {
          if let place = places[index % places.count] { result.emptyChannels[row].see(kept[index], place: place) }
        }
      }
      let encoding = run.container[pair.container].encoding
      let isolates = run.isolates && encoding != nil
      guard isolates || run.histograms, let room = scratch.baseAddress else { continue }
      room.update(from: source, count: count)
      equalize(room, count, pair)
      if run.histograms { observe(&result.before[row], room, count) }
      if isolates, let encoding {
        encoding.simulate(room, into: room, shape: view.type.shape)
        restore(room, count, pair)
        if places.isEmpty {
          result.isolated[row].add(reference: kept, other: room, count: count, floor: pair.floor)
        } else {
          split(row, kept, room, count)
          result.isolated[row].add(reference: full.reference, other: full.other)
          result.isolatedEmpty[row].add(reference: hollow.reference, other: hollow.other)
        }
      }
    }
  }

  /// Compares a tensor of a candidate.
  private func compare(_ id: TensorID, _ view: TensorView, _ place: Int) {
    let floats = view.elements(as: Float.self)
    for row in candidateRows[place][id] ?? [] {
      guard let source = floats.baseAddress, let kept = values[row].baseAddress,
        let room = scratch.baseAddress
      else { continue }
      let count = floats.count
      let floor = run.pairs[row].floor
      if run.histograms, place == 0 { observe(&result.after[row], source, count) }
      var other = source
      let pair = run.pairs[row]
      if pair.scales != nil || pair.shifts != nil {
        room.update(from: source, count: count)
        restore(room, count, pair)
        other = UnsafePointer(room)
      }
      if emptyPlaces[row].isEmpty {
        result.candidates[place][row].add(reference: kept, other: other, count: count, floor: floor)
      } else {
        split(row, kept, other, count)
        result.candidates[place][row].add(reference: full.reference, other: full.other)
        result.empty[place][row].add(reference: hollow.reference, other: hollow.other)
      }
    }
  }

  /// Sorts the channels that the container computes something for from the others.
  private func split(_ row: Int, _ kept: UnsafePointer<Float>, _ other: UnsafePointer<Float>, _ count: Int) {
    full = ([], [])
    hollow = ([], [])
    let places = emptyPlaces[row]
    for index in 0..<count {
      if places[index % places.count] != nil {
        hollow.reference.append(kept[index])
        hollow.other.append(other[index])
      } else {
        full.reference.append(kept[index])
        full.other.append(other[index])
      }
    }
  }

  private func observe(
    _ histogram: inout HistogramObserver, _ values: UnsafePointer<Float>, _ count: Int
  ) {
    let buffer = UnsafeBufferPointer(start: values, count: count)
    var seen = MinMaxObserver()
    seen.observe(buffer)
    histogram.observe(buffer, seen: seen.withoutPlaces, scratch: counters)
  }

  /// The container's values from the reference's.
  private func equalize(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ pair: TensorPair) {
    forEachChannel(values, count, pair.scales) { $0 * $1 }
    forEachChannel(values, count, pair.shifts) { $0 - $1 }
  }

  /// The reference's values from the container's.
  private func restore(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ pair: TensorPair) {
    forEachChannel(values, count, pair.shifts) { $0 + $1 }
    forEachChannel(values, count, pair.scales) { $0 / $1 }
  }

  private func forEachChannel(
    _ values: UnsafeMutablePointer<Float>, _ count: Int, _ numbers: [Float]?,
    _ operation: (Float, Float) -> Float
  ) {
    guard let numbers, !numbers.isEmpty else { return }
    var channel = 0
    for index in 0..<count {
      values[index] = operation(values[index], numbers[channel])
      channel = channel + 1 == numbers.count ? 0 : channel + 1
    }
  }
}
