import Calibration
import EncodingFiles
import Foundation
import IR

/// The JSON form of ``Statistics``. Numbers are written as Double, which holds every Float exactly.
/// Width and place of a histogram's bins follow from the extrema; the counts are LEB128 numbers in
/// base64, a zero followed by how many more zeros come.
private struct StatisticsDocument: Codable {
  struct TensorRecord: Codable {
    var name: String
    var min: Double
    var max: Double
    var count: Int
    var zeros: Int
    /// Absent where zero, and in version 1.
    var nonfinite: Int?
    /// Absent where only extrema were observed, and in version 1.
    var histogram: String?
    /// Values that a Softmax turns into nothing, not among `count`; absent where zero.
    var masked: Int?
    /// Least of the largest values of rows with such values.
    var leastRowMaximum: Double?

    enum CodingKeys: String, CodingKey {
      case name, min, max, count, zeros, nonfinite, histogram, masked
      case leastRowMaximum = "least_row_maximum"
    }
  }
  var format: String
  var version: Int
  var graph: String
  var calibration: String
  var samples: Int
  var backends: [String]
  var tensors: [TensorRecord]
}

private let formatName = "qtools-statistics"
private let formatVersion = 2
private let readVersions = 1...formatVersion

extension Statistics {
  /// The file's content: the same bytes for equal statistics. Throws `statistics-empty` where a
  /// tensor was never observed.
  public func encoded() throws(Diagnostic) -> [UInt8] {
    var records: [StatisticsDocument.TensorRecord] = []
    for tensor in tensors {
      let seen = tensor.observer
      guard seen.hasRange || tensor.masked.count > 0 else {
        throw Diagnostic(
          "statistics-empty", "no value was observed", at: .init(tensor: tensor.name))
      }
      let isEmpty = !seen.hasRange
      records.append(
        .init(
          name: tensor.name, min: isEmpty ? 0 : Double(seen.minimum),
          max: isEmpty ? 0 : Double(seen.maximum), count: seen.count, zeros: seen.zeros,
          nonfinite: seen.nonFinite > 0 ? seen.nonFinite : nil,
          histogram: tensor.histogram.map {
            Data(CountCoding.encoded($0.counts)).base64EncodedString()
          },
          masked: tensor.masked.count > 0 ? tensor.masked.count : nil,
          leastRowMaximum: tensor.masked.leastRowMaximum.map { Double($0) }))
    }
    let document = StatisticsDocument(
      format: formatName, version: formatVersion, graph: graphHash,
      calibration: calibrationHash.hex, samples: sampleCount, backends: backends,
      tensors: records)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      return [UInt8](try encoder.encode(document)) + [UInt8(ascii: "\n")]
    } catch {
      throw Diagnostic(
        "statistics-encode", "the statistics cannot be written as JSON: \(error)", kind: .internal)
    }
  }

  /// Reads what ``encoded()`` wrote; every number is checked. Throws `statistics-format`, of keys
  /// too that are unknown or given twice.
  public init(decoding bytes: [UInt8]) throws(Diagnostic) {
    do throws(Diagnostic) {
      try JSONKeys.object([
        "format": nil, "version": nil, "graph": nil, "calibration": nil, "samples": nil, "backends": nil,
        "tensors": .list(
          .object([
            "name": nil, "min": nil, "max": nil, "count": nil, "zeros": nil, "nonfinite": nil, "histogram": nil,
            "masked": nil, "least_row_maximum": nil,
          ])),
      ]).check(bytes)
    } catch {
      var error = error
      error.code = "statistics-format"
      error.hint = error.hint ?? "--load_stats takes files that --save_stats wrote"
      throw error
    }
    let document: StatisticsDocument
    do {
      document = try JSONDecoder().decode(StatisticsDocument.self, from: Data(bytes))
    } catch let error as DecodingError {
      throw error.diagnostic
    } catch {
      throw statisticsFailure("this is not a statistics file: \(error)")
    }
    guard document.format == formatName else {
      throw statisticsFailure("format is \(document.format.debugDescription)", "format")
    }
    guard readVersions.contains(document.version) else {
      throw statisticsFailure(
        "version \(document.version) is none of \(readVersions.lowerBound) to "
          + "\(readVersions.upperBound), which this program reads", "version")
    }
    guard CalibrationHash(hex: document.graph) != nil else {
      throw statisticsFailure("the hash must have 64 hexadecimal digits", "graph")
    }
    guard let calibration = CalibrationHash(hex: document.calibration) else {
      throw statisticsFailure("the hash must have 64 hexadecimal digits", "calibration")
    }
    guard document.samples > 0 else {
      throw statisticsFailure("the number of samples must be positive", "samples")
    }
    guard document.backends == Set(document.backends).sorted() else {
      throw statisticsFailure("the names must be sorted, each once", "backends")
    }
    var names = Set<String>()
    var list: [TensorStatistics] = []
    for (index, record) in document.tensors.enumerated() {
      let path = "tensors[\(index)]"
      guard !record.name.isEmpty, names.insert(record.name).inserted else {
        throw statisticsFailure("the name is empty or given twice", "\(path).name")
      }
      guard let least = Float(exactly: record.min), let most = Float(exactly: record.max),
        least.isFinite, most.isFinite, least <= most
      else {
        throw statisticsFailure("min and max must be Float32 values, min not above max", path)
      }
      var tensor = try Self.tensor(record, least, most, path)
      tensor.masked.count = record.masked ?? 0
      if let number = record.leastRowMaximum {
        guard let value = Float(exactly: number), value.isFinite, tensor.masked.count > 0 else {
          throw statisticsFailure("this is no Float32 of a masked tensor", "\(path).least_row_maximum")
        }
        tensor.masked.leastRowMaximum = value
      }
      list.append(tensor)
    }
    self.init(
      graphHash: document.graph, calibrationHash: calibration, sampleCount: document.samples,
      backends: document.backends, tensors: list)
    hashVersion = document.version
  }

  /// Reads counts and histogram of a record whose extrema are sound.
  private static func tensor(
    _ record: StatisticsDocument.TensorRecord, _ least: Float, _ most: Float, _ path: String
  ) throws(Diagnostic) -> TensorStatistics {
    let (skipped, masked) = (record.nonfinite ?? 0, record.masked ?? 0)
    guard masked >= 0, skipped >= 0, record.zeros >= 0 else {
      throw statisticsFailure("a count is negative", path)
    }
    if masked > 0, record.count == 0, record.zeros == 0, skipped == 0 {
      return TensorStatistics(name: record.name, histograms: record.histogram != nil)
    }
    guard record.count > 0, skipped < record.count, record.zeros <= record.count - skipped else {
      throw statisticsFailure("count, zeros and nonfinite do not fit together", path)
    }
    let extrema = MinMaxObserver(
      minimum: least, maximum: most, count: record.count, zeros: record.zeros, nonFinite: skipped)
    guard let text = record.histogram else {
      return TensorStatistics(name: record.name, observer: extrema)
    }
    guard let data = Data(base64Encoded: text), let counts = CountCoding.decoded([UInt8](data)),
      let histogram = HistogramObserver(extrema: extrema, counts: counts)
    else {
      throw statisticsFailure("the counts do not fit min, max, count and zeros", "\(path).histogram")
    }
    return TensorStatistics(name: record.name, histogram: histogram)
  }

  /// Reads a file that `--save_stats` wrote. Errors name the file.
  public static func load(path: String) throws(Diagnostic) -> Statistics {
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw Diagnostic(
        "statistics-read", "the statistics file cannot be read: \(error.localizedDescription)",
        at: .init(file: path), hint: "--load_stats takes files that --save_stats wrote")
    }
    do throws(Diagnostic) {
      return try Statistics(decoding: [UInt8](data))
    } catch {
      throw error.inFile(path)
    }
  }

  /// Writes the file whole or not at all. Throws an output diagnostic where it cannot.
  public func save(path: String) throws(Diagnostic) {
    let bytes = try encoded()
    do {
      try Data(bytes).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw Diagnostic(
        "statistics-write",
        "the statistics file cannot be written: \(error.localizedDescription)",
        at: .init(file: path), kind: .output)
    }
  }
}

/// Counts as bytes: LEB128, and after a zero the number of further zeros.
private enum CountCoding {
  static func encoded(_ counts: [UInt64]) -> [UInt8] {
    var bytes: [UInt8] = []
    func add(_ number: UInt64) {
      var rest = number
      while rest >= 0x80 {
        bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
        rest >>= 7
      }
      bytes.append(UInt8(rest))
    }
    var index = 0
    while index < counts.count {
      add(counts[index])
      let start = index
      index += 1
      guard counts[start] == 0 else { continue }
      while index < counts.count, counts[index] == 0 { index += 1 }
      add(UInt64(index - start - 1))
    }
    return bytes
  }

  /// nil where the bytes are no counts of a histogram.
  static func decoded(_ bytes: [UInt8]) -> [UInt64]? {
    let most = HistogramObserver.maximumBins
    var counts: [UInt64] = []
    var rest = bytes[...]
    func number() -> UInt64? {
      var result: UInt64 = 0
      var shift: UInt64 = 0
      while let byte = rest.popFirst() {
        guard shift < 63 || byte & 0x7F <= 1, shift < 64 else { return nil }
        result |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return result }
        shift += 7
      }
      return nil
    }
    while !rest.isEmpty {
      guard let count = number(), counts.count < most else { return nil }
      counts.append(count)
      guard count == 0 else { continue }
      guard let more = number(), more <= UInt64(most - counts.count) else { return nil }
      counts += [UInt64](repeating: 0, count: Int(more))
    }
    return counts
  }
}

private func statisticsFailure(_ message: String, _ path: String? = nil) -> Diagnostic {
  Diagnostic(
    "statistics-format", message, at: .init(path: path),
    hint: "--load_stats takes files that --save_stats wrote")
}

extension DecodingError {
  /// The error with its JSON path.
  fileprivate var diagnostic: Diagnostic {
    let context: Context
    switch self {
    case .typeMismatch(_, let found), .valueNotFound(_, let found), .keyNotFound(_, let found),
      .dataCorrupted(let found):
      context = found
    @unknown default: return statisticsFailure("this is not a statistics file")
    }
    var path = ""
    for key in context.codingPath {
      if let index = key.intValue {
        path += "[\(index)]"
      } else {
        path += path.isEmpty ? key.stringValue : ".\(key.stringValue)"
      }
    }
    return statisticsFailure(
      "this is not a statistics file: \(context.debugDescription)", path.isEmpty ? nil : path)
  }
}
