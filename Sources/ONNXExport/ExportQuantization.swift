import IR

/// Grids as QuantizeLinear and DequantizeLinear behind values, float16 as Casts.
extension ExportSession {
  /// Whether a tensor's value passes through its grid in the model.
  func isQuantized(_ id: TensorID) -> Bool {
    form == .quantized && graph[id].encoding != nil && !fused.contains(id)
      && type(id).element == .float32
  }

  /// Whether a tensor is stored as float16: its values are rounded to that.
  func isHalf(_ id: TensorID) -> Bool {
    graph[id].type.element == .float16 && graph[id].constant == nil && graph[id].encoding == nil
      && !fused.contains(id)
  }

  /// There and back by Cast, into the tensor's own name or another one.
  func roundToHalf(_ id: TensorID, _ raw: String, _ layout: [Int], into given: String? = nil) {
    let half = names.unique(graph[id].name + "_float16")
    let name = given ?? valueName(id, layout)
    append("Cast", [raw], [("to", .int(Int(DataType.float16.onnxCode)))], outputs: [half], name: half)
    append(
      "Cast", [half], [("to", .int(Int(DataType.float32.onnxCode)))], outputs: [name],
      name: graph[id].name + "_float32")
    places[id]?.name = name
    types[name] = permuted(type(id), layout)
  }

  /// Registers a made value as that of a tensor, quantized where it has an encoding.
  func finish(_ id: TensorID, _ raw: String, _ layout: [Int]) throws(Diagnostic) {
    let tensor = graph[id]
    places[id] = Place(name: raw, layout: layout)
    if isHalf(id) { return roundToHalf(id, raw, layout) }
    guard isQuantized(id), let encoding = tensor.encoding else { return }
    let name = valueName(id, layout)
    places[id]?.name = name
    types[name] = permuted(type(id), layout)
    try quantize(raw, encoding, tensor: tensor, layout: layout, into: name)
  }

  /// QuantizeLinear and DequantizeLinear behind a value.
  func quantize(
    _ value: String, _ encoding: Encoding, tensor: Tensor, layout: [Int], into output: String
  ) throws(Diagnostic) {
    let grid = try GridForm(
      encoding, shape: layout.map { tensor.type.shape[$0] }, layout: layout, lead: 0, tensor: tensor.name)
    require(grid.opset)
    var source = value
    if !grid.fillsType {
      let bounds = encoding.channels.indices.map {
        (Float(encoding.minimum(channel: $0)), Float(encoding.maximum(channel: $0)))
      }
      guard bounds.count == 1 else {
        throw Diagnostic(
          "onnx-no-form", "codes of a part of the type, a grid a channel", at: .init(tensor: tensor.name))
      }
      source = names.unique(tensor.name + "_clipped")
      let limits = [
        try scalar(bounds[0].0, .float32, tensor.name + "_lowest"),
        try scalar(bounds[0].1, .float32, tensor.name + "_highest"),
      ]
      append("Clip", [value] + limits, [], outputs: [source], name: source)
    }
    let codes = names.unique(tensor.name + "_quantized")
    let scale = constant(grid.scales, tensor.name + "_scale")
    let zero = initializer(grid.zeros, grid.code, grid.zeroShape, tensor.name + "_zero_point")
    append(
      "QuantizeLinear", [source, scale, zero], grid.attributes, outputs: [codes], name: codes)
    append(
      "DequantizeLinear", [codes, scale, zero], grid.attributes, outputs: [output],
      name: tensor.name + "_dequantize")
  }
}
