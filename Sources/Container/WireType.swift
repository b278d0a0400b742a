import IR

/// Numbers of the schema's enumerations.
enum WireType {
  static let noEncoding: Int32 = 0x7FFF_FFFF

  /// Tensor roles.
  enum Role: Int32 {
    case graphInput = 0
    case graphOutput = 1
    case graphInputOutput = 2
    case intermediate = 3
    case fixed = 4
    case absent = 5
  }

  private static let pairs: [(DataType, Int32)] = [
    (.int8, 0x0008), (.int16, 0x0016), (.int32, 0x0032), (.int64, 0x0064),
    (.uint8, 0x0108), (.uint16, 0x0116), (.uint32, 0x0132), (.uint64, 0x0164),
    (.float16, 0x0216), (.float32, 0x0232), (.float64, 0x0264),
    (.sfixed4, 0x0304), (.sfixed8, 0x0308), (.sfixed16, 0x0316), (.sfixed32, 0x0332),
    (.ufixed4, 0x0404), (.ufixed8, 0x0408), (.ufixed16, 0x0416), (.ufixed32, 0x0432),
    (.bool, 0x0508), (.string, 0x0608),
  ]
  private static let numbers = Dictionary(uniqueKeysWithValues: pairs)
  private static let types = Dictionary(uniqueKeysWithValues: pairs.map { ($0.1, $0.0) })

  /// The number of a type, nil where the format has none (bfloat16, raw 4-bit integers).
  static func number(_ type: DataType) -> Int32? { numbers[type] }

  /// The type of a number.
  static func type(_ number: Int32) -> DataType? { types[number] }

  static let int32: Int32 = 0x0032
  static let uint8: Int32 = 0x0108
  static let uint32: Int32 = 0x0132
  static let float32: Int32 = 0x0232
  static let bool8: Int32 = 0x0508
  static let text: Int32 = 0x0608
  static let undefined: Int32 = 0x7FFF_FFFF
}

extension DataType {
  /// Whether two values share a byte in the container.
  var isPacked: Bool { self == .sfixed4 || self == .ufixed4 }

  /// Whether fixed-point codes of this type are signed.
  var isSignedFixedPoint: Bool {
    switch self {
    case .sfixed4, .sfixed8, .sfixed16, .sfixed32: true
    default: false
    }
  }
}
