import IR

/// An encoding in the terms of ONNX: element type, scales, zero points, axis, size of blocks.
struct GridForm {
  /// Element type of the codes.
  let element: DataType
  /// Of the shape of the value with the block axis divided where there are blocks; low-power ones are
  /// there as the products of factors and channel scales.
  let scales: Constant
  /// Zero points as stored, packed where they have 4 bits; of the shape of ``scales``.
  let zeros: Bytes
  let attributes: [(String, ONNXAttribute)]
  /// Whether the codes in use are all that the element type has.
  let fillsType: Bool
  /// Whether DequantizeLinear takes a zero point (int32 has none).
  let needsZero: Bool
  /// Whether it takes a block size.
  private let hasBlocks: Bool

  /// ONNX's code of the element type.
  var code: Int32 { element.onnxCode }
  /// The first operator set that quantizes to this type.
  var opset: Int { hasBlocks || element.bits == 16 || element.bits == 4 ? 21 : 13 }
  /// Shape of the zero points.
  var zeroShape: [Int] { scales.type.shape }

  /// The form for a value of a shape in a layout; `lead` axes of size 1 were put before those of the
  /// tensor. Throws where ONNX has no such grid.
  init(
    _ encoding: Encoding, shape: [Int], layout: [Int], lead: Int, tensor: String
  ) throws(Diagnostic) {
    let signed = encoding.storage.rawValue.hasPrefix("s")
    let width: Int
    switch encoding.bitwidth {
    case 4: width = 4
    case ...8: width = 8
    case ...16: width = 16
    default: width = 32
    }
    let types: [Int: (DataType, DataType)] = [
      4: (.uint4, .int4), 8: (.uint8, .int8), 16: (.uint16, .int16), 32: (.uint32, .int32),
    ]
    guard let pair = types[width] else {
      throw Diagnostic("onnx-no-form", "no type of \(width) bits", at: .init(tensor: tensor))
    }
    element = signed ? pair.1 : pair.0
    let points = encoding.channels.map { encoding.storageShift - Int($0.offset) }
    let range = signed ? -(1 << (width - 1))...(1 << (width - 1)) - 1 : 0...(1 << width) - 1
    for point in points where !range.contains(point) {
      throw Diagnostic(
        "onnx-no-form", "its zero point \(point) is outside \(element.rawValue)",
        at: .init(tensor: tensor), hint: "encodings of mode clip have no QuantizeLinear form")
    }
    if width == 32, points.contains(where: { $0 != 0 }) {
      throw Diagnostic(
        "onnx-no-form", "a grid of 32 bits has to have its zero at 0 in ONNX",
        at: .init(tensor: tensor))
    }
    needsZero = width != 32
    fillsType = encoding.codeMin == 0 && encoding.codeMax == (1 << width) - 1
    // One block a channel is a grid a channel, which more runtimes and older operator sets have.
    let channels = encoding.axis.flatMap { layout.firstIndex(of: $0 + lead) }.map { shape[$0] }
    hasBlocks = encoding.blocks != nil && encoding.channels.count != channels
    var stored = points
    if let axis = encoding.axis {
      guard let place = layout.firstIndex(of: axis + lead) else {
        throw Diagnostic("onnx-no-form", "its channel axis is lost", at: .init(tensor: tensor))
      }
      if hasBlocks, let blocks = encoding.blocks {
        guard let blockPlace = layout.firstIndex(of: blocks.axis + lead), shape.count == layout.count else {
          throw Diagnostic("onnx-no-form", "its block axis is lost", at: .init(tensor: tensor))
        }
        attributes = [("axis", .int(blockPlace)), ("block_size", .int(blocks.size))]
        let (grids, divided) = try Self.spread(encoding, blocks, shape, (place, blockPlace), tensor)
        scales = Constant(grids.map { encoding.channels[$0].scale }, shape: divided)
        stored = grids.map { points[$0] }
      } else {
        attributes = [("axis", .int(place))]
        scales = Constant(encoding.channels.map(\.scale), shape: [encoding.channels.count])
      }
    } else {
      attributes = []
      scales = Constant(encoding.channels.prefix(1).map(\.scale), shape: [])
      stored = Array(points.prefix(1))
    }
    switch width {
    case 4: zeros = packNibbles(stored.map { UInt8(truncatingIfNeeded: $0) })
    case 8: zeros = Bytes(stored.map { UInt8(truncatingIfNeeded: $0) })
    case 16: zeros = Bytes(stored.map { UInt16(truncatingIfNeeded: $0) })
    default: zeros = Bytes(stored.map { UInt32(truncatingIfNeeded: $0) })
    }
  }

  /// The grid of every element of the divided shape, as indices into the encoding's, and that shape.
  private static func spread(
    _ encoding: Encoding, _ blocks: EncodingBlocks, _ shape: [Int], _ places: (channel: Int, block: Int),
    _ tensor: String
  ) throws(Diagnostic) -> (grids: [Int], shape: [Int]) {
    let count = blocks.count(length: shape[places.block])
    guard encoding.channels.count == shape[places.channel] * count else {
      throw Diagnostic(
        "onnx-no-form",
        "\(encoding.channels.count) grids for \(shape[places.channel]) channels of "
          + "\(count) blocks", at: .init(tensor: tensor))
    }
    var divided = shape
    divided[places.block] = count
    let strides = denseStrides(divided)
    let grids = (0..<divided.reduce(1, *)).map { index in
      let channel = index / strides[places.channel] % divided[places.channel]
      return channel * count + index / strides[places.block] % count
    }
    return (grids, divided)
  }

  /// The codes of a constant as ONNX stores them.
  func packed(_ constant: Constant) -> Bytes {
    let bytes = constant.materialized()
    return element.bits == 4 ? packNibbles(Array(bytes.buffer)) : bytes
  }
}

/// Two values a byte, the first in the low bits; an odd count ends with a zero.
func packNibbles(_ values: [UInt8]) -> Bytes {
  Bytes(
    stride(from: 0, to: values.count, by: 2).map { index in
      let high = index + 1 < values.count ? values[index + 1] & 15 : 0
      return values[index] & 15 | high << 4
    })
}
