import IR

/// Reads the entries of 1.0.0.
struct ListedReader {
  private static let keys = [
    "name", "dtype", "bw", "enc_type", "is_sym", "scale", "offset", "block_size", "compressed_bw",
    "per_block_int_scale", "zero_point_shift", "mode",
  ]
  private static let gridKeys = [
    "is_sym", "scale", "offset", "block_size", "compressed_bw", "per_block_int_scale", "zero_point_shift",
    "mode",
  ]

  /// The entry that an object holds.
  func entry(
    _ value: JSONValue, _ section: EncodingEntry.Section, _ path: JSONPath
  ) throws(Diagnostic) -> EncodingEntry {
    var fields = try JSONFields(value, path)
    let name = try fields.string("name")
    fields.tensor = name
    try fields.check(known: Self.keys)
    let bitwidth = try fields.int("bw")
    let kind = try fields.kind("dtype")
    let type = fields.has("enc_type") || fields.has("scale") ? try fields.string("enc_type") : "PER_TENSOR"
    if kind == .float {
      try fields.checkFloat(bitwidth, key: "bw", alone: Self.gridKeys)
      try check(type == "PER_TENSOR", fields, "a float entry is PER_TENSOR", "enc_type")
      return EncodingEntry(
        name: name, section: section, kind: .float, bitwidth: bitwidth, path: path.text)
    }
    let rules = try GridRules(bitwidth: bitwidth, fields: fields, key: "bw")
    if fields.has("zero_point_shift") {
      for shift in try fields.doubles("zero_point_shift") where shift != 0 {
        throw fields.failure(
          "a zero_point_shift (\(shift)), as 2-bit codebooks have, is not supported",
          "zero_point_shift", code: "encodings-unsupported")
      }
    }
    if !fields.has("scale") && !fields.has("offset") {
      try check(type == "PER_TENSOR", fields, "\(type) needs scale and offset", nil)
      try check(!rules.isClip, fields, "mode clip needs scale and offset", "mode")
      return EncodingEntry(name: name, section: section, bitwidth: bitwidth, path: path.text)
    }
    if rules.isClip, type != "PER_TENSOR" { throw fields.failure("mode clip is one of whole tensors", "enc_type") }
    if rules.isClip, try fields.bool("is_sym") {
      throw fields.failure("a grid of mode clip is not symmetric", "is_sym")
    }
    let blocks = type == "PER_BLOCK" || type == "LPBQ"
    if !blocks && fields.has("block_size") {
      throw fields.failure("\(type) has no block_size", "block_size")
    }
    if type != "LPBQ" {
      for key in ["compressed_bw", "per_block_int_scale"] where fields.has(key) {
        throw fields.failure("\(type) has no \(key)", key)
      }
    }
    var entry = EncodingEntry(
      name: name, section: section, bitwidth: bitwidth, grids: try grids(fields, rules),
      path: path.text)
    if try fields.bool("is_sym") {
      switch rules.symmetry(of: &entry.grids) {
      case .asymmetric: break
      case .symmetric(let strict): (entry.symmetric, entry.strict) = (true, strict)
      case .contradicted(let index):
        throw JSONFields.failure(
          "is_sym is true, but the offset is \(entry.grids[index].offset), not \(-rules.half)",
          path.member("offset").element(index), name)
      }
    }
    switch type {
    case "PER_TENSOR":
      try check(
        entry.grids.count == 1, fields, "PER_TENSOR has one scale, not \(entry.grids.count)", "scale")
    case "PER_CHANNEL": entry.granularity = .perChannel
    case "PER_BLOCK":
      entry.granularity = .perBlock
      entry.blockSize = try positive("block_size", fields)
    case "LPBQ": try readLowPower(&entry, fields, rules)
    default:
      throw fields.failure(
        "enc_type \(type.debugDescription) is unknown: PER_TENSOR, PER_CHANNEL, PER_BLOCK or LPBQ", "enc_type")
    }
    return entry
  }

  private func check(
    _ condition: Bool, _ fields: JSONFields, _ message: String, _ key: String?
  ) throws(Diagnostic) {
    if !condition { throw fields.failure(message, key) }
  }

  private func positive(_ key: String, _ fields: JSONFields) throws(Diagnostic) -> Int {
    let value = try fields.int(key)
    try check(value > 0, fields, "\(key) must be positive, not \(value)", key)
    return value
  }

  private func grids(_ fields: JSONFields, _ rules: GridRules) throws(Diagnostic) -> [ScaleOffset] {
    let scales = try fields.doubles("scale")
    let offsets = try fields.doubles("offset")
    try check(!scales.isEmpty, fields, "the list is empty", "scale")
    try check(
      scales.count == offsets.count, fields, "\(offsets.count) offsets for \(scales.count) scales",
      "offset")
    var grids: [ScaleOffset] = []
    for index in scales.indices {
      grids.append(
        try rules.grid(
          scale: scales[index], offset: offsets[index],
          scalePlace: fields.path.member("scale").element(index),
          offsetPlace: fields.path.member("offset").element(index)))
    }
    return grids
  }

  private func readLowPower(
    _ entry: inout EncodingEntry, _ fields: JSONFields, _ rules: GridRules
  ) throws(Diagnostic) {
    let width = try fields.int("compressed_bw")
    try check(
      (2..<rules.bitwidth).contains(width), fields,
      "compressed_bw \(width) must be less than bw \(rules.bitwidth)", "compressed_bw")
    try check(entry.symmetric && !entry.strict, fields, "LPBQ is symmetric", "is_sym")
    let values = try fields.array("per_block_int_scale")
    let channels = entry.grids.count
    try check(
      !values.isEmpty && values.count % channels == 0, fields,
      "\(values.count) integers for \(channels) channels", "per_block_int_scale")
    var factors: [Int] = []
    for (index, value) in values.enumerated() {
      factors.append(
        try JSONFields.whole(
          value, fields.path.member("per_block_int_scale").element(index), entry.name))
    }
    try entry.setLowPower(
      channelScales: entry.grids.map(\.scale), factors: factors, stored: width,
      decompressed: rules.bitwidth, fields: fields)
    entry.blockSize = try positive("block_size", fields)
    entry.blockShape = [channels, values.count / channels]
    entry.axis = 1
  }
}

extension EncodingEntry {
  /// Makes this a low-power blockwise entry; `factors` in the order [channel][block].
  mutating func setLowPower(
    channelScales: [Float], factors: [Int], stored: Int, decompressed: Int, fields: JSONFields
  ) throws(Diagnostic) {
    let most = 1 << (decompressed - stored)
    let blocks = factors.count / max(channelScales.count, 1)
    if let wrong = factors.first(where: { !(1...most).contains($0) }) {
      throw fields.failure(
        "the integer scale \(wrong) is outside 1 to \(most)", "per_block_int_scale")
    }
    bitwidth = stored
    symmetric = true
    grids = factors.enumerated().map { index, factor in
      ScaleOffset(
        scale: Float(Double(channelScales[index / blocks]) * Double(factor)),
        offset: Int32(-(1 << (stored - 1))))
    }
    granularity = .lowPowerBlocks(
      LowPowerBlocks(
        channelScales: channelScales, factors: factors, decompressedBitwidth: decompressed))
  }
}
