import Calibration
import IR

/// What was observed of one tensor over all samples: extrema, and a histogram where it was asked for.
/// A monoid under ``merge(_:)``; a side without histogram leaves extrema only.
public struct TensorStatistics: Sendable, Hashable {
  private enum Seen: Sendable, Hashable {
    case extrema(MinMaxObserver)
    case histogram(HistogramObserver)
  }

  /// Name of the tensor.
  public var name: String
  private var seen: Seen

  /// Makes the record of a tensor whose extrema are known.
  public init(name: String, observer: MinMaxObserver) {
    self.name = name
    seen = .extrema(observer)
  }

  /// What a Softmax alone reads and turns into nothing: left out of extrema and histogram.
  public var masked = MaskedValues()

  /// Makes the empty record of a tensor.
  public init(name: String, histograms: Bool) {
    self.name = name
    seen = histograms ? .histogram(HistogramObserver()) : .extrema(MinMaxObserver())
  }

  /// Makes the record of a tensor with a histogram.
  public init(name: String, histogram: HistogramObserver) {
    self.name = name
    seen = .histogram(histogram)
  }

  /// Extrema and counts, without non-finite values.
  public var observer: MinMaxObserver {
    switch seen {
    case .extrema(let observer): observer
    case .histogram(let histogram): histogram.extrema
    }
  }

  /// The histogram; nil where only extrema were observed.
  public var histogram: HistogramObserver? {
    if case .histogram(let histogram) = seen { histogram } else { nil }
  }

  /// Adds values.
  public mutating func observe(_ values: [Float]) {
    values.withUnsafeBufferPointer { buffer in
      var extrema = MinMaxObserver()
      extrema.observe(buffer)
      observe(buffer, seen: extrema.withoutPlaces, scratch: HistogramScratch())
    }
  }

  /// Adds values with the extrema `values`.
  mutating func observe(
    _ values: UnsafeBufferPointer<Float>, seen extrema: MinMaxObserver, scratch: HistogramScratch
  ) {
    switch seen {
    case .extrema(var observer):
      observer.merge(extrema)
      seen = .extrema(observer)
    case .histogram(var histogram):
      // Let go of the stored copy: counts must not be copied for every sample.
      seen = .extrema(MinMaxObserver())
      histogram.observe(values, seen: extrema, scratch: scratch)
      seen = .histogram(histogram)
    }
  }

  /// Adds what another record saw; the name stays.
  public mutating func merge(_ other: TensorStatistics) {
    masked.merge(other.masked)
    if observer.count == 0 {
      seen = other.seen
    } else if other.observer.count > 0 {
      switch (seen, other.seen) {
      case (.histogram(var mine), .histogram(let theirs)):
        mine.merge(theirs)
        seen = .histogram(mine)
      default:
        var mine = observer
        mine.merge(other.observer)
        seen = .extrema(mine)
      }
    }
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
  /// Hash of the observed graph (``Graph/observationHash(version:)``), 64 hexadecimal digits.
  public var graphHash: String
  /// Version of ``graphHash``: 1 in statistics from files of version 1 (see ``rebound(to:)``).
  public var hashVersion = 2
  /// Which samples were seen.
  public var calibrationHash: CalibrationHash
  /// How many samples were seen.
  public var sampleCount: Int
  /// What ran the graph (``Backend/description``), sorted, each once; more than one after merging
  /// statistics of different machines.
  public var backends: [String]
  /// Observed tensors in the order of the observation set: at least those of the graph without the
  /// outputs that a list of samples added.
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

  /// The empty statistics of a graph: no samples; ready for histograms where asked for.
  public init(observing graph: Graph, histograms: Bool = false) {
    self.init(
      graphHash: graph.observationHash(),
      tensors: ObservationSet(graph).tensors.map {
        TensorStatistics(name: graph[$0].name, histograms: histograms)
      })
  }

  /// Whether every tensor has its histogram.
  public var hasHistograms: Bool { tensors.allSatisfy { $0.histogram != nil } }

  /// The same with the present hash where they come from a file of version 1 and belong to `graph`.
  public func rebound(to graph: Graph) -> Statistics {
    guard hashVersion == 1, graphHash == graph.observationHash(version: 1) else { return self }
    var copy = self
    (copy.hashVersion, copy.graphHash) = (2, graph.observationHash())
    return copy
  }

  /// Adds statistics of other samples of the same graph; exact, in any order. Tensors that only one
  /// side observed (outputs that its list of samples named) are dropped. Throws `statistics-mismatch`
  /// where they are of another graph, `statistics-overflow` where counts are absurd.
  public mutating func merge(_ other: Statistics) throws(Diagnostic) {
    guard graphHash == other.graphHash else {
      throw Diagnostic(
        "statistics-mismatch", "statistics of two different graphs cannot be merged",
        hint: "every file given to --load_stats must come from this model, converted in the same way")
    }
    let (samples, overflow) = sampleCount.addingReportingOverflow(other.sampleCount)
    if overflow {
      throw Diagnostic("statistics-overflow", "the sample counts of the statistics overflow")
    }
    var places: [String: Int] = [:]
    for (index, tensor) in other.tensors.enumerated() { places[tensor.name] = index }
    var merged: [TensorStatistics] = []
    for var mine in tensors {
      guard let place = places[mine.name] else { continue }
      let theirs = other.tensors[place]
      guard !mine.observer.count.addingReportingOverflow(theirs.observer.count).overflow,
        !mine.masked.count.addingReportingOverflow(theirs.masked.count).overflow
      else {
        throw Diagnostic(
          "statistics-overflow", "the element counts of the statistics overflow",
          at: .init(tensor: mine.name))
      }
      mine.merge(theirs)
      merged.append(mine)
    }
    tensors = merged
    sampleCount = samples
    calibrationHash.merge(other.calibrationHash)
    backends = Set(backends + other.backends).sorted()
  }

  /// Warnings: statistics of different backends or machines, whose float results differ in the last
  /// bits; values that were left out because they are not finite.
  public var warnings: [Diagnostic] {
    var found: [Diagnostic] = []
    if backends.count > 1 {
      found.append(
        Diagnostic(
          "statistics-backends",
          "the statistics were observed by \(backends.count) different backends: "
            + backends.joined(separator: "; "),
          hint: "results can differ in the last bits from those of one machine", severity: .warning))
    }
    for tensor in tensors where tensor.observer.nonFinite > 0 {
      found.append(
        Diagnostic(
          "skipped-nonfinite",
          "\(tensor.observer.nonFinite) of \(tensor.observer.count) values are NaN or infinite and "
            + "were left out", at: .init(tensor: tensor.name), severity: .warning))
    }
    return found
  }

  /// Throws `statistics-mismatch` where these are not statistics of `graph`, `statistics-empty`
  /// where no sample was seen.
  public func check(_ graph: Graph) throws(Diagnostic) {
    let hint = "the file given to --load_stats must come from this model, converted in the same way"
    guard graphHash == graph.observationHash() else {
      throw Diagnostic(
        "statistics-mismatch",
        "the statistics were observed on another graph than \(graph.name)", hint: hint)
    }
    let held = Set(tensors.map(\.name))
    let missing = ObservationSet(graph).tensors.filter { !held.contains(graph[$0].name) }
    if let first = missing.first {
      throw Diagnostic(
        "statistics-mismatch",
        "the statistics lack \(counted(missing.count, "tensor")) of the graph, the first is \(graph[first].name)",
        hint: hint)
    }
    guard sampleCount > 0 else {
      throw Diagnostic("statistics-empty", "the statistics hold no sample")
    }
  }

  /// Throws `non-finite-activation` where values were left out because they are not finite.
  public func requireFinite() throws(Diagnostic) {
    guard let first = tensors.first(where: { $0.observer.nonFinite > 0 }) else { return }
    throw Diagnostic(
      "non-finite-activation",
      "\(first.observer.nonFinite) of \(first.observer.count) observed values are NaN or infinite",
      at: .init(tensor: first.name), hint: "--skip_nonfinite leaves such values out")
  }

  /// Throws `statistics-extrema-only` where a tensor has no histogram; `option` names what needs them.
  public func requireHistograms(for option: String) throws(Diagnostic) {
    let missing = tensors.filter { $0.histogram == nil }
    guard let first = missing.first else { return }
    throw Diagnostic(
      "statistics-extrema-only",
      "\(option) needs histograms, and the statistics hold only extrema of \(missing.count) of "
        + "\(tensors.count) tensors, the first is \(first.name)",
      hint: "save the statistics again: files of version 1 hold no histograms")
  }
}
