import Calibration
import IR

/// What is known of the values of an activation, or of several that share an encoding: their range, and
/// a histogram where one was observed.
struct ObservedValues: Sendable, Hashable {
  /// Least and largest value.
  var range: ClosedRange<Double>
  /// Counts of the same values.
  var histogram: HistogramObserver?
  /// What the grid must reach so that masked values stay suppressed, where there are any.
  var floor: Double?

  /// What statistics tell of a tensor; nil where it has no finite value and no mask.
  init?(_ statistics: TensorStatistics) {
    let seen = statistics.observer
    guard seen.hasRange || statistics.masked.count > 0 else { return nil }
    range = seen.hasRange ? Double(seen.minimum)...Double(seen.maximum) : 0...0
    histogram = statistics.histogram
  }

  /// What finite values tell; nil where there is none.
  init?(_ values: [Float], histogram wanted: Bool) {
    self.init(
      wanted
        ? TensorStatistics(name: "", histogram: HistogramObserver(values))
        : TensorStatistics(
          name: "",
          observer: values.withUnsafeBufferPointer { buffer in
            var seen = MinMaxObserver()
            seen.observe(buffer)
            return seen
          }))
  }

  /// All values of several tensors; without a histogram where one has none. nil for an empty list.
  static func merged(_ list: [ObservedValues]) -> ObservedValues? {
    guard var result = list.first else { return nil }
    for other in list.dropFirst() { result.merge(other) }
    return result
  }

  /// Adds the values of another tensor.
  mutating func merge(_ other: ObservedValues) {
    floor = [floor, other.floor].compactMap { $0 }.min()
    range = min(range.lowerBound, other.range.lowerBound)...max(range.upperBound, other.range.upperBound)
    if let more = other.histogram, histogram != nil {
      histogram?.merge(more)
    } else {
      histogram = nil
    }
  }

  /// The encoding that a calibrator makes of these values. Throws `statistics-extrema-only` where it
  /// needs a histogram and there is none.
  func encoding(by calibrator: Calibrator, jobs: Int = 1) throws(Diagnostic) -> Encoding {
    let found = try encodingOfValues(by: calibrator, jobs: jobs)
    guard let floor, floor < found.minimum() else { return found }
    return try calibrator.encoding(min: floor, max: found.maximum())
  }

  private func encodingOfValues(
    by calibrator: Calibrator, jobs: Int
  ) throws(Diagnostic) -> Encoding {
    guard calibrator.method != .minMax, calibrator.rule == .none else {
      return try calibrator.encoding(min: range.lowerBound, max: range.upperBound)
    }
    guard let histogram else {
      throw Diagnostic(
        "statistics-extrema-only", "calibration by \(calibrator.method.rawValue) needs a histogram")
    }
    guard histogram.extrema.hasRange else {
      return try calibrator.encoding(min: range.lowerBound, max: range.upperBound)
    }
    return try calibrator.encoding(of: histogram, jobs: jobs)
  }
}

extension Diagnostic {
  /// A copy that names a tensor, where none is named yet.
  func about(tensor name: String?) -> Diagnostic {
    var copy = self
    copy.location.tensor = copy.location.tensor ?? name
    return copy
  }
}
