import IR

/// Reads the entries of 0.4 to 0.6.1: for each tensor a list with an object a channel.
struct KeyedReader {
  /// Whether the version demands the keys that 0.5 brought.
  let isTyped: Bool
  private(set) var notes: [Diagnostic] = []

  init(isTyped: Bool) { self.isTyped = isTyped }

  private static let keys = ["bitwidth", "dtype", "is_symmetric", "min", "max", "scale", "offset", "mode"]

  private struct Channel {
    var kind: EncodingEntry.Kind
    var bitwidth: Int
    var symmetric: Bool
    var grid: ScaleOffset?
    var strict = false
    var isFromRange = false
    var disagreement: String?
  }

  /// The entry of one tensor.
  mutating func entry(
    _ name: String, _ value: JSONValue, _ section: EncodingEntry.Section, _ path: JSONPath
  ) throws(Diagnostic) -> EncodingEntry {
    guard case .array(let list) = value else {
      throw JSONFields.failure(
        "a list with an encoding a channel is expected, not \(value.kind)", path, name)
    }
    var channels: [Channel] = []
    for (index, item) in list.enumerated() {
      let fields = try JSONFields(item, path.element(index), tensor: name)
      let channel = try self.channel(fields)
      if let first = channels.first,
        first.kind != channel.kind || first.bitwidth != channel.bitwidth
          || first.symmetric != channel.symmetric || (first.grid == nil) != (channel.grid == nil)
      {
        throw fields.failure("the channels differ in dtype, bitwidth, symmetry or what they give")
      }
      channels.append(channel)
    }
    guard let first = channels.first else {
      throw JSONFields.failure("the list of encodings is empty", path, name)
    }
    if channels.count > 1, first.grid == nil {
      throw JSONFields.failure(
        "\(channels.count) encodings without ranges: a precision is given once", path, name)
    }
    if channels.count > 1, try JSONFields(list[0], path.element(0), tensor: name).has("mode") {
      throw JSONFields.failure("mode clip is one of whole tensors, not of channels", path, name)
    }
    report(channels, name, path)
    var entry = EncodingEntry(
      name: name, section: section, kind: first.kind, bitwidth: first.bitwidth,
      granularity: channels.count > 1 ? .perChannel : .perTensor,
      grids: channels.compactMap(\.grid), path: path.text)
    if first.symmetric, entry.isPrecisionOnly {
      var found = JSONFields.failure(
        "is_symmetric without a range has no effect: the options decide how the calibrated range becomes a grid",
        path.element(0).member("is_symmetric"), name, code: "encodings-ignored")
      found.severity = .warning
      notes.append(found)
    }
    if first.symmetric, !entry.grids.isEmpty { try settle(&entry, channels, list, path) }
    return entry
  }

  /// One warning a tensor for scales and offsets that disagree with the range.
  private mutating func report(_ channels: [Channel], _ name: String, _ path: JSONPath) {
    let wrong = channels.indices.filter { channels[$0].disagreement != nil }
    guard let first = wrong.first, let text = channels[first].disagreement else { return }
    let count = wrong.count > 1 ? " (and \(wrong.count - 1) channels more)" : ""
    var found = JSONFields.failure(
      "\(text)\(count)", path.element(first), name,
      code: "encodings-disagree")
    found.severity = .warning
    notes.append(found)
  }

  private mutating func settle(
    _ entry: inout EncodingEntry, _ channels: [Channel], _ list: [JSONValue], _ path: JSONPath
  ) throws(Diagnostic) {
    let fields = try JSONFields(list[0], path.element(0), tensor: entry.name)
    let rules = try GridRules(bitwidth: entry.bitwidth, fields: fields, key: "bitwidth")
    switch rules.symmetry(of: &entry.grids) {
    case .asymmetric: break
    case .symmetric(let strict):
      entry.symmetric = true
      entry.strict = strict || channels.allSatisfy(\.strict)
    case .contradicted(let index):
      let place = path.element(index)
      let offset = entry.grids[index].offset
      let message = "is_symmetric is true, but the offset is \(offset), not \(-rules.half)"
      guard channels[index].isFromRange else {
        throw JSONFields.failure(message, place.member("offset"), entry.name)
      }
      var found = JSONFields.failure(
        "\(message): min and max are taken as an asymmetric grid", place, entry.name,
        code: "encodings-disagree")
      found.severity = .warning
      notes.append(found)
    }
  }

  private mutating func channel(_ fields: JSONFields) throws(Diagnostic) -> Channel {
    try fields.check(known: Self.keys)
    let bitwidth = try fields.int("bitwidth")
    var kind = EncodingEntry.Kind.int
    if isTyped || fields.has("dtype") { kind = try fields.kind("dtype") }
    let hasRange = fields.has("min") || fields.has("max")
    let hasGrid = fields.has("scale") || fields.has("offset")
    if kind == .float {
      try fields.checkFloat(bitwidth, key: "bitwidth", alone: Self.keys.filter { $0 != "bitwidth" && $0 != "dtype" })
      return Channel(kind: .float, bitwidth: bitwidth, symmetric: false)
    }
    let rules = try GridRules(bitwidth: bitwidth, fields: fields, key: "bitwidth")
    var channel = Channel(kind: .int, bitwidth: bitwidth, symmetric: false)
    if fields.has("is_symmetric") || (isTyped && (hasRange || hasGrid)) {
      channel.symmetric = try fields.bool("is_symmetric")
    }
    if rules.isClip {
      guard !channel.symmetric else { throw fields.failure("a grid of mode clip is not symmetric", "is_symmetric") }
      // The range is for display: what follows from it would hold zero.
      for key in ["min", "max"] where fields.has(key) { _ = try fields.double(key) }
      channel.grid = try rules.grid(
        scale: try fields.double("scale"), offset: try fields.double("offset"),
        scalePlace: fields.path.member("scale"), offsetPlace: fields.path.member("offset"))
    } else if hasRange {
      let (min, max) = (try fields.double("min"), try fields.double("max"))
      let scale = hasGrid ? try fields.double("scale") : nil
      let offset = hasGrid ? try fields.double("offset") : nil
      if let scale { _ = try rules.scale(scale, fields.path.member("scale")) }
      if let offset { try checkWritten(offset, rules) }
      let made = try RangeRules(rules: rules).grid(
        min: min, max: max, symmetric: channel.symmetric, scale: scale, offset: offset)
      channel.grid = made.grid
      channel.strict = made.strict
      channel.isFromRange = true
      channel.disagreement = made.disagreement
    } else if hasGrid {
      var offset = try fields.double("offset")
      try checkWritten(offset, rules)
      if offset > 0 {
        // 0.4 of TensorFlow: real = (q - offset) * scale.
        guard !isTyped else {
          throw fields.failure("the offset \(offset) is positive: it must be 0 or less", "offset")
        }
        channel.disagreement = "offset \(offset) is positive and read as \(-offset), since there is no range to tell"
        offset = -offset
      }
      channel.grid = try rules.grid(
        scale: try fields.double("scale"), offset: offset, scalePlace: fields.path.member("scale"),
        offsetPlace: fields.path.member("offset"))
    }
    return channel
  }

  /// Throws where an offset of either sign cannot belong to the width.
  private func checkWritten(_ offset: Double, _ rules: GridRules) throws(Diagnostic) {
    guard let whole = Int(exactly: offset) else {
      throw rules.fields.failure("the offset \(offset) is not a whole number", "offset")
    }
    guard whole.magnitude <= rules.steps + 1 else {
      throw rules.fields.failure(
        "the offset \(whole) is outside the range of \(rules.bitwidth) bits", "offset")
    }
  }
}

extension JSONFields {
  /// `int` or `float`, in any case.
  func kind(_ key: String) throws(Diagnostic) -> EncodingEntry.Kind {
    let text = try string(key)
    guard let kind = EncodingEntry.Kind(rawValue: text.lowercased()) else {
      throw failure(
        "dtype must be int or float, not \(text.debugDescription)", key,
        code: text.lowercased().hasPrefix("float8") ? "encodings-unsupported" : "encodings-format")
    }
    return kind
  }

  /// Throws where a float entry has another width than 16 and 32, or one of the keys of a grid.
  func checkFloat(_ bitwidth: Int, key: String, alone: [String]) throws(Diagnostic) {
    guard bitwidth == 16 || bitwidth == 32 else {
      throw failure(
        "a float of \(bitwidth) bits is not supported: 16 or 32", key,
        code: bitwidth == 8 ? "encodings-unsupported" : "encodings-format")
    }
    for name in alone where has(name) {
      throw failure("a float entry has no \(name)", name)
    }
  }
}
