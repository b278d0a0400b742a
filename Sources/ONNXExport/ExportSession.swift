import IR

/// The state of one export: what was written so far, and where each tensor's value is found.
///
/// Layouts: a value may be kept with its axes permuted (channel-first for a channel-last tensor). Axis i
/// of a value in layout p is axis p[i] of the tensor. Transposes of the graph only change what layout a
/// tensor is known in; nodes that need another layout than the one there is get a Transpose.
final class ExportSession {
  /// Where the value of a tensor is.
  struct Place {
    var name: String
    var layout: [Int]
  }

  struct Key: Hashable {
    let tensor: TensorID
    let layout: [Int]
    /// Rank that leading axes of size 1 widen it to.
    let rank: Int
  }

  let graph: Graph
  let form: ONNXExporter.Form
  let fused: Set<TensorID>
  let outputs: Set<TensorID>
  var names: NameTable
  private var nodeNames = Set<String>()
  var places: [TensorID: Place] = [:]
  var copies: [Key: String] = [:]
  var types: [String: TensorType] = [:]
  var result: ONNXExportResult
  var inputProblems: [Diagnostic] = []

  init(graph: Graph, form: ONNXExporter.Form) {
    self.graph = graph
    self.form = form
    fused = Set(graph.fusedIntermediates().keys)
    outputs = Set(graph.outputs)
    names = NameTable(graph)
    result = ONNXExportResult(name: graph.name, opset: 18)
  }

  func run() throws(Diagnostic) -> ONNXExportResult {
    for id in graph.inputs { addInput(id) }
    var problems: [Diagnostic] = []
    for node in graph.nodes {
      do throws(Diagnostic) {
        guard let op = node.op as? any ONNXExportable else {
          throw Diagnostic(
            "onnx-no-form", "\(node.op.typeName) cannot be written as ONNX",
            at: .init(node: node.name))
        }
        try op.export(node, self)
      } catch {
        problems.append(error.inNode(node.name))
        for output in node.outputs where places[output] == nil {
          places[output] = Place(
            name: graph[output].name, layout: Array(graph[output].type.shape.indices))
        }
      }
    }
    if let problem = Diagnostic.combining(problems) { throw problem }
    try addOutputs()
    recordNames()
    return result
  }

  // MARK: What forms ask for

  /// The layout in which the graph itself has a tensor.
  func plainLayout(_ id: TensorID) -> [Int] { Array(graph[id].type.shape.indices) }

  /// The operand of a node; throws where it is absent.
  func operand(_ node: Node, _ slot: Int) throws(Diagnostic) -> TensorID {
    guard slot < node.inputs.count, let id = node.inputs[slot] else {
      throw Diagnostic("missing-operand", "operand \(slot) is missing", kind: .internal)
    }
    return id
  }

  /// The operand of a node where it is there.
  func optional(_ node: Node, _ slot: Int) -> TensorID? {
    slot < node.inputs.count ? node.inputs[slot] : nil
  }

  /// Logical type of a tensor.
  func type(_ id: TensorID) -> TensorType { graph[id].type.logical }

  /// The layout in which a tensor's value is there already.
  func layout(of id: TensorID) -> [Int] { places[id]?.layout ?? plainLayout(id) }

  /// The layout for a node that works alike in every layout: that of the first operand of the output's
  /// rank that is kept in another one.
  func sharedLayout(_ node: Node) -> [Int] {
    guard let output = node.outputs.first else { return [] }
    let plain = plainLayout(output)
    for case let id? in node.inputs where graph[id].constant == nil && type(id).rank == plain.count {
      let layout = layout(of: id)
      if !isIdentity(layout) { return layout }
    }
    return plain
  }

  /// An operator that lets permutations pass, in the layout in which its first operand is kept; itself
  /// in the graph's layout where it does not.
  func relaid<Op: Operator>(_ op: Op, _ node: Node) -> (op: Op, layout: [Int]) {
    let layout = sharedLayout(node)
    if isIdentity(layout) { return (op, layout) }
    if let moved = op.sinking(permutation: inversePermutation(layout)) as? Op {
      return (moved, layout)
    }
    return (op, Array(layout.indices))
  }

  /// Name of a tensor's value in a layout.
  func name(_ id: TensorID, _ layout: [Int]? = nil) throws(Diagnostic) -> String {
    let wanted = layout ?? plainLayout(id)
    if graph[id].constant != nil { return try constantName(id, wanted, rank: wanted.count) }
    guard let place = places[id] else {
      throw Diagnostic(
        "onnx-order", "it is read before it is made", at: .init(tensor: graph[id].name),
        kind: .internal)
    }
    if place.layout == wanted { return place.name }
    let key = Key(tensor: id, layout: wanted, rank: wanted.count)
    if let copy = copies[key] { return copy }
    let inverse = inversePermutation(place.layout)
    let copy = names.unique(graph[id].name + "_transposed")
    append(
      "Transpose", [place.name], [("perm", .ints(wanted.map { inverse[$0] }))], outputs: [copy],
      name: copy)
    types[copy] = permuted(type(id), wanted)
    copies[key] = copy
    return copy
  }

  /// Name of an operand that broadcasts to a result of `layout.count` axes in that layout.
  func broadcastName(_ id: TensorID, _ layout: [Int]) throws(Diagnostic) -> String {
    let (shape, rank) = (type(id).shape, layout.count)
    if shape.count == rank { return try name(id, layout) }
    if isIdentity(layout) || shape.allSatisfy({ $0 == 1 }) { return try name(id) }
    if graph[id].constant != nil { return try constantName(id, layout, rank: rank) }
    let key = Key(tensor: id, layout: layout, rank: rank)
    if let copy = copies[key] { return copy }
    let full = [Int](repeating: 1, count: rank - shape.count) + shape
    let wide = names.unique(graph[id].name + "_widened")
    append("Reshape", [try name(id), list(full, wide + "_shape")], [], outputs: [wide], name: wide)
    let copy = names.unique(graph[id].name + "_transposed")
    append("Transpose", [wide], [("perm", .ints(layout))], outputs: [copy], name: copy)
    copies[key] = copy
    return copy
  }

  /// Name of a tensor's value in any layout that has the graph's order of elements: moved axes of
  /// size 1 do not matter.
  func flatName(_ id: TensorID) throws(Diagnostic) -> String {
    if let place = places[id], graph[id].constant == nil {
      let shape = graph[id].type.shape
      let moving = place.layout.filter { shape[$0] != 1 }
      if moving == moving.sorted() { return place.name }
    }
    return try name(id)
  }

  /// Adds the node that makes the outputs of `node`, each in a layout, and what quantizes them. The ONNX
  /// operator has the outputs `behind` before these, which nobody reads.
  func emit(
    _ opType: String, _ inputs: [String], _ attributes: [(String, ONNXAttribute)] = [],
    for node: Node, layouts: [[Int]], since opset: Int = 1, behind: [String] = []
  ) throws(Diagnostic) {
    require(opset)
    let raw = zip(node.outputs, layouts).map { id, layout in
      isQuantized(id) || isHalf(id)
        ? names.unique(graph[id].name + "_raw") : valueName(id, layout)
    }
    for (index, id) in node.outputs.enumerated() { types[raw[index]] = permuted(type(id), layouts[index]) }
    let unread = behind.map { names.unique("\(node.name)_\($0)") }
    append(opType, inputs, attributes, outputs: unread + raw, name: node.name)
    for (index, id) in node.outputs.enumerated() {
      try finish(id, raw[index], layouts[index])
    }
  }

  /// Adds a node that makes a value of no tensor's; gives its name.
  func scratch(
    _ opType: String, _ inputs: [String], _ attributes: [(String, ONNXAttribute)] = [],
    for node: Node, _ suffix: String, since opset: Int = 1
  ) -> String {
    require(opset)
    let base = node.outputs.first.map { graph[$0].name } ?? node.name
    let name = names.unique("\(base)_\(suffix)")
    append(opType, inputs, attributes, outputs: [name], name: "\(node.name)_\(suffix)")
    return name
  }

  /// Declares the output of a node to be the value that an operand has already, in a layout.
  func alias(_ node: Node, of source: TensorID, layout: [Int]) throws(Diagnostic) {
    guard let output = node.outputs.first else { return }
    let value =
      graph[source].constant == nil ? places[source]?.name : try name(source)
    guard let value else {
      throw Diagnostic("onnx-order", "its operand is not there", kind: .internal)
    }
    if isHalf(output), graph[source].type.element != .float16 {
      try finish(output, value, layout)
    } else if isQuantized(output), graph[output].encoding != graph[source].encoding || fused.contains(source) {
      try finish(output, value, layout)
    } else {
      places[output] = Place(name: value, layout: layout)
    }
  }

  /// Name of a constant of no tensor's.
  func constant(_ constant: Constant, _ wanted: String) -> String {
    let name = names.unique(wanted)
    result.initializers.append(
      ExportedInitializer(
        name: name, type: constant.type.element.onnxCode, shape: constant.type.shape,
        bytes: constant.materialized()))
    return name
  }

  /// Name of a list of whole numbers.
  func list(_ values: [Int], _ wanted: String) -> String {
    constant(Constant(values.map { Int64($0) }, shape: [values.count]), wanted)
  }

  /// Name of a single number of a type.
  func scalar(_ value: Float, _ element: DataType, _ wanted: String) throws(Diagnostic) -> String {
    let type = TensorType(element, [])
    let bytes: Bytes
    // The largest integers are rounded up by Float.
    let whole = value >= 0x1p63 ? Int.max : value >= -0x1p63 ? Int(value) : Int.min
    switch element.byteWidth {
    case _ where element == .float32: bytes = Bytes([value])
    case 1: bytes = Bytes([UInt8(truncatingIfNeeded: whole)])
    case 2: bytes = Bytes([UInt16(truncatingIfNeeded: whole)])
    case 4: bytes = Bytes([UInt32(truncatingIfNeeded: whole)])
    default: bytes = Bytes([Int64(whole)])
    }
    return constant(Constant(type: type, bytes: bytes), wanted)
  }

  /// Name of indices in a type that ONNX takes everywhere.
  func indexName(_ id: TensorID, for node: Node) throws(Diagnostic) -> String {
    let plain = try name(id)
    if [.int32, .int64].contains(type(id).element) { return plain }
    return scratch("Cast", [plain], [("to", .int(Int(DataType.int64.onnxCode)))], for: node, "indices")
  }

  /// Notes that the model needs this version of the operator set.
  func require(_ opset: Int) { result.opset = max(result.opset, opset) }

  /// Name of a tensor's value: its own, unless that is kept for the output of the graph in its layout.
  func valueName(_ id: TensorID, _ layout: [Int]) -> String {
    let name = graph[id].name
    return isIdentity(layout) || !outputs.contains(id) ? name : names.unique(name + "_channel_first")
  }

  // MARK: Nodes and names

  func append(
    _ opType: String, _ inputs: [String], _ attributes: [(String, ONNXAttribute)],
    outputs: [String], name: String
  ) {
    var inputs = inputs
    while inputs.last == "" { inputs.removeLast() }
    var unique = name
    var number = 1
    while !nodeNames.insert(unique).inserted {
      unique = "\(name)_\(number)"
      number += 1
    }
    result.nodes.append(
      ExportedNode(
        opType: opType, name: unique, inputs: inputs, outputs: outputs,
        attributes: attributes.map { (name: $0.0, value: $0.1) }))
  }

  func permuted(_ type: TensorType, _ layout: [Int]) -> TensorType {
    TensorType(type.element, layout.map { type.shape[$0] })
  }

  // MARK: Stored values

  /// Name of stored values of an ONNX type.
  func initializer(_ bytes: Bytes, _ code: Int32, _ shape: [Int], _ wanted: String) -> String {
    let name = names.unique(wanted)
    result.initializers.append(
      ExportedInitializer(name: name, type: code, shape: shape, bytes: bytes))
    return name
  }

  /// Name of a constant in a layout of `rank` axes, missing leading ones being of size 1; stored as
  /// integers with a DequantizeLinear where it has an encoding.
  private func constantName(
    _ id: TensorID, _ layout: [Int], rank: Int
  ) throws(Diagnostic) -> String {
    let key = Key(tensor: id, layout: layout, rank: rank)
    if let copy = copies[key] { return copy }
    let tensor = graph[id]
    guard var constant = tensor.constant else { return tensor.name }
    let isFirst = !copies.keys.contains { $0.tensor == id }
    if constant.type.element == .float16 {
      constant = Constant(constant.floats(), shape: constant.type.shape)
    }
    let name = isFirst ? tensor.name : names.unique(tensor.name + "_permuted")
    copies[key] = name
    let lead = rank - tensor.type.rank
    let isStored = form == .quantized && tensor.encoding != nil
    if let encoding = tensor.encoding, constant.type.element.isFixedPoint != isStored {
      constant =
        isStored
        ? Constant(
          type: TensorType(encoding.storage, tensor.type.shape),
          bytes: encoding.quantized(constant.floats(), shape: tensor.type.shape))
        : Constant(
          encoding.dequantized(constant),
          shape: tensor.type.shape)
    }
    if lead > 0 {
      constant = constant.reshaped([Int](repeating: 1, count: lead) + constant.type.shape)
    }
    constant = constant.permuted(layout)
    if lead > 0 {
      // Leading axes of size 1 say nothing.
      var shape = constant.type.shape
      while shape.count > 1, shape.first == 1 { shape.removeFirst() }
      if tensor.encoding?.axis == nil { constant = constant.reshaped(shape) }
    }
    if let axis = tensor.encoding?.axis, isFirst {
      result.channelAxes[id] = layout.firstIndex(of: axis + lead)
    }
    guard isStored, let encoding = tensor.encoding else {
      result.initializers.append(
        ExportedInitializer(
          name: name, type: constant.type.element.onnxCode, shape: constant.type.shape,
          bytes: constant.materialized()))
      return name
    }
    let grid = try GridForm(
      encoding, shape: constant.type.shape, layout: layout, lead: lead, tensor: tensor.name)
    require(grid.opset)
    let codes = initializer(
      grid.packed(constant), grid.code, constant.type.shape, tensor.name + "_quantized")
    let scale = self.constant(grid.scales, tensor.name + "_scale")
    var operands = [codes, scale]
    if grid.needsZero {
      operands.append(initializer(grid.zeros, grid.code, grid.zeroShape, tensor.name + "_zero_point"))
    }
    append(
      "DequantizeLinear", operands, grid.attributes, outputs: [name],
      name: tensor.name + "_dequantize")
    return name
  }
}
