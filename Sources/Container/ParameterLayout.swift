import IR

/// Where everything in a NETP payload goes, computed before a byte of a weight is read.
///
/// The FlatBuffer is laid out by hand because a builder would keep all weights in memory. Its head
/// (tables, names, offsets) comes first, parents before children as the unsigned offsets demand, with
/// one copy of each vtable right behind the identifier: Netron wants the root's within 1023 bytes in
/// front of the root. The byte vectors follow in order, each with its first byte on a multiple of 64.
struct ParameterLayout {
  /// A named run of bytes.
  struct Item {
    let name: String
    let count: Int
  }

  /// Everything in front of the first byte vector.
  private(set) var head: [UInt8] = []
  /// First byte of each item, graph tensors first, then those of the nodes; in the payload or, for
  /// an external layout, in model.params.bin. Multiples of 64.
  private(set) var positions: [Int] = []
  /// Bytes of the payload.
  private(set) var size = 0
  /// Bytes of model.params.bin.
  private(set) var externalSize: Int

  /// Static bytes beyond this go to model.params.bin (1.9 GiB; FlatBuffers ends at 2).
  static let inlineLimit = 2_040_109_465

  private let external: Bool
  /// Offset fields of the byte vectors, in the order of the items.
  private var vectorFields: [Int] = []
  private var counts: [Int] = []

  // Places of the vtables; see `writeVtables`.
  private static let modelVtable = 8
  private static let graphVtable = 14
  private static let nodeVtable = 24
  private static let emptyVtable = 30
  private static let tensorVtable = 34
  private static let externalVtable = 42
  private static let rangeVtable = 54
  private static let root = 64

  /// Lays out the bytes of one graph: its static tensors and, for each node, its tensor attributes.
  /// An external layout begins behind `externalStart` bytes of model.params.bin.
  /// Throws where the head does not fit a FlatBuffer.
  init(
    graph: String, tensors: [Item], nodes: [[Item]], external: Bool, externalStart: Int = 0
  ) throws(Diagnostic) {
    self.external = external
    externalSize = externalStart
    writeVtables()
    let graphs = table(ParameterLayout.modelVtable, fields: 1)[0]
    let graphOffset = vector(at: graphs, count: 1)[0]
    let fields = table(ParameterLayout.graphVtable, fields: 3, at: graphOffset)
    string(graph, at: fields[0])
    let tensorOffsets = vector(at: fields[1], count: tensors.count)
    let nodeOffsets = vector(at: fields[2], count: nodes.count)
    for (item, offset) in zip(tensors, tensorOffsets) { try tensor(item, at: offset) }
    for (items, offset) in zip(nodes, nodeOffsets) {
      if items.isEmpty {
        _ = table(ParameterLayout.emptyVtable, fields: 0, at: offset)
        continue
      }
      let list = table(ParameterLayout.nodeVtable, fields: 1, at: offset)[0]
      for (item, slot) in zip(items, vector(at: list, count: items.count)) {
        try tensor(item, at: slot)
      }
    }
    size = head.count
    if !external { try placeVectors() }
    guard size < Int(Int32.max) else {
      throw ContainerFailure.bug("the parameters' structure passes 2 GiB")
    }
  }

  private mutating func writeVtables() {
    head.appendLittle(UInt32(ParameterLayout.root))
    head += Array("NETP".utf8)
    let vtables: [[UInt16]] = [
      [6, 8, 4],  // ModelParameters: graphs
      [10, 16, 4, 8, 12],  // GraphParameters: name, tensors, nodes
      [6, 8, 4],  // NodeParameters: tensors
      [4, 4],  // NodeParameters without tensors
      [8, 12, 4, 8],  // TensorData: name, bytes
      [12, 12, 4, 0, 0, 8],  // TensorData: name, range
      [8, 20, 4, 12],  // FileRange: offset, size
    ]
    for number in vtables.joined() { head.appendLittle(number) }
    pad(to: ParameterLayout.root)
  }

  private mutating func pad(to position: Int) {
    if position > head.count { head += [UInt8](repeating: 0, count: position - head.count) }
  }

  /// Makes the offset field at `field` point to the end of the head.
  private mutating func link(_ field: Int?) {
    if let field { store(UInt32(truncatingIfNeeded: head.count - field), at: field) }
  }

  private mutating func store(_ number: UInt32, at position: Int) {
    Swift.withUnsafeBytes(of: number.littleEndian) { bytes in
      for (index, byte) in bytes.enumerated() { head[position + index] = byte }
    }
  }

  /// Appends a table of 4-byte fields, all zero; gives their places.
  private mutating func table(_ vtable: Int, fields: Int, at field: Int? = nil) -> [Int] {
    link(field)
    let start = head.count
    head.appendLittle(Int32(truncatingIfNeeded: start - vtable))
    head += [UInt8](repeating: 0, count: 4 * fields)
    return (0..<fields).map { start + 4 + 4 * $0 }
  }

  /// Appends a vector of `count` offsets, all zero; gives their places.
  private mutating func vector(at field: Int, count: Int) -> [Int] {
    link(field)
    head.appendLittle(UInt32(truncatingIfNeeded: count))
    let start = head.count
    head += [UInt8](repeating: 0, count: 4 * count)
    return (0..<count).map { start + 4 * $0 }
  }

  private mutating func string(_ text: String, at field: Int) {
    link(field)
    let bytes = Array(text.utf8)
    head.appendLittle(UInt32(truncatingIfNeeded: bytes.count))
    head += bytes
    head += [UInt8](repeating: 0, count: 4 - bytes.count % 4)
  }

  private mutating func tensor(_ item: Item, at field: Int) throws(Diagnostic) {
    let vtable = external ? ParameterLayout.externalVtable : ParameterLayout.tensorVtable
    let fields = table(vtable, fields: 2, at: field)
    string(item.name, at: fields[0])
    counts.append(item.count)
    guard external else {
      vectorFields.append(fields[1])
      return
    }
    // The range's numbers, four bytes into its table, need a multiple of eight.
    pad(to: head.count + (head.count % 8 == 4 ? 0 : 4))
    let position = try ParameterLayout.aligned(externalSize)
    link(fields[1])
    let start = head.count
    head.appendLittle(Int32(truncatingIfNeeded: start - ParameterLayout.rangeVtable))
    head.appendLittle(Int64(position))
    head.appendLittle(Int64(item.count))
    positions.append(position)
    externalSize = try ParameterLayout.sum(position, item.count)
  }

  private mutating func placeVectors() throws(Diagnostic) {
    for (field, count) in zip(vectorFields, counts) {
      let position = try ParameterLayout.aligned(ParameterLayout.sum(size, 4))
      store(UInt32(truncatingIfNeeded: position - 4 - field), at: field)
      positions.append(position)
      size = try ParameterLayout.sum(position, count)
    }
  }

  private static func sum(_ left: Int, _ right: Int) throws(Diagnostic) -> Int {
    let (result, overflow) = left.addingReportingOverflow(right)
    guard !overflow else { throw ContainerFailure.bug("the parameters' size overflows") }
    return result
  }

  private static func aligned(_ position: Int) throws(Diagnostic) -> Int {
    try sum(position, 63) & ~63
  }

  /// The length field in front of item `index`'s bytes.
  func lengthPrefix(_ index: Int) -> [UInt8] {
    var prefix: [UInt8] = []
    prefix.appendLittle(UInt32(truncatingIfNeeded: counts[index]))
    return prefix
  }
}
