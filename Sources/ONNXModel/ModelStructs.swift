// What an ONNX file says, as plain values: the only form that the rest of the importer sees.

/// A whole model.
struct ONNXModelProto: Sendable {
  var irVersion: Int64
  var producer: String
  /// Versions of the operator sets by domain; the standard one has the empty name.
  var opsets: [String: Int64]
  var graph: ONNXGraph
  /// Local functions by ``ONNXNode/callee``.
  var functions: [String: ONNXFunction]
}

/// A graph: the model's own or one in an attribute.
struct ONNXGraph: Sendable {
  var name: String
  var nodes: [ONNXNode] = []
  var initializers: [ONNXTensor] = []
  var sparseInitializers: [ONNXSparseTensor] = []
  var inputs: [ONNXValueInfo] = []
  var outputs: [ONNXValueInfo] = []
  var valueInfos: [ONNXValueInfo] = []
}

/// An operator and its operands; an empty name is an operand that is not there.
struct ONNXNode: Sendable {
  var name: String
  var opType: String
  var domain: String
  var inputs: [String]
  var outputs: [String]
  var attributes: [ONNXAttribute]
  /// Which of several functions of one name is meant.
  var overload = ""
  /// Version of the standard operator set where it is not the model's: in the body of a function.
  var opset: Int64?

  /// Names that graphs in its attributes read from outside.
  var captured: [String] = []

  /// Domain and name of the operator or function.
  var callee: String {
    (domain.isEmpty ? opType : "\(domain).\(opType)") + (overload.isEmpty ? "" : ":\(overload)")
  }
}

/// A function of the model: a body of nodes over named operands.
struct ONNXFunction: Sendable {
  var inputs: [String]
  var outputs: [String]
  /// Attributes without a default.
  var attributes: [String]
  /// Attributes with their defaults.
  var defaults: [ONNXAttribute]
  var nodes: [ONNXNode]
  var opsets: [String: Int64]
}

/// A named parameter.
struct ONNXAttribute: Sendable {
  var name: String
  var value: ONNXAttributeValue
}

/// The value of a parameter.
enum ONNXAttributeValue: Sendable {
  case float(Float)
  case int(Int64)
  case string(String)
  case tensor(ONNXTensor)
  case floats([Float])
  case ints([Int64])
  case strings([String])
  case sparse(ONNXSparseTensor)
  /// The body of a branch or loop.
  case graph(ONNXGraph)
  /// Within a function: the attribute of the call that gives the value.
  case reference(String)
  /// A kind that no translation reads: lists of graphs, types, lists of tensors.
  case other(String)
}

/// A tensor's description; its bytes are found by ``TensorDecoder``.
struct ONNXTensor: Sendable {
  /// Where the values are.
  enum Storage: Sendable {
    case none
    /// Bytes of the model file.
    case raw(offset: Int, length: Int)
    case floats([Float])
    case int32([Int32])
    case int64([Int64])
    case doubles([Double])
    case uint64([UInt64])
    case strings
    /// Keys and values of the entry: location, offset, length.
    case external([String: String])
    /// In parts, which the format gave up.
    case segment
  }
  var name: String
  var dims: [Int64]
  var dataType: Int32
  var storage: Storage
}

/// A tensor given by its elements that are not zero.
struct ONNXSparseTensor: Sendable {
  var values: ONNXTensor
  var indices: ONNXTensor
  var dims: [Int64]
}

/// A size in a declared shape.
enum ONNXDimension: Sendable, Hashable {
  case fixed(Int64)
  case symbol(String)
  case unknown
}

/// Name and declared type of a value.
struct ONNXValueInfo: Sendable {
  var name: String
  /// `TensorProto.DataType`, nil where the value is no tensor or has no type.
  var dataType: Int32?
  /// nil where even the rank is unknown.
  var shape: [ONNXDimension]?
  /// Whether it is a sequence, a map or the like.
  var isTensor = true
}
