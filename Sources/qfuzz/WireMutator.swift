/// A protobuf message of an ONNX model, taken apart to be changed and put together again with right
/// lengths; what cannot be taken apart stays bytes.
final class WireMessage {
  /// What a field holds.
  enum Value {
    case varint(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes([UInt8])
    case packed([UInt64])
    case message(WireMessage)
  }

  /// The messages that are taken apart.
  enum Kind {
    case model, graph, node, attribute, tensor, sparse, function, valueInfo, type, tensorType, shape, dimension, entry
    case opset

    /// The message in a field, nil where it is none.
    func child(_ number: Int) -> Kind? {
      switch (self, number) {
      case (.model, 7), (.attribute, 6), (.attribute, 11): .graph
      case (.model, 25): .function
      case (.model, 8), (.function, 9): .opset
      case (.graph, 1), (.function, 7): .node
      case (.graph, 5), (.attribute, 5), (.attribute, 10), (.sparse, 1), (.sparse, 2): .tensor
      case (.graph, 11), (.graph, 12), (.graph, 13), (.function, 12): .valueInfo
      case (.graph, 15), (.attribute, 22), (.attribute, 23): .sparse
      case (.function, 11), (.node, 5): .attribute
      case (.valueInfo, 2): .type
      case (.type, 1): .tensorType
      case (.tensorType, 2): .shape
      case (.shape, 1): .dimension
      case (.tensor, 13): .entry
      default: nil
      }
    }

    /// Whether a field is a list of whole numbers.
    func isPacked(_ number: Int) -> Bool {
      switch (self, number) {
      case (.tensor, 1), (.tensor, 5), (.tensor, 7), (.tensor, 11), (.attribute, 8), (.sparse, 3): true
      default: false
      }
    }
  }

  let kind: Kind
  var fields: [(number: Int, value: Value)] = []

  /// Takes `bytes` apart; nil where they are no message.
  init?(_ bytes: ArraySlice<UInt8>, _ kind: Kind, depth: Int = 0) {
    self.kind = kind
    var position = bytes.startIndex
    func varint() -> UInt64? {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while position < bytes.endIndex, shift < 64 {
        let byte = bytes[position]
        position += 1
        value |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
      return nil
    }
    func fixed(_ width: Int) -> UInt64? {
      guard bytes.endIndex - position >= width else { return nil }
      defer { position += width }
      return (0..<width).reversed().reduce(0) { $0 << 8 | UInt64(bytes[position + $1]) }
    }
    while position < bytes.endIndex {
      guard let key = varint(), key >> 3 > 0, key >> 3 < 1 << 29 else { return nil }
      let number = Int(key >> 3)
      switch key & 7 {
      case 0:
        guard let value = varint() else { return nil }
        fields.append((number, .varint(value)))
      case 1:
        guard let value = fixed(8) else { return nil }
        fields.append((number, .fixed64(value)))
      case 5:
        guard let value = fixed(4) else { return nil }
        fields.append((number, .fixed32(UInt32(truncatingIfNeeded: value))))
      case 2:
        guard let length = varint(), let size = Int(exactly: length), size <= bytes.endIndex - position else {
          return nil
        }
        let content = bytes[position..<position + size]
        position += size
        if depth < 40, let child = kind.child(number), let message = WireMessage(content, child, depth: depth + 1) {
          fields.append((number, .message(message)))
        } else if kind.isPacked(number), let values = WireMessage.varints(content) {
          fields.append((number, .packed(values)))
        } else {
          fields.append((number, .bytes(Array(content))))
        }
      default: return nil
      }
    }
  }

  private static func varints(_ bytes: ArraySlice<UInt8>) -> [UInt64]? {
    guard bytes.count < 4096, let last = bytes.last, last < 0x80 else { return bytes.isEmpty ? [] : nil }
    var values: [UInt64] = []
    var value: UInt64 = 0
    var shift: UInt64 = 0
    for byte in bytes {
      if shift < 64 { value |= UInt64(byte & 0x7F) << shift }
      shift += 7
      if byte < 0x80 {
        values.append(value)
        (value, shift) = (0, 0)
      }
    }
    return values
  }

  private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  /// The message in its own bytes.
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    for (number, value) in fields {
      func put(_ wire: Int) { WireMessage.append(UInt64(number << 3 | wire), to: &bytes) }
      func put(_ content: [UInt8]) {
        put(2)
        WireMessage.append(UInt64(content.count), to: &bytes)
        bytes += content
      }
      switch value {
      case .varint(let number):
        put(0)
        WireMessage.append(number, to: &bytes)
      case .fixed32(let bits):
        put(5)
        bytes += (0..<4).map { UInt8(truncatingIfNeeded: bits >> UInt32(8 * $0)) }
      case .fixed64(let bits):
        put(1)
        bytes += (0..<8).map { UInt8(truncatingIfNeeded: bits >> UInt64(8 * $0)) }
      case .bytes(let content): put(content)
      case .packed(let values):
        var content: [UInt8] = []
        for value in values { WireMessage.append(value, to: &content) }
        put(content)
      case .message(let message): put(message.encoded)
      }
    }
    return bytes
  }

  /// This message and all below it.
  var all: [WireMessage] {
    [self]
      + fields.flatMap { field -> [WireMessage] in
        if case .message(let message) = field.value { return message.all }
        return []
      }
  }

  /// A copy that shares nothing.
  private var copy: WireMessage? { WireMessage(encoded[...], kind) }

  private static func isText(_ bytes: [UInt8]) -> Bool {
    !bytes.isEmpty && bytes.count < 200 && bytes.allSatisfy { (0x20..<0x7F).contains($0) }
  }

  /// Texts of the whole message, with the number of their field.
  var texts: [(number: Int, text: [UInt8])] {
    all.flatMap { message in
      message.fields.compactMap { field in
        if case .bytes(let bytes) = field.value, WireMessage.isText(bytes) { return (field.number, bytes) }
        return nil
      }
    }
  }
}

/// Changes ONNX models by their fields.
enum WireMutator {
  /// A changed model; `other` lends names and parts.
  static func mutate(_ seed: [UInt8], other: [UInt8], _ random: inout Random) -> [UInt8] {
    guard let model = WireMessage(seed[...], .model) else {
      var bytes = seed
      ByteMutator.mutate(&bytes, &random, other: other)
      return bytes
    }
    let donor = WireMessage(other[...], .model)
    for _ in 0...random.below(random.one(in: 3) ? 6 : 2) {
      // Half of the changes go to nodes, attributes and shapes, where most of the reading is.
      let messages = model.all
      let inner = messages.filter { [.node, .attribute, .tensor, .dimension].contains($0.kind) }
      let chosen = random.one(in: 2) ? random.pick(inner) ?? model : random.pick(messages) ?? model
      change(chosen, of: model, donor: donor, &random)
    }
    var bytes = model.encoded
    if random.one(in: 20) { ByteMutator.mutate(&bytes, &random, other: other) }
    return bytes
  }

  private static func change(
    _ message: WireMessage, of model: WireMessage, donor: WireMessage?, _ random: inout Random
  ) {
    guard !message.fields.isEmpty, !random.one(in: 12) else {
      borrow(for: message, from: donor, &random)
      return
    }
    let place = random.below(message.fields.count)
    let field = message.fields[place]
    switch random.below(10) {
    case 0: message.fields.remove(at: place)
    case 1: message.fields.insert(field, at: random.below(message.fields.count + 1))
    case 2: message.fields.swapAt(place, random.below(message.fields.count))
    case 3:
      // One kind of field in the place of another: an attribute of another type, say.
      message.fields[place].number = max(1, field.number + [-1, 1, random.below(8)][random.below(3)])
    default: message.fields[place].value = changed(field.value, field.number, model, donor, &random)
    }
  }

  private static func changed(
    _ value: WireMessage.Value, _ number: Int, _ model: WireMessage, _ donor: WireMessage?, _ random: inout Random
  ) -> WireMessage.Value {
    switch value {
    case .varint(let old): return .varint(random.integer(near: old))
    case .fixed32: return .fixed32(random.floatBits())
    case .fixed64(let old): return .fixed64(random.integer(near: old))
    case .packed(var values):
      if values.isEmpty || random.one(in: 5) {
        values.append(random.integer(near: values.last ?? 1))
      } else if random.one(in: 5) {
        values.remove(at: random.below(values.count))
      } else if random.one(in: 5) {
        values.swapAt(random.below(values.count), random.below(values.count))
      } else {
        let index = random.below(values.count)
        values[index] = random.integer(near: values[index])
      }
      return .packed(values)
    case .bytes(var bytes):
      let texts = model.texts + (random.one(in: 2) ? donor?.texts ?? [] : [])
      let alike = texts.filter { $0.number == number }
      if random.one(in: 3), let text = random.pick(alike) { return .bytes(text.text) }
      if random.one(in: 4), let text = random.pick(texts) { return .bytes(text.text) }
      if random.one(in: 8) { return .bytes([]) }
      ByteMutator.mutate(&bytes, &random)
      return .bytes(bytes)
    case .message(let message):
      if let place = message.fields.indices.randomElement(using: &random) {
        message.fields[place].value = changed(
          message.fields[place].value, message.fields[place].number, model, donor, &random)
      }
      return .message(message)
    }
  }

  /// Puts a field of a message of the same kind of another model into this one.
  private static func borrow(for message: WireMessage, from donor: WireMessage?, _ random: inout Random) {
    let alike = donor?.all.filter { $0.kind == message.kind && !$0.fields.isEmpty } ?? []
    guard let source = random.pick(alike), let field = random.pick(source.fields) else { return }
    message.fields.insert(field, at: random.below(message.fields.count + 1))
  }
}
