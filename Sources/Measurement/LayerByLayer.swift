import Calibration
import IR
import Quantizer
import Runtime

/// The fixed-point graph of a container calibrated again, each layer on the already quantized outputs of
/// those before; encodings of weights and given ones stay as they are.
///
/// `recorded` are the options that the container was made with; what it does not record is the default.
func layerByLayer(
  _ container: Graph, _ recorded: [String: String], _ samples: MeasurementSamples
) throws(Diagnostic) -> Graph {
  var kept = container.annotatedFloat()
  var options = QuantizerOptions(recorded: recorded)
  // A grid may round what is logarithmized or divided by to 0: that is what is to be shown, no reason to stop.
  options.skipNonfinite = true
  let biases = kept.biases()
  for index in kept.tensors.indices {
    let tensor = kept.tensors[index]
    guard let encoding = tensor.encoding else { continue }
    let isParameter = tensor.constant != nil
    let is32BitBias = biases.contains(TensorID(index)) && encoding.bitwidth == 32
    let isDecided = tensor.encodingSource == .override || tensor.encodingSource == .source
    guard !is32BitBias || isDecided else {
      // Its grid is that of input and weight: found again.
      kept.tensors[index].clearAnnotations()
      kept.tensors[index].bitwidth = nil
      options.biasBitwidth = 32
      continue
    }
    if isParameter || isDecided { continue }
    kept.tensors[index].clearAnnotations()
    if encoding.bitwidth != options.actBitwidth { kept.tensors[index].bitwidth = encoding.bitwidth }
    if encoding.symmetric, options.actSchema == .asymmetric {
      options.schemas[tensor.name] = .symmetric
    }
  }
  let graph = kept
  let progress: @Sendable (Int) -> Void = { _ in samples.progress() }
  let float = try observe(
    graph, backend: samples.backend, sampleCount: samples.count, load: samples.load, jobs: samples.jobs,
    options: ObservationOptions(options), progress: progress)
  let statistics = try observeSequentially(
    graph, float: float, options: options, backend: samples.backend, sampleCount: samples.count,
    load: samples.load, jobs: samples.jobs, progress: { _, _ in samples.progress() })
  return try assignEncodings(graph, statistics: statistics, options: options, jobs: samples.jobs)
    .materialized()
}

extension Graph {
  /// Constants that are biases.
  fileprivate func biases() -> Set<TensorID> {
    var found = Set<TensorID>()
    for node in nodes {
      for (slot, id) in node.inputs.enumerated() {
        if let id, self[id].constant != nil, node.op.quantization.input(slot) == .bias { found.insert(id) }
      }
    }
    return found
  }
}

extension QuantizerOptions {
  /// What a container records of activations' calibration (``normalized``), defaults elsewhere. Weights
  /// have their encodings; grids never give way to biases.
  init(recorded: [String: String]) {
    self.init()
    func value<Value>(_ name: String, _ make: (String) -> Value?) -> Value? { recorded[name].flatMap(make) }
    actBitwidth = value("act_bitwidth") { Int($0) } ?? actBitwidth
    biasBitwidth = value("bias_bitwidth") { Int($0) } ?? biasBitwidth
    actCalibration = value("act_quantizer_calibration", CalibrationMethod.init) ?? actCalibration
    actSchema = value("act_quantizer_schema", QuantizerSchema.init) ?? actSchema
    paramSchema = value("param_quantizer_schema", QuantizerSchema.init) ?? paramSchema
    actRule = value("act_quantizer", RangeRule.init) ?? actRule
    maskDistance = value("mask_distance") { Double($0) } ?? maskDistance
    strictSymmetric = recorded["strict_symmetric"] == "true"
    includeDataInvariantOps = recorded["include_data_invariant_ops"] == "true"
    steps = recorded["restrict_quantization_steps"].flatMap { text -> QuantizationSteps? in
      do throws(Diagnostic) { return try QuantizationSteps(parsing: text) } catch { return nil }
    }
    actParameters.percentile = value("act.percentile") { Double($0) } ?? actParameters.percentile
    actParameters.bins = value("act.num_bins") { Int($0) } ?? actParameters.bins
    actParameters.gamma = value("act.gamma") { Double($0) } ?? actParameters.gamma
    actParameters.asymmetricScales = value("act.delta_candidates") { Int($0) } ?? actParameters.asymmetricScales
    actParameters.offsets = value("act.offset_candidates") { Int($0) } ?? actParameters.offsets
    actParameters.symmetricScales =
      value("act.symmetric_delta_candidates") { Int($0) } ?? actParameters.symmetricScales
    adjustsBiasEncoding = false
  }
}
