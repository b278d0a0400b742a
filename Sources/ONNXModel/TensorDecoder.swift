import IR

/// Finds and checks the values of a tensor of the model: in place where the file holds them as they
/// are needed, copied from the typed fields otherwise.
struct TensorDecoder {
  /// Sizes above this are refused everywhere, so that arithmetic with them cannot overflow.
  static let sizeLimit = Int(Int32.max)

  private let file: MappedFile
  private var external: ExternalData

  /// A decoder for the tensors of one mapped model.
  init(file: MappedFile, modelPath: String) {
    self.file = file
    external = ExternalData(modelPath: modelPath)
  }

  /// Files with tensor data that were read, in order of first use.
  var externalFiles: [String] { external.files }

  /// The IR's type for `TensorProto.DataType`.
  static func element(_ code: Int32) -> DataType? {
    switch code {
    case 1: .float32
    case 2: .uint8
    case 3: .int8
    case 4: .uint16
    case 5: .int16
    case 6: .int32
    case 7: .int64
    case 9: .bool
    case 10: .float16
    case 11: .float64
    case 12: .uint32
    case 13: .uint64
    case 16: .bfloat16
    case 21: .uint4
    case 22: .int4
    default: nil
    }
  }

  /// What a message calls the types that the IR lacks.
  static func typeName(_ code: Int32) -> String {
    let names: [Int32: String] = [
      0: "undefined", 8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn",
      18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 23: "float4e2m1",
      24: "float8e8m0", 25: "uint2", 26: "int2",
    ]
    return names[code] ?? element(code)?.rawValue ?? "type \(code)"
  }

  /// The sizes as integers, or nil where one is negative or the whole is too large.
  static func shape(_ dims: [Int64]) -> [Int]? {
    var shape: [Int] = []
    for size in dims {
      guard size >= 0, size <= Int64(sizeLimit) else { return nil }
      shape.append(Int(size))
    }
    return TensorType(.float64, shape).checkedCount() == nil ? nil : shape
  }

  /// The constant that a tensor of the model is.
  mutating func constant(_ tensor: ONNXTensor) throws(Diagnostic) -> Constant {
    let location = Diagnostic.Location(tensor: tensor.name.isEmpty ? nil : tensor.name)
    guard let element = TensorDecoder.element(tensor.dataType) else {
      throw Diagnostic(
        "onnx-tensor-type",
        "a tensor of \(TensorDecoder.typeName(tensor.dataType)) is not supported", at: location,
        hint: "export the model with float32 weights")
    }
    guard let shape = TensorDecoder.shape(tensor.dims), shape.count <= 8 else {
      throw Diagnostic(
        "onnx-tensor-shape", "shape \(tensor.dims) of a tensor is not valid", at: location)
    }
    let type = TensorType(element, shape)
    let packed = element == .int4 || element == .uint4
    let expected = packed ? (type.count + 1) / 2 : type.byteCount

    func wrongCount(_ found: Int, _ unit: String, _ needed: Int) -> Diagnostic {
      Diagnostic(
        "onnx-tensor-size", "a tensor holds \(found) \(unit), its type \(type) needs \(needed)",
        at: location, hint: "the file is damaged, or its exporter is faulty")
    }
    func checked<Value>(_ values: [Value]) throws(Diagnostic) -> [Value] {
      let needed = packed ? expected : type.count
      guard values.count == needed else { throw wrongCount(values.count, "values", needed) }
      return values
    }
    func mismatch(_ field: String) -> Diagnostic {
      Diagnostic(
        "onnx-tensor-field", "a tensor of \(element.rawValue) has its values in \(field)",
        at: location, hint: "the file is damaged, or its exporter is faulty")
    }

    var bytes: Bytes
    switch tensor.storage {
    case .none:
      guard expected == 0 else { throw wrongCount(0, "bytes", expected) }
      bytes = Bytes([UInt8]())
    case .raw(let offset, let length):
      guard length == expected else { throw wrongCount(length, "bytes", expected) }
      guard let found = file.bytes(offset: offset, length: length) else {
        throw wrongCount(0, "bytes", expected)
      }
      bytes = found
    case .external(let entries):
      bytes = try external.bytes(entries, expected: expected, location: location)
    case .floats(let values):
      guard element == .float32 else { throw mismatch("float_data") }
      bytes = Bytes(try checked(values))
    case .doubles(let values):
      guard element == .float64 else { throw mismatch("double_data") }
      bytes = Bytes(try checked(values))
    case .int64(let values):
      guard element == .int64 else { throw mismatch("int64_data") }
      bytes = Bytes(try checked(values))
    case .uint64(let values):
      switch element {
      case .uint64: bytes = Bytes(try checked(values))
      case .uint32: bytes = Bytes(try checked(values).map { UInt32(truncatingIfNeeded: $0) })
      default: throw mismatch("uint64_data")
      }
    case .int32(let values):
      switch element {
      case .int32: bytes = Bytes(try checked(values))
      case .int16, .uint16, .float16, .bfloat16:
        bytes = Bytes(try checked(values).map { UInt16(truncatingIfNeeded: $0) })
      case .int8, .uint8, .bool, .int4, .uint4:
        bytes = Bytes(try checked(values).map { UInt8(truncatingIfNeeded: $0) })
      default: throw mismatch("int32_data")
      }
    case .strings: throw mismatch("string_data")
    case .segment:
      throw Diagnostic("onnx-tensor-segment", "a tensor in segments is not supported", at: location)
    }
    if packed { bytes = TensorDecoder.unpacked(bytes, count: type.count, signed: element == .int4) }
    return Constant(type: type, bytes: bytes)
  }

  /// A byte a value from two values a byte, low bits first.
  private static func unpacked(_ packed: Bytes, count: Int, signed: Bool) -> Bytes {
    Bytes(count: count) { target in
      for index in 0..<count {
        let byte = packed.buffer[index / 2]
        let nibble = index % 2 == 0 ? byte & 0xF : byte >> 4
        target[index] = signed && nibble > 7 ? nibble | 0xF0 : nibble
      }
    }
  }

  /// The dense constant of a sparse tensor: `indices` is linear, [NNZ], or by axis, [NNZ, rank].
  mutating func constant(_ sparse: ONNXSparseTensor) throws(Diagnostic) -> Constant {
    let values = try constant(sparse.values)
    let indices = try constant(sparse.indices)
    let location = Diagnostic.Location(tensor: sparse.values.name)
    guard let shape = TensorDecoder.shape(sparse.dims), shape.count <= 8 else {
      throw Diagnostic("onnx-tensor-shape", "shape \(sparse.dims) is not valid", at: location)
    }
    let type = TensorType(values.type.element, shape)
    let perValue = indices.type.rank == 2 ? shape.count : 1
    let expected = values.type.count.multipliedReportingOverflow(by: perValue)
    guard type.count <= 1 << 28, indices.type.element == .int64, let list = indices.integers(),
      !expected.overflow, list.count == expected.partialValue
    else {
      throw Diagnostic(
        "onnx-sparse-tensor", "indices of a sparse tensor do not fit its values", at: location)
    }
    let width = type.element.byteWidth
    let limits = perValue == 1 ? [type.count] : shape
    let steps = perValue == 1 ? [1] : denseStrides(shape)
    return try Constant(
      type: type,
      bytes: Bytes(count: type.byteCount) { (target) throws(Diagnostic) in
        for number in 0..<values.type.count {
          var position = 0
          for axis in 0..<perValue {
            let index = list[number * perValue + axis]
            guard limits[axis] > index, index >= 0 else {
              throw Diagnostic(
                "onnx-sparse-tensor", "index \(index) lies outside a sparse tensor", at: location)
            }
            position += index * steps[axis]
          }
          for byte in 0..<width {
            target[position * width + byte] = values.stored.buffer[number * width + byte]
          }
        }
      })
  }
}
