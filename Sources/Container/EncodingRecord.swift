internal import CDLCSchema
import IR

/// Translation between an ``Encoding`` and the schema's quantization records.
///
/// The IR counts offsets on the unsigned grid; the records relate to the stored code, so that
/// `real = (stored + offset) * scale` holds in the file.
enum EncodingRecord {
  /// Appends the record of a tensor to the builder.
  static func write(
    _ encoding: Encoding?, overridden: Bool, type: DataType, tensor: String, to builder: OpaquePointer
  ) throws(Diagnostic) -> DLCOffset {
    guard let encoding else { return dlc_builder_no_quantization(builder) }
    if type.isFixedPoint, type.isSignedFixedPoint != (encoding.storageShift != 0) {
      throw ContainerFailure.bug(
        "the encoding's sign does not fit the type \(type.rawValue)", tensor: tensor)
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

  /// What is wrong with a record.
  struct Problem: Error {
    let code: String
    let message: String
  }

  /// The encoding of a record, nil for none. `codes` are those in use, where not all are.
  static func read(_ record: OpaquePointer?, type: TensorType, codes: (Int, Int)?)
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
