import EncodingFiles
import IR

extension OverrideApplication {
  /// Gives a tensor what an entry says of it, or collects the reason why not.
  mutating func apply(_ index: Int, _ id: TensorID) {
    let entry = file.entries[index]
    let role = parameters[id]?.first?.role
    switch entry.kind {
    case .float:
      decided[id] = index
      setFloat(id, entry.bitwidth)
    case .int:
      if entry.bitwidth == 32, role == .bias, !entry.isPrecisionOnly {
        biases[id] = index
        return
      }
      if entry.bitwidth == 32, role == nil, graph[id].constant == nil {
        integers[id] = index
        return
      }
      decided[id] = index
      guard hasLegalWidth(entry, id, role) else { return }
      if entry.isPrecisionOnly {
        setPrecision(id, entry.bitwidth)
      } else if let encoding = encoding(entry, id, role) {
        setGiven(id, encoding)
      }
    }
  }

  /// Decides the width of a tensor and leaves its range to calibration.
  mutating func setPrecision(_ id: TensorID, _ bitwidth: Int) {
    graph[id].bitwidth = bitwidth
    report.precisions[graph[id].name] = bitwidth
  }

  mutating func setGiven(_ id: TensorID, _ encoding: Encoding) {
    graph[id].encoding = encoding
    graph[id].encodingSource = .override
    graph[id].state = .given
    graph[id].bitwidth = nil
  }

  mutating func setFloat(_ id: TensorID, _ bitwidth: Int?) {
    graph[id].encoding = nil
    graph[id].encodingSource = .override
    graph[id].state = .float
    graph[id].bitwidth = bitwidth
    if let bitwidth { report.floatBitwidths[graph[id].name] = bitwidth }
  }

  private mutating func hasLegalWidth(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Bool {
    let (kind, allowed): (String, [Int]) =
      switch role {
      case .weight: ("a weight", OperandWidths.allWeights)
      case .bias: ("a bias", OperandWidths.biases)
      default: ("an activation", OperandWidths.activations)
      }
    if allowed.contains(entry.bitwidth) { return true }
    let list = allowed.map(String.init).joined(separator: ", ")
    if entry.bitwidth == 32 {
      errors.append(
        finding(
          "override-int32",
          "\(kind) cannot be a 32-bit integer: only biases and operators without weights can", entry,
          tensor: id))
    } else {
      errors.append(
        finding(
          "override-bitwidth", "\(kind) cannot have \(entry.bitwidth) bits, only \(list)", entry,
          tensor: id))
    }
    return false
  }

  /// The grids of an entry along the axis that the operator gives; nil after an error.
  mutating func encoding(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Encoding? {
    switch entry.granularity {
    case .perTensor: break
    case .perChannel:
      guard let axis = channelAxis(entry, id, role) else { return nil }
      if case .weight = role, !entry.symmetric {
        errors.append(
          finding(
            "override-asymmetric-channels",
            "the encodings of a weight's channels must be symmetric with offset "
              + "\(-(1 << (entry.bitwidth - 1)))", entry, tensor: id))
        return nil
      }
      // A single channel is the whole tensor, which the older layouts cannot tell apart.
      return made(entry, axis: entry.grids.count == 1 ? nil : axis)
    case .perBlock, .lowPowerBlocks: return blockEncoding(entry, id, role)
    }
    return made(entry, axis: nil)
  }

  /// The grids of blocks along the inputs of a weight; nil after an error.
  private mutating func blockEncoding(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Encoding? {
    let type = graph[id].type
    guard case .weight(let channel, _) = role, type.rank > 1, let size = entry.blockSize else {
      errors.append(finding("override-blocks", "only weights can have blocks", entry, tensor: id))
      return nil
    }
    let axis = channel < 0 ? channel + type.rank : channel
    let blockAxis = Encoding.inputAxis(channelAxis: axis, rank: type.rank)
    var encoding = made(entry, axis: axis)
    encoding.blocks = EncodingBlocks(axis: blockAxis, size: size)
    if case .lowPowerBlocks(let scales) = entry.granularity {
      encoding.blocks?.lowPower = LowPowerScales(
        channelScales: scales.channelScales, factors: scales.factors,
        decompressedBitwidth: scales.decompressedBitwidth)
    }
    if let problem = encoding.problem(shape: type.shape) {
      errors.append(
        finding(
          "override-blocks",
          "\(problem): the tensor is \(type) with its channels on axis \(axis) and blocks along axis "
            + "\(blockAxis)", entry, tensor: id))
      return nil
    }
    return encoding
  }

  private func made(_ entry: EncodingEntry, axis: Int?) -> Encoding {
    Encoding(
      bitwidth: entry.bitwidth, symmetric: entry.symmetric, axis: axis, channels: entry.grids,
      codeMin: entry.strict ? 1 : 0)
  }

  /// The axis of an encoding per channel; nil after an error where the tensor has none or another
  /// number of channels.
  private mutating func channelAxis(
    _ entry: EncodingEntry, _ id: TensorID, _ role: QuantizationRule.Input?
  ) -> Int? {
    let shape = graph[id].type.shape
    let count = entry.grids.count
    var axis: Int?
    switch role {
    case .weight(let channel, _): axis = channel < 0 ? channel + shape.count : channel
    case .bias: axis = shape.count == 1 ? 0 : nil
    default: break
    }
    guard let axis, shape.indices.contains(axis) else {
      errors.append(
        finding(
          "override-channels",
          "\(count) encodings are given, but 1 is expected: only weights and biases have channels",
          entry, tensor: id))
      return nil
    }
    guard shape[axis] == count else {
      errors.append(
        finding(
          "override-channels",
          "\(count) encodings are given, but 1 or \(shape[axis]) are expected: the tensor is "
            + "\(graph[id].type) with its channels on axis \(axis)", entry, tensor: id))
      return nil
    }
    return axis
  }
}
