import Foundation
import IR

/// The signed codes that symmetric grids may use (`--restrict_quantization_steps`).
public struct QuantizationSteps: Sendable, Hashable, CustomStringConvertible {
  /// Least and largest signed code.
  public let minimum: Int
  public let maximum: Int

  /// Throws a usage diagnostic where the codes do not hold zero between them.
  public init(minimum: Int, maximum: Int) throws(Diagnostic) {
    guard minimum <= 0, maximum > 0, max(maximum, minimum.magnitude.clampedInt) <= 1 << 31 else {
      throw Diagnostic(
        "bad-steps", "quantization steps \(minimum) to \(maximum) do not go from zero or below to above",
        hint: "give the lowest and the highest signed code, such as \"-0x80 0x7F\"", kind: .usage)
    }
    self.minimum = minimum
    self.maximum = maximum
  }

  /// Reads two signed numbers, decimal or hexadecimal, with spaces or a comma between.
  public init(parsing text: String) throws(Diagnostic) {
    let numbers = text.split { $0 == " " || $0 == "," || $0 == "\t" }.map(Self.number)
    guard numbers.count == 2, let minimum = numbers[0], let maximum = numbers[1] else {
      throw Diagnostic(
        "bad-steps", "\(text.debugDescription) is not a pair of whole numbers",
        hint: "give the lowest and the highest signed code, such as \"-0x80 0x7F\"", kind: .usage)
    }
    try self.init(minimum: minimum, maximum: maximum)
  }

  /// Both codes, decimal.
  public var description: String { "\(minimum) \(maximum)" }

  private static func number(_ text: Substring) -> Int? {
    let isNegative = text.hasPrefix("-")
    let digits = isNegative || text.hasPrefix("+") ? text.dropFirst() : text
    guard digits.first?.isHexDigit == true else { return nil }
    let isHexadecimal = digits.lowercased().hasPrefix("0x")
    let magnitude = isHexadecimal ? Int(digits.dropFirst(2), radix: 16) : Int(digits)
    guard let magnitude, magnitude >= 0 else { return nil }
    return isNegative ? -magnitude : magnitude
  }

  /// Throws a usage diagnostic where a signed code of `bitwidth` bits cannot hold the steps.
  public func check(bitwidth: Int) throws(Diagnostic) {
    let half = 1 << (bitwidth - 1)
    guard minimum >= -half, maximum < half else {
      throw Diagnostic(
        "bad-steps", "quantization steps \(minimum) to \(maximum) do not fit \(bitwidth) bits",
        hint: "\(bitwidth) bits hold \(-half) to \(half - 1)", kind: .usage)
    }
  }
}

extension UInt {
  fileprivate var clampedInt: Int { Int(clamping: self) }
}

/// How a symmetric grid gets its scale from a range.
public enum SymmetricRule: String, Sendable, Hashable, CaseIterable {
  /// The larger magnitude at code 2^(bw-1) - 1 (QNN).
  case qnn
  /// Each end at its own last code: max(max / (2^(bw-1) - 1), -min / 2^(bw-1)) (AIMET 2.42).
  case aimet
}

extension RangeToEncoding {
  /// The grid and codes of a range under a schema: strict symmetric grids leave the lowest code
  /// unused, `steps` replace the codes of symmetric grids (scale = a / max(|MIN|, |MAX|)).
  static func candidate(
    min: Double, max: Double, bitwidth: Int, schema: QuantizerSchema, strict: Bool = false,
    steps: QuantizationSteps? = nil, rule: SymmetricRule = .qnn
  ) -> CandidateGrid {
    let full = (1 << bitwidth) - 1
    guard schema.isSymmetric(min: min) else {
      return CandidateGrid(
        grid: asymmetric(min: min, max: max, bitwidth: bitwidth), codeMin: 0, codeMax: full)
    }
    guard let steps else {
      if rule == .aimet, !strict {
        let range = adjusted(min: min, max: max)
        let half = Double(1 << (bitwidth - 1))
        let scale = Swift.max(range.max / (half - 1), -range.min / half)
        return CandidateGrid(
          grid: ScaleOffset(scale: Float(scale), offset: Int32(-half)), codeMin: 0, codeMax: full)
      }
      return CandidateGrid(
        grid: symmetric(min: min, max: max, bitwidth: bitwidth), codeMin: strict ? 1 : 0,
        codeMax: full)
    }
    let range = adjusted(min: min, max: max)
    let half = 1 << (bitwidth - 1)
    let largest = Swift.max(-range.min, range.max)
    let divisor = Double(Swift.max(-steps.minimum, steps.maximum))
    return CandidateGrid(
      grid: ScaleOffset(scale: Float(largest / divisor), offset: Int32(-half)),
      codeMin: Swift.max(half + steps.minimum, strict ? 1 : 0), codeMax: half + steps.maximum)
  }

  /// The encoding of a range under any schema; `steps` restrict the codes of symmetric grids.
  public static func encoding(
    min: Double, max: Double, bitwidth: Int, schema: QuantizerSchema, strict: Bool = false,
    steps: QuantizationSteps
  ) throws(Diagnostic) -> Encoding {
    try steps.check(bitwidth: bitwidth)
    let found = candidate(
      min: min, max: max, bitwidth: bitwidth, schema: schema, strict: strict, steps: steps)
    return Encoding(
      bitwidth: bitwidth, symmetric: schema.isSymmetric(min: min), channels: [found.grid],
      codeMin: found.codeMin, codeMax: found.codeMax)
  }

  /// The lab's second method (`clip`): half the range, twice as fine. Any offset may result, and zero
  /// need not be on the grid. `bitwidth` is 2 to 30.
  public static func clip(min: Double, max: Double, bitwidth: Int) -> Encoding {
    let range = adjusted(min: min, max: max)
    let scale = (range.max - range.min) / Double((1 << (bitwidth + 1)) - 1)
    let zero = (-Double(1 << bitwidth) - range.min / scale).rounded(.toNearestOrAwayFromZero)
    let offset = -zero - Double(1 << (bitwidth - 1))
    return Encoding(
      bitwidth: bitwidth, channels: [ScaleOffset(scale: Float(scale), offset: Int32(offset))])
  }

  /// QNN's `adjusted` rule for weights of at most 8 bits: of all zero points whose grid holds the
  /// range and is at most 1.1 times as wide, the one with the least squared error on the values; ties
  /// go to the smaller scale.
  public static func adjusted(
    values: [Float], bitwidth: Int, jobs: Int = 1
  ) throws(Diagnostic) -> Encoding {
    guard (2...8).contains(bitwidth) else {
      throw Diagnostic(
        "bad-bitwidth", "the adjusted quantizer works with 2 to 8 bits, not \(bitwidth)",
        kind: .usage)
    }
    try requireFinite(values)
    let model = RawCostModel(values)
    let range = adjusted(min: model.minimum, max: model.maximum)
    let steps = (1 << bitwidth) - 1
    let widest = 1.1 * (range.max - range.min) / Double(steps)
    var grids: [CandidateGrid] = []
    for zero in 0...steps {
      let below = range.min < 0 ? -range.min / Double(zero) : 0
      let above = range.max > 0 ? range.max / Double(steps - zero) : 0
      let scale = Swift.max(below, above)
      guard scale <= widest else { continue }
      grids.append(
        CandidateGrid(
          grid: ScaleOffset(scale: Float(scale), offset: Int32(-zero)), codeMin: 0, codeMax: steps))
    }
    let costs = parallelMap(grids.count, jobs: jobs) { [grids] in model.cost(grids[$0], gamma: 1) }
    var best = candidate(min: range.min, max: range.max, bitwidth: bitwidth, schema: .asymmetric)
    var least = Double.infinity
    for (grid, cost) in zip(grids, costs)
    where cost < least || (cost == least && grid.grid.scale < best.grid.scale) {
      (best, least) = (grid, cost)
    }
    return Encoding(bitwidth: bitwidth, channels: [best.grid])
  }

  /// Throws where values are absent, NaN or infinite.
  static func requireFinite(_ values: [Float]) throws(Diagnostic) {
    guard !values.isEmpty else {
      throw Diagnostic("no-values", "a range needs at least one value")
    }
    if let element = values.firstIndex(where: { !$0.isFinite }) {
      throw Diagnostic(
        "non-finite-weight", "element \(element) is \(values[element])",
        hint: "repair the model: such values cannot be quantized")
    }
  }
}
