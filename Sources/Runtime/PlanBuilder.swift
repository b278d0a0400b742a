import IR
import Operators

/// Turns a graph into a plan: fuses, chooses kernels, shares memory.
struct PlanBuilder {
  private(set) var graph: Graph
  let options: PlanOptions
  let makers: [KernelMaker]
  let fuses: Bool

  var consumers: [[NodeID]] = []
  var isGraphOutput: [Bool] = []
  var fusedIntermediates: [TensorID: NodeID] = [:]

  var constants: [Bytes] = []
  var constantIndex: [TensorID: Int] = [:]

  /// A builder that offers every node to `makers` in turn, and to the reference kernel last.
  init(_ graph: Graph, _ options: PlanOptions, makers: [KernelMaker], fuses: Bool) {
    self.graph = graph
    self.options = options
    self.makers = makers
    self.fuses = fuses
  }

  /// Builds the plan.
  mutating func build() throws(Diagnostic) -> ExecutablePlan {
    try options.check(graph)
    consumers = graph.consumers()
    isGraphOutput = graph.tensors.map { _ in false }
    for id in graph.outputs { isGraphOutput[id.index] = true }
    fusedIntermediates = graph.fusedIntermediates()

    var groups = try chooseKernels()
    groups.sort { $0.position < $1.position }
    return try place(groups)
  }

  // MARK: Encodings and constants

  /// The grid that is applied to a tensor after it is made, nil where there is none.
  func simulatedGrid(_ id: TensorID) -> ValueGrid? {
    guard options.simulate, fusedIntermediates[id] == nil else { return nil }
    return graph[id].valueGrid
  }

  /// Index of the prepared value of a constant: fixed point dequantized, encodings applied.
  mutating func prepareConstant(_ id: TensorID) -> Int {
    if let index = constantIndex[id] { return index }
    guard let constant = graph[id].constant else {
      preconditionFailure("only constants are prepared")
    }
    let bytes = graph[id].preparedValue(constant, on: simulatedGrid(id))
    constants.append(bytes)
    constantIndex[id] = constants.count - 1
    return constants.count - 1
  }

  /// Lets go of the value of a constant that a kernel has packed; who else needs it prepares it again.
  mutating func release(_ id: TensorID) {
    guard let index = constantIndex.removeValue(forKey: id) else { return }
    constants[index].discardPages()
    constants[index] = Bytes([UInt8]())
    graph[id].constant?.stored.discardPages()
  }
}
