import IR
import Operators

/// Grows the graph node by node, names things, and computes at once what has small constant
/// operands.
final class GraphBuilder {
  /// A constant made from another by moving its elements or its sizes.
  private struct Derivation: Hashable {
    var serial: Int
    var isPermutation: Bool
    var numbers: [Int]
  }
  /// A Transpose of a tensor.
  private struct Permuted: Hashable {
    var tensor: TensorID
    var order: [Int]
  }

  private(set) var graph: Graph
  private let reservedTensors: Set<String>
  private let reservedNodes: Set<String>
  private var takenTensors = Set<String>()
  private var takenNodes = Set<String>()
  private var nextNumber: [String: Int] = [:]
  private var nextSerial = 0
  private var constants: [Int: TensorID] = [:]
  private var derived: [Derivation: Value] = [:]
  private var transposes: [Permuted: Value] = [:]
  private var dequantized: [TensorID: Value] = [:]
  private var widened: [TensorID: Value] = [:]
  private var widenedConstants: [Int: Value] = [:]
  private var claimed = Set<String>()
  /// Names of the source that stand for a constant under another one.
  private(set) var standIns: [String: Value] = [:]
  private let foldLimit: Int

  /// A builder that keeps the source's names for what they name there.
  init(name: String, tensorNames: Set<String>, nodeNames: Set<String>, foldLimit: Int) {
    graph = Graph(name: name)
    reservedTensors = tensorNames
    reservedNodes = nodeNames
    self.foldLimit = foldLimit
  }

  // MARK: Names

  private func free(_ wanted: String, _ isUsed: (String) -> Bool) -> String {
    let base = wanted.isEmpty ? "tensor" : wanted
    if !isUsed(base) { return base }
    var number = nextNumber[base] ?? 1
    while isUsed("\(base)_\(number)") { number += 1 }
    nextNumber[base] = number + 1
    return "\(base)_\(number)"
  }

  private func tensorName(_ wanted: String, isSource: Bool) -> String {
    let name =
      isSource && !takenTensors.contains(wanted) && !wanted.isEmpty
      ? wanted : free(wanted) { takenTensors.contains($0) || reservedTensors.contains($0) }
    takenTensors.insert(name)
    return name
  }

  private func nodeName(_ wanted: String) -> String {
    let isSource = reservedNodes.contains(wanted) && !takenNodes.contains(wanted)
    let name =
      isSource
      ? wanted : free(wanted) { takenNodes.contains($0) || reservedNodes.contains($0) }
    takenNodes.insert(name)
    return name
  }

  /// Whether the source gave this name to one of its values.
  func isSourceName(_ name: String) -> Bool { reservedTensors.contains(name) }

  // MARK: Values

  /// A constant; `isSource` when `name` is its name in the source, `encoding` where its values lie on
  /// a grid of the source.
  func constant(
    _ constant: Constant, named name: String, isSource: Bool = false, encoding: Encoding? = nil
  ) -> Value {
    nextSerial += 1
    return Value(
      name: name, isNamedBySource: isSource, type: constant.type, source: .constant(constant),
      serial: nextSerial, encoding: encoding)
  }

  /// Takes a name of the source for a constant that stands for it; false where another has it.
  func claim(_ name: String) -> Bool { claimed.insert(name).inserted }

  /// Remembers that a name of the source means the same as a constant that keeps another name.
  func note(_ name: String, standsFor value: Value) { standIns[name] = value }

  /// The name that a value has in the graph, nil for a constant that nothing reads.
  func graphName(of value: Value) -> String? {
    switch value.source {
    case .tensor(let id): graph[id].name
    case .constant: constants[value.serial].map { graph[$0].name }
    }
  }

  /// Adds an input of the graph.
  func addInput(name: String, type: TensorType) -> Value {
    let id = graph.add(Tensor(name: tensorName(name, isSource: true), type: type))
    graph.inputs.append(id)
    return Value(name: name, isNamedBySource: true, type: type, source: .tensor(id), serial: 0)
  }

  /// The tensor of the graph that holds a value; constants get theirs here.
  func operand(_ value: Value) -> TensorID {
    switch value.source {
    case .tensor(let id): return id
    case .constant(let constant):
      if let known = constants[value.serial] { return known }
      let name = tensorName(value.name, isSource: value.isNamedBySource)
      var tensor = Tensor(name: name, type: constant.type, constant: constant)
      tensor.sourceOrder = value.order
      if let encoding = value.encoding, constant.type.element == .float32 {
        tensor.encoding = encoding
        tensor.encodingSource = .source
        tensor.state = .given
      }
      let id = graph.add(tensor)
      constants[value.serial] = id
      return id
    }
  }

  /// Gives a tensor that still has a made-up name the source's name; false where it has one
  /// already.
  func adopt(_ id: TensorID, as name: String) -> Bool {
    guard !reservedTensors.contains(graph[id].name), !takenTensors.contains(name) else {
      return false
    }
    rename(id, to: name)
    return true
  }

  /// Changes the name of a tensor to a free one.
  func rename(_ id: TensorID, to name: String) {
    takenTensors.remove(graph[id].name)
    takenTensors.insert(name)
    graph[id].name = name
  }

  /// Gives up the name of a tensor, which somebody else needs.
  func release(_ id: TensorID, for kind: String) {
    let old = graph[id].name
    let name = free("\(old).\(kind)") { takenTensors.contains($0) || reservedTensors.contains($0) }
    takenTensors.remove(old)
    takenTensors.insert(name)
    graph[id].name = name
  }

  /// Makes a tensor one of float16: its values are rounded to that.
  func makeHalf(_ id: TensorID) { graph[id].type.element = .float16 }

  /// Whether a tensor already has this name.
  func isTaken(_ name: String) -> Bool { takenTensors.contains(name) }

  // MARK: Operators

  /// Refuses sizes that arithmetic further on could not bear.
  static func check(_ type: TensorType) throws(Diagnostic) {
    guard let count = type.checkedCount(), count < 1 << 40,
      type.shape.allSatisfy({ $0 <= TensorDecoder.sizeLimit })
    else {
      throw Diagnostic("onnx-too-large", "a tensor of \(type) is too large")
    }
  }

  /// Applies an operator: computed at once when all operands are small constants, a node otherwise.
  func emit(
    _ op: any Operator, _ inputs: [Value?], node: String, tensors names: [String]
  ) throws(Diagnostic) -> [Value] {
    let types = try op.infer(
      inputs.map { $0.map { $0.type.element == .float16 ? $0.type : $0.type.logical } })
    for type in types { try GraphBuilder.check(type) }
    let known = inputs.compactMap { $0 }
    let size = known.map(\.type.count).max() ?? 0
    if !known.isEmpty, known.allSatisfy({ $0.constant != nil }), size <= foldLimit,
      types.allSatisfy({ $0.count <= foldLimit })
    {
      let results = try evaluate(op, inputs.map { $0?.constant }, types)
      return zip(results, names).map { constant($0, named: $1) }
    }
    let operands = inputs.map { $0.map(operand) }
    var values: [Value] = []
    for (index, type) in types.enumerated() {
      let wanted = index < names.count ? names[index] : names.last ?? node
      let name = tensorName(wanted, isSource: false)
      let id = graph.add(Tensor(name: name, type: type))
      values.append(
        Value(name: name, isNamedBySource: false, type: type, source: .tensor(id), serial: 0))
    }
    graph.nodes.append(
      Node(
        name: nodeName(node), op: op, inputs: operands,
        outputs: values.map(operand)))
    return values
  }

  /// The result of an operator on one constant, whatever its size.
  func compute(_ op: any Operator, _ input: Constant) throws(Diagnostic) -> Constant {
    let types = try op.infer([input.type])
    return try evaluate(op, [input], types)[0]
  }

  /// The real values of codes; one node for all who ask.
  func dequantize(_ value: Value, _ grid: CodeGrid) throws(Diagnostic) -> Value {
    let id = operand(value)
    if let known = dequantized[id] { return known }
    let name = "\(value.name).float"
    let made = try emit(DequantizeLinear(grid), [value], node: name, tensors: [name])[0]
    dequantized[id] = made
    return made
  }

  /// A value of float16 or float64 as one of float32, which is what operators compute in.
  func widen(_ value: Value) throws(Diagnostic) -> Value {
    guard value.type.element.isFloat, value.type.element != .float32 else { return value }
    var result: Value
    switch value.source {
    case .constant(let constant):
      if let known = widenedConstants[value.serial] { return known }
      result = self.constant(
        Constant(constant.floats(), shape: value.shape), named: value.name,
        isSource: value.isNamedBySource, encoding: value.encoding)
      result.order = value.order
      result.narrow = value.type.element
      widenedConstants[value.serial] = result
    case .tensor(let id):
      if let known = widened[id] { return known }
      switch value.type.element {
      case .float16:
        result = value
        result.type.element = .float32
      case .float64:
        let name = "\(value.name).float32"
        result = try emit(Cast(to: .float32), [value], node: name, tensors: [name])[0]
      default: return value
      }
      result.narrow = value.type.element
      widened[id] = result
    }
    return result
  }

  private func evaluate(
    _ op: any Operator, _ inputs: [Constant?], _ types: [TensorType]
  ) throws(Diagnostic) -> [Constant] {
    let sources = inputs.map { $0.map { $0.materialized().aligned(to: 64) } }
    let views = zip(inputs, sources).map { input, bytes -> TensorView? in
      guard let input, let bytes else { return nil }
      return TensorView(type: input.type, bytes: bytes.buffer)
    }
    let buffers = types.map {
      UnsafeMutableRawBufferPointer.allocate(byteCount: max($0.byteCount, 1), alignment: 64)
    }
    defer { for buffer in buffers { buffer.deallocate() } }
    let targets = zip(types, buffers).map {
      MutableTensorView(
        type: $0, bytes: UnsafeMutableRawBufferPointer(rebasing: $1[..<$0.byteCount]))
    }
    for buffer in buffers { buffer.initializeMemory(as: UInt8.self, repeating: 0) }
    do throws(Diagnostic) {
      try op.evaluate(views, targets)
    } catch {
      withExtendedLifetime(sources) {}
      throw error
    }
    withExtendedLifetime(sources) {}
    return targets.map { target in
      Constant(
        type: target.type,
        bytes: Bytes(count: target.type.byteCount) {
          $0.copyMemory(from: UnsafeRawBufferPointer(target.bytes))
        })
    }
  }

  /// The value with another shape of equal count; constants and equal shapes need no node.
  func reshape(
    _ value: Value, to shape: [Int], node: String, tensor: String
  ) throws(Diagnostic) -> Value {
    if shape == value.shape { return value }
    guard let constant = value.constant else {
      return try emit(Reshape(shape: shape), [value], node: node, tensors: [tensor])[0]
    }
    let result = try Reshape(shape: shape).infer([value.type])[0]
    let key = Derivation(serial: value.serial, isPermutation: false, numbers: shape)
    return derive(
      value, key, constant.reshaped(result.shape),
      value.encoding?.reshaped(from: value.shape, to: result.shape), order: nil)
  }

  /// The value transposed: axis i of the result is axis `order[i]`; constants need no node and are
  /// not copied.
  func transpose(
    _ value: Value, _ order: [Int], node: String, tensor: String
  ) throws(Diagnostic) -> Value {
    if order == Array(0..<value.rank) { return value }
    guard let constant = value.constant else {
      let id = operand(value)
      if let known = transposes[Permuted(tensor: id, order: order)] { return known }
      let made = try emit(Transpose(perm: order), [value], node: node, tensors: [tensor])[0]
      transposes[Permuted(tensor: id, order: order)] = made
      return made
    }
    guard order.sorted() == Array(0..<value.rank) else {
      throw Diagnostic("onnx-bad-attribute", "\(order) is not an order of \(value.rank) axes")
    }
    let key = Derivation(serial: value.serial, isPermutation: true, numbers: order)
    return derive(
      value, key, constant.permuted(order), value.encoding?.permuted(order),
      order: Tensor.permuted(value.order, order))
  }

  private func derive(
    _ value: Value, _ key: Derivation, _ made: Constant, _ encoding: Encoding?, order: [Int]?
  ) -> Value {
    if let known = derived[key] { return known }
    var result = constant(
      made, named: value.name, isSource: value.isNamedBySource, encoding: encoding)
    result.order = order
    derived[key] = result
    return result
  }

  /// A copy of a value under a name of the source that no tensor carries yet.
  func copy(_ value: Value, named name: String) -> TensorID {
    let source = operand(value)
    let id = graph.add(Tensor(name: tensorName(name, isSource: true), type: value.type))
    graph.nodes.append(
      Node(
        name: nodeName("\(name).copy"), op: Reshape(shape: value.shape), inputs: [source],
        outputs: [id]))
    return id
  }

  /// Marks a value as an output of the graph.
  func addOutput(_ id: TensorID) { graph.outputs.append(id) }

  /// Remembers the statistics of a BatchNormalization by its output's name.
  func record(_ statistics: BatchNormStatistics, of output: String) {
    graph.batchNorms[output] = statistics
  }
}
