import IR

extension EncodingFile {
  /// The encodings that the tensors of a graph carry, to be written by ``encoded()``.
  ///
  /// Left out are tensors inside fused pairs and those that border operators make: a float graph has
  /// no place for them. Biases of 32 bits are left out before 2.0.0, as AIMET does, unless
  /// `int32Biases` says otherwise. `floatBitwidth` is that of tensors that stay float by choice.
  /// Channel axes are those of the ONNX operators, not those of our channel-last weights. Encodings that
  /// the layout cannot hold are left out too (see ``losses(of:generation:)``).
  public init(
    of graph: Graph, generation: EncodingGeneration, int32Biases: Bool? = nil, floatBitwidth: Int = 32
  ) {
    let writesBiases = int32Biases ?? (generation == .onnx)
    var hidden = Set(graph.fusedIntermediates().keys)
    var roles: [TensorID: (rule: QuantizationRule.Input, type: String)] = [:]
    for node in graph.nodes {
      if ["Convert", "Quantize", "Dequantize"].contains(node.op.typeName) {
        hidden.formUnion(node.outputs)
      }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil, roles[id] == nil else { continue }
        switch node.op.quantization.input(slot) {
        case .weight, .bias: roles[id] = (node.op.quantization.input(slot), node.op.typeName)
        case .activation, .unquantized: break
        }
      }
    }
    hidden.formUnion(Self.followers(graph, generation, hidden))
    var entries: [EncodingEntry] = []
    for (index, tensor) in graph.tensors.enumerated() where !hidden.contains(TensorID(index)) {
      let role = roles[TensorID(index)]
      let section: EncodingEntry.Section =
        generation == .onnx ? .any : role == nil ? .activation : .param
      if let encoding = tensor.encoding {
        guard encoding.bitwidth != 32 || writesBiases else { continue }
        guard Self.canHold(encoding, generation) else { continue }
        entries.append(
          EncodingEntry(
            tensor.name, encoding, section, axis: encoding.axis.map { Self.sourceAxis(tensor, role, $0) },
            tensor: tensor))
      } else if tensor.state == .float, tensor.type.element.isFloat, generation != .onnx {
        entries.append(
          EncodingEntry(
            name: tensor.name, section: section, kind: .float,
            bitwidth: tensor.bitwidth ?? floatBitwidth))
      }
    }
    if generation == .keyed { entries.sort { $0.name < $1.name } }
    self.init(generation: generation, entries: entries)
  }

  /// A warning for each kind of encoding that a file of a generation leaves out or changes: restricted codes
  /// (`--restrict_quantization_steps`) in all, strict symmetric ones in 2.0.0. Grids without zero (the rule `clip`) are
  /// written with scale, offset and the mark `mode: clip`, which is ours.
  public static func losses(of graph: Graph, generation: EncodingGeneration) -> [Diagnostic] {
    let left = graph.tensors.filter { $0.encoding.map { !canHold($0, generation) } ?? false }
    let unmarked = generation == .onnx ? graph.tensors.filter { $0.encoding.map(isStrict) ?? false } : []
    let kinds = [
      (left, "left out: no layout holds restricted codes"),
      (unmarked, "strict symmetric: 2.0.0 cannot say that the lowest code is unused"),
    ]
    return kinds.compactMap { tensors, what in
      guard let first = tensors.first else { return nil }
      return Diagnostic(
        "encoding-not-representable",
        "\(tensors.count) \(tensors.count == 1 ? "encoding is" : "encodings are") \(what)",
        at: .init(tensor: first.name), hint: "the file alone does not give these encodings again",
        severity: .warning)
    }
  }

  private static func isStrict(_ encoding: Encoding) -> Bool {
    encoding.symmetric && encoding.codeMin == 1 && encoding.codeMax == (1 << encoding.bitwidth) - 1
  }

  private static func canHold(_ encoding: Encoding, _ generation: EncodingGeneration) -> Bool {
    let last = (1 << encoding.bitwidth) - 1
    let usesAll = encoding.codeMin == 0 && encoding.codeMax == last
    guard usesAll || isStrict(encoding) else { return false }
    return encoding.bitwidth == 32 || (encoding.axis == nil && !encoding.symmetric)
      || encoding.channels.allSatisfy { (-last...0).contains(Int($0.offset)) }
  }

  /// Tensors that have their encoding from a neighbour by data movement and that a file need not or may
  /// not name: those in another layout than the source's tensor of that name, which only our graph has,
  /// and before 2.0.0 all results of data movement, as AIMET does it.
  private static func followers(
    _ graph: Graph, _ generation: EncodingGeneration, _ hidden: Set<TensorID>
  ) -> Set<TensorID> {
    var found = Set<TensorID>()
    var moved: [(input: TensorID, output: TensorID)] = []
    for node in graph.nodes {
      for (slot, output) in node.outputs.enumerated() {
        guard case .sameAsInput(let index) = node.op.quantization.output(slot), node.inputs.indices.contains(index),
          let input = node.inputs[index], let encoding = graph[output].encoding, graph[input].encoding == encoding
        else { continue }
        moved.append((input, output))
      }
    }
    for (input, output) in moved {
      let (a, b) = (graph[input].name, graph[output].name)
      if b.hasPrefix(a + ".nhwc") { found.insert(output) }
      if a.hasPrefix(b + ".nhwc") { found.insert(input) }
    }
    guard generation != .onnx else { return found }
    let layouts = found
    for (input, output) in moved
    where !layouts.contains(input) && !layouts.contains(output) && !hidden.contains(input) {
      found.insert(output)
    }
    return found
  }

  /// The channel axis of an operand in ONNX's layout: the source's where it is known, else the usual one
  /// of the operator.
  private static func sourceAxis(
    _ tensor: Tensor, _ role: (rule: QuantizationRule.Input, type: String)?, _ axis: Int
  ) -> Int {
    if let order = tensor.sourceOrder { return order[axis] }
    guard let role, case .weight = role.rule else { return axis }
    if role.type.hasPrefix("TransposeConv") { return 1 }
    return role.type.contains("Conv") ? 0 : axis
  }
}

extension EncodingEntry {
  /// The entry of a graph's encoding.
  fileprivate init(
    _ name: String, _ encoding: Encoding, _ section: Section, axis: Int?, tensor: Tensor
  ) {
    let shape = tensor.type.shape
    let half = Int32(truncatingIfNeeded: -(1 << (encoding.bitwidth - 1)))
    let symmetric = encoding.symmetric && encoding.channels.allSatisfy { $0.offset == half }
    self.init(
      name: name, section: section, bitwidth: encoding.bitwidth,
      granularity: axis == nil ? .perTensor : .perChannel, grids: encoding.channels,
      symmetric: symmetric, strict: symmetric && encoding.codeMin == 1, axis: axis)
    guard let blocks = encoding.blocks, let channelAxis = encoding.axis, let axis else { return }
    granularity =
      blocks.lowPower.map {
        .lowPowerBlocks(
          LowPowerBlocks(
            channelScales: $0.channelScales, factors: $0.factors,
            decompressedBitwidth: $0.decompressedBitwidth))
      } ?? .perBlock
    // Convolutions have channels and inputs on their first two axes, in this or the other order.
    let inputs = tensor.sourceOrder?[blocks.axis] ?? (axis == channelAxis ? blocks.axis : 1 - axis)
    var nested = [Int](repeating: 1, count: shape.count)
    nested[axis] = shape[channelAxis]
    nested[inputs] = encoding.blocksPerChannel(shape: shape)
    self.axis = inputs
    blockSize = blocks.size
    blockShape = nested
  }
}
