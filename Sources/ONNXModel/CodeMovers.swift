import IR
import Operators

/// Operators that only move or select values, and so work on codes as on what the codes stand for: they
/// are translated as float operators between a DequantizeLinear and a QuantizeLinear of the same grid,
/// which the pass absorb-quantization takes away again.
enum CodeMovers {
  private static let names: Set<String> = [
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split",
    "Gather", "Pad", "Concat", "Resize", "DepthToSpace", "SpaceToDepth", "Expand", "Tile",
    "GlobalMaxPool",
  ]

  /// The grid of the codes that a node moves; nil where it reads none, or does something else to them.
  static func grid(_ node: ONNXNode, _ inputs: [Value?]) -> CodeGrid? {
    guard node.domain.isEmpty, names.contains(node.opType), let first = inputs.first ?? nil,
      let grid = first.codes, first.constant == nil, grid.encoding.axis == nil
    else { return nil }
    if node.opType == "Concat" {
      guard inputs.allSatisfy({ $0?.codes == grid && $0?.constant == nil }) else { return nil }
    }
    if node.opType == "Pad", inputs.count > 2, let filler = inputs[2] {
      guard filler.constant != nil, filler.type.element == grid.element else { return nil }
    }
    return grid
  }

  /// The operands with the real values in place of codes.
  static func floats(
    _ node: ONNXNode, _ inputs: [Value?], _ grid: CodeGrid, _ builder: GraphBuilder
  ) throws(Diagnostic) -> [Value?] {
    var result = inputs
    for (slot, value) in inputs.enumerated() where slot == 0 || node.opType == "Concat" {
      if let value { result[slot] = try builder.dequantize(value, grid) }
    }
    guard node.opType == "Pad" else { return result }
    let filler: Constant
    if inputs.count > 2, let given = inputs[2]?.constant {
      filler = given
    } else {
      filler = Constant(
        type: TensorType(grid.element, []),
        bytes: Bytes([UInt8](repeating: 0, count: grid.element.byteWidth)))
    }
    while result.count < 3 { result.append(nil) }
    result[2] = builder.constant(
      try builder.compute(DequantizeLinear(grid), filler), named: "\(node.outputs.first ?? "pad").fill")
    return result
  }

  /// The results as codes again.
  static func codes(
    _ results: [Value?], _ node: ONNXNode, _ grid: CodeGrid, _ builder: GraphBuilder
  ) throws(Diagnostic) -> [Value?] {
    var made: [Value?] = []
    for (slot, value) in results.enumerated() {
      guard let value, value.type.element == .float32, slot == 0 || node.opType == "Split" else {
        made.append(value)
        continue
      }
      let name = slot < node.outputs.count ? node.outputs[slot] : "\(value.name).codes"
      builder.nameFloat(value, for: name)
      var codes = try builder.emit(
        QuantizeLinear(grid), [value], node: "\(name).codes", tensors: ["\(name).value"])[0]
      codes.codes = grid
      made.append(codes)
    }
    return made
  }

  /// The name of the float tensor that the codes `name` stand for: ONNX Runtime's quantizer puts
  /// `_quantized` behind it.
  static func floatName(_ name: String) -> String {
    name.hasSuffix("_quantized") ? String(name.dropLast("_quantized".count)) : "\(name).float"
  }

  /// The name of the float constant that the constant codes `name` were made of; nil where the name does
  /// not tell, or means something else.
  static func constantName(_ name: String, _ builder: GraphBuilder) -> String? {
    let wanted = floatName(name)
    return name.hasSuffix("_quantized") && !builder.isSourceName(wanted) ? wanted : nil
  }
}

extension GraphBuilder {
  /// Gives a tensor that still has a made-up name the name that belongs to the codes `name`.
  func nameFloat(_ value: Value, for name: String) {
    let wanted = CodeMovers.floatName(name)
    guard case .tensor(let id) = value.source, !isSourceName(wanted) else { return }
    _ = adopt(id, as: wanted)
  }
}
