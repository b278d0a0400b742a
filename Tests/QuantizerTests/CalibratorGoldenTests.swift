@testable import Calibration
import IR
import Quantizer
import Testing

/// Our calibration against AIMET's numbers.
@Suite(.enabled(if: Golden.isPresent)) struct CalibratorGoldenTests {
  /// Tensors where the least range of QNN's rules decides, which AIMET does not have.
  private static let leastRange: Set<String> = ["tiny_1e6", "const_zero", "const_three"]

  private func calibrator(_ method: CalibrationMethod, _ record: Golden.Record) -> Calibrator {
    Calibrator(
      method: method,
      schema: record.unsigned ? .unsignedSymmetric : record.symmetric ? .symmetric : .asymmetric,
      bitwidth: record.bitwidth, strict: record.strict)
  }

  /// QNN's and AIMET's min-max agree but for the least range and the symmetric rule, which both are
  /// applied to AIMET's numbers here.
  @Test func minMaxEqualsAIMET() throws {
    let golden = try Golden.shared.get()
    var compared = 0
    for record in golden.find(scheme: "minmax", axis: .some(nil))
    where !Self.leastRange.contains(record.tensor) {
      let values = try #require(golden.tensors[record.tensor]).values
      let encoding = try calibrator(.minMax, record).encoding(of: values)
      let ours = encoding.channels[0]
      var delta = record.delta.values[0]
      var offset = Int(record.offset.values[0])
      if encoding.symmetric {
        let largest = values.reduce(0) { max($0, abs(Double($1))) }
        delta = max(delta, largest / Double(1 << (record.bitwidth - 1) - 1))
        offset = -(1 << (record.bitwidth - 1))
        let positive = values.max().map(Double.init) == largest
        #expect(!positive || delta <= record.delta.values[0] * (1 + 1e-6))
      }
      compared += 1
      #expect(
        abs(Double(ours.scale) - delta) <= 1e-6 * delta && Int(ours.offset) == offset,
        "\(record.tensor) \(record.engine) \(record.bitwidth) \(record.mode): \(ours)")
    }
    print("golden: \(compared) min-max encodings compared with AIMET")
  }

  /// The cost of sqnr on the data, gamma 3, is at most 1.002 times the better of AIMET's engines and
  /// of min-max, searched on the values. A histogram does not tell where in a bin the values lie: at 16
  /// bits, where bins are wider than steps, what is left is chance.
  @Test(arguments: [true, false]) func sqnrIsAtLeastAsGood(fromValues: Bool) throws {
    let golden = try Golden.shared.get()
    var compared = 0
    var worst = 0.0
    var best: [String: (record: Golden.Record, cost: Double)] = [:]
    for record in golden.find(axis: .some(nil))
    where !Self.leastRange.contains(record.tensor)
      && (record.scheme == "tf_enhanced" || record.scheme == "sqnr_2048")
    {
      let values = try #require(golden.tensors[record.tensor]).values
      let top = (1 << record.bitwidth) - 1 - (record.strict ? 1 : 0)
      let cost = Golden.cost(
        values, scale: record.delta.values[0], offset: Int(record.offset.values[0]), codes: 0...top)
      let key = "\(record.tensor) \(record.bitwidth) \(record.mode)"
      if cost < best[key]?.cost ?? .infinity { best[key] = (record, cost) }
    }
    for (key, theirs) in best.sorted(by: { $0.key < $1.key }) {
      let record = theirs.record
      let values = try #require(golden.tensors[record.tensor]).values
      let minMax = try calibrator(.minMax, record).encoding(of: values)
      let own = calibrator(.sqnr, record)
      let encoding =
        try fromValues
        ? own.encoding(of: values, jobs: 2) : own.encoding(of: HistogramObserver(values), jobs: 2)
      let cost = Self.cost(values, encoding)
      let bound = min(theirs.cost, Self.cost(values, minMax))
      worst = max(worst, cost / bound)
      compared += 1
      let allowed = fromValues ? 1.002 : record.bitwidth < 16 ? 1.003 : 1.015
      #expect(cost <= allowed * bound, "\(key): \(cost / bound) times")
    }
    let kind = fromValues ? "values" : "histograms"
    print("golden: \(compared) sqnr costs from \(kind), at most \(worst) times the best")
  }

  /// Per channel: each channel's cost.
  @Test func sqnrPerChannel() throws {
    let golden = try Golden.shared.get()
    let (shape, values) = try #require(golden.tensors["conv_weight"])
    let size = values.count / shape[0]
    var worst = 0.0
    for record in golden.find(axis: .some(0))
    where record.mode.hasPrefix("symmetric") && !record.unsigned
      && (record.scheme == "tf_enhanced" || record.scheme == "sqnr_2048")
    {
      let own = calibrator(.sqnr, record)
      let encoding = try own.encoding(of: values, shape: shape, axis: 0, jobs: 2)
      #expect(try encoding == own.encoding(of: values, shape: shape, axis: 0))
      let top = (1 << record.bitwidth) - 1 - (record.strict ? 1 : 0)
      for channel in 0..<shape[0] {
        let part = Array(values[(channel * size)..<((channel + 1) * size)])
        let grid = encoding.channels[channel]
        let cost = Golden.cost(
          part, scale: Double(grid.scale), offset: Int(grid.offset),
          codes: encoding.codeMin...encoding.codeMax)
        let theirs = Golden.cost(
          part, scale: record.delta.values[channel], offset: Int(record.offset.values[channel]),
          codes: 0...top)
        worst = max(worst, cost / theirs)
        #expect(
          cost <= 1.002 * theirs,
          "\(record.engine) \(record.scheme) \(record.bitwidth) \(record.mode) [\(channel)]: \(cost / theirs)")
      }
    }
    print("golden: sqnr per channel costs at most \(worst) times AIMET's")
  }

  private static func cost(_ values: [Float], _ encoding: Encoding) -> Double {
    Golden.cost(
      values, scale: Double(encoding.channels[0].scale), offset: Int(encoding.channels[0].offset),
      codes: encoding.codeMin...encoding.codeMax)
  }
}
