import IR
import Operators

/// What a translation sees of one ONNX node, and what it builds with.
final class NodeContext {
  let builder: GraphBuilder
  let node: ONNXNode
  /// Name of the node, made up where the source has none.
  let name: String
  /// Version of the standard operator set.
  let opset: Int
  /// Operands; nil where an optional one is absent. A translation that leaves the rest to another one
  /// replaces them before.
  var inputs: [Value?]
  /// For each output whether anything reads it.
  let isOutputUsed: [Bool]
  private var unread: [String: ONNXAttributeValue] = [:]
  private let decode: (ONNXAttributeValue) throws(Diagnostic) -> Constant

  /// A context; `decode` finds the bytes of tensors in attributes.
  init(
    builder: GraphBuilder, node: ONNXNode, name: String, opset: Int, inputs: [Value?],
    isOutputUsed: [Bool], decode: @escaping (ONNXAttributeValue) throws(Diagnostic) -> Constant
  ) {
    self.builder = builder
    self.node = node
    self.name = name
    self.opset = opset
    self.inputs = inputs
    self.isOutputUsed = isOutputUsed
    self.decode = decode
    for attribute in node.attributes { unread[attribute.name] = attribute.value }
  }

  // MARK: Diagnostics

  /// An attribute or operand that breaks ONNX's rules.
  func invalid(_ message: String) -> Diagnostic {
    Diagnostic(
      "onnx-bad-node", "\(node.opType): \(message)", at: Diagnostic.Location(node: name),
      hint: "the model breaks the rules of ONNX; check it with onnx.checker")
  }

  /// Something valid that is not supported.
  func unsupported(_ message: String, hint: String? = nil) -> Diagnostic {
    Diagnostic(
      "onnx-unsupported-form", "\(node.opType): \(message) is not supported",
      at: Diagnostic.Location(node: name), hint: hint)
  }

  // MARK: Operands

  /// Operand `index`, nil where absent.
  func optional(_ index: Int) -> Value? { index < inputs.count ? inputs[index] : nil }

  /// Operand `index`, which must be there.
  func input(_ index: Int) throws(Diagnostic) -> Value {
    guard let value = optional(index) else { throw invalid("input \(index) is missing") }
    return value
  }

  /// Operand `index`, of rank `ranks`.
  func input(_ index: Int, ranks: ClosedRange<Int>) throws(Diagnostic) -> Value {
    let value = try input(index)
    guard ranks.contains(value.rank) else {
      throw invalid("input \(index) has rank \(value.rank)")
    }
    return value
  }

  /// The constant integers of operand `index`, nil where it is absent.
  func integers(_ index: Int, _ what: String) throws(Diagnostic) -> [Int]? {
    guard let value = optional(index) else { return nil }
    guard let constant = value.constant else {
      throw unsupported(
        "\(what) that is computed from an input",
        hint: "export the model with fixed shapes, or simplify it with onnxsim")
    }
    guard value.rank <= 1, value.type.count <= 1 << 16, let list = constant.integers() else {
      throw invalid("\(what) must be a list of integers, is \(value.type)")
    }
    return list
  }

  /// The one constant number of operand `index`, nil where it is absent.
  func number(_ index: Int, _ what: String) throws(Diagnostic) -> Float? {
    guard let value = optional(index) else { return nil }
    guard let constant = value.constant else {
      throw unsupported("\(what) that is computed from an input")
    }
    guard value.type.count == 1, let number = constant.floats().first else {
      throw invalid("\(what) must be one number, is \(value.type)")
    }
    return number
  }

  /// Throws unless all operands have the element type of the first.
  func requireOneElementType() throws(Diagnostic) {
    let types = inputs.compactMap { $0?.type }
    for type in types where type.element != types[0].element {
      throw invalid("operands differ in type: \(types[0]) and \(type)")
    }
  }

  /// Throws where an output other than the first is read by somebody.
  func requireOnlyFirstOutput(_ what: String) throws(Diagnostic) {
    if isOutputUsed.dropFirst().contains(true) { throw unsupported(what) }
  }

  // MARK: Attributes

  private func take(_ name: String) -> ONNXAttributeValue? { unread.removeValue(forKey: name) }

  private func wrongKind(_ name: String, _ expected: String) -> Diagnostic {
    invalid("attribute \(name) must be \(expected)")
  }

  /// An integer attribute.
  func int(_ name: String) throws(Diagnostic) -> Int? {
    switch take(name) {
    case nil: return nil
    case .int(let value): return Int(value)
    default: throw wrongKind(name, "an integer")
    }
  }

  /// An integer attribute that means yes or no.
  func flag(_ name: String, default fallback: Bool = false) throws(Diagnostic) -> Bool {
    try int(name).map { $0 != 0 } ?? fallback
  }

  /// An integer attribute that means yes or no, left for who reads it after.
  func flag(_ name: String, peek: Bool) throws(Diagnostic) -> Bool {
    let kept = unread[name]
    defer { if peek { unread[name] = kept } }
    return try flag(name)
  }

  /// A list of integers.
  func ints(_ name: String) throws(Diagnostic) -> [Int]? {
    switch take(name) {
    case nil: return nil
    case .ints(let list): return list.map { Int($0) }
    default: throw wrongKind(name, "a list of integers")
    }
  }

  /// A list of `count` integers from `lowest` to 2^31 - 1.
  func sizes(_ name: String, count: Int, from lowest: Int) throws(Diagnostic) -> [Int]? {
    guard let list = try ints(name) else { return nil }
    guard list.count == count, list.allSatisfy({ (lowest...TensorDecoder.sizeLimit).contains($0) })
    else {
      throw invalid("\(name) \(list) must be \(count) numbers from \(lowest) on")
    }
    return list
  }

  /// A number attribute.
  func float(_ name: String) throws(Diagnostic) -> Float? {
    switch take(name) {
    case nil: return nil
    case .float(let value): return value
    default: throw wrongKind(name, "a number")
    }
  }

  /// A text attribute.
  func string(_ name: String) throws(Diagnostic) -> String? {
    switch take(name) {
    case nil: return nil
    case .string(let value): return value
    default: throw wrongKind(name, "text")
    }
  }

  /// An attribute of any kind.
  func any(_ name: String) -> ONNXAttributeValue? { take(name) }

  /// The value of a tensor in an attribute.
  func constant(_ value: ONNXAttributeValue) throws(Diagnostic) -> Constant { try decode(value) }

  /// Drops attributes that have no meaning for inference.
  func ignore(_ names: String...) { for name in names { unread[name] = nil } }

  /// Throws where attributes are left that the translation does not know.
  func finish() throws(Diagnostic) {
    guard !unread.isEmpty else { return }
    let names = unread.keys.sorted().joined(separator: ", ")
    throw Diagnostic(
      "onnx-unknown-attribute", "\(node.opType) of opset \(opset) has no attribute \(names)",
      at: Diagnostic.Location(node: name), hint: "check the model with onnx.checker")
  }

  /// An axis from 0 on out of one that may count from the end.
  func axis(_ axis: Int, rank: Int) throws(Diagnostic) -> Int {
    guard axis >= -rank, axis < rank else {
      throw invalid("axis \(axis) lies outside rank \(rank)")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// Distinct axes from 0 on, in the given order.
  func axes(_ list: [Int], rank: Int) throws(Diagnostic) -> [Int] {
    var result: [Int] = []
    for entry in list { result.append(try axis(entry, rank: rank)) }
    guard Set(result).count == result.count else { throw invalid("axes \(list) repeat an axis") }
    return result
  }

  // MARK: Building

  /// Applies the translation of another operator to other operands, with the attributes that are given, by
  /// default this node's; its one result. `output` is the name that the result would have in the source.
  func nested(
    _ opType: String, _ operands: [Value?], output: String, attributes: [ONNXAttribute]? = nil
  ) throws(Diagnostic) -> Value {
    guard let translation = ONNXTranslation.all[opType] else {
      throw unsupported("its operator \(opType)")
    }
    var inner = node
    inner.opType = opType
    inner.domain = ""
    inner.outputs = [output]
    inner.attributes = attributes ?? node.attributes.filter { unread[$0.name] != nil }
    if attributes == nil { unread = [:] }
    let context = NodeContext(
      builder: builder, node: inner, name: name, opset: opset, inputs: operands,
      isOutputUsed: [true], decode: decode)
    let results = try translation.translate(context)
    try context.finish()
    guard let first = results.first, let result = first else {
      throw invalid("the operator has no result")
    }
    if case .tensor(let id) = result.source, !builder.isSourceName(output) {
      _ = builder.adopt(id, as: output)
    }
    return result
  }

  private func names(_ suffix: String) -> (node: String, tensor: String) {
    let output = node.outputs.first { !$0.isEmpty } ?? name
    return suffix.isEmpty ? (name, "\(output).value") : ("\(name).\(suffix)", "\(output).\(suffix)")
  }

  /// Applies an operator with one result. The main operator of a translation has no suffix and gets
  /// the node's name.
  func emit(
    _ op: any Operator, _ inputs: [Value?], suffix: String = "", tensor: String? = nil
  ) throws(Diagnostic) -> Value {
    let (node, output) = names(suffix)
    let results = try builder.emit(op, inputs, node: node, tensors: [tensor ?? output])
    guard let first = results.first else { throw invalid("the operator has no result") }
    return first
  }

  /// Reshapes a value.
  func reshape(
    _ value: Value, _ shape: [Int], suffix: String = "reshape"
  ) throws(Diagnostic) -> Value {
    let (node, output) = names(suffix)
    return try builder.reshape(value, to: shape, node: node, tensor: output)
  }

  /// Transposes a value.
  func transpose(
    _ value: Value, _ order: [Int], suffix: String = "transpose"
  ) throws(Diagnostic) -> Value {
    let (node, output) = names(suffix)
    return try builder.transpose(value, order, node: node, tensor: output)
  }

  /// The value with its channels, axis 1, moved last.
  func channelLast(_ value: Value) throws(Diagnostic) -> Value {
    guard value.rank > 2 else { return value }
    let order = [0] + Array(2..<value.rank) + [1]
    let name = "\(value.name).nhwc"
    return try builder.transpose(value, order, node: name, tensor: name)
  }

  /// The value with its channels, the last axis, moved to axis 1.
  func channelFirst(_ value: Value) throws(Diagnostic) -> Value {
    guard value.rank > 2 else { return value }
    return try transpose(value, [0, value.rank - 1] + Array(1..<(value.rank - 1)), suffix: "nchw")
  }

  /// Name of the channel-last result within the Transposes around an operator.
  var channelLastName: String { "\(node.outputs.first ?? name).nhwc" }

  /// A constant made here.
  func constant(_ constant: Constant, suffix: String) -> Value {
    builder.constant(constant, named: "\(name).\(suffix)")
  }

  /// A constant of one number in an element type, rank 0.
  func scalar(
    _ number: Float, like type: TensorType, suffix: String
  ) throws(Diagnostic) -> Value {
    let value = constant(Constant([number], shape: []), suffix: suffix)
    if type.element == .float32 { return value }
    return try emit(Cast(to: type.element), [value], suffix: suffix)
  }
}
