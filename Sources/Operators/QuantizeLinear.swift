import IR

/// Integer codes of a float tensor: the element type they have and the grid they are on.
///
/// The codes are those of ONNX: signed element types count from the middle of the unsigned grid that
/// ``Encoding`` speaks of.
public struct CodeGrid: Sendable, Hashable {
  /// int4, uint4, int8, uint8, int16, uint16 or int32.
  public let element: DataType
  /// The grid as the IR writes it: symmetric for signed codes whose zero points are all 0.
  public let encoding: Encoding

  /// Bits of a code of an element type, nil where it cannot hold codes.
  public static func bits(_ element: DataType) -> Int? {
    switch element {
    case .int4, .uint4, .int8, .uint8, .int16, .uint16, .int32: element.bits
    default: nil
    }
  }

  /// Whether codes of an element type have a sign.
  public static func isSigned(_ element: DataType) -> Bool {
    switch element {
    case .int4, .int8, .int16, .int32: true
    default: false
    }
  }

  /// A grid from ONNX's numbers: `real = (code - zeroPoint) * scale`, one pair, or one for each index
  /// along `axis`. Throws `bad-grid` where an element type, scale or zero point cannot be.
  public init(
    element: DataType, scales: [Float], zeroPoints: [Int], axis: Int?
  ) throws(Diagnostic) {
    guard let bits = Self.bits(element) else {
      throw Diagnostic("bad-grid", "\(element.rawValue) cannot hold codes of a grid")
    }
    guard scales.count == zeroPoints.count, !scales.isEmpty else {
      throw Diagnostic(
        "bad-grid", "\(scales.count) scales and \(zeroPoints.count) zero points do not go together")
    }
    for scale in scales where !(scale.isFinite && scale > 0) {
      throw Diagnostic(
        "bad-grid", "scale \(scale) is not positive and finite",
        hint: "the exporter met a tensor whose range it could not use; calibrate or train again")
    }
    let half = 1 << (bits - 1)
    let range = Self.isSigned(element) ? -half...half - 1 : 0...2 * half - 1
    for zero in zeroPoints where !range.contains(zero) || (bits == 32 && zero != 0) {
      throw Diagnostic("bad-grid", "zero point \(zero) does not fit \(element.rawValue)")
    }
    let shift = Self.isSigned(element) ? half : 0
    self.element = element
    encoding = Encoding(
      bitwidth: bits,
      symmetric: Self.isSigned(element) && zeroPoints.allSatisfy { $0 == 0 }, axis: axis,
      channels: zip(scales, zeroPoints).map {
        ScaleOffset(scale: $0, offset: Int32(-($1 + shift)))
      })
  }

  private init(element: DataType, encoding: Encoding) {
    self.element = element
    self.encoding = encoding
  }

  /// The grid of the transposed tensor: axis i of the result is axis `order[i]` of this one.
  public func permuted(_ order: [Int]) -> CodeGrid {
    CodeGrid(element: element, encoding: encoding.permuted(order))
  }

  /// ONNX's zero points, one a scale.
  public var zeroPoints: [Int] { encoding.channels.map { -Int($0.offset) - shift } }

  /// What is subtracted from a code of the unsigned grid to make one of ``element``.
  var shift: Int { Self.isSigned(element) ? 1 << (encoding.bitwidth - 1) : 0 }

  init(reading attributes: inout AttributeReader) throws(Diagnostic) {
    let name = try attributes.string("element")
    guard let element = DataType(rawValue: name) else {
      throw Diagnostic("bad-parameter", "there is no element type \(name)")
    }
    let axis = try attributes.int("axis", default: -1)
    let scales = try attributes.floats("scale")
    try self.init(
      element: element, scales: scales, zeroPoints: try attributes.ints("zero_point"),
      axis: axis < 0 ? nil : axis)
    guard axis >= 0 || scales.count == 1 else {
      throw Diagnostic("bad-parameter", "\(scales.count) scales without an axis")
    }
  }

  var attributes: [Attribute] {
    [
      Attribute("element", .string(element.rawValue)),
      Attribute("axis", .int(encoding.axis ?? -1)),
      Attribute("scale", .floats(encoding.channels.map(\.scale))),
      Attribute("zero_point", .ints(zeroPoints)),
    ]
  }

  func check(_ type: TensorType) throws(Diagnostic) {
    if let problem = encoding.problem(shape: type.shape) {
      throw Diagnostic("bad-shape", "\(problem), operand \(type)")
    }
  }
}

/// Float to plain integers by a grid: `clamp(rint(x / scale) + zero_point)`; scales and zero points as in
/// ONNX. What stays of a source's QuantizeLinear where no DequantizeLinear follows.
public struct QuantizeLinear: Operator {
  public static let typeName = "QuantizeLinear"
  /// The codes it makes.
  public let grid: CodeGrid

  /// Makes the operator.
  public init(_ grid: CodeGrid) { self.grid = grid }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    grid = try CodeGrid(reading: &attributes)
  }
  public var attributes: [Attribute] { grid.attributes }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try grid.check(x)
    return [TensorType(grid.element, x.shape)]
  }
  public var quantization: QuantizationRule { QuantizationRule(outputs: [.unquantized]) }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    QuantizeLinear(grid.permuted(inversePermutation(permutation)))
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let values = x.elements(as: Float.self)
    let (encoding, shift) = (grid.encoding, grid.shift)
    let store = IntegerAccess(element: grid.element)
    encoding.forEachChannelRun(shape: x.type.shape) { channel, start, count in
      let channelGrid = encoding.channels[channel]
      for index in start..<(start + count) {
        let code = channelGrid.quantize(
          values[index], codeMin: encoding.codeMin, codeMax: encoding.codeMax)
        store.store(code - shift, outputs[0].bytes, index)
      }
    }
  }
}

/// Plain integers to float by a grid: `(q - zero_point) * scale`. What stays of a source's
/// DequantizeLinear whose codes come from elsewhere than a QuantizeLinear.
public struct DequantizeLinear: Operator {
  public static let typeName = "DequantizeLinear"
  /// The codes it reads.
  public let grid: CodeGrid

  /// Makes the operator.
  public init(_ grid: CodeGrid) { self.grid = grid }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    grid = try CodeGrid(reading: &attributes)
  }
  public var attributes: [Attribute] { grid.attributes }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let q = try required(inputs, 0, "codes")
    guard q.element == grid.element else {
      throw Diagnostic(
        "unsupported-element", "codes are \(q.element.rawValue), not \(grid.element.rawValue)")
    }
    try grid.check(q)
    return [TensorType(.float32, q.shape)]
  }
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.unquantized]) }
  public func sinking(permutation: [Int]) -> (any Operator)? {
    DequantizeLinear(grid.permuted(inversePermutation(permutation)))
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let q = try required(inputs, 0)
    let target = outputs[0].elements(as: Float.self)
    let (encoding, shift) = (grid.encoding, grid.shift)
    let load = IntegerAccess(element: grid.element)
    encoding.forEachChannelRun(shape: q.type.shape) { channel, start, count in
      let channelGrid = encoding.channels[channel]
      for index in start..<(start + count) {
        target[index] = channelGrid.dequantize(load.load(q.bytes, index) + shift)
      }
    }
  }
}
