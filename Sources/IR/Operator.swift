/// A read-only dense tensor in memory, borrowed for the time of a call.
public struct TensorView {
  public let type: TensorType
  public let bytes: UnsafeRawBufferPointer

  /// A view of `bytes` as a tensor of `type`.
  public init(type: TensorType, bytes: UnsafeRawBufferPointer) {
    self.type = type
    self.bytes = bytes
  }

  /// The elements; the memory is aligned by contract of the executor.
  public func elements<Element>(as type: Element.Type) -> UnsafeBufferPointer<Element> {
    bytes.assumingMemoryBound(to: type)
  }
}

/// A dense tensor in memory that a kernel fills, borrowed for the time of a call.
public struct MutableTensorView {
  public let type: TensorType
  public let bytes: UnsafeMutableRawBufferPointer

  /// A view of `bytes` as a tensor of `type`.
  public init(type: TensorType, bytes: UnsafeMutableRawBufferPointer) {
    self.type = type
    self.bytes = bytes
  }

  /// The elements to write.
  public func elements<Element>(as type: Element.Type) -> UnsafeMutableBufferPointer<Element> {
    bytes.assumingMemoryBound(to: type)
  }
}

/// Which encodings an operator's operands carry; data, so that the IR needs no quantizer.
///
/// The rule speaks of float operands only: integer and boolean tensors never carry an encoding.
public struct QuantizationRule: Sendable, Hashable {
  /// Role of an input.
  public enum Input: Sendable, Hashable {
    /// An activation; a constant here is a parameter with an encoding of its own range.
    case activation
    /// A weight: symmetric per channel over `channelAxis` when that is asked for. `perRow` weights
    /// (fully connected, matrix products) follow the per-row option instead of per-channel.
    case weight(channelAxis: Int, perRow: Bool)
    /// A bias: scale is that of input 0 times that of input 1.
    case bias
    /// Never quantized.
    case unquantized
  }
  /// Role of an output.
  public enum Output: Sendable, Hashable {
    /// Calibrated on its own.
    case own
    /// Data invariant: shares the encoding of an input, in both directions.
    case sameAsInput(Int)
    /// Concat: shares one encoding with all inputs (unless a step would grow more than four times).
    case tiedToInputs
    /// Known beforehand: scale 2^-(bw - signBits), zero at 0 or in the middle.
    case fixedUnit(signed: Bool)
    /// Never quantized.
    case unquantized
  }
  /// Role in a fused pair (producer, activation), which gets one encoding after the activation.
  public enum Fusion: Sendable, Hashable {
    case none
    /// Conv family: any activation may be fused behind it.
    case convolution
    /// FullyConnected, MatMul, elementwise Add: clamping activations only.
    case arithmetic
    /// Relu, Relu6, Clip: fused behind both kinds of producer.
    case clamp
    /// PRelu, LeakyRelu, HardSwish: fused behind convolutions.
    case curve
    /// ElementWiseMinimum with a constant: fused behind a clamp that is fused itself (an upper bound a
    /// channel).
    case bound
  }
  /// Roles of the inputs; the last one holds for all that follow.
  public var inputs: [Input]
  /// Roles of the outputs; the last one holds for all that follow.
  public var outputs: [Output]
  /// Role in a fused pair.
  public var fusion: Fusion

  /// Makes a rule; by default every operand is an activation with an encoding of its own.
  public init(inputs: [Input] = [.activation], outputs: [Output] = [.own], fusion: Fusion = .none) {
    self.inputs = inputs
    self.outputs = outputs
    self.fusion = fusion
  }

  /// Role of input `index`.
  public func input(_ index: Int) -> Input {
    index < inputs.count ? inputs[index] : inputs.last ?? .unquantized
  }

  /// Role of output `index`.
  public func output(_ index: Int) -> Output {
    index < outputs.count ? outputs[index] : outputs.last ?? .unquantized
  }

  /// Output shares input 0's encoding; further inputs are indices, sizes and the like.
  public static let dataInvariant = QuantizationRule(
    inputs: [.activation, .unquantized], outputs: [.sameAsInput(0)])
}

/// An operator: a value that knows its QNN name and parameters, its types, its reference kernel and
/// how it is quantized. One file a family; the registry lists them.
public protocol Operator: Sendable {
  /// QNN's name (`Conv2d`), or ours where QNN has none.
  static var typeName: String { get }
  /// Parameters in a fixed order; `init(attributes:)` of these gives an equal operator.
  var attributes: [Attribute] { get }
  /// Reads the parameters; throws where one is missing, of the wrong kind or out of range.
  init(attributes: inout AttributeReader) throws(Diagnostic)
  /// Output types from input types (nil: an absent optional input); element types are logical.
  /// Throws where the inputs do not fit the operator.
  func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType]
  /// Reference kernel: plain code, the oracle of every backend. Buffers have the inferred types, hold
  /// dense rows and do not overlap.
  func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic)
  /// Multiply-accumulate operations of one run; 0 where the notion has no use.
  func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int
  /// Which operands carry encodings.
  var quantization: QuantizationRule { get }
  /// The operator P with `P(transpose(x, p)) == transpose(self(x), p)`... read from the other side:
  /// `self(transpose(x, p)) == transpose(result(x), p)`. Axis a of self becomes axis p[a]. nil where a
  /// permutation cannot pass.
  func sinking(permutation: [Int]) -> (any Operator)?
  /// Largest difference of a backend's float result from the reference, relative to the largest
  /// magnitude of the reference.
  var tolerance: Float { get }
}

extension Operator {
  /// QNN's name of this operator.
  public var typeName: String { Self.typeName }
  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int { 0 }
  public var quantization: QuantizationRule { QuantizationRule() }
  public func sinking(permutation: [Int]) -> (any Operator)? { nil }
  public var tolerance: Float { 1e-5 }
  public var attributes: [Attribute] { [] }

  /// Whether both are the same operator with the same parameters.
  public func isEqual(_ other: any Operator) -> Bool {
    typeName == other.typeName && attributes == other.attributes
  }
}

/// The operators that text parser and container reader can make, by name.
public struct OperatorRegistry: Sendable {
  private let types: [String: any Operator.Type]

  /// A registry of the listed types; each name once.
  public init(_ list: [any Operator.Type]) {
    types = Dictionary(list.map { ($0.typeName, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// Names in alphabetical order.
  public var names: [String] { types.keys.sorted() }

  /// The type with a name, nil where there is none.
  public func type(named name: String) -> (any Operator.Type)? { types[name] }

  /// Makes an operator from its name and parameters; unknown names and parameters are errors.
  public func make(_ name: String, _ attributes: [Attribute]) throws(Diagnostic) -> any Operator {
    guard let type = types[name] else {
      throw Diagnostic(
        "unknown-operator", "no operator is called \(name)",
        hint: "the container or text may come from a newer version")
    }
    var reader = try AttributeReader(operatorName: name, attributes)
    let made = try type.init(attributes: &reader)
    try reader.finish()
    return made
  }
}
