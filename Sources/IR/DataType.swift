/// The type of one element of a tensor.
///
/// Fixed-point types and `float16` are what a tensor of a materialised graph is stored in; for shape and
/// type inference, and for every kernel of the simulation, they count as `float32` (``logical``).
public enum DataType: String, Sendable, Hashable, CaseIterable {
  case float16, float32, float64, bfloat16
  case int4, int8, int16, int32, int64
  case uint4, uint8, uint16, uint32, uint64
  case bool, string
  /// Signed fixed point: the offset that goes with it is relative to the unsigned grid.
  case sfixed4, sfixed8, sfixed16, sfixed32
  /// Unsigned fixed point.
  case ufixed4, ufixed8, ufixed16, ufixed32

  /// Width of one value in bits; 0 for text.
  public var bits: Int {
    switch self {
    case .int4, .uint4, .sfixed4, .ufixed4: 4
    case .int8, .uint8, .bool, .sfixed8, .ufixed8: 8
    case .float16, .bfloat16, .int16, .uint16, .sfixed16, .ufixed16: 16
    case .float32, .int32, .uint32, .sfixed32, .ufixed32: 32
    case .float64, .int64, .uint64: 64
    case .string: 0
    }
  }

  /// Bytes that one element takes in memory (4-bit types: one; packing exists in the container only).
  public var byteWidth: Int { self == .string ? 0 : max(1, bits / 8) }

  /// Whether the type is fixed point and therefore needs an encoding.
  public var isFixedPoint: Bool {
    switch self {
    case .sfixed4, .sfixed8, .sfixed16, .sfixed32, .ufixed4, .ufixed8, .ufixed16, .ufixed32: true
    default: false
    }
  }

  /// Whether values are binary floating point.
  public var isFloat: Bool {
    switch self {
    case .float16, .float32, .float64, .bfloat16: true
    default: false
    }
  }

  /// Whether values are plain integers (neither fixed point nor bool).
  public var isInteger: Bool {
    switch self {
    case .int4, .int8, .int16, .int32, .int64, .uint4, .uint8, .uint16, .uint32, .uint64: true
    default: false
    }
  }

  /// The type that inference and float kernels see: `float32` for fixed point and `float16`, otherwise
  /// itself.
  public var logical: DataType { isFixedPoint || self == .float16 ? .float32 : self }

  /// The fixed-point type of a bitwidth, rounded up to 8, 16 or 32 bits of storage.
  public static func fixedPoint(bitwidth: Int, signed: Bool) -> DataType {
    switch bitwidth {
    case ...8: signed ? .sfixed8 : .ufixed8
    case 9...16: signed ? .sfixed16 : .ufixed16
    default: signed ? .sfixed32 : .ufixed32
    }
  }
}
