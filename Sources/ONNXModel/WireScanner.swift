import IR

/// Copies the protobuf messages of a model without the bytes of its tensors.
///
/// Each `raw_data` field is replaced by sixteen bytes: offset and length of the bytes in the file.
/// The protobuf library then parses a small message while the weights stay in the mapped file. The
/// scanner also bounds the nesting, as the library recurses without a limit.
struct WireScanner {
  /// Size of what stands for the bytes of a tensor.
  static let referenceSize = 16
  /// Deepest nesting of messages that is accepted.
  static let depthLimit = 100

  /// The messages on the way to a tensor, and those that can nest in themselves.
  private enum Message {
    case model, graph, node, attribute, tensor, sparse, function, valueInfo
    case type, sequence, map

    /// The message in field `number`, nil where the field need not be looked into.
    func child(_ number: UInt64) -> Message? {
      switch (self, number) {
      case (.model, 7): .graph
      case (.model, 25): .function
      case (.graph, 1), (.function, 7): .node
      case (.graph, 5): .tensor
      case (.graph, 11), (.graph, 12), (.graph, 13), (.function, 12): .valueInfo
      case (.graph, 15): .sparse
      case (.function, 11), (.node, 5): .attribute
      case (.attribute, 5), (.attribute, 10), (.sparse, 1), (.sparse, 2): .tensor
      case (.attribute, 6), (.attribute, 11): .graph
      case (.attribute, 14), (.attribute, 15), (.valueInfo, 2), (.sequence, 1), (.map, 2): .type
      case (.attribute, 22), (.attribute, 23): .sparse
      case (.type, 4), (.type, 9): .sequence
      case (.type, 5): .map
      default: nil
      }
    }
  }

  private let source: UnsafeRawBufferPointer
  private var output: [UInt8] = []

  private init(_ source: UnsafeRawBufferPointer) { self.source = source }

  /// The message for the protobuf library.
  static func withoutTensorBytes(_ source: UnsafeRawBufferPointer) throws(Diagnostic) -> [UInt8] {
    var scanner = WireScanner(source)
    try scanner.copy(.model, from: 0, to: source.count, depth: 0)
    return scanner.output
  }

  private func damaged(_ position: Int, _ message: String) -> Diagnostic {
    Diagnostic(
      "onnx-damaged", "not an ONNX model, or damaged: \(message)",
      at: Diagnostic.Location(byte: position), hint: "export or download the model again")
  }

  private func varint(_ position: inout Int, end: Int) throws(Diagnostic) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    let start = position
    while position < end, shift < 64 {
      let byte = source[position]
      position += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    throw damaged(start, "a number does not end")
  }

  private mutating func append(_ range: Range<Int>) {
    output.append(contentsOf: source[range])
  }

  private mutating func copy(
    _ message: Message, from start: Int, to end: Int, depth: Int
  ) throws(Diagnostic) {
    guard depth < WireScanner.depthLimit else {
      throw damaged(start, "messages nest deeper than \(WireScanner.depthLimit)")
    }
    var position = start
    while position < end {
      let fieldStart = position
      let key = try varint(&position, end: end)
      let number = key >> 3
      guard number > 0, number < 1 << 29 else { throw damaged(fieldStart, "field \(number)") }
      switch key & 7 {
      case 0:
        _ = try varint(&position, end: end)
        append(fieldStart..<position)
      case 1, 5:
        let width = key & 7 == 1 ? 8 : 4
        guard width <= end - position else { throw damaged(fieldStart, "the data ends early") }
        position += width
        append(fieldStart..<position)
      case 2:
        let keyEnd = position
        let length = try varint(&position, end: end)
        guard let size = Int(exactly: length), size <= end - position else {
          throw damaged(fieldStart, "a field of \(length) bytes is longer than what is left")
        }
        if message == .tensor && number == 9 {
          append(fieldStart..<keyEnd)
          output.append(UInt8(WireScanner.referenceSize))
          withUnsafeBytes(of: UInt64(position).littleEndian) { output.append(contentsOf: $0) }
          withUnsafeBytes(of: UInt64(size).littleEndian) { output.append(contentsOf: $0) }
        } else if let child = message.child(number) {
          append(fieldStart..<keyEnd)
          let mark = output.count
          output.append(contentsOf: [0, 0, 0, 0, 0])
          try copy(child, from: position, to: position + size, depth: depth + 1)
          try setLength(at: mark, position: fieldStart)
        } else {
          append(fieldStart..<(position + size))
        }
        position += size
      default:
        throw damaged(fieldStart, "wire type \(key & 7)")
      }
    }
  }

  /// Writes the length of what follows into the five bytes kept for it.
  private mutating func setLength(at mark: Int, position: Int) throws(Diagnostic) {
    let length = output.count - mark - 5
    guard length < 1 << 31 else { throw damaged(position, "a message is larger than 2 GiB") }
    for index in 0..<5 {
      let low = UInt8(truncatingIfNeeded: length >> (7 * index)) & 0x7F
      output[mark + index] = index < 4 ? low | 0x80 : low
    }
  }
}
