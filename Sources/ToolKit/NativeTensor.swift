import IR

/// A tensor in files as the graph stores it (`--use_native_input_files`, `--use_native_output_files`):
/// fixed point as codes, float16 as such, integers in their own type.
public struct NativeTensor: Sendable, Hashable {
  /// Type in the graph.
  public var type: TensorType
  /// Grid of a fixed-point tensor.
  public var encoding: Encoding?

  /// How a tensor of a graph is stored.
  public init(_ tensor: Tensor) {
    type = tensor.type
    encoding = tensor.encoding
  }

  /// Type of the elements in a file: the integers that hold fixed-point codes.
  public var fileType: TensorType {
    let element: DataType =
      switch type.element {
      case .sfixed4, .sfixed8: .int8
      case .sfixed16: .int16
      case .sfixed32: .int32
      case .ufixed4, .ufixed8: .uint8
      case .ufixed16: .uint16
      case .ufixed32: .uint32
      default: type.element
      }
    return TensorType(element, type.shape)
  }

  /// The values of stored elements, in the logical type.
  public func logical(_ stored: Bytes) -> Bytes {
    let constant = Constant(type: type, bytes: stored)
    if type.element.isFixedPoint, let encoding {
      return Bytes(encoding.dequantized(constant.integers() ?? [], shape: type.shape))
    }
    return type.element == .float16 ? Bytes(constant.floats()) : stored
  }

  /// The stored elements of values in the logical type.
  public func stored(_ values: Bytes) -> Bytes {
    let constant = Constant(type: type.logical, bytes: values)
    if type.element.isFixedPoint, let encoding {
      return encoding.quantized(constant.floats(), shape: type.shape)
    }
    return type.element == .float16 ? Bytes(constant.floats().map { halfBits($0) }) : values
  }
}
