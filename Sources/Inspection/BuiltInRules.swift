import IR

extension EncodingRule {
  /// The rules that need no file, in the order of the report.
  public static let builtIn = [
    symmetricWeights, symmetricChannels, dataInvariantTies, concatTies, fixedRanges, biasScale,
    exactZero, rangeLimit, wideNorms, knownBitwidths, complete,
  ]

  static let symmetricWeights = EncodingRule(
    name: "symmetric-weights", summary: "weights are symmetric", severity: .warning
  ) { encoded, _, found in
    for operand in encoded.parameters {
      guard case .weight = operand.role, let encoding = operand.tensor.encoding,
        encoding.axis == nil, !encoding.symmetric
      else { continue }
      found.append(
        Finding(
          node: operand.node.name, tensor: operand.tensor.name,
          message: "the weight is asymmetric, offset \(encoding.shownOffset())"))
    }
  }

  static let symmetricChannels = EncodingRule(
    name: "symmetric-channels", summary: "grids a channel are symmetric", severity: .error
  ) { encoded, _, found in
    for tensor in encoded.graph.tensors {
      guard let encoding = tensor.encoding, encoding.axis != nil, !encoding.symmetric else { continue }
      found.append(Finding(tensor: tensor.name, message: "it has an asymmetric grid a channel"))
    }
  }

  static let dataInvariantTies = EncodingRule(
    name: "data-invariant-ties", summary: "operators that only move data keep the encoding",
    severity: .error
  ) { encoded, _, found in
    for node in encoded.graph.nodes {
      for (index, output) in node.outputs.enumerated() {
        guard case .sameAsInput(let slot) = node.op.quantization.output(index),
          node.inputs.indices.contains(slot), let input = node.inputs[slot],
          let before = encoded.encoding(input), let after = encoded.encoding(output), before != after
        else { continue }
        found.append(
          Finding(
            node: node.name, tensor: encoded.graph[output].name,
            message: "\(after.shortText) is not that of \(encoded.graph[input].name), \(before.shortText)"))
      }
    }
  }

  static let concatTies = EncodingRule(
    name: "concat-ties", summary: "a Concat and its inputs share one encoding", severity: .warning
  ) { encoded, limits, found in
    for node in encoded.graph.nodes {
      guard case .tiedToInputs = node.op.quantization.output(0), let output = node.outputs.first,
        let joined = encoded.encoding(output)
      else { continue }
      for case let input? in node.inputs {
        let source = encoded.beforeConvert(input)
        guard let own = encoded.encoding(source), own != joined, own.bitwidth == joined.bitwidth,
          let (step, other) = firstSteps(own, joined), other <= step * limits.concatGrowth
        else { continue }
        found.append(
          Finding(
            node: node.name, tensor: encoded.graph[source].name,
            message: "\(own.shortText) is not that of the Concat, \(joined.shortText)"))
      }
    }
  }

  static let fixedRanges = EncodingRule(
    name: "fixed-ranges", summary: "Softmax, Sigmoid and Tanh have the range of their function",
    severity: .warning
  ) { encoded, _, found in
    for node in encoded.graph.nodes {
      for (index, output) in node.outputs.enumerated() {
        guard case .fixedUnit(let signed) = node.op.quantization.output(index),
          let encoding = encoded.encoding(output), let grid = encoding.channels.first
        else { continue }
        let bits = encoding.bitwidth - (signed ? 1 : 0)
        let offset = signed ? -(1 << bits) : 0
        if grid.scale == 1 / Float(1 << bits), Int(grid.offset) == offset { continue }
        found.append(
          Finding(
            node: node.name, tensor: encoded.graph[output].name,
            message: "\(encoding.shortText) is not scale 2^-\(bits), offset \(offset)"))
      }
    }
  }

  static let biasScale = EncodingRule(
    name: "bias-scale", summary: "the scale of a 32-bit bias is input scale times weight scale",
    severity: .error
  ) { encoded, limits, found in
    for node in encoded.graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard case .bias = node.op.quantization.input(slot), let id,
          let bias = encoded.graph[id].encoding, bias.bitwidth == 32,
          let input = node.inputs.first ?? nil, node.inputs.count > 1, let weight = node.inputs[1],
          let first = encoded.encoding(input)?.channels.first,
          let second = encoded.graph[weight].encoding
        else { continue }
        let shape = encoded.graph[weight].type.shape
        let count = second.axis.flatMap { shape.indices.contains($0) ? shape[$0] : nil } ?? 1
        // Where a channel has blocks, the largest of their scales counts.
        let scales = (0..<max(count, 1)).map { second.largestScale(channel: $0, of: count) }
        let wrong = bias.channels.indices.first { channel in
          let expected = Double(first.scale) * Double(scales[min(channel, scales.count - 1)])
          return abs(Double(bias.channels[channel].scale) - expected) > limits.biasScale * expected
        }
        guard let wrong else { continue }
        let scale = scales[min(wrong, scales.count - 1)]
        found.append(
          Finding(
            node: node.name, tensor: encoded.graph[id].name,
            message: "scale \(bias.channels[wrong].scale) of channel \(wrong) is not \(first.scale) * \(scale)"))
      }
    }
  }

  static let exactZero = EncodingRule(
    name: "exact-zero", summary: "zero is a code of every grid", severity: .error
  ) { encoded, _, found in
    for tensor in encoded.graph.tensors {
      guard let encoding = tensor.encoding, encoding.bitwidth < 32 else { continue }
      let wrong = encoding.channels.indices.first { channel in
        !(encoding.codeMin...encoding.codeMax).contains(-Int(encoding.channels[channel].offset))
      }
      guard let wrong else { continue }
      found.append(
        Finding(
          tensor: tensor.name,
          message: "its grid from \(encoding.minimum(channel: wrong)) to "
            + "\(encoding.maximum(channel: wrong)) has no zero"))
    }
  }

  static let rangeLimit = EncodingRule(
    name: "range-limit", summary: "ranges of activations stay below a limit", severity: .warning
  ) { encoded, limits, found in
    for (_, tensor) in encoded.activations {
      guard let encoding = tensor.encoding else { continue }
      let low = encoding.channels.indices.map { encoding.minimum(channel: $0) }.min() ?? 0
      let high = encoding.channels.indices.map { encoding.maximum(channel: $0) }.max() ?? 0
      if max(-low, high) <= limits.range { continue }
      found.append(
        Finding(tensor: tensor.name, message: "its range \(low) to \(high) passes \(limits.range)"))
    }
  }

  static let wideNorms = EncodingRule(
    name: "norm-16-bit", summary: "normalizations over axes work on 16 bits", severity: .warning
  ) { encoded, _, found in
    for node in encoded.graph.nodes
    where ["LayerNorm", "RmsNorm", "InstanceNorm", "GroupNorm"].contains(node.op.typeName) {
      for id in [node.inputs.first ?? nil, node.outputs.first].compactMap({ $0 }) {
        guard let encoding = encoded.encoding(id), encoding.bitwidth < 16 else { continue }
        found.append(
          Finding(
            node: node.name, tensor: encoded.graph[id].name,
            message: "it has \(encoding.bitwidth) bits at a \(node.op.typeName)"))
      }
    }
  }

  static let knownBitwidths = EncodingRule(
    name: "known-bitwidths",
    summary: "activations have 8 or 16 bits, weights 4, 8 or 16, biases 8 or 32", severity: .warning
  ) { encoded, _, found in
    let parameters = Dictionary(
      encoded.parameters.map { ($0.id, $0.role) }, uniquingKeysWith: { one, _ in one })
    for (index, tensor) in encoded.graph.tensors.enumerated() {
      guard let encoding = tensor.encoding else { continue }
      let known: [Int]
      switch parameters[TensorID(index)] {
      case .weight: known = [4, 8, 16]
      case .bias: known = [8, 32]
      case .activation, .unquantized, nil: known = [8, 16]
      }
      if known.contains(encoding.bitwidth) { continue }
      found.append(Finding(tensor: tensor.name, message: "it has \(encoding.bitwidth) bits"))
    }
  }

  static let complete = EncodingRule(
    name: "complete", summary: "a quantized graph leaves no float tensor undecided", severity: .error
  ) { encoded, _, found in
    guard encoded.graph.isMaterialized else { return }
    for tensor in encoded.graph.tensors
    where tensor.type.element.isFloat && tensor.encoding == nil && tensor.state == .open {
      found.append(Finding(tensor: tensor.name, message: "it is neither quantized nor float by choice"))
    }
  }

  /// The steps of the first grids of two encodings.
  private static func firstSteps(_ a: Encoding, _ b: Encoding) -> (Double, Double)? {
    guard let first = a.channels.first, let second = b.channels.first else { return nil }
    return (Double(first.scale), Double(second.scale))
  }
}
