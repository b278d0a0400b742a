import IR
import Quantizer
import Runtime
import Synchronization

/// The samples that algorithms run, in an order that their content alone decides, on some threads.
///
/// Sums of floats depend on the order of the addends. So samples are sorted by the SHA-256 of their
/// content and cut into a number of chunks that does not depend on the threads; a chunk is added up in
/// order by one thread, and the chunks are added up in order: the same bits for every `jobs` and every
/// order of the list.
public struct SampleSet: Sendable {
  /// Number of samples.
  public let count: Int
  /// Threads.
  public let jobs: Int
  /// What runs the graph.
  public let backend: any Backend
  private let loader: SampleLoader
  private let order: [Int]
  private let name: @Sendable (Int) -> String

  /// Reads every sample once for its hash. Throws what `load` throws, `no-samples` for none.
  public init(
    count: Int, jobs: Int, backend: any Backend, load: @escaping SampleLoader,
    name: @escaping @Sendable (Int) -> String = { "\($0 + 1)" }
  ) throws(Diagnostic) {
    guard count > 0 else { throw Diagnostic("no-samples", "the algorithms need at least one sample") }
    let digests = Mutex([Int: [UInt8]]())
    _ = try runSamples(
      count: count, jobs: jobs, makeState: { (_: Int) throws(Diagnostic) in 0 },
      body: { (_: inout Int, index: Int) throws(Diagnostic) in
        var hasher = SHA256()
        for bytes in try load(index) { hasher.update(bytes.buffer) }
        let digest = hasher.finalize()
        digests.withLock { $0[index] = digest }
      })
    let found = digests.withLock { $0 }
    self.count = count
    self.jobs = max(1, jobs)
    self.backend = backend
    loader = load
    self.name = name
    order = (0..<count).sorted {
      let (a, b) = (found[$0] ?? [], found[$1] ?? [])
      return a == b ? $0 < $1 : a.lexicographicallyPrecedes(b)
    }
  }

  /// The first samples in the order of content, at most `number`.
  public func first(_ number: Int) -> SampleSet {
    SampleSet(self, count: min(max(number, 1), count))
  }

  private init(_ other: SampleSet, count: Int) {
    self.count = count
    (jobs, backend, loader) = (other.jobs, other.backend, other.loader)
    (order, name) = (other.order, other.name)
  }

  /// Inputs of the sample of rank `rank` (0 ..< count) in the order of content.
  public func load(_ rank: Int) throws(Diagnostic) -> [Bytes] { try loader(order[rank]) }

  /// What messages call the sample of a rank.
  public func name(_ rank: Int) -> String { name(order[rank]) }

  /// Ranks of the samples in `chunks` runs of nearly equal length; none is empty.
  func ranges(chunks: Int) -> [Range<Int>] {
    let parts = max(1, min(chunks, count))
    return (0..<parts).map { (count * $0 / parts)..<(count * ($0 + 1) / parts) }
  }

  /// Chunks where a sum has `elements` numbers: fewer where they would take much memory, and then samples of
  /// even and of odd rank, which a sum may keep apart: it holds one kind only.
  func chunks(elements: Int) -> [[Int]] {
    let fitting = (256 << 20) / max(1, elements * MemoryLayout<Double>.stride)
    guard fitting >= 2 || count < 2 else { return (0..<2).map { Array(stride(from: $0, to: count, by: 2)) } }
    return ranges(chunks: min(16, fitting, count)).map(Array.init)
  }

  /// Adds up something over all samples: `body` is called with the sum of a chunk and the ranks in turn,
  /// `merge` adds the chunks in order.
  func reduce<Sum: Sendable, Worker>(
    chunks ranges: [[Int]], into empty: Sum,
    worker: @Sendable () throws(Diagnostic) -> Worker,
    _ body: @Sendable (inout Sum, Worker, Int) throws(Diagnostic) -> Void,
    merge: (inout Sum, Sum) -> Void
  ) throws(Diagnostic) -> Sum {
    let sums = Mutex([Sum?](repeating: nil, count: ranges.count))
    _ = try runSamples(
      count: ranges.count, jobs: jobs,
      makeState: { (_: Int) throws(Diagnostic) -> Worker in try worker() },
      body: { (worker: inout Worker, chunk: Int) throws(Diagnostic) in
        var sum = empty
        for rank in ranges[chunk] {
          try Cancellation.check()
          try body(&sum, worker, rank)
        }
        let done = sum
        sums.withLock { $0[chunk] = done }
      })
    // Large sums are not copied: each is given up as soon as it is added.
    var parts = sums.withLock { sums in
      defer { sums = [] }
      return sums
    }
    guard var total = parts.first.flatMap({ $0 }) else { return empty }
    parts[0] = nil
    for place in parts.indices {
      guard let sum = parts[place] else { continue }
      merge(&total, sum)
      parts[place] = nil
    }
    return total
  }

  /// Calls `body` for every sample, on some threads.
  func forEach(
    worker: @Sendable () throws(Diagnostic) -> any PlanWorker,
    _ body: @Sendable (any PlanWorker, Int) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    _ = try runSamples(
      count: count, jobs: jobs,
      makeState: { (_: Int) throws(Diagnostic) -> any PlanWorker in try worker() },
      body: { (worker: inout any PlanWorker, rank: Int) throws(Diagnostic) in try body(worker, rank) })
  }
}

/// Numbers drawn from a seed: SplitMix64 (Steele, Lea, Flood 2014).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64, _ parts: Int...) {
    state = seed
    for part in parts { state = next() ^ UInt64(bitPattern: Int64(part)) }
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// A number from 0 up to but not including 1.
  mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
