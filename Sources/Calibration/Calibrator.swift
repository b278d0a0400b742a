import IR

/// Turns statistics or values into an encoding, by one method, schema and width.
///
/// Source: the project's quantization specification, section 2; see
/// ``CalibrationMethod`` for each method's.
public struct Calibrator: Sendable, Hashable {
  /// From statistics to a range.
  public var method: CalibrationMethod
  /// From a range to a grid.
  public var schema: QuantizerSchema
  /// Bits of a code, 2 to 32; histograms and searches tell grids apart up to 16.
  public var bitwidth: Int
  /// Leaves the lowest code of symmetric grids unused.
  public var strict: Bool
  /// The codes symmetric grids may use, all where nil.
  public var steps: QuantizationSteps?
  /// A rule that takes the place of method and schema; not where there is a grid per channel.
  public var rule: RangeRule
  /// How symmetric grids of a range get their scale.
  public var symmetricRule = SymmetricRule.qnn
  /// Parameters of the methods.
  public var parameters: CalibratorParameters

  /// Makes a calibrator.
  public init(
    method: CalibrationMethod, schema: QuantizerSchema, bitwidth: Int, strict: Bool = false,
    steps: QuantizationSteps? = nil, rule: RangeRule = .none,
    parameters: CalibratorParameters = .init()
  ) {
    self.method = method
    self.schema = schema
    self.bitwidth = bitwidth
    self.strict = strict
    self.steps = steps
    self.rule = rule
    self.parameters = parameters
  }

  /// The encoding of a range, whatever the method is.
  public func encoding(min: Double, max: Double) throws(Diagnostic) -> Encoding {
    try check()
    if rule == .clip { return RangeToEncoding.clip(min: min, max: max, bitwidth: bitwidth) }
    return encoding(grid(min: min, max: max, isUnsigned: min >= 0), isUnsigned: isUnsigned(Float(min)))
  }

  /// The encoding of what an observer saw; non-finite values are left out. Throws `no-values` where
  /// nothing finite was seen, `bad-steps`, `bad-bitwidth`.
  public func encoding(of histogram: HistogramObserver, jobs: Int = 1) throws(Diagnostic) -> Encoding {
    try check()
    guard histogram.extrema.hasRange else {
      throw Diagnostic("no-values", "a range needs at least one finite value")
    }
    let extrema = histogram.extrema
    guard method != .minMax, rule == .none else {
      return try encoding(min: Double(extrema.minimum), max: Double(extrema.maximum))
    }
    let seen = histogram.coarsened(bins: parameters.bins)
    return encoding(
      grid(histogram: seen, jobs: jobs) { HistogramCostModel(seen) },
      isUnsigned: isUnsigned(seen.extrema.minimum))
  }

  /// The encodings of many tensors, computed by up to `jobs` threads; the same for any `jobs`.
  public func encodings(of histograms: [HistogramObserver], jobs: Int) throws(Diagnostic) -> [Encoding] {
    let found = parallelMap(histograms.count, jobs: jobs) { index in
      Result { () throws(Diagnostic) in try encoding(of: histograms[index]) }
    }
    var result: [Encoding] = []
    for encoding in found { result.append(try encoding.get()) }
    return result
  }

  /// The encoding of finite values; sqnr and mse search on the values themselves. The same for any
  /// `jobs`.
  public func encoding(of values: [Float], jobs: Int = 1) throws(Diagnostic) -> Encoding {
    try check()
    try RangeToEncoding.requireFinite(values)
    if rule == .adjusted {
      return try RangeToEncoding.adjusted(values: values, bitwidth: bitwidth, jobs: jobs)
    }
    let model = RawCostModel(values)
    guard rule == .none else { return try encoding(min: model.minimum, max: model.maximum) }
    return encoding(grid(values, model, jobs: jobs), isUnsigned: isUnsigned(Float(model.minimum)))
  }

  /// The encoding of a dense tensor of finite values with a grid for each index along `axis`; always
  /// symmetric, because a tensor has one type. Channels are shared out to `jobs` threads.
  public func encoding(
    of values: [Float], shape: [Int], axis: Int, jobs: Int = 1
  ) throws(Diagnostic) -> Encoding {
    try check()
    guard shape.indices.contains(axis), shape.reduce(1, *) == values.count else {
      throw Diagnostic(
        "bad-channels", "axis \(axis) of shape \(shape) does not divide \(values.count) values",
        kind: .internal)
    }
    try RangeToEncoding.requireFinite(values)
    var channel = self
    channel.schema = .symmetric
    let inner = shape[(axis + 1)...].reduce(1, *)
    let outer = shape[..<axis].reduce(1, *)
    let size = shape[axis]
    if method == .minMax { return try encoding(ranges: channelRanges(values, shape: shape, axis: axis), axis: axis) }
    let grids = parallelMap(size, jobs: jobs) { [channel] index in
      var own: [Float] = []
      own.reserveCapacity(outer * inner)
      for block in 0..<outer {
        let start = (block * size + index) * inner
        own += values[start..<(start + inner)]
      }
      return channel.grid(own, RawCostModel(own), jobs: 1)
    }
    return encoding(grids, axis: axis)
  }

  /// The encoding with a grid for each range, symmetric, for the indices along `axis`, whatever the method is.
  public func encoding(ranges: [ClosedRange<Float>], axis: Int) throws(Diagnostic) -> Encoding {
    try check()
    var channel = self
    channel.schema = .symmetric
    return encoding(
      ranges.map { channel.grid(min: Double($0.lowerBound), max: Double($0.upperBound), isUnsigned: false) }, axis: axis
    )
  }

  /// Whether the encoding of values depends on more than their range; with a grid a channel the rule does not count.
  public func readsValues(perChannel: Bool) -> Bool {
    switch rule {
    case .none: method != .minMax
    case .adjusted: !perChannel || method != .minMax
    default: perChannel && method != .minMax
    }
  }

  private func encoding(_ grids: [CandidateGrid], axis: Int) -> Encoding {
    Encoding(
      bitwidth: bitwidth, symmetric: true, axis: axis, channels: grids.map(\.grid),
      codeMin: grids.first?.codeMin ?? 0, codeMax: grids.first?.codeMax)
  }

  private func check() throws(Diagnostic) {
    guard (2...32).contains(bitwidth) else {
      throw Diagnostic(
        "bad-bitwidth", "an encoding has 2 to 32 bits, not \(bitwidth)", kind: .usage)
    }
    try steps?.check(bitwidth: bitwidth)
  }

  private func isUnsigned(_ minimum: Float) -> Bool {
    schema == .asymmetric || (schema == .unsignedSymmetric && minimum >= 0)
  }

  private func encoding(_ found: CandidateGrid, isUnsigned: Bool) -> Encoding {
    Encoding(
      bitwidth: bitwidth, symmetric: !isUnsigned, channels: [found.grid], codeMin: found.codeMin,
      codeMax: found.codeMax)
  }

  /// The grid of values, from their histogram where the method works on one.
  private func grid(_ values: [Float], _ model: RawCostModel, jobs: Int) -> CandidateGrid {
    switch method {
    case .minMax: grid(min: model.minimum, max: model.maximum, isUnsigned: model.minimum >= 0)
    case .sqnr, .mse: search(jobs: jobs).best(model)
    case .percentile, .entropy:
      grid(histogram: HistogramObserver(values).coarsened(bins: parameters.bins), jobs: jobs) { model }
    }
  }

  private func grid(
    histogram: HistogramObserver, jobs: Int, model: () -> some CostModel
  ) -> CandidateGrid {
    let extrema = histogram.extrema
    switch method {
    case .minMax:
      return grid(
        min: Double(extrema.minimum), max: Double(extrema.maximum), isUnsigned: extrema.minimum >= 0)
    case .sqnr, .mse:
      return search(jobs: jobs).best(model())
    case .percentile:
      let range = histogram.percentileRange(parameters.percentile)
      return grid(min: range.min, max: range.max, isUnsigned: extrema.minimum >= 0)
    case .entropy:
      let search = EntropySearch(
        histogram, bitwidth: bitwidth, schema: schema, strict: strict, steps: steps, jobs: jobs)
      let range = search.range()
      return grid(min: range.min, max: range.max, isUnsigned: extrema.minimum >= 0)
    }
  }

  /// The grid of a range; the observed values decide whether an unsigned one will do.
  private func grid(min: Double, max: Double, isUnsigned: Bool) -> CandidateGrid {
    RangeToEncoding.candidate(
      min: min, max: max, bitwidth: bitwidth,
      schema: schema == .unsignedSymmetric && !isUnsigned ? .symmetric : schema, strict: strict,
      steps: steps, rule: symmetricRule)
  }

  /// mse is the search with gamma 1 and twice as many candidates.
  private func search(jobs: Int) -> GridSearch {
    let finer = method == .mse ? 2 : 1
    return GridSearch(
      bitwidth: bitwidth, schema: schema, strict: strict, steps: steps,
      gamma: method == .mse ? 1 : parameters.gamma,
      asymmetricScales: (parameters.asymmetricScales - 1) * finer + 1,
      offsets: (parameters.offsets - 1) * finer + 1,
      symmetricScales: (parameters.symmetricScales - 1) * finer + 1, jobs: jobs)
  }
}
