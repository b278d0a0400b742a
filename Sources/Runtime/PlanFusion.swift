import IR
import Operators

// Which nodes are computed in one step, and by which kernel.

extension PlanBuilder {
  /// Nodes computed in one step.
  struct Group {
    /// Indices of the nodes, in order.
    var nodes: [Int]
    /// Inputs of the first node, then the addend of a fused sum; nil where absent or packed.
    var inputs: [TensorID?]
    var outputs: [TensorID]
    /// nil where the output is its input under another type.
    var kernel: (any Kernel)?
    var refusals: [String]
    /// Runs in place of its last node.
    var position: Int { nodes[nodes.count - 1] }
  }

  /// A node that can be computed behind another one.
  struct Link {
    /// Indices of its nodes, the last one makes the result.
    var nodes: [Int]
    var operation: PostOperation
    /// The tensor that a sum adds.
    var addend: TensorID?
    /// The constant of a function a channel.
    var values: TensorID?
  }

  mutating func chooseKernels() throws(Diagnostic) -> [Group] {
    var groups: [Group] = []
    var absorbed = Set<Int>()
    for (index, node) in graph.nodes.enumerated() where !absorbed.contains(index) {
      if graph.isView(node) {
        groups.append(
          Group(nodes: [index], inputs: [node.inputs[0]], outputs: node.outputs, refusals: []))
        continue
      }
      var group: Group
      if fuses, let planar = planarGroup(index, absorbed) {
        group = planar
      } else if fuses, let chain = chainGroup(index, absorbed) {
        group = chain
      } else {
        let (chain, refusal) = fuses ? links(behind: index, absorbed) : ([], nil)
        group = chooseKernel(index, node, chain)
        if let refusal, group.nodes.count == chain.count + 1 { group.refusals.append(refusal) }
      }
      absorbed.formUnion(group.nodes)
      groups.append(group)
    }
    return groups
  }

  /// Who may be computed together with the node that makes a tensor.
  enum Follower {
    case node(Int)
    /// Nobody; with the reason where there is a reader.
    case none(String?)
  }

  /// The only reader of a tensor that nobody else sees and that is not simulated.
  func follower(of tensor: TensorID, _ absorbed: Set<Int>) -> Follower {
    let readers = consumers[tensor.index]
    guard let reader = readers.first else { return .none(nil) }
    let name = graph[reader].name
    if isGraphOutput[tensor.index] { return .none("fusion with \(name): the tensor between is an output") }
    if options.taps.contains(tensor) { return .none("fusion with \(name): the tensor between is looked at") }
    if simulatedGrid(tensor) != nil { return .none("fusion with \(name): the tensor between is quantized") }
    if readers.count > 1 { return .none("fusion with \(name): the tensor between has \(readers.count) readers") }
    return absorbed.contains(reader.index) ? .none(nil) : .node(reader.index)
  }

  /// The nodes that may be computed behind a convolution or matrix product, element by element.
  func links(behind first: Int, _ absorbed: Set<Int>) -> (links: [Link], refusal: String?) {
    switch graph.nodes[first].op {
    case is Conv2d, is Conv3d, is DepthWiseConv2d, is FullyConnected, is MatMul: break
    default: return ([], nil)
    }
    var result: [Link] = []
    var tensor = graph.nodes[first].outputs[0]
    while true {
      switch follower(of: tensor, absorbed) {
      case .none(let reason):
        guard let nodes = swish(behind: tensor, absorbed) else { return (result, reason) }
        result.append(Link(nodes: nodes, operation: .swish(1)))
        tensor = graph.nodes[nodes[1]].outputs[0]
      case .node(let next):
        guard let link = link(next, behind: tensor, result) else { return (result, nil) }
        result.append(link)
        tensor = graph.nodes[next].outputs[0]
      }
    }
  }

  /// The two nodes of x * sigmoid(x) where nobody else reads `tensor`, x, or what lies between.
  private func swish(behind tensor: TensorID, _ absorbed: Set<Int>) -> [Int]? {
    func isHidden(_ tensor: TensorID) -> Bool {
      !isGraphOutput[tensor.index] && !options.taps.contains(tensor) && simulatedGrid(tensor) == nil
    }
    let readers = consumers[tensor.index]
    guard readers.count == 2, isHidden(tensor), let gate = readers.first(where: { graph[$0].op is Sigmoid }),
      let product = readers.first(where: { graph[$0].op is ElementWiseMultiply }),
      let factor = graph[gate].outputs.first, isHidden(factor), consumers[factor.index] == [product],
      Set(graph[product].inputs) == [tensor, factor], !absorbed.contains(gate.index),
      !absorbed.contains(product.index)
    else { return nil }
    return [gate.index, product.index]
  }

  /// A node as a post-operation on `tensor`, behind others; nil where it is none.
  private func link(_ index: Int, behind tensor: TensorID, _ others: [Link]) -> Link? {
    let node = graph.nodes[index]
    if let operation = curve(node.op) { return Link(nodes: [index], operation: operation) }
    guard node.inputs.count == 2, let first = node.inputs[0], let second = node.inputs[1] else { return nil }
    let other = first == tensor ? second : first
    let (type, otherType) = (graph[tensor].type.logical, graph[other].type.logical)
    guard other != tensor, graph[node.outputs[0]].type.logical == type, otherType.element == .float32 else {
      return nil
    }
    if graph[other].constant != nil, let function = channelFunction(node.op, behind: others.last?.operation),
      otherType.count == 1 || (otherType.shape.last == type.shape.last && otherType.count == type.shape.last)
    {
      return Link(nodes: [index], operation: .channels(function), values: other)
    }
    guard node.op is ElementWiseAdd, otherType == type, !others.contains(where: { $0.operation == .sum }) else {
      return nil
    }
    return Link(nodes: [index], operation: .sum, addend: other)
  }

  /// Functions of one number that oneDNN computes behind a product with the bits that it gives alone.
  private func curve(_ op: any Operator) -> PostOperation? {
    switch op {
    case is Relu: .relu(slope: 0)
    case let op as LeakyRelu: .relu(slope: op.alpha)
    case let op as ReluMinMax: .clip(op.minValue, op.maxValue)
    case is HardSwish: .hardSwish
    case is Sigmoid: .sigmoid
    case is Tanh: .tanh
    case let op as Gelu: .gelu(tanh: op.approximate == .tanh)
    case let op as Swish: .swish(op.a)
    case let op as Elu: .elu(op.alpha)
    case is Mish: .mish
    default: nil
    }
  }

  /// Functions with a constant for each channel. Bounds only behind a clamp: there is no NaN then, which
  /// oneDNN treats differently.
  private func channelFunction(_ op: any Operator, behind last: PostOperation?) -> ChannelFunction? {
    switch op {
    case is ElementWiseAdd: return .add
    case is ElementWiseMultiply: return .multiply
    case is ElementWiseMinimum, is ElementWiseMaximum:
      switch last {
      case .relu(slope: 0), .clip: return op is ElementWiseMinimum ? .minimum : .maximum
      default: return nil
      }
    default: return nil
    }
  }

  /// The first kernel that takes the node with as much of the chain as possible.
  mutating func chooseKernel(
    _ index: Int, _ node: Node, _ chain: [Link], isPlanar: Bool = false
  ) -> Group {
    var values = node.inputs.map { id -> Bytes? in
      guard let id, graph[id].constant != nil else { return nil }
      return constants[prepareConstant(id)]
    }
    var refusals: [String] = []
    if isPlanar,
      !PlanesKernel.takes(node.op, graph.inputTypes(node), weights: values[1], bias: values.count > 2 ? values[2] : nil)
    {
      return Group(nodes: [index], inputs: node.inputs, outputs: node.outputs, refusals: [])
    }
    for length in stride(from: chain.count, through: 0, by: -1) {
      let links = chain.prefix(length)
      let addend = links.compactMap(\.addend)
      let channels = links.compactMap(\.values).map { constants[prepareConstant($0)] }
      let request = KernelRequest(
        op: node.op, inputs: graph.inputTypes(node), outputs: graph.outputTypes(node),
        constants: values, postOperations: links.map(\.operation), channelValues: channels,
        isPlanar: isPlanar)
      for maker in makers {
        switch maker.make(request) {
        case .kernel(let kernel):
          var inputs = node.inputs + addend
          for consumed in kernel.consumedInputs where inputs.indices.contains(consumed) {
            if consumed < node.inputs.count { inputs[consumed] = nil }
          }
          let nodes = [index] + links.flatMap(\.nodes)
          values = []
          for slot in kernel.consumedInputs where slot < node.inputs.count {
            if let id = node.inputs[slot] { release(id) }
          }
          return Group(
            nodes: nodes, inputs: inputs, outputs: graph.nodes[nodes[nodes.count - 1]].outputs,
            kernel: kernel, refusals: refusals)
        case .refused(let reason): if !refusals.contains(reason) { refusals.append(reason) }
        case .unrelated: break
        }
      }
    }
    return Group(
      nodes: [index], inputs: node.inputs, outputs: node.outputs,
      kernel: ReferenceKernel(op: node.op), refusals: refusals)
  }

  /// A Transpose that puts channels last together with the convolution behind it, where that reads channels
  /// first as well; nil for other nodes.
  private mutating func planarGroup(_ first: Int, _ absorbed: Set<Int>) -> Group? {
    guard let turn = graph.nodes[first].op as? Transpose, turn.perm == [0, 2, 3, 1],
      case .node(let next) = follower(of: graph.nodes[first].outputs[0], absorbed)
    else { return nil }
    let node = graph.nodes[next]
    guard node.op is Conv2d, node.inputs[0] == graph.nodes[first].outputs[0] else { return nil }
    var group = chooseKernel(next, node, links(behind: next, absorbed).links, isPlanar: true)
    guard group.kernel is PlanesKernel else { return nil }
    group.nodes.insert(first, at: 0)
    group.inputs[0] = graph.nodes[first].inputs[0]
    return group
  }
}
