import IR

/// An operator parameter in the container's form: a scalar in `model`, or a list whose bytes are in
/// `model.params`.
///
/// Whole numbers are unsigned where they can be, as QNN's strides, axes and sizes are.
enum WireAttribute {
  case scalar(type: Int32, integer: Int64, real: Float, text: String?)
  case list(type: TensorType, bytes: [UInt8])

  /// The form of a value. `pad_amount` has a row of two for each axis, as in QNN.
  init(_ attribute: Attribute) {
    switch attribute.value {
    case .bool(let value):
      self = .scalar(type: WireType.bool8, integer: value ? 1 : 0, real: 0, text: nil)
    case .float(let value):
      self = .scalar(type: WireType.float32, integer: 0, real: value, text: nil)
    case .string(let value):
      self = .scalar(type: WireType.text, integer: 0, real: 0, text: value)
    case .int(let value):
      if UInt32(exactly: value) != nil {
        self = .scalar(type: WireType.uint32, integer: Int64(value), real: 0, text: nil)
      } else if Int32(exactly: value) != nil {
        self = .scalar(type: WireType.int32, integer: Int64(value), real: 0, text: nil)
      } else {
        var bytes: [UInt8] = []
        bytes.appendLittle(Int64(value))
        self = .list(type: TensorType(.int64, []), bytes: bytes)
      }
    case .floats(let values):
      self = .list(type: TensorType(.float32, [values.count]), bytes: Array(Sidecar.pack(values)))
    case .ints(let values):
      let pairs = attribute.name == "pad_amount" && values.count % 2 == 0 && !values.isEmpty
      let shape = pairs ? [values.count / 2, 2] : [values.count]
      var bytes: [UInt8] = []
      let element: DataType
      if values.allSatisfy({ UInt32(exactly: $0) != nil }) {
        element = .uint32
        for value in values { bytes.appendLittle(UInt32(truncatingIfNeeded: value)) }
      } else if values.allSatisfy({ Int32(exactly: $0) != nil }) {
        element = .int32
        for value in values { bytes.appendLittle(Int32(truncatingIfNeeded: value)) }
      } else {
        element = .int64
        for value in values { bytes.appendLittle(Int64(value)) }
      }
      self = .list(type: TensorType(element, shape), bytes: bytes)
    }
  }

  /// The value of a list's bytes, nil where the type is none for parameters.
  static func value(type: TensorType, bytes: Bytes) -> AttributeValue? {
    let constant = Constant(type: type, bytes: bytes)
    switch type.element {
    case .float32: return .floats(constant.floats())
    case .int64 where type.rank == 0: return constant.integers()?.first.map { .int($0) }
    case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .bool:
      return constant.integers().map { .ints($0) }
    default: return nil
    }
  }

  /// The value of a scalar, nil where the type is none for scalars.
  static func value(type: Int32, integer: Int64, real: Float, text: @autoclosure () -> String?)
    -> AttributeValue?
  {
    switch type {
    case WireType.bool8: .bool(integer != 0)
    case WireType.int32, WireType.uint32, WireType.uint8: .int(Int(integer))
    case WireType.float32: .float(real)
    case WireType.text, WireType.undefined: text().map { .string($0) }
    default: nil
    }
  }
}
