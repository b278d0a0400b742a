import IR
import Recovery
import ToolKit

/// What a YAML file says about the algorithms that win back accuracy (`-c`, `--config`):
///
/// ```yaml
/// aimet_quantizer:               # may be left out: its keys then stand at the top
///   datasets:
///     photographs:
///       dataloader_callback: calibration.txt   # the path of an input list
///   cle:
///     objective: noise           # noise or range; default: noise with samples
///     absorb: auto               # high biases: auto, true, false
///     steps: 400                 # of the noise objective
///     lambda: 0.5                # weight of activations in the range objective
///     dead_channel_threshold: 0.0001
///   bias_correction:
///     match: post                # means behind the activation, or pre
///   seqmse:
///     num_candidates: 40
///   gptq:
///     damping: 0.01
///     follow: 0.35               # towards the weights that make up for quantized inputs
///     sweeps: 30
///     positions: 131072
///   adaround:
///     dataset: photographs
///     num_batches: 4             # samples: num_batches times batch_size
///     batch_size: 32
///     optional_adaround_param_args:
///       default_num_iterations: 10000
///       default_reg_param: 0.01
///       default_beta_range: [20, 2]
///       default_warm_start: 0.2
///     learning_rate: 0.01
///     follow: 0.35               # as with gptq
///     batch: 512                 # positions in a step
/// ```
struct RecoveryConfiguration: Sendable {
  var options = RecoveryOptions()
  /// Sections that the file has.
  var sections: Set<String> = []
  /// Input lists by the name of their data set.
  var datasets: [String: String] = [:]
  /// Name of the data set that the algorithms use, nil: that of calibration.
  var dataset: String?
  /// Samples that the algorithms use, nil: all.
  var sampleLimit: Int?

  static let keys = ["datasets", "cle", "bias_correction", "seqmse", "gptq", "adaround"]

  /// Whether the file says nothing about the algorithms.
  var isEmpty: Bool { sections.isEmpty && datasets.isEmpty }

  /// Nothing said.
  init() {}

  /// The path of the list that the algorithms use, nil: that of calibration.
  var inputList: String? { dataset.flatMap { datasets[$0] } }

  /// Reads the sections of a map.
  mutating func read(_ map: inout ConfigurationMap) throws(Diagnostic) {
    if var sets = try map.map("datasets") {
      for name in sets.keys {
        guard var entry = try sets.map(name) else { continue }
        guard let path = try entry.string("dataloader_callback") else {
          throw entry.failure("dataloader_callback is missing")
        }
        let isDotted =
          !path.contains("/") && path.split(separator: ".").count > 1
          && path.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
          && !FileReading.exists(path)
        guard !isDotted else {
          var failure = entry.failure("\(path) looks like a Python function: nothing is called here")
          failure.hint = "give the path of an input list"
          throw failure
        }
        datasets[name] = path
        try entry.finish(known: ["dataloader_callback"])
      }
    }
    if var section = try map.map("cle") {
      sections.insert("cle")
      options.objective = try choice(section.string("objective"), section, "objective") ?? options.objective
      options.absorption =
        try choice(section.string("absorb")?.lowercased(), section, "absorb") ?? options.absorption
      options.equalizationSteps = try section.int("steps") ?? options.equalizationSteps
      options.rangeLambda = try section.double("lambda") ?? options.rangeLambda
      options.deadChannelThreshold =
        try section.double("dead_channel_threshold").map { Float($0) } ?? options.deadChannelThreshold
      try section.finish(known: ["objective", "absorb", "steps", "lambda", "dead_channel_threshold"])
    }
    if var section = try map.map("bias_correction") {
      sections.insert("bias_correction")
      options.biasMatch = try choice(section.string("match"), section, "match") ?? options.biasMatch
      try readSamples(&section)
      try section.finish(known: ["match"] + Self.sampleKeys)
    }
    if var section = try map.map("seqmse") {
      sections.insert("seqmse")
      options.scaleCandidates = try section.int("num_candidates") ?? options.scaleCandidates
      try readSamples(&section)
      try section.finish(known: ["num_candidates"] + Self.sampleKeys)
    }
    if var section = try map.map("gptq") {
      sections.insert("gptq")
      options.damping = try section.double("damping") ?? options.damping
      options.follow = try section.double("follow") ?? options.follow
      options.sweeps = try section.int("sweeps") ?? options.sweeps
      options.positions = try section.int("positions") ?? options.positions
      try readSamples(&section)
      try section.finish(known: ["damping", "follow", "sweeps", "positions"] + Self.sampleKeys)
    }
    guard var section = try map.map("adaround") else { return }
    sections.insert("adaround")
    options.learningRate = try section.double("learning_rate") ?? options.learningRate
    options.learnedFollow = try section.double("follow") ?? options.learnedFollow
    options.learnedStart = try choice(section.string("start"), section, "start") ?? options.learnedStart
    options.batchPositions = try section.int("batch") ?? options.batchPositions
    let parameters = ["default_num_iterations", "default_reg_param", "default_beta_range", "default_warm_start"]
    if var inner = try section.map("optional_adaround_param_args") {
      try readRounding(&inner)
      try inner.finish(known: parameters)
    }
    try readRounding(&section)
    if let inner = try section.map("optional_adaround_args") { try inner.finish(known: []) }
    try readSamples(&section)
    try section.finish(
      known: ["learning_rate", "follow", "start", "batch", "optional_adaround_param_args", "optional_adaround_args"]
        + parameters
        + Self.sampleKeys)
  }

  private static let sampleKeys = ["dataset", "num_batches", "batch_size"]

  private mutating func readRounding(_ map: inout ConfigurationMap) throws(Diagnostic) {
    options.iterations = try map.int("default_num_iterations") ?? options.iterations
    options.regularization = try map.double("default_reg_param") ?? options.regularization
    options.warmStart = try map.double("default_warm_start") ?? options.warmStart
    guard let range = try map.doubles("default_beta_range") else { return }
    guard range.count == 2 else { throw map.failure("default_beta_range must be two numbers") }
    (options.betaStart, options.betaEnd) = (range[0], range[1])
  }

  private mutating func readSamples(_ map: inout ConfigurationMap) throws(Diagnostic) {
    if let name = try map.string("dataset") {
      guard datasets[name] != nil else {
        var failure = map.failure("dataset \(name) is not among the datasets")
        failure.hint =
          datasets.isEmpty ? "add datasets" : "datasets are " + datasets.keys.sorted().joined(separator: ", ")
        throw failure
      }
      if let other = dataset, other != name {
        throw map.failure("one data set serves all algorithms: \(other) or \(name)")
      }
      dataset = name
    }
    let size = try map.int("batch_size") ?? 32
    guard let batches = try map.int("num_batches") else { return }
    guard size > 0, batches > 0, batches < 1 << 30, size < 1 << 30 else {
      throw map.failure("num_batches and batch_size must be above 0")
    }
    sampleLimit = max(sampleLimit ?? 0, batches * size)
  }

  private func choice<Choice: RawRepresentable & CaseIterable>(
    _ text: String?, _ map: ConfigurationMap, _ key: String
  ) throws(Diagnostic) -> Choice? where Choice.RawValue == String {
    guard let text else { return nil }
    guard let found = Choice(rawValue: text) else {
      throw map.failure(
        "\(key) must be one of \(Choice.allCases.map(\.rawValue).joined(separator: ", ")), not \(text)")
    }
    return found
  }
}
