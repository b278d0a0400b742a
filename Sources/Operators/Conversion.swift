import IR

/// Converts the element type: float32, float64 (at the border of a graph), the integers and bool.
public struct Cast: Operator {
  public static let typeName = "Cast"
  /// Element type of the output.
  public var to: DataType

  /// Makes a cast.
  public init(to: DataType) { self.to = to }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    let name = try attributes.string("to")
    guard let type = DataType(rawValue: name) else {
      throw Diagnostic("bad-parameter", "there is no element type \(name)")
    }
    to = type
  }
  public var attributes: [Attribute] { [Attribute("to", .string(to.rawValue))] }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    for type in [x.element, to] {
      try check(
        type == .float32 || type == .float64 || type.isInteger || type == .bool,
        "Cast is not available for \(type.rawValue)")
    }
    return [TensorType(to, x.shape)]
  }
  public var quantization: QuantizationRule {
    QuantizationRule(outputs: [to == .float64 ? .unquantized : .own])
  }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (source, target) = (x.type.element, outputs[0].type.element)
    if source == target { return outputs[0].bytes.copyMemory(from: x.bytes) }
    let (load, access) = (IntegerAccess(element: source), IntegerAccess(element: target))
    for index in 0..<x.type.count {
      if source.isFloat {
        let value =
          source == .float32
          ? Double(x.elements(as: Float.self)[index]) : x.elements(as: Double.self)[index]
        if target.isFloat {
          store(value, outputs[0], index)
        } else if target == .bool {
          access.store(value != 0 ? 1 : 0, outputs[0].bytes, index)
        } else {
          let whole = value.rounded(.towardZero)
          let limited = whole.isNaN ? 0 : min(max(whole, -0x1p62), 0x1p62)
          access.store(Int(limited), outputs[0].bytes, index)
        }
      } else {
        let value = load.load(x.bytes, index)
        if target == .float32 {
          outputs[0].elements(as: Float.self)[index] = Float(value)
        } else if target == .float64 {
          store(Double(value), outputs[0], index)
        } else {
          access.store(target == .bool ? (value != 0 ? 1 : 0) : value, outputs[0].bytes, index)
        }
      }
    }
  }

  private func store(_ value: Double, _ output: MutableTensorView, _ index: Int) {
    if to == .float64 {
      output.elements(as: Double.self)[index] = value
    } else {
      output.elements(as: Float.self)[index] = Float(value)
    }
  }
}

/// What a border operator between two precisions changes; in simulation all copy their input, and the
/// output tensor's encoding does the rest.
public protocol BorderKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Which encodings the operator carries while the graph is float.
  static var rule: QuantizationRule { get }
}

extension BorderKind {
  public static var rule: QuantizationRule { QuantizationRule() }
}

/// A change of precision: values pass through, the output's encoding is applied to them.
public struct Border<Kind: BorderKind>: Operator {
  public static var typeName: String { Kind.typeName }
  /// Makes the operator.
  public init() {}
  public init(attributes: inout AttributeReader) throws(Diagnostic) {}
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    [try floatInput(inputs, Self.typeName)]
  }
  public var quantization: QuantizationRule { Kind.rule }
  public func sinking(permutation: [Int]) -> (any Operator)? { self }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    outputs[0].bytes.copyMemory(from: try required(inputs, 0).bytes)
  }
}

/// Fixed point to fixed point of another encoding. In a float graph it stands where the source changes
/// the encoding of one reader; an open input then takes the output's encoding.
public enum ConvertBorder: BorderKind {
  public static let typeName = "Convert"
  public static var rule: QuantizationRule { .dataInvariant }
}
/// Float to fixed point.
public enum QuantizeBorder: BorderKind { public static let typeName = "Quantize" }
/// Fixed point to float.
public enum DequantizeBorder: BorderKind { public static let typeName = "Dequantize" }

public typealias Convert = Border<ConvertBorder>
public typealias Quantize = Border<QuantizeBorder>
public typealias Dequantize = Border<DequantizeBorder>
