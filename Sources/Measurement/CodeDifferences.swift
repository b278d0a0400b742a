import IR
import Runtime

/// How far two ways of running a quantized graph are apart, tensor by tensor, in codes: the simulation in
/// float and execution in integers, say. Whole counts only, so that any number of jobs gives the same.
public struct CodeDifferences: Sendable {
  /// One tensor over all samples.
  public struct Row: Sendable, Hashable {
    /// Its name, and that of the operator that makes it (`Input` for a graph input).
    public var tensor: String
    public var operatorName: String
    /// Codes compared.
    public var codes: Int
    /// Codes that differ.
    public var differing: Int
    /// The largest difference, in steps of the grid.
    public var largest: Int
    /// The sum of the magnitudes of all differences, in steps.
    public var total: Int

    /// The share of codes that differ, 0 to 1.
    public var share: Double { codes == 0 ? 0 : Double(differing) / Double(codes) }

    mutating func merge(_ other: Row) {
      codes += other.codes
      differing += other.differing
      largest = max(largest, other.largest)
      total += other.total
    }
  }

  /// All tensors with a grid of their own, in the order of the graph.
  public var rows: [Row]
  /// Samples that ran.
  public var samples: Int

  /// Tensors with the largest share of differing codes first; equal ones in the order of the graph.
  public var byShare: [Row] {
    rows.enumerated().sorted { ($1.element.share, $0.offset) < ($0.element.share, $1.offset) }.map(\.element)
  }

  /// The first tensor in the order of the graph of which a code differs.
  public var first: Row? { rows.first { $0.differing > 0 } }

  /// Runs the samples on both backends, `samples.backend` and `other`, encodings applied.
  public static func measure(
    _ graph: Graph, _ samples: MeasurementSamples, against other: any Backend
  ) throws(Diagnostic) -> CodeDifferences {
    let tensors = comparedTensors(graph)
    let options = PlanOptions(simulate: true, taps: Set(tensors))
    let (first, second) = (
      try samples.backend.prepare(graph, options: options), try other.prepare(graph, options: options)
    )
    let producers = graph.producers()
    let empty = tensors.map { id in
      Row(
        tensor: graph[id].name, operatorName: producers[id.index].map { graph[$0].op.typeName } ?? "Input",
        codes: 0, differing: 0, largest: 0, total: 0)
    }
    let states = try runSamples(
      count: samples.count, jobs: samples.jobs,
      makeState: { (_) throws(Diagnostic) -> CodeComparison in
        CodeComparison(
          first: try first.makeWorker(), second: try second.makeWorker(), tensors: tensors, rows: empty)
      },
      body: { (state: inout CodeComparison, sample: Int) throws(Diagnostic) in
        try state.run(try samples.load(sample), graph)
        samples.progress()
      })
    var rows = empty
    for state in states {
      for index in rows.indices { rows[index].merge(state.rows[index]) }
    }
    return CodeDifferences(rows: rows, samples: samples.count)
  }

  /// Activations with one grid; what lies inside a fused pair has none.
  private static func comparedTensors(_ graph: Graph) -> [TensorID] {
    let hidden = graph.fusedIntermediates()
    var order = graph.inputs
    for node in graph.nodes { order += node.outputs }
    return order.filter { id in
      let tensor = graph[id]
      guard let encoding = tensor.encoding, hidden[id] == nil else { return false }
      return tensor.type.logical.element == .float32 && encoding.axis == nil && encoding.blocks == nil
    }
  }
}

/// Both workers of one thread and what they counted.
struct CodeComparison {
  let first: any PlanWorker
  let second: any PlanWorker
  let tensors: [TensorID]
  var rows: [CodeDifferences.Row]

  mutating func run(_ inputs: [Bytes], _ graph: Graph) throws(Diagnostic) {
    var kept: [TensorID: Bytes] = [:]
    _ = try first.run(inputs) { (id, view) in
      kept[id] = Bytes(count: view.bytes.count) { $0.copyMemory(from: view.bytes) }
    }
    var places: [TensorID: Int] = [:]
    for (index, id) in tensors.enumerated() { places[id] = index }
    var counted = rows
    _ = try second.run(inputs) { (id, view) in
      guard let place = places[id], let reference = kept[id], let encoding = graph[id].encoding else { return }
      let scale = encoding.channels[0].scale
      let expected = UnsafeRawBufferPointer(start: reference.base, count: reference.count)
        .assumingMemoryBound(to: Float.self)
      let found = view.elements(as: Float.self)
      for index in 0..<min(expected.count, found.count) where expected[index] != found[index] {
        let distance = Self.steps(from: expected[index], to: found[index], scale: scale)
        guard distance > 0 else { continue }
        counted[place].differing += 1
        counted[place].total += distance
        counted[place].largest = max(counted[place].largest, distance)
      }
      counted[place].codes += found.count
    }
    rows = counted
  }

  /// Whole steps between two values, 2^32 at most; that many where one of them only is no number.
  static func steps(from one: Float, to other: Float, scale: Float) -> Int {
    let steps = abs(Double((one / scale).rounded()) - Double((other / scale).rounded()))
    if steps.isNaN { return one.isNaN == other.isNaN ? 0 : 1 << 32 }
    return Int(min(steps, 0x1p32))
  }
}
