import IR

/// Reads the entries of 2.0.0 and 2.1.0: ONNX's QuantizeLinear, `real = (q - zero point) * scale` with
/// q of the stored type.
struct ONNXReader {
  private static let keys = [
    "name", "output_dtype", "y_scale", "y_zero_point", "axis", "block_size",
    "per_channel_float_scale", "per_block_int_scale", "mode",
  ]

  /// The entry that an object holds.
  func entry(_ value: JSONValue, _ path: JSONPath) throws(Diagnostic) -> EncodingEntry {
    var fields = try JSONFields(value, path)
    let name = try fields.string("name")
    fields.tensor = name
    if fields.has("bw") {
      throw fields.failure("bw belongs to version 1.0.0; here output_dtype tells the width", "bw")
    }
    try fields.check(known: Self.keys)
    let type = try fields.string("output_dtype")
    if type == "float16" || type == "float32" {
      let width = type == "float16" ? 16 : 32
      try fields.checkFloat(
        width, key: "output_dtype", alone: Self.keys.filter { $0 != "name" && $0 != "output_dtype" })
      return EncodingEntry(
        name: name, section: .any, kind: .float, bitwidth: width, path: path.text)
    }
    if type.hasPrefix("float") || type.hasPrefix("bfloat") {
      throw fields.failure(
        "\(type) is not supported", "output_dtype", code: "encodings-unsupported")
    }
    let signed = type.hasPrefix("int")
    guard signed || type.hasPrefix("uint"), let width = Int(type.dropFirst(signed ? 3 : 4)),
      [2, 4, 8, 16, 32].contains(width)
    else {
      throw fields.failure(
        "output_dtype \(type.debugDescription) is unknown: int or uint with 2, 4, 8, 16 or 32 bits",
        "output_dtype")
    }
    let rules = try GridRules(bitwidth: width, fields: fields, key: "output_dtype")
    var entry = EncodingEntry(name: name, section: .any, bitwidth: width, path: path.text)
    if fields.has("per_channel_float_scale") || fields.has("per_block_int_scale") {
      try readLowPower(&entry, fields, rules, signed: signed)
      return entry
    }
    guard fields.has("y_scale") else {
      for key in ["y_zero_point", "axis", "block_size", "mode"] where fields.has(key) {
        throw fields.failure("\(key) is given without y_scale", key)
      }
      return entry
    }
    try readGrids(&entry, fields, rules, signed: signed)
    return entry
  }

  private func readGrids(
    _ entry: inout EncodingEntry, _ fields: JSONFields, _ rules: GridRules, signed: Bool
  ) throws(Diagnostic) {
    let (shape, scales) = try fields.nested("y_scale")
    if rules.isClip, signed || !shape.isEmpty {
      throw fields.failure("mode clip is one of whole tensors of unsigned type", "mode")
    }
    var zeros = [Double](repeating: 0, count: scales.count)
    if fields.has("y_zero_point") {
      let (zeroShape, values) = try fields.nested("y_zero_point")
      guard zeroShape == shape else {
        throw fields.failure(
          "the shape \(zeroShape) of the zero points differs from \(shape) of the scales",
          "y_zero_point")
      }
      zeros = values
    }
    let shift = signed ? Double(rules.half) : 0
    for (scale, zero) in zip(scales, zeros) {
      let lowest = -shift
      let isValue = rules.isClip || (lowest...(lowest + Double(rules.steps))).contains(zero)
      guard zero == zero.rounded(), isValue else {
        throw fields.failure(
          "the zero point \(zero) is no value of the output_dtype", "y_zero_point")
      }
      entry.grids.append(
        try rules.grid(
          scale: scale, offset: 0 - (zero + shift), scalePlace: fields.path.member("y_scale"),
          offsetPlace: fields.path.member("y_zero_point")))
    }
    entry.symmetric = signed && zeros.allSatisfy { $0 == 0 }
    if fields.has("block_size") {
      entry.granularity = .perBlock
      try readBlocks(&entry, fields, shape)
      entry.grids = entry.channelMajor(entry.grids, shape)
    } else if shape.isEmpty {
      if fields.has("axis") { throw fields.failure("axis is given, but y_scale is one number", "axis") }
    } else {
      guard shape.count == 1 else {
        throw fields.failure("nested scales need a block_size", "y_scale")
      }
      entry.granularity = .perChannel
      entry.axis = try fields.int("axis")
    }
  }

  private func readBlocks(
    _ entry: inout EncodingEntry, _ fields: JSONFields, _ shape: [Int]
  ) throws(Diagnostic) {
    let size = try fields.int("block_size")
    guard size > 0 else { throw fields.failure("block_size must be positive, not \(size)", "block_size") }
    let axis = try fields.int("axis")
    let own = axis < 0 ? axis + shape.count : axis
    guard shape.count > 1, shape.indices.contains(own) else {
      throw fields.failure("the axis \(axis) of the blocks is outside the scales' shape \(shape)", "axis")
    }
    entry.axis = own
    entry.blockSize = size
    entry.blockShape = shape
  }

  private func readLowPower(
    _ entry: inout EncodingEntry, _ fields: JSONFields, _ rules: GridRules, signed: Bool
  ) throws(Diagnostic) {
    for key in ["y_scale", "y_zero_point"] where fields.has(key) {
      throw fields.failure("\(key) has no place beside per_block_int_scale", key)
    }
    guard signed, rules.bitwidth <= 16 else {
      throw fields.failure("low-power blocks are int with 2 to 16 bits", "output_dtype")
    }
    let (channelShape, scales) = try fields.nested("per_channel_float_scale")
    let (shape, values) = try fields.nested("per_block_int_scale")
    try readBlocks(&entry, fields, shape)
    var expected = shape
    if let axis = entry.axis { expected[axis] = 1 }
    guard channelShape == expected else {
      throw fields.failure(
        "the shape \(channelShape) must be \(expected)", "per_channel_float_scale")
    }
    var channels: [Float] = []
    for scale in scales {
      channels.append(try rules.scale(scale, fields.path.member("per_channel_float_scale")))
    }
    var factors: [Int] = []
    for value in values {
      factors.append(
        try JSONFields.whole(.number(value), fields.path.member("per_block_int_scale"), entry.name))
    }
    try entry.setLowPower(
      channelScales: channels, factors: entry.channelMajor(factors, shape), stored: rules.bitwidth,
      decompressed: 2 * rules.bitwidth, fields: fields)
  }
}

extension EncodingEntry {
  /// Positions in a nested list of `shape`, with the block axis moved innermost.
  func channelMajorOrder(_ shape: [Int]) -> [Int] {
    guard let axis, shape.indices.contains(axis) else { return Array(0..<shape.reduce(1, *)) }
    let inner = shape[(axis + 1)...].reduce(1, *)
    let blocks = shape[axis]
    let outer = shape[..<axis].reduce(1, *)
    var order: [Int] = []
    order.reserveCapacity(outer * blocks * inner)
    for first in 0..<outer {
      for last in 0..<inner {
        for block in 0..<blocks { order.append((first * blocks + block) * inner + last) }
      }
    }
    return order
  }

  /// Values of a nested list in the order [channel][block].
  func channelMajor<Value>(_ values: [Value], _ shape: [Int]) -> [Value] {
    channelMajorOrder(shape).map { values[$0] }
  }
}
