import IR

/// Numbers beyond the range of float16 in constants that become float16: one warning a tensor.
func halfOverflowNotes(_ graph: Graph) -> [Diagnostic] {
  graph.tensors.compactMap { tensor in
    guard let constant = tensor.constant else { return nil }
    let count = constant.halfOverflows
    guard count > 0 else { return nil }
    return Diagnostic(
      "float16-overflow",
      "\(count) of \(constant.type.count) values are beyond the range of float16 and become "
        + "-65504 or 65504",
      at: .init(tensor: tensor.name), hint: "keep the tensor in 32 bits", severity: .warning)
  }
}

/// Makes every float32 tensor of a graph float16, or only its biases, as the widths say: the weights in
/// the container are half precision, activations are rounded to it. The graph then counts as
/// materialised; it can be quantized later, from its rounded weights. With 32 bits for both nothing
/// changes.
///
/// Gives a warning `float16-overflow` for every constant that the range of float16 does not hold.
public func convertedToHalf(
  _ graph: Graph, floatBitwidth: Int, floatBiasBitwidth: Int? = nil
) throws(Diagnostic) -> (graph: Graph, notes: [Diagnostic]) {
  guard floatBitwidth == 16 || floatBiasBitwidth == 16 else { return (graph, []) }
  var biases = Set<TensorID>()
  var others = Set<TensorID>()
  for node in graph.nodes {
    for (slot, id) in node.inputs.enumerated() {
      guard let id, graph[id].constant != nil else { continue }
      if node.op.quantization.input(slot) == .bias { biases.insert(id) } else { others.insert(id) }
    }
  }
  var result = graph
  var changed = graph
  for index in result.tensors.indices where result.tensors[index].type.element == .float32 {
    let id = TensorID(index)
    let isBias = biases.contains(id) && !others.contains(id)
    if isBias ? (floatBiasBitwidth ?? floatBitwidth) == 16 : floatBitwidth == 16 {
      result.tensors[index].storeAsHalf()
    } else {
      changed.tensors[index].constant = nil
    }
  }
  for index in changed.tensors.indices where changed.tensors[index].type.element != .float32 {
    changed.tensors[index].constant = nil
  }
  result.isMaterialized = true
  try result.checkMaterialized()
  return (result, halfOverflowNotes(changed))
}

extension Graph {
  /// Tensors that stay float and have no width of their own get one where it is 16: activations what
  /// `bitwidth` says, constants what the operator that reads them has, biases what `bias` says (nil: as
  /// their operator).
  public func settlingFloatWidths(_ bitwidth: Int, bias: Int?) -> Graph {
    var graph = self
    var isActivation = [Bool](repeating: false, count: graph.tensors.count)
    for id in graph.inputs { isActivation[id.index] = true }
    for node in graph.nodes {
      for id in node.outputs { isActivation[id.index] = true }
    }
    func isOpen(_ id: TensorID) -> Bool {
      let tensor = graph[id]
      return tensor.type.element == .float32 && tensor.state == .float && tensor.bitwidth == nil
        && tensor.encoding == nil
    }
    if bitwidth == 16 {
      for index in graph.tensors.indices where isActivation[index] && isOpen(TensorID(index)) {
        graph.tensors[index].bitwidth = 16
      }
    }
    let rules = BorderRules(graph: graph, borders: [:], requantizes: false)
    for node in nodes {
      guard case .float(let width) = rules.precision(node) else { continue }
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil, isOpen(id) else { continue }
        switch node.op.quantization.input(slot) {
        case .unquantized: continue
        case .bias: if (bias ?? width) == 16 { graph[id].bitwidth = 16 }
        case .weight, .activation: if width == 16 { graph[id].bitwidth = 16 }
        }
      }
    }
    return graph
  }
}

extension Assigner {
  /// Gives float tensors their widths; tells of values that float16 does not hold.
  mutating func settleFloatWidths() {
    graph = graph.settlingFloatWidths(options.floatBitwidth, bias: options.floatBiasBitwidth)
    if (options.floatBitwidth == 16 || options.floatBiasBitwidth == 16)
      && !graph.tensors.contains(where: { $0.floatBitwidth == 16 })
    {
      let name = options.floatBitwidth == 16 ? "float_bitwidth" : "float_bias_bitwidth"
      notes.append(
        Diagnostic(
          "option-without-effect", "--\(name) 16 changed 0 tensors: none stays float",
          severity: .warning))
    }
    var halves = graph
    for index in halves.tensors.indices where halves.tensors[index].floatBitwidth != 16 {
      halves.tensors[index].constant = nil
    }
    notes += halfOverflowNotes(halves)
  }
}
