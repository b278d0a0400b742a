import IR

/// The search for the grid of least cost: a coarse search over scales and offsets as AIMET's, refined
/// around the best; the grid of the observed range stays unless another is better by a margin.
///
/// Source: the project's quantization specification, section 2.3; AIMET's published search.
struct GridSearch: Sendable {
  var bitwidth: Int
  var schema: QuantizerSchema
  var strict = false
  var steps: QuantizationSteps?
  var gamma = 3.0
  var asymmetricScales = 17
  var offsets = 21
  var symmetricScales = 101
  /// Threads for the candidates of one search.
  var jobs = 1
  /// The share of min-max's cost that a grid must stay below to replace it: by more where the model
  /// cannot tell grids of this step apart.
  private static func margin(_ model: some CostModel, _ candidate: CandidateGrid) -> Double {
    Double(candidate.grid.scale) < model.resolution ? 0.99 : 0.998
  }
  /// How many of the coarse grids are refined: the fewer values, the more local minima.
  private static func starts(_ model: some CostModel) -> Int { model.isSmall ? 12 : 3 }

  /// A range, its grid and its cost.
  private struct Trial: Sendable {
    var low: Double
    var high: Double
    var candidate: CandidateGrid
    var cost = 0.0
  }

  /// The best grid for the data of a model.
  func best(_ model: some CostModel) -> CandidateGrid {
    let observed = trial(model.minimum, model.maximum, model)
    // Below the least range nothing is searched: the rule that made the range decides.
    guard model.maximum - model.minimum >= RangeToEncoding.minimumRange else {
      return observed.candidate
    }
    let minMax = costed([observed], model)[0]
    let found = isCentred(model) ? searchScales(model, minMax) : searchRanges(model, minMax)
    let margin = Self.margin(model, minMax.candidate)
    return found.cost < margin * minMax.cost ? found.candidate : minMax.candidate
  }

  /// Whether only the scale is free: zero has its place.
  private func isCentred(_ model: some CostModel) -> Bool { schema != .asymmetric }

  private func trial(_ low: Double, _ high: Double, _ model: some CostModel) -> Trial {
    // The observed least value decides between the signed and the unsigned grid.
    let isUnsigned = schema == .unsignedSymmetric && model.minimum >= 0
    return Trial(
      low: low, high: high,
      candidate: RangeToEncoding.candidate(
        min: low, max: high, bitwidth: bitwidth,
        schema: isUnsigned ? .asymmetric : schema == .asymmetric ? .asymmetric : .symmetric,
        strict: strict, steps: steps))
  }

  private func costed(_ trials: [Trial], _ model: some CostModel) -> [Trial] {
    parallelMap(trials.count, jobs: jobs) { index in
      var trial = trials[index]
      trial.cost = model.cost(trial.candidate, gamma: gamma)
      return trial
    }
  }

  /// The `count` cheapest of many trials: chosen by a rough model where there is one.
  private func coarselyCheapest(_ trials: [Trial], _ count: Int, _ model: some CostModel) -> [Trial] {
    guard let rough = model.rough(bitwidth: bitwidth) else { return cheapest(trials, count, model) }
    return cheapest(cheapest(trials, 2 * count, rough), count, model)
  }

  /// The `count` cheapest trials with different grids, the cheapest first; the earlier of equals first.
  private func cheapest(_ trials: [Trial], _ count: Int, _ model: some CostModel) -> [Trial] {
    // Where a cost is dear, none is computed twice.
    var distinct = trials
    if !model.isSmall {
      var seen = Set<CandidateGrid>()
      distinct = trials.filter { seen.insert($0.candidate).inserted }
    }
    var best: [Trial] = []
    best.reserveCapacity(count + 1)
    for trial in costed(distinct, model) {
      guard best.count < count || trial.cost < best[count - 1].cost else { continue }
      var place = best.count
      while place > 0, best[place - 1].cost > trial.cost { place -= 1 }
      let isKnown = best[..<place].reversed().lazy.prefix { $0.cost == trial.cost }
        .contains { $0.candidate == trial.candidate }
      guard !isKnown else { continue }
      best.insert(trial, at: place)
      if best.count > count { best.removeLast() }
    }
    return best
  }

  /// Scales only, as shares of the observed largest magnitude.
  private func searchScales(_ model: some CostModel, _ minMax: Trial) -> Trial {
    let count = max(symmetricScales, 2)
    let step = 1 / Double(count - 1)
    func scaled(_ share: Double) -> Trial {
      trial(model.minimum * share, model.maximum * share, model)
    }
    // A few values may lie well on a grid that is somewhat wider than they are.
    let shares = (1...(model.isSmall ? count * 5 / 4 : count)).map { Double($0) * step }
    let coarse = coarselyCheapest(shares.map(scaled), Self.starts(model), model)
    func share(_ trial: Trial) -> Double {
      model.maximum > -model.minimum ? trial.high / model.maximum : trial.low / model.minimum
    }
    var best = coarse[0].cost < minMax.cost ? coarse[0] : minMax
    var around = coarse.map(share)
    for (width, reach) in [(step / 16, 16), (step / 256, 16), (step / 4096, 16)] {
      var trials: [Trial] = []
      for middle in around {
        for move in -reach...reach where middle + Double(move) * width > 0 {
          trials.append(scaled(middle + Double(move) * width))
        }
      }
      let finer = cheapest(trials, model.isSmall ? 4 : 1, model)
      if let first = finer.first, first.cost < best.cost { best = first }
      around = finer.map(share)
    }
    return best
  }

  /// Both ends of the range.
  private func searchRanges(_ model: some CostModel, _ minMax: Trial) -> Trial {
    let ranges = coarseRanges(model).map { trial($0.0, $0.1, model) }
    var best = minMax
    for start in coarselyCheapest(ranges, Self.starts(model), model) + [minMax] {
      let end = descend(from: start, model)
      if end.cost < best.cost { best = end }
    }
    return best
  }

  /// Scales d/16 .. 17/16 d at offsets spread over the codes, cut to the observed grid.
  private func coarseRanges(_ model: some CostModel) -> [(Double, Double)] {
    let count = Double((1 << bitwidth) - 1)
    let range = RangeToEncoding.adjusted(min: model.minimum, max: model.maximum)
    let widest = (range.max - range.min) / count
    let least = (range.min / widest).rounded() * widest
    let largest = least + widest * count
    let scales = max(asymmetricScales, 2)
    let places = max(offsets, 2)
    var result: [(Double, Double)] = []
    for scale in 1...scales {
      let delta = widest * Double(scale) / Double(scales - 1)
      for place in 0..<places {
        let offset = (-count + Double(place) * count / Double(places - 1)).rounded(.towardZero)
        let low = max(delta * offset, least)
        let high = min(delta * (offset + count), largest)
        if low < high { result.append((low, high)) }
      }
    }
    return result
  }

  /// Moves both ends in ever smaller steps while that lowers the cost.
  private func descend(from start: Trial, _ model: some CostModel) -> Trial {
    let range = RangeToEncoding.adjusted(min: model.minimum, max: model.maximum)
    let width = range.max - range.min
    var best = start
    var step = width / 32
    while step > width / 10_000 {
      for _ in 0..<6 {
        var trials: [Trial] = []
        for (left, right) in Self.moves {
          let low = best.low + left * step
          let high = best.high + right * step
          guard low <= 0, high >= 0, high - low > step, low > range.min - width / 10,
            high < range.max + width / 10
          else { continue }
          trials.append(trial(low, high, model))
        }
        guard let first = cheapest(trials, 1, model).first, first.cost < best.cost else { break }
        best = first
      }
      step /= 2
    }
    return best
  }

  private static let moves: [(Double, Double)] = [
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1),
  ]
}
