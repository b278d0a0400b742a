import Calibration
import IR

/// The encoding of a weight, and how many of its grids hold nothing but zeros.
struct WeightResult: Sendable {
  var encoding: Encoding
  var zeros: Int
  /// Whether no value is below zero.
  var isNonnegative: Bool
}

/// A weight whose encoding is to be found.
struct WeightWork: Sendable {
  let id: TensorID
  let constant: Constant
  /// Channel axis, -1 for one grid.
  let axis: Int
  let calibrator: Calibrator

  /// Whether one thread alone would keep the others waiting.
  var isLarge: Bool { constant.type.count > 1 << 18 }

  func result(_ graph: Graph, jobs: Int) -> Result<WeightResult, Diagnostic> {
    Result { () throws(Diagnostic) -> WeightResult in
      if !calibrator.readsValues(perChannel: axis >= 0) { return try resultOfRanges(graph[id]) }
      let values = constant.floats()
      let whole = try constantRange(graph[id], values)
      do throws(Diagnostic) {
        guard axis >= 0 else {
          let encoding =
            values.isEmpty
            ? try calibrator.encoding(min: 0, max: 0) : try calibrator.encoding(of: values, jobs: jobs)
          return WeightResult(encoding: encoding, zeros: whole == 0...0 ? 1 : 0, isNonnegative: whole.lowerBound >= 0)
        }
        let shape = constant.type.shape
        let zeros = channelRanges(values, shape: shape, axis: axis).count { $0 == 0...0 }
        return WeightResult(
          encoding: try calibrator.encoding(of: values, shape: shape, axis: axis, jobs: jobs),
          zeros: zeros, isNonnegative: whole.lowerBound >= 0)
      } catch {
        throw error.about(tensor: graph[id].name)
      }
    }
  }

  /// The same where ranges are all that counts: they are found in pieces, without a copy of the weight.
  private func resultOfRanges(_ tensor: Tensor) throws(Diagnostic) -> WeightResult {
    var seen = MinMaxObserver()
    var channels = axis >= 0 ? ChannelRangeObserver(shape: constant.type.shape, axis: axis) : nil
    constant.forEachFloats { piece in
      seen.observe(piece)
      channels?.observe(piece)
    }
    let whole = try constantRange(tensor, seen)
    let ranges = channels?.ranges
    do throws(Diagnostic) {
      let encoding: Encoding
      if let ranges {
        encoding = try calibrator.encoding(ranges: ranges, axis: axis)
      } else {
        encoding = try calibrator.encoding(min: Double(whole.lowerBound), max: Double(whole.upperBound))
      }
      return WeightResult(
        encoding: encoding, zeros: (ranges ?? [whole]).count { $0 == 0...0 }, isNonnegative: whole.lowerBound >= 0)
    } catch {
      throw error.about(tensor: tensor.name)
    }
  }
}

extension Assigner {
  /// A warning about an option.
  mutating func noteWithoutEffect(_ message: String) {
    notes.append(Diagnostic("option-without-effect", message, severity: .warning))
  }

  /// A warning for every operator that pads with zeros a tensor whose grid does not hold zero: grids of
  /// the `clip` rule need not.
  mutating func noteLostZeros() {
    guard options.actRule == .clip else { return }
    for node in graph.nodes {
      let pads = node.op.attributes.contains { attribute in
        guard attribute.name == "pad_amount", case .ints(let list) = attribute.value else { return false }
        return list.contains { $0 != 0 }
      }
      guard pads, let id = node.inputs.first, let id, let encoding = graph[id].encoding,
        encoding.channels.contains(where: {
          !(encoding.codeMin...encoding.codeMax).contains(-Int($0.offset))
        })
      else { continue }
      notes.append(
        Diagnostic(
          "zero-not-on-grid", "it pads \(graph[id].name) with zeros, which the grid of clip does not hold",
          at: .init(node: node.name, tensor: graph[id].name), severity: .warning))
    }
  }

  /// Warnings of restrictions of symmetric grids where there is none.
  mutating func noteOptionsWithoutEffect() {
    noteLostZeros()
    let symmetric = graph.tensors.contains {
      $0.encodingSource == .calibrated && $0.encoding?.symmetric == true
        && $0.encoding?.bitwidth != 32
    }
    guard !symmetric else { return }
    if options.steps != nil {
      noteWithoutEffect(
        "--restrict_quantization_steps changed 0 tensors: none has a symmetric grid")
    }
    if options.strictSymmetric {
      noteWithoutEffect("strict symmetric changed 0 tensors: none has a symmetric grid")
    }
  }

  /// Takes NaN and infinities out of constants: zero, or the largest finite value of that sign. One that is wholly
  /// NaN marks places without a value (a Where puts it there); as a weight it is an error.
  mutating func skipNonfiniteConstants() throws(Diagnostic) {
    var failures: [Diagnostic] = []
    var parameters = Set<TensorID>()
    for node in graph.nodes {
      for case (let slot, let id?) in node.inputs.enumerated() {
        switch node.op.quantization.input(slot) {
        case .weight, .bias: parameters.insert(id)
        case .activation, .unquantized: break
        }
      }
    }
    for index in graph.tensors.indices where graph.tensors[index].type.element == .float32 {
      guard let constant = graph.tensors[index].constant else { continue }
      var values = constant.floats()
      var seen = MinMaxObserver()
      values.withUnsafeBufferPointer { seen.observe($0) }
      guard seen.nonFinite > 0 else { continue }
      let name = graph.tensors[index].name
      let isFill = values.allSatisfy(\.isNaN) && !parameters.contains(TensorID(index))
      guard seen.hasRange || isFill else {
        failures.append(
          Diagnostic(
            "non-finite-weight", "all \(seen.count) values are NaN or infinite", at: .init(tensor: name),
            hint: "repair the model: such values cannot be quantized"))
        continue
      }
      for place in values.indices where !values[place].isFinite {
        values[place] =
          values[place].isNaN
          ? 0 : values[place] > 0 ? max(seen.maximum, 0) : min(seen.minimum, 0)
      }
      graph.tensors[index].constant = Constant(values, shape: constant.type.shape)
      notes.append(
        Diagnostic(
          "skipped-nonfinite",
          "\(seen.nonFinite) of \(seen.count) values are NaN or infinite: zero, or the largest finite "
            + "value of their sign, takes their place", at: .init(tensor: name), severity: .warning))
    }
    if let failure = Diagnostic.combining(failures) { throw failure }
  }

  /// Encodings of weights, per tensor or per channel; one for all users of a shared weight. Searches
  /// are shared out to threads: small weights one each, large ones by channel or candidate.
  mutating func assignWeights() throws(Diagnostic) {
    var work: [WeightWork] = []
    var weights = 0
    for id in constants {
      guard let axis = try weightAxis(id, uses[id] ?? []) else { continue }
      weights += 1
      guard graph[id].state == .open || tiedWeights[id] != nil, let constant = graph[id].constant else { continue }
      let calibrator = options.paramCalibrator(
        bitwidth: graph[id].bitwidth, schema: options.schemas[graph[id].name])
      work.append(WeightWork(id: id, constant: constant, axis: axis, calibrator: calibrator))
    }
    var results = parallelMap(work.count, jobs: jobs) {
      [work, graph, memo, tiedWeights] place -> Result<WeightResult, Diagnostic>? in
      if let known = tiedWeights[work[place].id] ?? memo?[weight: work[place].id] { return .success(known) }
      return work[place].isLarge ? nil : work[place].result(graph, jobs: 1)
    }
    for place in work.indices where results[place] == nil {
      results[place] = work[place].result(graph, jobs: jobs)
    }
    var zeroChannels = 0
    var zeroWeights = 0
    var unsigned = 0
    for (item, result) in zip(work, results) {
      guard let found = try result?.get() else { continue }
      memo?[weight: item.id] = found
      give(item.id, found.encoding, .calibrated)
      zeroChannels += found.zeros
      zeroWeights += found.zeros > 0 ? 1 : 0
      if item.axis >= 0, item.calibrator.schema == .unsignedSymmetric, found.isNonnegative { unsigned += 1 }
    }
    if unsigned > 0 {
      notes.append(
        Diagnostic(
          "unsigned-channels",
          "\(counted(unsigned, "weight")) without negative values \(unsigned == 1 ? "has" : "have") symmetric grids a "
            + "channel, not unsigned ones: a tensor has one type", severity: .warning))
    }
    if zeroChannels > 0 {
      notes.append(
        Diagnostic(
          "zero-channels",
          "\(counted(zeroChannels, "channel")) of \(counted(zeroWeights, "weight")) "
            + (zeroChannels == 1 ? "is all zero and gets the least range" : "are all zero and get the least range"),
          severity: .note))
    }
    let whole = work.count { $0.axis < 0 }
    let rows = work.count { $0.axis >= 0 && isRow($0.id) }
    if options.perChannel && whole + rows == work.count {
      noteWithoutEffect(
        "--use_per_channel_quantization changed 0 weights: no convolution weight is open")
    }
    if options.perRow && rows == 0 {
      noteWithoutEffect(
        "--use_per_row_quantization changed 0 weights: no weight of a FullyConnected or MatMul is open")
    }
    if options.weightsBitwidth != QuantizerOptions().weightsBitwidth && weights == 0 {
      noteWithoutEffect("--weights_bitwidth changed 0 weights: the graph has none")
    }
    if options.paramRule != .none && whole == 0 {
      noteWithoutEffect(
        "--param_quantizer \(options.paramRule.rawValue) changed 0 weights: none has one grid for all")
    }
    if options.paramCalibration != .minMax && work.isEmpty {
      noteWithoutEffect("--param_quantizer_calibration changed 0 weights: none is open")
    }
  }

  /// The channel axis of a constant that is somebody's weight, -1 for an encoding of the whole
  /// tensor, nil for a constant that is no weight.
  func weightAxis(_ id: TensorID, _ uses: [ConstantUse]) throws(Diagnostic) -> Int? {
    var axes: [Int: Int] = [:]
    for use in uses {
      guard case .weight(let axis, let perRow) = use.role else { continue }
      let rank = graph[id].type.rank
      let own = axis < 0 ? axis + rank : axis
      let isWanted = options.channelGrids[graph[id].name] ?? (perRow ? options.perRow : options.perChannel)
      let applies = isWanted && rank > 1 && (0..<rank).contains(own)
      axes[applies ? own : -1] = axes[applies ? own : -1] ?? use.node
    }
    guard axes.count > 1 else { return axes.keys.first }
    let names = axes.values.sorted().map { graph.nodes[$0].name }
    throw Diagnostic(
      "shared-weight-conflict",
      "the operators \(names.joined(separator: ", ")) share this weight and need different "
        + "channel axes",
      at: .init(tensor: graph[id].name),
      hint: "give each operator a copy of the weight, or quantize per tensor")
  }

  /// Whether a weight follows the per-row option.
  private func isRow(_ id: TensorID) -> Bool {
    (uses[id] ?? []).contains {
      if case .weight(_, let perRow) = $0.role { perRow } else { false }
    }
  }

  /// Encodings of constants in the place of activations: the schema of parameters, the width of the
  /// operator that reads them.
  mutating func assignOperands() throws(Diagnostic) {
    assignBounds()
    for id in constants where graph[id].state == .open {
      let found = (uses[id] ?? []).first { $0.role == .activation }
      guard let use = found, let constant = graph[id].constant else { continue }
      let values = constant.floats()
      let range = try constantRange(graph[id], values)
      let made = graph.nodes[use.node].outputs.compactMap { graph[$0].encoding }.first
      var calibrator = options.paramCalibrator(
        bitwidth: graph[id].bitwidth ?? made?.bitwidth ?? options.actBitwidth)
      calibrator.rule = .none
      let encoding =
        values.isEmpty
        ? try calibrator.encoding(min: Double(range.lowerBound), max: Double(range.upperBound))
        : try calibrator.encoding(of: values, jobs: jobs)
      give(id, encoding, .calibrated)
    }
  }

  /// Bounds inside fused pairs take the grid of the pair's output: they limit its codes.
  private mutating func assignBounds() {
    for (bound, node) in graph.boundsOfFusedPairs().sorted(by: { $0.key.index < $1.key.index }) {
      guard graph[bound].state == .open, (uses[bound] ?? []).count == 1,
        let made = graph[node].outputs.first.flatMap({ graph[$0].encoding })
      else { continue }
      give(bound, made, .computed)
    }
  }

  /// Encodings of biases; at 32 bits the weights' grids are widened first where a bias needs it.
  mutating func assignBiases() throws(Diagnostic) {
    var biases: [(id: TensorID, use: ConstantUse, values: [Float])] = []
    for id in constants where wasOpen[id.index] {
      guard let constant = graph[id].constant else { continue }
      let found = (uses[id] ?? []).filter { $0.role == .bias }
      guard !found.isEmpty else { continue }
      let values = constant.floats()
      let range = try constantRange(graph[id], values)
      let bitwidth = graph[id].bitwidth ?? options.biasBitwidth
      if bitwidth != 32 {
        guard graph[id].state == .open else { continue }
        let calibrator = options.biasCalibrator(bitwidth: bitwidth)
        if options.perRowBias, found.allSatisfy({ hasRows($0, count: values.count) }) {
          give(
            id,
            RangeToEncoding.perChannel(
              values.map { min($0, 0)...max($0, 0) }, axis: 0, bitwidth: bitwidth),
            .calibrated)
          rowBiases += 1
          continue
        }
        give(
          id,
          try calibrator.encoding(min: Double(range.lowerBound), max: Double(range.upperBound)),
          .calibrated)
        continue
      }
      for use in found { biases.append((id, use, values)) }
    }
    if options.adjustsBiasEncoding {
      for bias in biases { try widenWeight(of: bias.use, bias: bias.id, bias.values) }
    }
    noteNoisyBiases()
    var names = NameTable(graph)
    for bias in biases {
      let encoding = biasEncoding(bias.use, bias.values)
      if graph[bias.id].state == .open {
        give(bias.id, encoding, .computed)
      } else if graph[bias.id].encoding != encoding {
        // Another user has another grid: this one reads a copy.
        var copy = graph[bias.id]
        copy.name = names.unique(copy.name)
        copy.encoding = encoding
        copy.encodingSource = .computed
        graph.nodes[bias.use.node].inputs[bias.use.slot] =
          existingCopy(copy, of: bias.id)
          ?? graph.add(copy)
      }
    }
  }

  /// A copy of a bias with the same grid that an earlier user got; `copy` then is not needed.
  private func existingCopy(_ copy: Tensor, of id: TensorID) -> TensorID? {
    for use in uses[id] ?? [] {
      guard let other = graph.nodes[use.node].inputs[use.slot], other != id else { continue }
      if graph[other].encoding == copy.encoding { return other }
    }
    return nil
  }

  /// Whether a bias belongs to a weight with a grid for each row.
  private func hasRows(_ use: ConstantUse, count: Int) -> Bool {
    let node = graph.nodes[use.node]
    guard node.inputs.count > 1, let id = node.inputs[1], let axis = graph[id].encoding?.axis,
      case .weight(_, perRow: true) = node.op.quantization.input(1)
    else { return false }
    return graph[id].type.shape[axis] == count
  }

  /// The scale of a bias's input and the scales of its weight, one a channel (the largest of its blocks)
  /// or one in all, where both make a grid for it.
  private func factors(_ use: ConstantUse, count: Int) -> (input: Float, weight: [Float])? {
    let node = graph.nodes[use.node]
    guard node.inputs.count > 1, let input = rules.effectiveEncoding(node, 0), input.axis == nil,
      let grid = input.channels.first, let weight = rules.effectiveEncoding(node, 1),
      let id = node.inputs[1]
    else { return nil }
    guard let axis = weight.axis else { return (grid.scale, [weight.channels.first?.scale ?? 1]) }
    guard graph[id].type.shape.indices.contains(axis), graph[id].type.shape[axis] == count else {
      return nil
    }
    return (grid.scale, (0..<count).map { weight.largestScale(channel: $0, of: count) })
  }

  private func effectiveWeight(_ use: ConstantUse) -> Encoding? {
    rules.effectiveEncoding(graph.nodes[use.node], 1)
  }

  /// Warns of options that nothing in the graph takes.
  mutating func noteIdleOptions() {
    if options.perRowBias && rowBiases == 0 {
      noteWithoutEffect(
        "--enable_per_row_quantized_bias changed 0 biases: "
          + (options.biasBitwidth == 32
            ? "32-bit biases have a grid a row anyway"
            : "no bias belongs to a FullyConnected or MatMul with per-row weights"))
    }
    if options.packs4BitWeights,
      !graph.tensors.contains(where: { $0.constant != nil && $0.encoding?.packedStorage != nil })
    {
      noteWithoutEffect("--pack_4_bit_weights changed 0 weights: none has 4 bits")
    }
    if !options.adjustsBiasEncoding && options.biasBitwidth != 32 {
      noteWithoutEffect("--no-adjust_bias_encoding changed nothing: biases have \(options.biasBitwidth) bits")
    }
    if options.keepsWeightsQuantized && keptWeights == 0 {
      noteWithoutEffect("--keep_weights_quantized changed 0 weights: no operator with weights stays float")
    }
  }

  /// Widens the grid of a weight just enough for the bias to fit 32 bits.
  private mutating func widenWeight(
    of use: ConstantUse, bias: TensorID, _ values: [Float]
  ) throws(Diagnostic) {
    let node = graph.nodes[use.node]
    guard let (input, scales) = factors(use, count: values.count), let id = node.inputs[1],
      graph[id].constant != nil, let weight = graph[id].encoding
    else { return }
    for (index, value) in values.enumerated() {
      let channel = weight.axis == nil ? 0 : index
      let old =
        weight.blocks == nil
        ? graph[id].encoding?.channels[channel].scale ?? scales[channel] : scales[channel]
      let new = BiasGrid.fittingWeightScale(bias: value, input: input, weight: old)
      guard new != old else { continue }
      guard new.isFinite, wasOpen[id.index], weight.blocks == nil else {
        throw Diagnostic(
          "bias-overflow",
          "bias \(graph[bias].name), channel \(index), value \(value), overflows 32 bits with "
            + "scale \(input) of the input and the given scale \(old) of the weight",
          at: .init(node: node.name, tensor: graph[id].name),
          hint: "give a larger scale, or use --bias_bitwidth 8 or --no-adjust_bias_encoding")
      }
      graph[id].encoding?.channels[channel].scale = new
      let what = weight.axis == nil ? "whole weight" : "weight's channel \(channel)"
      notes.append(
        Diagnostic(
          "bias-widened",
          "scale of the \(what) widened from \(old) to \(new), \(new / old) times, for bias "
            + "\(graph[bias].name), which holds \(value)",
          at: .init(node: node.name, tensor: graph[id].name),
          hint: weight.axis == nil ? "--use_per_channel_quantization widens single channels only" : nil,
          severity: weight.axis == nil ? .warning : .note))
    }
  }

  /// The 32-bit encoding of a bias for one user: the product of the grids, or its own range where
  /// there is no product.
  private mutating func biasEncoding(_ use: ConstantUse, _ values: [Float]) -> Encoding {
    if let (input, weight) = factors(use, count: values.count) {
      let scales = weight.map { BiasGrid.scale(input: input, weight: $0) }
      let perChannel = effectiveWeight(use)?.axis != nil
      let fits = values.enumerated().allSatisfy { index, value in
        abs(value) / scales[perChannel ? index : 0] <= BiasGrid.limit
      }
      if fits { return BiasGrid.encoding(scales, perChannel: perChannel) }
    }
    notes.append(
      Diagnostic(
        "bias-own-range",
        "the 32-bit bias has the grid of its own range: input and weight give none that fits",
        at: .init(node: graph.nodes[use.node].name), severity: .warning))
    let largest = values.reduce(0) { max($0, abs($1)) }
    return RangeToEncoding.encoding(
      min: -Double(largest), max: Double(largest), bitwidth: 32, schema: .symmetric)
  }
}
