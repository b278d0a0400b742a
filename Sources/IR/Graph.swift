/// Index of a tensor in its graph.
public struct TensorID: Sendable, Hashable {
  public let index: Int
  /// The tensor at `index`.
  public init(_ index: Int) { self.index = index }
}

/// Index of a node in its graph.
public struct NodeID: Sendable, Hashable {
  public let index: Int
  /// The node at `index`.
  public init(_ index: Int) { self.index = index }
}

/// A named value of the graph: input, intermediate, output or constant.
public struct Tensor: Sendable {
  /// Unique in the graph, never empty; the source's name wherever the tensor survives.
  public var name: String
  public var type: TensorType
  /// Value of a static tensor.
  public var constant: Constant?
  /// The grid, where one is given or was materialised.
  public var encoding: Encoding?
  /// Where ``encoding`` came from.
  public var encodingSource: EncodingSource?
  /// What is decided about it before the materialising pass.
  public var state: QuantizationState
  /// Bits that are decided though no encoding is: of the grid that calibration will give an open
  /// tensor, of the float type of one that stays float (16 or 32). nil: as the options say.
  public var bitwidth: Int?
  /// Whether it keeps an encoding of its own between an operator and the activation that would
  /// otherwise be quantized together with it (`--unfuse_overridden`).
  public var isUnfused = false
  /// Of a constant that the source has in another layout: axis i is axis `sourceOrder[i]` there. nil:
  /// laid out as in the source, or by more than moving axes.
  public var sourceOrder: [Int]?

  /// Bytes of the values as the container stores them: 4-bit types have two in a byte.
  public var storedByteCount: Int {
    type.element == .sfixed4 || type.element == .ufixed4
      ? Encoding.packedByteCount(shape: type.shape, axis: encoding?.axis) : type.byteCount
  }

  /// Makes a tensor without encoding.
  public init(name: String, type: TensorType, constant: Constant? = nil) {
    self.name = name
    self.type = type
    self.constant = constant
    self.state = .open
  }
}

/// An operator applied to tensors. Inputs are nil where an optional operand is absent.
public struct Node: Sendable {
  public var name: String
  public var op: any Operator
  public var inputs: [TensorID?]
  public var outputs: [TensorID]

  /// Makes a node.
  public init(name: String, op: any Operator, inputs: [TensorID?], outputs: [TensorID]) {
    self.name = name
    self.op = op
    self.inputs = inputs
    self.outputs = outputs
  }
}

/// BatchNorm statistics of a convolution they were folded into, a value a channel.
public struct BatchNormStatistics: Sendable, Hashable {
  /// Shift: mean of the output before the activation.
  public var beta: [Float]
  /// Scale: its standard deviation, up to sign.
  public var gamma: [Float]

  /// Makes the record; both lists have one number a channel.
  public init(beta: [Float], gamma: [Float]) {
    self.beta = beta
    self.gamma = gamma
  }
}

/// A network: nodes in topological order over an array of tensors. A value; passes rewrite it.
public struct Graph: Sendable {
  public var name: String
  public var tensors: [Tensor] = []
  public var nodes: [Node] = []
  public var inputs: [TensorID] = []
  public var outputs: [TensorID] = []
  /// Names of the source that no tensor carries any more, and the tensor that stands for each.
  public var aliases: [String: String] = [:]
  /// Names of the source that were folded away without a tensor that stands for them, with the reason.
  public var folded: [String: String] = [:]
  /// Statistics of folded BatchNorms by the name of the convolution's output tensor.
  public var batchNorms: [String: BatchNormStatistics] = [:]
  /// By name of a tensor, what equalization multiplied each of its channels (last axis) by: values divided
  /// by these are the source's.
  public var channelScales: [String: [Float]] = [:]
  /// By name of an activation or a bias, what absorption of high biases took away from each of its channels (last
  /// axis), in units of the graph: values to which these are added, then divided by the ``channelScales``, are the
  /// source's. Negative in the bias of a layer that absorbed what the one before it gave up.
  public var channelShifts: [String: [Float]] = [:]
  /// Names of the nodes that compute in 32-bit integers by override.
  public var integerNodes: Set<String> = []
  /// Whether encodings have been turned into fixed-point types (the last pass ran).
  public var isMaterialized = false

  /// An empty graph.
  public init(name: String) { self.name = name }

  public subscript(id: TensorID) -> Tensor {
    get { tensors[id.index] }
    set { tensors[id.index] = newValue }
  }

  public subscript(id: NodeID) -> Node {
    get { nodes[id.index] }
    set { nodes[id.index] = newValue }
  }

  /// Adds a tensor and gives its index. The name must not be in use (see ``uniqueName(_:)``).
  public mutating func add(_ tensor: Tensor) -> TensorID {
    tensors.append(tensor)
    return TensorID(tensors.count - 1)
  }

  /// `wanted`, or `wanted_1`, `wanted_2`, ... where the name is in use already. Linear in the number of
  /// tensors: passes that make many names keep a ``NameTable``.
  public func uniqueName(_ wanted: String) -> String {
    var table = NameTable(self)
    return table.unique(wanted)
  }

  /// For every tensor the node that makes it, nil for inputs and constants.
  public func producers() -> [NodeID?] {
    var result = [NodeID?](repeating: nil, count: tensors.count)
    for (index, node) in nodes.enumerated() {
      for output in node.outputs { result[output.index] = NodeID(index) }
    }
    return result
  }

  /// For every tensor the nodes that read it, in order, once for each use.
  public func consumers() -> [[NodeID]] {
    var result = [[NodeID]](repeating: [], count: tensors.count)
    for (index, node) in nodes.enumerated() {
      for input in node.inputs { if let input { result[input.index].append(NodeID(index)) } }
    }
    return result
  }

  /// The tensor with a name, linear in the number of tensors.
  public func tensor(named name: String) -> TensorID? {
    tensors.firstIndex { $0.name == name }.map(TensorID.init)
  }

  /// Replaces every use of one tensor (as input of a node, as output of the graph) by another.
  public mutating func replaceUses(of old: TensorID, with new: TensorID) {
    for index in nodes.indices {
      for slot in nodes[index].inputs.indices where nodes[index].inputs[slot] == old {
        nodes[index].inputs[slot] = new
      }
    }
    for slot in outputs.indices where outputs[slot] == old { outputs[slot] = new }
  }

  /// Logical input types of a node, in order.
  public func inputTypes(_ node: Node) -> [TensorType?] {
    node.inputs.map { $0.map { self[$0].type.logical } }
  }

  /// Output types of a node, in order.
  public func outputTypes(_ node: Node) -> [TensorType] { node.outputs.map { self[$0].type.logical } }

  /// Drops nodes whose results nobody uses and tensors that nothing refers to; indices change, order
  /// stays.
  public func compacted() -> Graph {
    var live = [Bool](repeating: false, count: tensors.count)
    for id in inputs + outputs { live[id.index] = true }
    var kept: [Node] = []
    for node in nodes.reversed() where node.outputs.contains(where: { live[$0.index] }) {
      for input in node.inputs { if let input { live[input.index] = true } }
      for output in node.outputs { live[output.index] = true }
      kept.append(node)
    }
    var result = self
    result.tensors = []
    var map = [TensorID?](repeating: nil, count: tensors.count)
    for (index, tensor) in tensors.enumerated() where live[index] {
      map[index] = result.add(tensor)
    }
    func moved(_ id: TensorID) -> TensorID { map[id.index] ?? id }
    result.nodes = kept.reversed().map { node in
      Node(
        name: node.name, op: node.op, inputs: node.inputs.map { $0.map(moved) },
        outputs: node.outputs.map(moved))
    }
    result.inputs = inputs.map(moved)
    result.outputs = outputs.map(moved)
    return result
  }
}

/// Names in use in a graph, for making new ones that collide with none.
public struct NameTable: Sendable {
  private var used: Set<String>

  /// The names of all tensors of a graph.
  public init(_ graph: Graph) { used = Set(graph.tensors.map(\.name)) }

  /// `wanted` or the first free of `wanted_1`, `wanted_2`, ...; taken from now on.
  public mutating func unique(_ wanted: String) -> String {
    let base = wanted.isEmpty ? "tensor" : wanted
    if used.insert(base).inserted { return base }
    var number = 1
    while !used.insert("\(base)_\(number)").inserted { number += 1 }
    return "\(base)_\(number)"
  }
}
