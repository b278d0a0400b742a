import IR
import Runtime

/// The samples that a measurement runs, and how.
public struct MeasurementSamples: Sendable {
  /// How many there are.
  public var count: Int
  /// Most samples worked on at a time.
  public var jobs: Int
  /// What runs them.
  public var backend: any Backend
  /// Gives a sample's inputs in the order of the measured graph's inputs.
  public var load: @Sendable (_ index: Int) throws(Diagnostic) -> [Bytes]
  /// Told of every finished run of a sample, from several threads.
  public var progress: @Sendable () -> Void

  /// Samples of a source.
  public init(
    count: Int, jobs: Int, backend: any Backend,
    load: @escaping @Sendable (_ index: Int) throws(Diagnostic) -> [Bytes],
    progress: @escaping @Sendable () -> Void = {}
  ) {
    self.count = count
    self.jobs = jobs
    self.backend = backend
    self.load = load
    self.progress = progress
  }

  /// The first `most` samples in canonical order (by SHA-256 of their content), so that the choice does
  /// not depend on the order of the list; all of them where there are no more.
  public func canonicalSubset(most: Int) throws(Diagnostic) -> MeasurementSamples {
    guard count > most else { return self }
    var keys: [(digest: [UInt8], index: Int)] = []
    for index in 0..<count {
      var hasher = SHA256()
      for input in try load(index) { hasher.update(input.buffer) }
      keys.append((hasher.finalize(), index))
    }
    keys.sort { first, second in
      first.digest == second.digest
        ? first.index < second.index : first.digest.lexicographicallyPrecedes(second.digest)
    }
    let chosen = keys.prefix(most).map(\.index)
    var subset = self
    subset.count = chosen.count
    let load = load
    subset.load = { (index) throws(Diagnostic) in try load(chosen[index]) }
    return subset
  }
}
