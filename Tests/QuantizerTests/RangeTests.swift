@testable import Calibration
import IR
import Quantizer
import Testing

@Suite struct RangeTests {
  private func close(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-4 }

  /// Ranges of channels do not depend on the pieces that values come in, and are all that counts where
  /// `readsValues` says so.
  @Test(arguments: [[5, 1, 4], [3, 7, 2], [2, 3, 1], [6]], [1, 3, 10, 1000])
  func rangesInPieces(shape: [Int], piece: Int) throws {
    let count = shape.reduce(1, *)
    let values = (0..<count).map { Float(($0 * 37 + 11) % 41) - 17 }
    for axis in shape.indices {
      var seen = ChannelRangeObserver(shape: shape, axis: axis)
      for start in stride(from: 0, to: count, by: piece) {
        Array(values[start..<min(start + piece, count)]).withUnsafeBufferPointer { seen.observe($0) }
      }
      let inner = shape[(axis + 1)...].reduce(1, *)
      let expected = (0..<shape[axis]).map { channel in
        let own = values.indices.filter { $0 / inner % shape[axis] == channel }.map { values[$0] }
        return (own.min() ?? 0)...(own.max() ?? 0)
      }
      #expect(seen.ranges == expected)
      for method in CalibrationMethod.allCases {
        for rule in RangeRule.allCases {
          let calibrator = Calibrator(method: method, schema: .asymmetric, bitwidth: 8, rule: rule)
          if !calibrator.readsValues(perChannel: true) {
            let whole = try calibrator.encoding(of: values, shape: shape, axis: axis)
            #expect(try calibrator.encoding(ranges: expected, axis: axis) == whole)
          }
          guard !calibrator.readsValues(perChannel: false) else { continue }
          let (low, high) = (Double(values.min() ?? 0), Double(values.max() ?? 0))
          #expect(try calibrator.encoding(min: low, max: high) == calibrator.encoding(of: values))
        }
      }
    }
  }

  @Test func asymmetricOfThePage() {
    let values: [Float] = [-1.8, -1.0, 0, 0.5]
    let encoding = RangeToEncoding.encoding(
      min: Double(values[0]), max: Double(values[3]), bitwidth: 8, schema: .asymmetric)
    #expect(close(encoding.minimum(), -1.803922))
    #expect(close(encoding.maximum(), 0.496078))
    #expect(close(Double(encoding.channels[0].scale), 0.009020))
    #expect(encoding.channels[0].offset == -200)
    let codes = values.map { encoding.channels[0].quantize($0, codeMin: 0, codeMax: 255) }
    #expect(codes == [0, 89, 200, 255])
    let back = codes.map { Double(encoding.channels[0].dequantize($0)) }
    for (value, expected) in zip(back, [-1.8039, -1.0012, 0, 0.4961]) {
      #expect(close(value, expected))
    }
  }

  @Test(arguments: [
    (-5.1, 5.1, -128, -5.12, 5.08), (5, 10, 0, 0, 10), (-20, -6, -255, -20, 0),
    (0, 0, 0, 0, 0.0001), (3, 3, 0, 0, 3.0001),
  ])
  func asymmetricRanges(min: Double, max: Double, offset: Int, low: Double, high: Double) {
    let encoding = RangeToEncoding.encoding(
      min: min, max: max, bitwidth: 8, schema: .asymmetric)
    #expect(Int(encoding.channels[0].offset) == offset)
    #expect(abs(encoding.minimum() - low) <= 1e-4 && abs(encoding.maximum() - high) <= 1e-6)
    #expect(encoding.problem(shape: []) == nil)
  }

  @Test func asymmetricWithSignedCodes() {
    let values: [Float] = [0.6004, -1.0151, 1.1885, 0.9948, -0.3187, -1.1111, 0.7827, -1.1217]
    let grid = RangeToEncoding.asymmetric(min: -1.1217, max: 1.1885, bitwidth: 8)
    let codes = values.map { grid.quantize($0, codeMin: 0, codeMax: 255) }
    #expect(codes.map { $0 - 128 } == [62, -116, 127, 106, -39, -127, 82, -128])
    let expected = [0.5979, -1.0147, 1.1868, 0.9966, -0.3171, -1.1143, 0.7791, -1.1234]
    for (code, value) in zip(codes, expected) {
      #expect(close(Double(grid.dequantize(code)), value))
    }
  }

  @Test func fourBits() {
    let asymmetric = RangeToEncoding.asymmetric(min: -0.984, max: 0.656, bitwidth: 4)
    #expect(close(Double(asymmetric.scale), 0.1093333) && asymmetric.offset == -9)
    let symmetric = RangeToEncoding.encoding(
      min: -3, max: 3.78, bitwidth: 4, schema: .symmetric)
    #expect(close(Double(symmetric.channels[0].scale), 0.54))
    #expect(symmetric.channels[0].offset == -8)
    #expect(close(symmetric.minimum(), -4.32) && close(symmetric.maximum(), 3.78))
    let strict = RangeToEncoding.encoding(
      min: -3, max: 3.78, bitwidth: 4, schema: .symmetric, strict: true)
    #expect(strict.codeMin == 1 && close(strict.minimum(), -3.78))
  }

  @Test func offsetsOfThePagesOverrides() {
    let ranges = [(0, 12.8234), (-1.00393, 0.996087), (-2.10065, 1.70056)]
    let offsets = ranges.map {
      RangeToEncoding.asymmetric(min: $0.0, max: $0.1, bitwidth: 8).offset
    }
    #expect(offsets == [0, -128, -141])
  }

  @Test(arguments: 2...32) func everyWidthIsValid(bitwidth: Int) {
    let ranges: [(Double, Double)] = [
      (-1, 1), (0, 0), (-20, -6), (5, 10), (-1e-30, 1e-30),
      (-Double(Float.greatestFiniteMagnitude), Double(Float.greatestFiniteMagnitude)),
    ]
    for (min, max) in ranges {
      for schema in QuantizerSchema.allCases {
        let encoding = RangeToEncoding.encoding(
          min: min, max: max, bitwidth: bitwidth, schema: schema)
        #expect(encoding.problem(shape: []) == nil)
        #expect(encoding.channels[0].dequantize(-Int(encoding.channels[0].offset)) == 0)
      }
    }
  }

  @Test func fixedRanges() {
    #expect(
      RangeToEncoding.fixedUnit(signed: false, bitwidth: 8).channels
        == [ScaleOffset(scale: 1 / 256, offset: 0)])
    #expect(
      RangeToEncoding.fixedUnit(signed: true, bitwidth: 16).channels
        == [ScaleOffset(scale: 1 / 32768, offset: -32768)])
  }

  /// The fast array kernel gives the bits of the plain formulas.
  @Test(arguments: [8, 16], QuantizerSchema.allCases)
  func simulationMatchesItsSlowTwin(bitwidth: Int, schema: QuantizerSchema) {
    var random = SplitMix(state: UInt64(bitwidth))
    for (min, max) in [(-1.5, 2.5), (0, 6), (-7, -1), (-1e-5, 1e-5), (-3e30, 1e30)] {
      let encoding = RangeToEncoding.encoding(
        min: min, max: max, bitwidth: bitwidth, schema: schema)
      let grid = encoding.channels[0]
      var values: [Float] = [
        .nan, .infinity, -.infinity, 0, -0.0, .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
        .leastNonzeroMagnitude, Float(min), Float(max), Float(encoding.minimum()),
        Float(encoding.maximum()),
      ]
      for _ in 0..<500 {
        let code = Int.random(in: -3...((1 << bitwidth) + 2), using: &random)
        let tie = (Float(code + Int(grid.offset)) + 0.5) * grid.scale
        values += [tie, tie.nextUp, tie.nextDown, grid.dequantize(code)]
        values.append(Float.random(in: -8...8, using: &random))
      }
      var fast = [Float](repeating: 0, count: values.count)
      values.withUnsafeBufferPointer { source in
        fast.withUnsafeMutableBufferPointer { target in
          guard let from = source.baseAddress, let to = target.baseAddress else { return }
          encoding.simulate(from, into: to, count: source.count)
        }
      }
      let slow = values.map {
        grid.dequantize(
          grid.quantize($0, codeMin: encoding.codeMin, codeMax: encoding.codeMax))
      }
      #expect(fast.map(\.bitPattern) == slow.map(\.bitPattern))
    }
  }
}
