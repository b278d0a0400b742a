internal import CDLCSchema
import IR

/// Translation between an ``Encoding`` and the schema's quantization records.
///
/// The IR counts offsets on the unsigned grid; the records relate to the stored code, so that
/// `real = (stored + offset) * scale` holds in the file.
enum EncodingRecord {
  /// Appends the record of a tensor to the builder; the numbers of blocks go to `external`.
  static func write(
    _ encoding: Encoding?, overridden: Bool, type: DataType, tensor: String, to builder: OpaquePointer,
    external: inout ExternalNumbers
  ) throws(Diagnostic) -> DLCOffset {
    guard let encoding else { return dlc_builder_no_quantization(builder) }
    if type.isFixedPoint, type.isSignedFixedPoint != (encoding.storageShift != 0) {
      throw ContainerFailure.bug(
        "the encoding's sign does not fit the type \(type.rawValue)", tensor: tensor)
    }
    if let blocks = encoding.blocks, let axis = encoding.axis {
      return try write(
        encoding, blocks, axis: axis, overridden: overridden, tensor: tensor, to: builder,
        external: &external)
    }
    var channels: [DLCFixedPoint] = []
    channels.reserveCapacity(encoding.channels.count)
    for (index, grid) in encoding.channels.enumerated() {
      guard let offset = Int32(exactly: Int(grid.offset) - encoding.storageShift) else {
        throw ContainerFailure.bug(
          "offset \(grid.offset) of a \(encoding.bitwidth)-bit encoding cannot be stored",
          tensor: tensor)
      }
      channels.append(
        DLCFixedPoint(
          bitwidth: UInt32(encoding.bitwidth), min: Float(encoding.minimum(channel: index)),
          max: Float(encoding.maximum(channel: index)), scale: grid.scale, offset: offset,
          symmetric: encoding.symmetric))
    }
    // The plain kinds mean that the width is the stored type's.
    let plain = [8, 16, 32].contains(encoding.bitwidth)
    if let axis = encoding.axis {
      return dlc_builder_per_axis(
        builder, plain ? 1 : 3, overridden, Int32(truncatingIfNeeded: axis), channels,
        channels.count)
    }
    guard let only = channels.first else {
      throw ContainerFailure.bug("the encoding has no scale", tensor: tensor)
    }
    return dlc_builder_per_tensor(builder, plain ? 0 : 2, overridden, only)
  }

  private static func write(
    _ encoding: Encoding, _ blocks: EncodingBlocks, axis: Int, overridden: Bool, tensor: String,
    to builder: OpaquePointer, external: inout ExternalNumbers
  ) throws(Diagnostic) -> DLCOffset {
    guard let axis = Int32(exactly: axis), let blockAxis = Int32(exactly: blocks.axis),
      let size = UInt32(exactly: blocks.size)
    else { throw ContainerFailure.bug("the blocks of the encoding cannot be stored", tensor: tensor) }
    guard let scales = blocks.lowPower else {
      let steps = external.append(encoding.channels.map(\.scale.bitPattern))
      var stored: [UInt32] = []
      for grid in encoding.channels {
        guard let offset = Int32(exactly: Int(grid.offset) - encoding.storageShift) else {
          throw ContainerFailure.bug("offset \(grid.offset) of a block cannot be stored", tensor: tensor)
        }
        stored.append(UInt32(bitPattern: offset))
      }
      return dlc_builder_block(
        builder, overridden,
        DLCBlockFields(
          axis: axis, block_axis: blockAxis, block_size: size,
          bitwidth: UInt32(encoding.bitwidth), symmetric: encoding.symmetric, scales: steps,
          offsets: external.append(stored)))
    }
    let width = scales.decompressedBitwidth
    let half = Double(1 << (width - 1))
    let channels = scales.channelScales.map { scale in
      DLCFixedPoint(
        bitwidth: UInt32(width), min: Float(-half * Double(scale)),
        max: Float((half - 1) * Double(scale)), scale: scale, offset: 0, symmetric: true)
    }
    guard let bits = UInt8(exactly: width - encoding.bitwidth), !channels.isEmpty else {
      throw ContainerFailure.bug("the low-power scales cannot be stored", tensor: tensor)
    }
    return dlc_builder_expansion(
      builder, overridden,
      DLCExpansionFields(
        axis: axis, block_axis: blockAxis, block_size: size,
        blocks_per_axis: UInt32(scales.factors.count / channels.count), block_scale_bitwidth: bits,
        channel_count: channels.count, factor_count: scales.factors.count),
      channels, scales.factors.map { UInt16(truncatingIfNeeded: $0) })
  }

  /// Whether a record's numbers lie in model.params.bin.
  static func isExternal(_ record: OpaquePointer?) -> Bool {
    record.map { dlc_quantization_view($0).kind == 4 } ?? false
  }

  /// What is wrong with a record.
  struct Problem: Error {
    let code: String
    let message: String
  }

  /// The encoding of a record, nil for none. `codes` are those in use, where not all are; `bin` is the
  /// content of model.params.bin, where there is one.
  static func read(_ record: OpaquePointer?, type: TensorType, codes: (Int, Int)?, bin: Bytes?)
    throws(Problem) -> Encoding?
  {
    guard let record else { return nil }
    let view = dlc_quantization_view(record)
    if view.kind == WireType.noEncoding { return nil }
    var channels: [DLCFixedPoint]
    var axis: Int?
    switch view.kind {
    case 0, 2:
      guard view.has_per_tensor else { throw missing }
      channels = [view.per_tensor]
    case 1, 3:
      guard view.has_per_axis else { throw missing }
      axis = Int(view.axis)
      channels = [DLCFixedPoint](repeating: DLCFixedPoint(), count: view.channel_count)
      channels.withUnsafeMutableBufferPointer { target in
        if let base = target.baseAddress { dlc_quantization_channels(record, base) }
      }
    case 4, 5:
      var encoding =
        view.kind == 4
        ? try readBlocks(view, type: type, bin: bin) : try readExpansion(record, view, type: type)
      if let codes { (encoding.codeMin, encoding.codeMax) = codes }
      if let problem = encoding.problem(shape: type.shape) {
        throw Problem(code: "encoding", message: problem)
      }
      return encoding
    default:
      throw Problem(
        code: "encoding-kind", message: "quantization kind \(view.kind) is not supported")
    }
    let encoding = try makeEncoding(channels, axis: axis, type: type.element, codes: codes)
    if let problem = encoding.problem(shape: type.shape) {
      throw Problem(code: "encoding", message: problem)
    }
    return encoding
  }

  private static var missing: Problem {
    Problem(code: "encoding", message: "the quantization record lacks its scales")
  }

  /// Refuses a width that is none, or not that of the type, and a sign that is not the type's.
  private static func check(width: Int, symmetric: Bool, type: DataType) throws(Problem) {
    guard (2...16).contains(width), !type.isFixedPoint || width <= type.bits else {
      throw Problem(code: "encoding", message: "bitwidth \(width) does not fit \(type.rawValue)")
    }
    if type.isFixedPoint, type.isSignedFixedPoint != symmetric {
      throw Problem(
        code: "encoding", message: "the sign of the blocks does not fit \(type.rawValue)")
    }
  }

  private static func readBlocks(
    _ view: DLCQuantizationView, type: TensorType, bin: Bytes?
  ) throws(Problem) -> Encoding {
    guard view.has_block else { throw missing }
    let block = view.block
    let width = Int(block.bitwidth)
    try check(width: width, symmetric: block.symmetric, type: type.element)
    let scales = try numbers(block.scales, bin)
    let offsets = try numbers(block.offsets, bin)
    guard scales.count == offsets.count else {
      throw Problem(
        code: "encoding", message: "\(offsets.count) offsets for \(scales.count) scales of blocks")
    }
    var encoding = Encoding(
      bitwidth: width, symmetric: block.symmetric, axis: Int(block.axis),
      blocks: EncodingBlocks(axis: Int(block.block_axis), size: Int(block.block_size)), channels: [])
    encoding.channels.reserveCapacity(scales.count)
    for (scale, offset) in zip(scales, offsets) {
      let stored = Int(Int32(bitPattern: offset))
      guard let offset = Int32(exactly: stored + encoding.storageShift) else {
        throw Problem(code: "encoding", message: "offset \(stored) is out of range")
      }
      encoding.channels.append(ScaleOffset(scale: Float(bitPattern: scale), offset: offset))
    }
    return encoding
  }

  /// The 32-bit numbers of a range.
  private static func numbers(_ range: DLCRange, _ bin: Bytes?) throws(Problem) -> [UInt32] {
    guard let start = Int(exactly: range.offset), let count = Int(exactly: range.count), count % 4 == 0,
      let bytes = bin?.window(from: start, count: count)
    else {
      throw Problem(
        code: "range",
        message: "the scales of the blocks lie outside model.params.bin: \(range.count) bytes at "
          + "\(range.offset)")
    }
    return bytes.array(of: UInt32.self).map { UInt32(littleEndian: $0) }
  }

  private static func readExpansion(
    _ record: OpaquePointer, _ view: DLCQuantizationView, type: TensorType
  ) throws(Problem) -> Encoding {
    guard view.has_expansion else { throw missing }
    let fields = view.expansion
    var channels = [DLCFixedPoint](repeating: DLCFixedPoint(), count: fields.channel_count)
    var factors = [UInt16](repeating: 0, count: fields.factor_count)
    channels.withUnsafeMutableBufferPointer { channels in
      factors.withUnsafeMutableBufferPointer { factors in
        if let first = channels.baseAddress, let other = factors.baseAddress {
          dlc_quantization_expansion(record, first, other)
        }
      }
    }
    guard let first = channels.first, !factors.isEmpty else { throw missing }
    guard (2...32).contains(first.bitwidth),
      channels.allSatisfy({ $0.bitwidth == first.bitwidth && $0.offset == 0 && $0.symmetric })
    else {
      throw Problem(
        code: "encoding", message: "the channels of low-power blocks differ or have offsets")
    }
    let (expected, overflow) = Int(fields.blocks_per_axis)
      .multipliedReportingOverflow(by: channels.count)
    guard !overflow, factors.count == expected else {
      throw Problem(
        code: "encoding",
        message: "\(factors.count) factors for \(channels.count) channels of "
          + "\(fields.blocks_per_axis) blocks")
    }
    let width = Int(first.bitwidth) - Int(fields.block_scale_bitwidth)
    try check(width: width, symmetric: true, type: type.element)
    return Encoding(
      bitwidth: width, axis: Int(fields.axis), blockAxis: Int(fields.block_axis),
      blockSize: Int(fields.block_size),
      lowPower: LowPowerScales(
        channelScales: channels.map(\.scale), factors: factors.map { Int($0) },
        decompressedBitwidth: Int(first.bitwidth)))
  }

  private static func makeEncoding(
    _ channels: [DLCFixedPoint], axis: Int?, type: DataType, codes: (Int, Int)?
  ) throws(Problem) -> Encoding {
    guard let first = channels.first else { throw missing }
    let width = first.bitwidth == 0 && type.isFixedPoint ? type.bits : Int(first.bitwidth)
    guard (2...32).contains(width), !type.isFixedPoint || width <= type.bits else {
      throw Problem(
        code: "encoding", message: "bitwidth \(width) does not fit \(type.rawValue)")
    }
    // For fixed point the type decides about the sign; the flag alone does for annotations.
    let signed = type.isFixedPoint ? type.isSignedFixedPoint : first.symmetric || width == 32
    if width == 32, !signed {
      throw Problem(code: "encoding", message: "unsigned 32-bit fixed point is not supported")
    }
    var encoding = Encoding(
      bitwidth: width, symmetric: width == 32 ? first.symmetric : signed, axis: axis, channels: [])
    if let codes { (encoding.codeMin, encoding.codeMax) = codes }
    encoding.channels.reserveCapacity(channels.count)
    for channel in channels {
      guard channel.bitwidth == first.bitwidth, channel.symmetric == first.symmetric else {
        throw Problem(code: "encoding", message: "the channels differ in bitwidth or symmetry")
      }
      guard let offset = Int32(exactly: Int(channel.offset) + encoding.storageShift) else {
        throw Problem(code: "encoding", message: "offset \(channel.offset) is out of range")
      }
      encoding.channels.append(ScaleOffset(scale: channel.scale, offset: offset))
    }
    return encoding
  }
}

/// Numbers of encodings that lie in `model.params.bin`, each list on a multiple of 64, in front of what
/// else is there.
struct ExternalNumbers {
  private(set) var bytes: [UInt8] = []

  /// Adds a list of 32-bit numbers; gives its range.
  mutating func append(_ numbers: [UInt32]) -> DLCRange {
    bytes += [UInt8](repeating: 0, count: (64 - bytes.count % 64) % 64)
    let start = bytes.count
    for number in numbers { bytes.appendLittle(number) }
    return DLCRange(offset: UInt64(start), count: UInt64(4 * numbers.count))
  }
}
