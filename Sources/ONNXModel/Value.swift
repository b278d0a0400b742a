import IR
import Operators

/// A value of the source while it is imported: a tensor of the graph, or a constant that becomes
/// one only when an operator that stays reads it.
struct Value {
  /// Where the value is.
  enum Source {
    case tensor(TensorID)
    case constant(Constant)
  }
  /// Name in the source, or a wish for one.
  var name: String
  /// Whether ``name`` is the source's own name for this value.
  var isNamedBySource: Bool
  var type: TensorType
  var source: Source
  /// Tells constants apart that share a name.
  var serial: Int
  /// The grid that the values of a float constant lie on: it was stored in codes.
  var encoding: Encoding?
  /// Of a constant whose axes were moved: axis i is axis `order[i]` of the source's constant.
  var order: [Int]?
  /// The grid that the codes of an integer tensor belong to: a QuantizeLinear made it.
  var codes: CodeGrid?
  /// The name in the source of the float constant that constant codes were made of.
  var origin: String?

  /// The source's element type where it is another than that of ``type``: float16 and float64 are computed in
  /// float32.
  var narrow: DataType?

  /// The element type that the source has for this value.
  var sourceElement: DataType { narrow ?? type.element }

  /// The constant, nil for what is computed at run time.
  var constant: Constant? {
    if case .constant(let constant) = source { return constant }
    return nil
  }

  /// Sizes of the axes.
  var shape: [Int] { type.shape }
  /// Number of axes.
  var rank: Int { type.rank }
}
