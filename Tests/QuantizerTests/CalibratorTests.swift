@testable import Calibration
import IR
import Quantizer
import Testing

@Suite struct CalibratorTests {
  private func values(_ count: Int, seed: UInt64 = 1) -> [Float] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in
      (0..<8).reduce(Float(0)) { sum, _ in sum + Float.random(in: -1...1, using: &random) }
    }
  }

  private func codes(_ encoding: Encoding, _ values: [Float]) -> [Int] {
    values.map {
      encoding.channels[0].quantize($0, codeMin: encoding.codeMin, codeMax: encoding.codeMax)
    }
  }

  private func cost(_ encoding: Encoding, _ values: [Float], gamma: Double) -> Double {
    Golden.cost(
      values, scale: Double(encoding.channels[0].scale), offset: Int(encoding.channels[0].offset),
      codes: encoding.codeMin...encoding.codeMax, gamma: gamma)
  }

  @Test func clipVector() {
    let list: [Float] = [1.4243, -0.7382, -1.0199, 0.6312, -0.4644, -1.2151, 1.1037, 0.2785]
    let encoding = RangeToEncoding.clip(min: -1.2151, max: 1.4243, bitwidth: 8)
    let found = codes(encoding, list)
    #expect(found.map { $0 - 128 } == [127, -128, -128, 101, -111, -128, 127, 33])
    let expected = [0.7644, -0.5527, -0.5527, 0.6301, -0.4649, -0.5527, 0.7644, 0.2789]
    for (code, value) in zip(found, expected) {
      #expect(abs(Double(encoding.channels[0].dequantize(code)) - value) <= 1e-4)
    }
  }

  /// The range is widened, at most by a tenth, and never costs more than min-max on these.
  @Test(arguments: 0..<10) func adjusted(seed: UInt64) throws {
    let list = values(500, seed: seed)
    let (least, largest) = (Double(list.min() ?? 0), Double(list.max() ?? 0))
    for bitwidth in [4, 8] {
      let encoding = try RangeToEncoding.adjusted(values: list, bitwidth: bitwidth, jobs: 2)
      let scale = Double(encoding.channels[0].scale)
      #expect(encoding.minimum() <= least * (1 - 1e-6) && encoding.maximum() >= largest * (1 - 1e-6))
      #expect(scale * Double(1 << bitwidth - 1) <= 1.1001 * (largest - least))
      #expect(try encoding == RangeToEncoding.adjusted(values: list, bitwidth: bitwidth))
    }
    #expect(throws: Diagnostic.self) { try RangeToEncoding.adjusted(values: list, bitwidth: 16) }
  }

  @Test func steps() throws {
    for text in ["-0x80 0x7F", "-128 127", "-128,127", "-0x80, 127"] {
      #expect(try QuantizationSteps(parsing: text) == QuantizationSteps(minimum: -128, maximum: 127))
    }
    for text in ["", "1", "-1 x", "-1 2 3", "1 5", "-5 -1", "0x 3", "--1 3", "-1 0"] {
      #expect(throws: Diagnostic.self) { try QuantizationSteps(parsing: text) }
    }
    let narrow = try QuantizationSteps(parsing: "-100 63")
    let encoding = try RangeToEncoding.encoding(
      min: -1, max: 2, bitwidth: 8, schema: .symmetric, steps: narrow)
    #expect(encoding.channels == [ScaleOffset(scale: 0.02, offset: -128)])
    #expect(encoding.codeMin == 28 && encoding.codeMax == 191)
    #expect(throws: Diagnostic.self) {
      try RangeToEncoding.encoding(min: 0, max: 1, bitwidth: 4, schema: .symmetric, steps: narrow)
    }
    for method in CalibrationMethod.allCases {
      let found = try Calibrator(method: method, schema: .symmetric, bitwidth: 8, steps: narrow)
        .encoding(of: values(1000))
      #expect(found.codeMin == 28 && found.codeMax == 191 && found.channels[0].offset == -128)
    }
  }

  @Test(arguments: CalibrationMethod.allCases, [4, 8, 16])
  func schemasHaveTheirGrids(method: CalibrationMethod, bitwidth: Int) throws {
    let half = 1 << (bitwidth - 1)
    let mixed = values(3000)
    let positive = mixed.map { max($0, 0) }
    for list in [mixed, positive] {
      for schema in QuantizerSchema.allCases {
        for strict in [false, true] {
          let calibrator = Calibrator(
            method: method, schema: schema, bitwidth: bitwidth, strict: strict)
          let encoding = try calibrator.encoding(of: list)
          let histogram = try calibrator.encoding(of: HistogramObserver(list))
          let isUnsigned = schema == .unsignedSymmetric && list == positive
          for found in [encoding, histogram] {
            #expect(found.problem(shape: [list.count]) == nil)
            #expect(found.symmetric == (schema != .asymmetric && !isUnsigned))
            if found.symmetric {
              #expect(found.channels[0].offset == Int32(-half) && found.codeMin == (strict ? 1 : 0))
            } else {
              #expect(found.codeMin == 0 && !(isUnsigned && found.channels[0].offset != 0))
            }
            #expect(found.channels[0].dequantize(-Int(found.channels[0].offset)) == 0)
          }
        }
      }
    }
  }

  /// The same for any number of threads, for values, channels and many histograms.
  @Test(arguments: CalibrationMethod.allCases) func jobsDoNotShow(method: CalibrationMethod) throws {
    let list = values(4000)
    for schema in QuantizerSchema.allCases {
      let calibrator = Calibrator(method: method, schema: schema, bitwidth: 4)
      #expect(try calibrator.encoding(of: list, jobs: 4) == calibrator.encoding(of: list))
      for axis in 0..<3 {
        let shape = [10, 20, 20]
        let one = try calibrator.encoding(of: list, shape: shape, axis: axis)
        #expect(try calibrator.encoding(of: list, shape: shape, axis: axis, jobs: 3) == one)
        #expect(one.axis == axis && one.symmetric && one.channels.count == shape[axis])
      }
      let histograms = (0..<6).map { HistogramObserver(values(3000, seed: UInt64($0))) }
      let apart = try histograms.map { histogram in try calibrator.encoding(of: histogram) }
      #expect(try calibrator.encodings(of: histograms, jobs: 3) == apart)
    }
  }

  @Test func percentileClipsAtBothEnds() throws {
    let list = (0...10_000).map { Float($0) / 1000 - 4 }
    var calibrator = Calibrator(method: .percentile, schema: .asymmetric, bitwidth: 16)
    calibrator.parameters.percentile = 99
    let encoding = try calibrator.encoding(of: HistogramObserver(list))
    #expect(abs(encoding.minimum() + 3.9) < 0.005 && abs(encoding.maximum() - 5.9) < 0.005)
    calibrator.parameters.percentile = 100
    let whole = try calibrator.encoding(of: HistogramObserver(list))
    calibrator.method = .minMax
    #expect(try whole == calibrator.encoding(of: list))
  }

  /// Methods that may clip do so where an outlier asks for it, and each wins by its own measure.
  @Test func outliersAreClipped() throws {
    let list = values(20_000) + [400]
    for schema in QuantizerSchema.allCases {
      let minMax = try Calibrator(method: .minMax, schema: schema, bitwidth: 4).encoding(of: list)
      for method in [CalibrationMethod.percentile, .entropy] {
        let found = try Calibrator(method: method, schema: schema, bitwidth: 4)
          .encoding(of: HistogramObserver(list))
        #expect(found.maximum() < 200, "\(method) \(schema): \(found.maximum())")
      }
      let mse = try Calibrator(method: .mse, schema: schema, bitwidth: 4).encoding(of: list)
      let sqnr = try Calibrator(method: .sqnr, schema: schema, bitwidth: 4).encoding(of: list)
      #expect(cost(mse, list, gamma: 1) <= 1.002 * cost(minMax, list, gamma: 1))
      #expect(cost(sqnr, list, gamma: 3) <= 1.002 * cost(minMax, list, gamma: 3))
      #expect(cost(mse, list, gamma: 1) <= 1.01 * cost(sqnr, list, gamma: 1))
    }
  }

  /// Below the least range, and for one value, the rule of min-max decides.
  @Test(arguments: CalibrationMethod.allCases) func degenerateData(method: CalibrationMethod) throws {
    for list: [Float] in [[0, 0], [3, 3], [-1e-6, 2e-6], [-0.0], [-5]] {
      for schema in QuantizerSchema.allCases {
        let own = Calibrator(method: method, schema: schema, bitwidth: 8)
        let rule = Calibrator(method: .minMax, schema: schema, bitwidth: 8)
        #expect(try own.encoding(of: list) == rule.encoding(of: list))
        #expect(try own.encoding(of: HistogramObserver(list)) == rule.encoding(of: list))
      }
    }
  }

  @Test func refusals() {
    let calibrator = Calibrator(method: .sqnr, schema: .asymmetric, bitwidth: 8)
    #expect(throws: Diagnostic.self) { try calibrator.encoding(of: [Float]()) }
    #expect(throws: Diagnostic.self) { try calibrator.encoding(of: [1, .nan]) }
    #expect(throws: Diagnostic.self) { try calibrator.encoding(of: HistogramObserver([.infinity])) }
    #expect(throws: Diagnostic.self) {
      try Calibrator(method: .sqnr, schema: .asymmetric, bitwidth: 1).encoding(of: [1])
    }
  }
}
