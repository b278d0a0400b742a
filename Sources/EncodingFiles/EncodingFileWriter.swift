import IR

extension EncodingFile {
  /// The file's text in the layout of ``generation``: sorted keys, the same bytes for equal entries.
  ///
  /// What a layout cannot hold is an error (`encodings-unwritable`), but for three things that AIMET
  /// leaves out of 2.0.0 too: floats have no entry there, strict symmetric loses its mark, entries of
  /// sections become one list.
  public func encoded() throws(Diagnostic) -> [UInt8] {
    var document: [String: JSONText] = [
      "version": .string(generation.rawValue),
      "producer": .object(["package": .string("qtools"), "version": .string("1")]),
    ]
    switch generation {
    case .keyed:
      for (section, key) in Self.sections {
        var members: [String: JSONText] = [:]
        for entry in entries where entry.writtenSection == section {
          members[entry.name] = try entry.keyedText()
        }
        document[key] = .object(members)
      }
    case .listed:
      for (section, key) in Self.sections {
        var items: [JSONText] = []
        for entry in entries where entry.writtenSection == section {
          items.append(try entry.listedText())
        }
        document[key] = .list(items)
      }
    case .onnx:
      var items: [JSONText] = []
      for entry in entries where entry.kind == .int { items.append(try entry.onnxText()) }
      document["encodings"] = .list(items)
    }
    return JSONText.object(document).document
  }

  private static let sections = [
    (EncodingEntry.Section.activation, "activation_encodings"), (.param, "param_encodings"),
  ]
}

extension EncodingEntry {
  /// The section of older layouts; entries of 2.0.0 are told apart by what only parameters have.
  fileprivate var writtenSection: Section {
    if section != .any { return section }
    return granularity != .perTensor || symmetric || bitwidth == 32 ? .param : .activation
  }

  private func unwritable(_ message: String) -> Diagnostic {
    Diagnostic("encodings-unwritable", message, at: .init(tensor: name))
  }

  /// Whether zero is not on the grid: the rule `clip` makes such ones, which are marked (`mode: clip`).
  private var isClip: Bool {
    kind == .int && bitwidth < 32 && grids.contains { !(-((1 << bitwidth) - 1)...0).contains(Int($0.offset)) }
  }

  private func number(_ scale: Float) -> JSONText { .float(Double(scale)) }

  /// The offset as AIMET writes it: strict grids begin at their lowest code in use.
  private func writtenOffset(_ grid: ScaleOffset) -> Int { Int(grid.offset) + (strict ? 1 : 0) }

  fileprivate func keyedText() throws(Diagnostic) -> JSONText {
    let type: [String: JSONText] = ["bitwidth": .int(bitwidth), "dtype": .string(kind.rawValue)]
    if grids.isEmpty { return .list([.object(type)]) }
    guard granularity == .perTensor || granularity == .perChannel else {
      throw unwritable("version 0.6.1 has no block-wise encodings")
    }
    return .list(
      grids.map { grid in
        let step = Double(grid.scale)
        let low = writtenOffset(grid)
        let high = Int(grid.offset) + (1 << bitwidth) - 1
        var numbers: [String: JSONText] = [
          "is_symmetric": .string(symmetric ? "True" : "False"),
          "min": .float(Double(low) * step + 0), "max": .float(Double(high) * step + 0),
          "scale": .float(step), "offset": .float(Double(low)),
        ]
        if isClip { numbers["mode"] = .string("clip") }
        return .object(numbers.merging(type) { first, _ in first })
      })
  }

  fileprivate func listedText() throws(Diagnostic) -> JSONText {
    var fields: [String: JSONText] = [
      "name": .string(name), "dtype": .string(kind == .int ? "INT" : "FLOAT"), "bw": .int(bitwidth),
      "enc_type": .string("PER_TENSOR"),
    ]
    if grids.isEmpty { return .object(fields) }
    fields["is_sym"] = .bool(symmetric)
    fields["scale"] = .list(grids.map { number($0.scale) })
    fields["offset"] = .list(grids.map { .float(Double(writtenOffset($0))) })
    if isClip { fields["mode"] = .string("clip") }
    if let blockSize { fields["block_size"] = .int(blockSize) }
    switch granularity {
    case .perTensor: break
    case .perChannel: fields["enc_type"] = .string("PER_CHANNEL")
    case .perBlock: fields["enc_type"] = .string("PER_BLOCK")
    case .lowPowerBlocks(let blocks):
      let width = blocks.decompressedBitwidth
      fields["enc_type"] = .string("LPBQ")
      fields["bw"] = .int(width)
      fields["compressed_bw"] = .int(bitwidth)
      fields["scale"] = .list(blocks.channelScales.map(number))
      fields["offset"] = .list(blocks.channelScales.map { _ in .int(-(1 << (width - 1))) })
      fields["per_block_int_scale"] = .list(blocks.factors.map(JSONText.int))
    }
    return .object(fields)
  }

  fileprivate func onnxText() throws(Diagnostic) -> JSONText {
    guard [2, 4, 8, 16, 32].contains(bitwidth) else {
      throw unwritable("version 2.0.0 has no type of \(bitwidth) bits")
    }
    var fields: [String: JSONText] = [
      "name": .string(name), "output_dtype": .string("\(symmetric ? "int" : "uint")\(bitwidth)"),
    ]
    if grids.isEmpty { return .object(fields) }
    let shift = symmetric ? 1 << (bitwidth - 1) : 0
    let scales = grids.map { number($0.scale) }
    let zeros = grids.map { -Int($0.offset) - shift }
    let hasZero = zeros.contains { $0 != 0 }
    if isClip { fields["mode"] = .string("clip") }
    switch granularity {
    case .perTensor:
      fields["y_scale"] = scales[0]
      if hasZero { fields["y_zero_point"] = .int(zeros[0]) }
    case .perChannel:
      guard let axis else { throw unwritable("version 2.0.0 needs the channel axis, which is not known") }
      fields["axis"] = .int(axis)
      fields["y_scale"] = .list(scales)
      if hasZero { fields["y_zero_point"] = .list(zeros.map(JSONText.int)) }
    case .perBlock, .lowPowerBlocks:
      guard let axis, let blockSize, let blockShape else {
        throw unwritable("version 2.0.0 needs the shape of the blocks, which is not known")
      }
      fields["axis"] = .int(axis)
      fields["block_size"] = .int(blockSize)
      if case .lowPowerBlocks(let blocks) = granularity {
        var channelShape = blockShape
        channelShape[axis] = 1
        fields["per_channel_float_scale"] = nest(blocks.channelScales.map(number), channelShape)
        fields["per_block_int_scale"] = nest(spread(blocks.factors.map(JSONText.int), blockShape), blockShape)
      } else {
        fields["y_scale"] = nest(spread(scales, blockShape), blockShape)
        if hasZero { fields["y_zero_point"] = nest(spread(zeros.map(JSONText.int), blockShape), blockShape) }
      }
    }
    return .object(fields)
  }

  /// Values in the order [channel][block] put back to the order of a nested list.
  private func spread(_ values: [JSONText], _ shape: [Int]) -> [JSONText] {
    var result = values
    for (index, position) in channelMajorOrder(shape).enumerated() { result[position] = values[index] }
    return result
  }

  private func nest(_ values: [JSONText], _ shape: [Int]) -> JSONText {
    var level = values
    for size in shape.reversed() {
      level = stride(from: 0, to: level.count, by: max(size, 1)).map {
        .list(Array(level[$0..<min($0 + size, level.count)]))
      }
    }
    return level.first ?? .list([])
  }
}
