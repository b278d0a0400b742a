import Calibration
import IR

extension Assigner {
  /// Encodings of weights, per tensor or per channel; one for all users of a shared weight.
  mutating func assignWeights() throws(Diagnostic) {
    var zeroChannels = 0
    var zeroWeights = 0
    var perChannel = 0
    var weights = 0
    for id in constants {
      guard let axis = try weightAxis(id) else { continue }
      weights += 1
      guard graph[id].state == .open, let constant = graph[id].constant else { continue }
      let values = constant.floats()
      let whole = try constantRange(graph[id], values)
      var zeros = 0
      if axis >= 0 {
        let list = channelRanges(values, shape: constant.type.shape, axis: axis)
        perChannel += 1
        zeros = list.count { $0 == 0...0 }
        give(
          id,
          RangeToEncoding.perChannel(list, axis: axis, bitwidth: options.weightsBitwidth),
          .calibrated)
      } else {
        zeros = whole == 0...0 ? 1 : 0
        give(
          id,
          RangeToEncoding.encoding(
            min: Double(whole.lowerBound), max: Double(whole.upperBound),
            bitwidth: options.weightsBitwidth, schema: options.paramSchema), .calibrated)
      }
      zeroChannels += zeros
      zeroWeights += zeros > 0 ? 1 : 0
    }
    if zeroChannels > 0 {
      notes.append(
        Diagnostic(
          "zero-channels",
          "\(zeroChannels) channels of \(zeroWeights) weights are all zero and get the least range",
          severity: .note))
    }
    if options.perChannel && perChannel == 0 {
      notes.append(
        Diagnostic(
          "option-without-effect",
          "--use_per_channel_quantization changed 0 weights: no convolution weight is open",
          severity: .warning))
    }
    if options.weightsBitwidth != QuantizerOptions().weightsBitwidth && weights == 0 {
      notes.append(
        Diagnostic(
          "option-without-effect", "--weights_bitwidth changed 0 weights: the graph has none",
          severity: .warning))
    }
  }

  /// The channel axis of a constant that is somebody's weight, -1 for an encoding of the whole
  /// tensor, nil for a constant that is no weight.
  private func weightAxis(_ id: TensorID) throws(Diagnostic) -> Int? {
    var axes: [Int: Int] = [:]
    for use in uses[id] ?? [] {
      guard case .weight(let axis, let perRow) = use.role else { continue }
      let rank = graph[id].type.rank
      let own = axis < 0 ? axis + rank : axis
      let applies = options.perChannel && !perRow && rank > 1 && (0..<rank).contains(own)
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

  /// Encodings of constants in the place of activations: the schema of parameters, the width of the
  /// operator that reads them.
  mutating func assignOperands() throws(Diagnostic) {
    for id in constants where graph[id].state == .open {
      let found = (uses[id] ?? []).first { $0.role == .activation }
      guard let use = found, let constant = graph[id].constant else { continue }
      let range = try constantRange(graph[id], constant.floats())
      let made = graph.nodes[use.node].outputs.compactMap { graph[$0].encoding }.first
      give(
        id,
        RangeToEncoding.encoding(
          min: Double(range.lowerBound), max: Double(range.upperBound),
          bitwidth: made?.bitwidth ?? options.actBitwidth, schema: options.paramSchema),
        .calibrated)
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
      if options.biasBitwidth != 32 {
        guard graph[id].state == .open else { continue }
        give(
          id,
          RangeToEncoding.encoding(
            min: Double(range.lowerBound), max: Double(range.upperBound),
            bitwidth: options.biasBitwidth, schema: options.paramSchema), .calibrated)
        continue
      }
      for use in found { biases.append((id, use, values)) }
    }
    for bias in biases { try widenWeight(of: bias.use, bias: bias.id, bias.values) }
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

  /// The scale of a bias's input and the encoding of its weight, where both make a grid for it.
  private func factors(_ use: ConstantUse, count: Int) -> (input: Float, weight: Encoding)? {
    let node = graph.nodes[use.node]
    guard node.inputs.count > 1, let input = rules.effectiveEncoding(node, 0), input.axis == nil,
      let grid = input.channels.first, let weight = rules.effectiveEncoding(node, 1),
      weight.axis == nil || weight.channels.count == count
    else { return nil }
    return (grid.scale, weight)
  }

  /// Widens the grid of a weight just enough for the bias to fit 32 bits.
  private mutating func widenWeight(
    of use: ConstantUse, bias: TensorID, _ values: [Float]
  ) throws(Diagnostic) {
    let node = graph.nodes[use.node]
    guard let (input, weight) = factors(use, count: values.count), let id = node.inputs[1],
      graph[id].constant != nil
    else { return }
    for (index, value) in values.enumerated() {
      let channel = weight.axis == nil ? 0 : index
      guard let old = graph[id].encoding?.channels[channel].scale else { return }
      let new = BiasGrid.fittingWeightScale(bias: value, input: input, weight: old)
      guard new != old else { continue }
      guard new.isFinite, wasOpen[id.index] else {
        throw Diagnostic(
          "bias-overflow",
          "bias \(graph[bias].name), channel \(index), value \(value), overflows 32 bits with "
            + "scale \(input) of the input and the given scale \(old) of the weight",
          at: .init(node: node.name, tensor: graph[id].name),
          hint: "give a larger scale for the weight, or use --bias_bitwidth 8")
      }
      graph[id].encoding?.channels[channel].scale = new
      notes.append(
        Diagnostic(
          "bias-widened",
          "scale of the weight's channel \(channel) widened from \(old) to \(new): bias "
            + "\(graph[bias].name) holds \(value)",
          at: .init(node: node.name, tensor: graph[id].name), severity: .note))
    }
  }

  /// The 32-bit encoding of a bias for one user: the product of the grids, or its own range where
  /// there is no product.
  private mutating func biasEncoding(_ use: ConstantUse, _ values: [Float]) -> Encoding {
    if let (input, weight) = factors(use, count: values.count) {
      let scales = weight.channels.map { BiasGrid.scale(input: input, weight: $0.scale) }
      let fits = values.enumerated().allSatisfy { index, value in
        abs(value) / scales[weight.axis == nil ? 0 : index] <= BiasGrid.limit
      }
      if fits { return BiasGrid.encoding(scales, perChannel: weight.axis != nil) }
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
