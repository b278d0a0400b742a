import Calibration
import IR

/// What was observed of one tensor over all samples.
public struct TensorStatistics: Sendable, Hashable {
  /// Name of the tensor.
  public var name: String
  /// Extrema and counts, without non-finite values.
  public var observer: MinMaxObserver

  /// Makes the record of one tensor.
  public init(name: String, observer: MinMaxObserver) {
    self.name = name
    self.observer = observer
  }
}

/// The sum modulo 2^256 of samples' SHA-256: the same for every order of the samples and every
/// split.
public struct CalibrationHash: Sendable, Hashable {
  /// The sum, most significant byte first; 32 of them.
  public private(set) var bytes: [UInt8]

  /// The hash of no sample.
  public init() { bytes = [UInt8](repeating: 0, count: 32) }

  /// Reads 64 lower-case hexadecimal digits, nil for anything else.
  public init?(hex: String) {
    var found: [UInt8] = []
    var high: UInt8?
    for character in hex.utf8 {
      let digit: UInt8
      switch character {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
      default: return nil
      }
      if let first = high {
        found.append(first << 4 | digit)
        high = nil
      } else {
        high = digit
      }
    }
    guard found.count == 32, high == nil else { return nil }
    bytes = found
  }

  /// 64 lower-case hexadecimal digits.
  public var hex: String { SHA256.hex(bytes) }

  /// Adds the 32-byte digest of a sample.
  public mutating func add(digest: [UInt8]) {
    var carry = 0
    for index in bytes.indices.reversed() where digest.indices.contains(index) {
      let sum = Int(bytes[index]) + Int(digest[index]) + carry
      bytes[index] = UInt8(truncatingIfNeeded: sum)
      carry = sum >> 8
    }
  }

  /// Adds the samples of another hash.
  public mutating func merge(_ other: CalibrationHash) { add(digest: other.bytes) }
}

/// What calibration observed, bound to the graph it observed. A monoid under ``merge(_:)`` for
/// statistics of one graph; kept in a file by `--save_stats`.
public struct Statistics: Sendable, Hashable {
  /// Hash of the observed graph and tensor set (``Graph/observationHash()``), 64 hexadecimal
  /// digits.
  public var graphHash: String
  /// Which samples were seen.
  public var calibrationHash: CalibrationHash
  /// How many samples were seen.
  public var sampleCount: Int
  /// What ran the graph (``Backend/description``), sorted, each once; more than one after merging
  /// statistics of different machines.
  public var backends: [String]
  /// Observed tensors in the order of the observation set.
  public var tensors: [TensorStatistics]

  /// Makes statistics from their parts.
  public init(
    graphHash: String, calibrationHash: CalibrationHash = CalibrationHash(), sampleCount: Int = 0,
    backends: [String] = [], tensors: [TensorStatistics]
  ) {
    self.graphHash = graphHash
    self.calibrationHash = calibrationHash
    self.sampleCount = sampleCount
    self.backends = backends
    self.tensors = tensors
  }

  /// The empty statistics of a graph: no samples.
  public init(observing graph: Graph) {
    self.init(
      graphHash: graph.observationHash(),
      tensors: ObservationSet(graph).tensors.map {
        TensorStatistics(name: graph[$0].name, observer: MinMaxObserver())
      })
  }

  /// Adds statistics of other samples of the same graph; exact, in any order. Throws
  /// `statistics-mismatch` where they are of another graph, `statistics-overflow` where counts are
  /// absurd.
  public mutating func merge(_ other: Statistics) throws(Diagnostic) {
    guard graphHash == other.graphHash, tensors.map(\.name) == other.tensors.map(\.name) else {
      throw Diagnostic(
        "statistics-mismatch", "statistics of two different graphs cannot be merged",
        hint: "every file given to --load_stats must come from this model, converted in the same way, and "
          + "from lists that name the same outputs (# and % lines)")
    }
    let (samples, overflow) = sampleCount.addingReportingOverflow(other.sampleCount)
    if overflow {
      throw Diagnostic("statistics-overflow", "the sample counts of the statistics overflow")
    }
    for (mine, theirs) in zip(tensors, other.tensors)
    where mine.observer.count.addingReportingOverflow(theirs.observer.count).overflow {
      throw Diagnostic(
        "statistics-overflow", "the element counts of the statistics overflow",
        at: .init(tensor: mine.name))
    }
    sampleCount = samples
    calibrationHash.merge(other.calibrationHash)
    backends = Set(backends + other.backends).sorted()
    for index in tensors.indices { tensors[index].observer.merge(other.tensors[index].observer) }
  }

  /// A warning where the statistics come from different backends or machines, whose float results
  /// differ in the last bits.
  public var warnings: [Diagnostic] {
    guard backends.count > 1 else { return [] }
    return [
      Diagnostic(
        "statistics-backends",
        "the statistics were observed by \(backends.count) different backends: "
          + backends.joined(separator: "; "),
        hint: "results can differ in the last bits from those of one machine", severity: .warning)
    ]
  }

  /// Throws `statistics-mismatch` where these are not statistics of `graph`, `statistics-empty`
  /// where no sample was seen.
  public func check(_ graph: Graph) throws(Diagnostic) {
    guard graphHash == graph.observationHash() else {
      throw Diagnostic(
        "statistics-mismatch",
        "the statistics were observed on another graph than \(graph.name)",
        hint: "the file given to --load_stats must come from this model, converted in the same way")
    }
    let names = ObservationSet(graph).tensors.map { graph[$0].name }
    guard names == tensors.map(\.name) else {
      throw Diagnostic(
        "statistics-mismatch",
        "the statistics hold \(tensors.count) tensors that are not the \(names.count) of the graph",
        hint: "the file given to --load_stats must come from this model, converted in the same way")
    }
    guard sampleCount > 0 else {
      throw Diagnostic("statistics-empty", "the statistics hold no sample")
    }
  }
}
