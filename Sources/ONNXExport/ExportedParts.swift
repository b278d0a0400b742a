import IR

/// Value of an ONNX attribute, in the forms that the exporter needs.
enum ONNXAttribute: Sendable, Hashable {
  case int(Int)
  case float(Float)
  case ints([Int])
  case floats([Float])
  case strings([String])
  case string(String)
}

/// A node to be written.
struct ExportedNode: Sendable {
  var opType: String
  var name: String
  /// Empty where an optional operand is absent.
  var inputs: [String]
  var outputs: [String]
  var attributes: [(name: String, value: ONNXAttribute)]
}

/// A constant to be written.
struct ExportedInitializer: Sendable {
  var name: String
  /// ONNX's code of the element type.
  var type: Int32
  var shape: [Int]
  /// Dense, little-endian, 4-bit values packed in pairs.
  var bytes: Bytes
}

/// Name, element type and shape of a value.
struct ExportedValue: Sendable {
  var name: String
  var type: TensorType
}

extension DataType {
  /// ONNX's code (TensorProto.DataType); that of the plain integer for fixed point.
  var onnxCode: Int32 {
    switch self {
    case .float32: 1
    case .uint8, .ufixed8: 2
    case .int8, .sfixed8: 3
    case .uint16, .ufixed16: 4
    case .int16, .sfixed16: 5
    case .int32, .sfixed32: 6
    case .int64: 7
    case .string: 8
    case .bool: 9
    case .float16: 10
    case .float64: 11
    case .uint32, .ufixed32: 12
    case .uint64: 13
    case .bfloat16: 16
    case .uint4, .ufixed4: 21
    case .int4, .sfixed4: 22
    }
  }
}

/// Whether a permutation moves nothing.
func isIdentity(_ permutation: [Int]) -> Bool {
  permutation.enumerated().allSatisfy { $0.offset == $0.element }
}

/// The layout of a channel-last tensor whose value is kept channel-first: [0, n-1, 1, ..., n-2].
func channelFirst(rank: Int) -> [Int] { [0, rank - 1] + Array(1..<(rank - 1)) }
