extension Graph {
  /// Reads the text form that ``Graph/text(inlineLimit:)`` prints. Large constants printed as a hash are
  /// an error: their values are not in the text. `//` starts a comment. Throws with the line.
  public init(text: String, registry: OperatorRegistry) throws(Diagnostic) {
    var parser = TextParser(text)
    self = try parser.graph(registry)
  }
}

private struct TextParser {
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var ids: [String: TensorID] = [:]

  init(_ text: String) { scalars = Array(text.unicodeScalars) }

  private func fail(_ message: String) -> Diagnostic {
    Diagnostic("text-syntax", message, at: .init(file: "text", line: line))
  }

  private mutating func skipSpace() {
    while position < scalars.count {
      let scalar = scalars[position]
      if scalar == "\n" { line += 1 }
      if scalar == " " || scalar == "\n" || scalar == "\t" || scalar == "\r" {
        position += 1
      } else if scalar == "/", position + 1 < scalars.count, scalars[position + 1] == "/" {
        while position < scalars.count, scalars[position] != "\n" { position += 1 }
      } else {
        return
      }
    }
  }

  private mutating func accept(_ token: Unicode.Scalar) -> Bool {
    skipSpace()
    guard position < scalars.count, scalars[position] == token else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ token: Unicode.Scalar) throws(Diagnostic) {
    if !accept(token) { throw fail("expected '\(token)'") }
  }

  private func isWord(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "_" || scalar == "." || scalar == "-" || scalar == "+"
      || ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
      || ("0"..."9").contains(scalar)
  }

  private mutating func word() throws(Diagnostic) -> String {
    skipSpace()
    var result = String.UnicodeScalarView()
    while position < scalars.count, isWord(scalars[position]) {
      result.append(scalars[position])
      position += 1
    }
    if result.isEmpty { throw fail("expected a word") }
    return String(result)
  }

  /// A whole number, where one comes next.
  private mutating func number() -> Int? {
    let (start, startLine) = (position, line)
    if let found = try? word(), let value = Int(found) { return value }
    (position, line) = (start, startLine)
    return nil
  }

  private mutating func keyword(_ expected: String) -> Bool {
    let (start, startLine) = (position, line)
    if let found = try? word(), found == expected { return true }
    (position, line) = (start, startLine)
    return false
  }

  private mutating func string() throws(Diagnostic) -> String {
    try expect("\"")
    var result = String.UnicodeScalarView()
    while position < scalars.count {
      let scalar = scalars[position]
      position += 1
      if scalar == "\"" { return String(result) }
      if scalar == "\n" { break }
      if scalar == "\\", position < scalars.count {
        let escaped = scalars[position]
        position += 1
        result.append(escaped == "n" ? "\n" : escaped == "r" ? "\r" : escaped)
      } else {
        result.append(scalar)
      }
    }
    throw fail("text without a closing quote")
  }

  private mutating func name() throws(Diagnostic) -> String {
    try expect("%")
    return position < scalars.count && scalars[position] == "\"" ? try string() : try word()
  }

  private mutating func int() throws(Diagnostic) -> Int {
    let text = try word()
    guard let value = Int(text) else { throw fail("'\(text)' is not a whole number") }
    return value
  }

  private mutating func float() throws(Diagnostic) -> Float {
    let text = try word()
    guard let value = Float(text) else { throw fail("'\(text)' is not a number") }
    return value
  }

  private mutating func list<Item>(
    _ item: (inout TextParser) throws(Diagnostic) -> Item
  ) throws(Diagnostic) -> [Item] {
    try expect("[")
    var result: [Item] = []
    if accept("]") { return result }
    repeat { result.append(try item(&self)) } while accept(",")
    try expect("]")
    return result
  }

  private mutating func type() throws(Diagnostic) -> TensorType {
    let text = try word()
    guard let element = DataType(rawValue: text) else { throw fail("no element type '\(text)'") }
    let type = TensorType(
      element, try list { (parser: inout TextParser) throws(Diagnostic) in try parser.int() })
    if type.checkedCount() == nil { throw fail("\(type) is not a valid shape") }
    return type
  }

  private mutating func declaration() throws(Diagnostic) -> Tensor {
    let name = try name()
    if ids[name] != nil { throw fail("tensor \(name) is declared twice") }
    try expect(":")
    var tensor = Tensor(name: name, type: try type())
    if accept("<") { tensor.encoding = try encoding(&tensor.encodingSource) }
    if accept("!") {
      let text = try word()
      guard let state = QuantizationState(rawValue: text) else { throw fail("no state '\(text)'") }
      tensor.state = state
      if let bitwidth = number() {
        guard (2...32).contains(bitwidth) else { throw fail("bitwidth out of range") }
        tensor.bitwidth = bitwidth
      }
      tensor.isUnfused = keyword("unfused")
    }
    if keyword("order") {
      let order = try list { (parser: inout TextParser) throws(Diagnostic) in try parser.int() }
      guard order.sorted() == Array(0..<tensor.type.rank) else {
        throw fail("\(order) is not an order of \(tensor.type.rank) axes")
      }
      tensor.sourceOrder = order
    }
    return tensor
  }

  /// The parts between `<` and `>`.
  private mutating func encoding(_ source: inout EncodingSource?) throws(Diagnostic) -> Encoding {
    var encoding = Encoding(bitwidth: 8, channels: [])
    var scales: LowPowerScales?
    var hasCodes = false
    repeat {
      switch try word() {
      case "bw": encoding.bitwidth = try int()
      case "symmetric": encoding.symmetric = true
      case "axis": encoding.axis = try int()
      case "block": encoding.blocks = EncodingBlocks(axis: try int(), size: try int())
      case "codes":
        encoding.codeMin = try int()
        encoding.codeMax = try int()
        hasCodes = true
      case "from": source = EncodingSource(rawValue: try word())
      case "expanded":
        scales = LowPowerScales(channelScales: [], factors: [], decompressedBitwidth: try int())
      case "scale":
        repeat { scales?.channelScales.append(try float()) } while hasWord()
      case "factor":
        repeat { scales?.factors.append(try int()) } while hasWord()
      case "grid":
        repeat {
          let scale = try float()
          guard let offset = Int32(exactly: try int()) else { throw fail("offset out of range") }
          encoding.channels.append(ScaleOffset(scale: scale, offset: offset))
        } while hasWord()
      case let other: throw fail("unknown part '\(other)' of an encoding")
      }
    } while accept(";")
    try expect(">")
    guard (2...32).contains(encoding.bitwidth) else { throw fail("bitwidth out of range") }
    if encoding.bitwidth == 32, encoding.symmetric {
      // 0 stands for the signed grid.
      for index in encoding.channels.indices where encoding.channels[index].offset == 0 {
        encoding.channels[index].offset = .min
      }
    }
    if let scales {
      guard encoding.blocks != nil, let grids = scales.grids(bitwidth: encoding.bitwidth) else {
        throw fail("the factors are not those of blocks of channels")
      }
      encoding.blocks?.lowPower = scales
      encoding.channels = grids
    }
    if !hasCodes { encoding.codeMax = (1 << encoding.bitwidth) - 1 }
    return encoding
  }

  /// Whether a word comes next.
  private mutating func hasWord() -> Bool {
    skipSpace()
    return position < scalars.count && isWord(scalars[position])
  }

  private mutating func constant(_ type: TensorType) throws(Diagnostic) -> Constant {
    if accept("#") { throw fail("the values of a constant printed as a hash are not in the text") }
    let words = try list { (parser: inout TextParser) throws(Diagnostic) in try parser.word() }
    if words.count != type.count {
      throw fail("\(words.count) values for \(type.count) elements")
    }
    if type.element == .float32 {
      let values = words.compactMap { Float($0) }
      if values.count != words.count { throw fail("a value is not a number") }
      return Constant(values, shape: type.shape)
    }
    let values = words.compactMap { Int($0) }
    if values.count != words.count { throw fail("a value is not a whole number") }
    let bytes: Bytes
    switch type.element.byteWidth {
    case 1: bytes = Bytes(values.map { UInt8(truncatingIfNeeded: $0) })
    case 2: bytes = Bytes(values.map { UInt16(truncatingIfNeeded: $0) })
    case 4: bytes = Bytes(values.map { UInt32(truncatingIfNeeded: $0) })
    default: bytes = Bytes(values.map { Int64($0) })
    }
    return Constant(type: type, bytes: bytes)
  }

  private mutating func attribute() throws(Diagnostic) -> AttributeValue {
    skipSpace()
    guard position < scalars.count else { throw fail("expected a value") }
    if scalars[position] == "\"" { return .string(try string()) }
    if scalars[position] == "[" {
      let words = try list { (parser: inout TextParser) throws(Diagnostic) in try parser.word() }
      let ints = words.compactMap { Int($0) }
      if ints.count == words.count { return .ints(ints) }
      let floats = words.compactMap { Float($0.hasSuffix("f") ? String($0.dropLast()) : $0) }
      if floats.count == words.count { return .floats(floats) }
      throw fail("a list of numbers is expected")
    }
    let text = try word()
    if text == "true" || text == "false" { return .bool(text == "true") }
    if let value = Int(text) { return .int(value) }
    for candidate in [String(text.dropLast()), text] {
      if let value = Float(candidate) { return .float(value) }
    }
    throw fail("'\(text)' is not a value")
  }

  mutating func graph(_ registry: OperatorRegistry) throws(Diagnostic) -> Graph {
    guard keyword("graph") else { throw fail("expected 'graph'") }
    var graph = Graph(name: try string())
    try expect("{")
    while !accept("}") {
      if keyword("input") {
        let tensor = try declaration()
        ids[tensor.name] = graph.add(tensor)
        graph.inputs.append(TensorID(graph.tensors.count - 1))
      } else if keyword("const") {
        var tensor = try declaration()
        try expect("=")
        tensor.constant = try constant(tensor.type)
        ids[tensor.name] = graph.add(tensor)
      } else if keyword("output") {
        graph.outputs.append(try use())
      } else {
        try node(&graph, registry)
      }
    }
    graph.isMaterialized = graph.tensors.contains { $0.type.element.isFixedPoint }
    return graph
  }

  private mutating func use() throws(Diagnostic) -> TensorID {
    let text = try name()
    guard let id = ids[text] else { throw fail("tensor \(text) is not declared before its use") }
    return id
  }

  private mutating func node(_ graph: inout Graph, _ registry: OperatorRegistry) throws(Diagnostic) {
    var outputs: [Tensor] = []
    repeat { outputs.append(try declaration()) } while accept(",")
    try expect("=")
    let type = try word()
    try expect("(")
    var inputs: [TensorID?] = []
    if !accept(")") {
      repeat {
        skipSpace()
        inputs.append(keyword("_") ? nil : try use())
      } while accept(",")
      try expect(")")
    }
    var attributes: [Attribute] = []
    if accept("{") {
      repeat {
        let key = try word()
        try expect(":")
        attributes.append(Attribute(key, try attribute()))
      } while accept(",")
      try expect("}")
    }
    let nodeName = try string()
    if accept("!") {
      guard keyword("int32") else { throw fail("only !int32 may follow a node") }
      graph.integerNodes.insert(nodeName)
    }
    var made: [TensorID] = []
    for tensor in outputs {
      let id = graph.add(tensor)
      if ids.updateValue(id, forKey: tensor.name) != nil {
        throw fail("tensor \(tensor.name) is declared twice")
      }
      made.append(id)
    }
    let op: any Operator
    do {
      op = try registry.make(type, attributes)
    } catch {
      var located = error
      located.location.line = line
      throw located
    }
    graph.nodes.append(Node(name: nodeName, op: op, inputs: inputs, outputs: made))
  }
}
