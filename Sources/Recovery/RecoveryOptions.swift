import IR

/// What can be applied to win back accuracy (`--apply_algorithms`), in the order in which it runs.
public enum RecoveryAlgorithm: String, Sendable, Hashable, CaseIterable {
  /// Cross-layer equalization, with dead channels removed before and high biases absorbed after.
  case cle
  /// A scale a channel, row or block of least output error.
  case seqmse
  /// Integer rounding by the inputs' covariance.
  case gptq
  /// Rounding learned by gradients.
  case adaround
  /// Biases that put back the mean that quantization moved.
  case biasCorrection = "bias_correction"

  /// Whether it takes samples whatever the parameters are.
  public var needsSamples: Bool {
    switch self {
    case .seqmse, .gptq, .adaround: true
    case .cle, .biasCorrection: false
    }
  }
}

/// What equalization makes small.
public enum EqualizationObjective: String, Sendable, Hashable, CaseIterable {
  /// The modelled noise of quantized weights and activations.
  case noise
  /// The product of ranges of weights, with a term for ranges of activations.
  case range
}

/// What equalization does to a Relu6 (`--cle_relu6`).
public enum Relu6Handling: String, Sendable, Hashable, CaseIterable {
  /// Relu where the bound is never reached on the samples, bounds elsewhere.
  case auto
  /// Relu and an upper bound a channel: the function is kept.
  case bounds
  /// Relu: what QNN's page describes; changes the function where the bound is reached.
  case relu
  /// Patterns with a Relu6 are left alone.
  case skip
}

/// Whether high biases are absorbed by the next layer.
public enum Absorption: String, Sendable, Hashable, CaseIterable {
  /// Where the modelled noise says that it gains.
  case auto
  case on = "true"
  case off = "false"
}

/// Where bias correction compares means.
public enum BiasMatch: String, Sendable, Hashable, CaseIterable {
  /// Before the activation, by one step.
  case pre
  /// After the activation, by a few fixed-point steps.
  case post
}

/// What learned rounding begins with.
public enum RoundingStart: String, Sendable, Hashable, CaseIterable {
  /// The rounding by the inputs' covariance.
  case gptq
  /// The weights as they are, between their two whole numbers.
  case weights
}

/// Parameters of the algorithms; the defaults are those of the command line.
public struct RecoveryOptions: Sendable, Hashable {
  /// What is applied, in the order of ``RecoveryAlgorithm``.
  public var algorithms: Set<RecoveryAlgorithm> = []
  /// Seed of everything that is drawn: positions, batches.
  public var seed: UInt64 = 0

  /// `cle.objective`; nil: noise with samples, range without.
  public var objective: EqualizationObjective?
  public var relu6 = Relu6Handling.auto
  public var absorption = Absorption.auto
  /// `cle.steps`: steps of the noise objective.
  public var equalizationSteps = 400
  /// `cle.lambda`: exponent of the activation's range in the range objective.
  public var rangeLambda = 0.5
  /// `cle.dead_channel_threshold`: a channel whose values span less is constant.
  public var deadChannelThreshold: Float = 1e-4

  /// `bias_correction.match`.
  public var biasMatch = BiasMatch.post

  /// `seqmse.num_candidates`.
  public var scaleCandidates = 40

  /// `gptq.damping`: share of the mean diagonal that is added to the covariance.
  public var damping = 0.01
  /// `gptq.follow`: how far weights move, before they are rounded, towards those that meet the float
  /// network's outputs on quantized inputs: 0 not at all, 1 to the least squares.
  public var follow = 0.35
  /// `gptq.sweeps`: most sweeps of the descent over the integers.
  public var sweeps = 30
  /// `gptq.positions`: positions of a layer's input that its covariance is made of (where learned rounding
  /// alone takes it, no more than that learns from), or 32 a row's element where that is more.
  public var positions = 131_072

  /// `adaround.default_num_iterations`.
  public var iterations = 10_000
  /// `adaround.default_reg_param`: weight of the term that draws roundings to 0 or 1.
  public var regularization = 0.01
  /// `adaround.default_beta_range`: exponent of that term, from and to.
  public var betaStart = 20.0
  public var betaEnd = 2.0
  /// `adaround.default_warm_start`: share of the iterations without that term.
  public var warmStart = 0.2
  /// `adaround.learning_rate`.
  public var learningRate = 0.01
  /// `adaround.follow`: as ``follow``, before roundings are learned.
  public var learnedFollow = 0.35
  /// `adaround.start`.
  public var learnedStart = RoundingStart.gptq
  /// `adaround.batch`: positions in one step.
  public var batchPositions = 512

  /// The defaults.
  public init() {}

  /// Throws a usage diagnostic where a value is out of range or algorithms exclude each other.
  public func validate() throws(Diagnostic) {
    func check(_ condition: Bool, _ message: String) throws(Diagnostic) {
      if !condition { throw Diagnostic("bad-parameter", message, kind: .usage) }
    }
    try check(
      !(algorithms.contains(.gptq) && algorithms.contains(.adaround)),
      "gptq and adaround exclude each other: both round the weights")
    try check((1...100_000).contains(equalizationSteps), "cle.steps must be 1 to 100000")
    try check(rangeLambda >= 0 && rangeLambda <= 16, "cle.lambda must be 0 to 16")
    try check(
      deadChannelThreshold >= 0 && deadChannelThreshold <= 1, "cle.dead_channel_threshold must be 0 to 1")
    try check((2...10_000).contains(scaleCandidates), "seqmse.num_candidates must be 2 to 10000")
    try check(damping > 0 && damping <= 1, "gptq.damping must be above 0, at most 1")
    try check((0...1).contains(follow), "gptq.follow must be 0 to 1")
    try check((0...1000).contains(sweeps), "gptq.sweeps must be 0 to 1000")
    try check((1...100_000_000).contains(positions), "gptq.positions must be 1 to 100000000")
    try check((1...10_000_000).contains(iterations), "adaround.default_num_iterations must be 1 to 10000000")
    try check(regularization >= 0, "adaround.default_reg_param must not be negative")
    try check(
      betaEnd >= 1 && betaStart >= betaEnd, "adaround.default_beta_range must fall from its first to its second")
    try check((0...1).contains(warmStart), "adaround.default_warm_start must be 0 to 1")
    try check(learningRate > 0, "adaround.learning_rate must be above 0")
    try check((0...1).contains(learnedFollow), "adaround.follow must be 0 to 1")
    try check((1...1_000_000).contains(batchPositions), "adaround.batch must be 1 to 1000000")
  }

  /// Whether samples are run by an algorithm.
  public var usesSamples: Bool { !algorithms.isEmpty }

  /// Algorithms that cannot do without samples, in order.
  public var needingSamples: [String] {
    var found = RecoveryAlgorithm.allCases.filter { algorithms.contains($0) && $0.needsSamples }.map(\.rawValue)
    if algorithms.contains(.cle), objective == .noise { found.insert("cle with the noise objective", at: 0) }
    return found
  }

  /// Whether learned rounding begins with the rounding by the inputs' covariance.
  var startsFromData: Bool { algorithms.contains(.adaround) && learnedStart == .gptq }

  /// Whether the covariance of a layer's inputs is taken.
  public var usesCovariance: Bool {
    algorithms.contains(.seqmse) || algorithms.contains(.gptq) || startsFromData
      || (algorithms.contains(.adaround) && learnedFollow > 0)
  }

  /// Every option that changes the result, with its value as on the command line.
  public var normalized: [String: String] {
    let applied = RecoveryAlgorithm.allCases.filter(algorithms.contains).map(\.rawValue)
    var result = ["apply_algorithms": applied.joined(separator: " ")]
    guard !applied.isEmpty else { return result }
    result["seed"] = "\(seed)"
    if algorithms.contains(.cle) {
      result["cle.objective"] = objective?.rawValue ?? "default"
      result["cle_relu6"] = relu6.rawValue
      result["cle.absorb"] = absorption.rawValue
      result["cle.steps"] = "\(equalizationSteps)"
      result["cle.lambda"] = "\(rangeLambda)"
      result["cle.dead_channel_threshold"] = "\(deadChannelThreshold)"
    }
    if algorithms.contains(.biasCorrection) || algorithms.contains(.gptq) || algorithms.contains(.adaround) {
      result["bias_correction.match"] = biasMatch.rawValue
    }
    if algorithms.contains(.seqmse) { result["seqmse.num_candidates"] = "\(scaleCandidates)" }
    if usesCovariance {
      result["gptq.damping"] = "\(damping)"
      result["gptq.positions"] = "\(positions)"
    }
    if algorithms.contains(.gptq) { result["gptq.follow"] = "\(follow)" }
    if algorithms.contains(.gptq) || startsFromData { result["gptq.sweeps"] = "\(sweeps)" }
    if algorithms.contains(.adaround) {
      result["adaround.default_num_iterations"] = "\(iterations)"
      result["adaround.default_reg_param"] = "\(regularization)"
      result["adaround.default_beta_range"] = "\(betaStart) \(betaEnd)"
      result["adaround.default_warm_start"] = "\(warmStart)"
      result["adaround.learning_rate"] = "\(learningRate)"
      result["adaround.follow"] = "\(learnedFollow)"
      result["adaround.start"] = learnedStart.rawValue
      result["adaround.batch"] = "\(batchPositions)"
    }
    return result
  }
}
