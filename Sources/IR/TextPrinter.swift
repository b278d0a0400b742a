/// The text form of a graph: one line a tensor or node, in order. ``Graph/init(text:registry:)`` reads
/// it back. Constants of at most `inlineLimit` elements carry their values, larger ones a hash.
///
///     graph "main" {
///       input %x: float32[1, 4]
///       const %w: float32[2, 4] = [1, 2, 3, 4, 5, 6, 7, 8]
///       %y: float32[1, 2] = FullyConnected(%x, %w) "fc"
///       output %y
///     }
extension Graph {
  /// The text form. Constants with more than `inlineLimit` elements print as `#hash`; pass `Int.max` to
  /// print all values.
  public func text(inlineLimit: Int = 16) -> String {
    var lines = ["graph \(quoted(name)) {"]
    for id in inputs { lines.append("  input \(declaration(self[id]))") }
    for tensor in tensors {
      if let constant = tensor.constant {
        lines.append("  const \(declaration(tensor)) = \(valueText(constant, inlineLimit))")
      }
    }
    for node in nodes {
      let outs = node.outputs.map { declaration(self[$0]) }.joined(separator: ", ")
      let ins = node.inputs.map { $0.map { reference(self[$0].name) } ?? "_" }
      let parameters = node.op.attributes.map { "\($0.name): \(attributeText($0.value))" }
      let braces = parameters.isEmpty ? "" : " {\(parameters.joined(separator: ", "))}"
      let integers = integerNodes.contains(node.name) ? " !int32" : ""
      lines.append(
        "  \(outs) = \(node.op.typeName)(\(ins.joined(separator: ", ")))\(braces) "
          + quoted(node.name) + integers)
    }
    for id in outputs { lines.append("  output \(reference(self[id].name))") }
    lines.append("}")
    return lines.joined(separator: "\n") + "\n"
  }

  private func declaration(_ tensor: Tensor) -> String {
    var result = "\(reference(tensor.name)): \(tensor.type)"
    if let encoding = tensor.encoding { result += " \(encodingText(encoding, tensor.encodingSource))" }
    if tensor.state != .open || tensor.bitwidth != nil || tensor.isUnfused {
      result += " !\(tensor.state.rawValue)"
    }
    if let bitwidth = tensor.bitwidth { result += " \(bitwidth)" }
    if tensor.isUnfused { result += " unfused" }
    if let order = tensor.sourceOrder { result += " order \(order)" }
    return result
  }

  private func encodingText(_ encoding: Encoding, _ source: EncodingSource?) -> String {
    var parts = ["bw \(encoding.bitwidth)"]
    if encoding.symmetric { parts.append("symmetric") }
    if encoding.codeMin != 0 || encoding.codeMax != (1 << encoding.bitwidth) - 1 {
      parts.append("codes \(encoding.codeMin) \(encoding.codeMax)")
    }
    if let axis = encoding.axis { parts.append("axis \(axis)") }
    if let blocks = encoding.blocks { parts.append("block \(blocks.axis) \(blocks.size)") }
    if let scales = encoding.blocks?.lowPower {
      parts.append("expanded \(scales.decompressedBitwidth)")
      parts.append("scale \(scales.channelScales.map { "\($0)" }.joined(separator: " "))")
      parts.append("factor \(scales.factors.map(String.init).joined(separator: " "))")
    } else {
      let grids = encoding.channels.indices.map { "\(encoding.channels[$0].scale) \(shownOffset(encoding, $0))" }
      parts.append("grid \(grids.joined(separator: " "))")
    }
    if let source { parts.append("from \(source.rawValue)") }
    return "<\(parts.joined(separator: "; "))>"
  }

  /// As reports show it, where that tells it: 0 for the signed grid of a 32-bit bias.
  private func shownOffset(_ encoding: Encoding, _ channel: Int) -> Int {
    encoding.symmetric ? encoding.shownOffset(channel: channel) : Int(encoding.channels[channel].offset)
  }

  private func valueText(_ constant: Constant, _ limit: Int) -> String {
    guard constant.type.count <= limit else {
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325
      let bytes = constant.materialized()
      withExtendedLifetime(bytes) {
        for byte in bytes.buffer { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
      }
      return "#" + String(hash, radix: 16)
    }
    let values =
      constant.integers().map { $0.map(String.init) } ?? constant.floats().map { "\($0)" }
    return "[\(values.joined(separator: ", "))]"
  }

  private func attributeText(_ value: AttributeValue) -> String {
    switch value {
    case .bool(let value): value ? "true" : "false"
    case .int(let value): "\(value)"
    case .float(let value): "\(value)f"
    case .string(let value): quoted(value)
    case .ints(let values): "[\(values.map(String.init).joined(separator: ", "))]"
    case .floats(let values): "[\(values.map { "\($0)f" }.joined(separator: ", "))]"
    }
  }

  private func reference(_ name: String) -> String {
    let plain = name.unicodeScalars.allSatisfy {
      $0 == "_" || $0 == "." || ("a"..."z").contains($0) || ("A"..."Z").contains($0)
        || ("0"..."9").contains($0)
    }
    return plain && !name.isEmpty ? "%\(name)" : "%\(quoted(name))"
  }

  private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
