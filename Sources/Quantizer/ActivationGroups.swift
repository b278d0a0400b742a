import Calibration
import IR

/// Which activations share one encoding, and the encoding of each group.
///
/// Data-invariant operators tie their input and output in both directions; a given encoding spreads
/// over them first. Concat then ties its inputs and its output, unless the step of an input would
/// grow more than ``largestGrowth`` times. Precedence: given, fixed range, calibrated: what the members
/// of a group saw is merged and calibrated once.
struct ActivationGroups {
  /// How many times coarser a Concat may make the grid of an input.
  static let largestGrowth = 4.0

  /// Tensors tied by data-invariant operators, which never part.
  private struct Group {
    var members: [TensorID] = []
    var values: ObservedValues?
    var encoding: Encoding?
    /// Bits that an override decides.
    var bitwidth: Int?
    /// Schema of its own, by configuration.
    var schema: QuantizerSchema?
    var source: EncodingSource = .calibrated
  }

  private let graph: Graph
  private let options: QuantizerOptions
  private var groups: [Group] = []
  /// Group of each tensor, nil for those that carry no encoding of this kind.
  private var groupOf: [Int?]
  /// Union-find over groups for Concat; the root holds range and encoding of all.
  private var parent: [Int] = []
  /// Data-invariant nodes whose sides have different given encodings.
  private(set) var conflicts: [String] = []
  /// Whether an operator tied anything.
  private(set) var hasTies = false

  /// Steps of groups alone, by group; calibrated when a Concat asks.
  private var ownSteps: [Int: Double] = [:]

  /// Forms the groups and calibrates them on up to `jobs` threads. `values` is what is known of
  /// activations and tied constants.
  init(
    _ graph: Graph, values: [TensorID: ObservedValues], options: QuantizerOptions, jobs: Int,
    memo: CalibrationMemo? = nil
  ) throws(Diagnostic) {
    self.graph = graph
    self.options = options
    groupOf = [Int?](repeating: nil, count: graph.tensors.count)
    let carriers = Self.carriers(graph, options)
    let edges = Self.strictEdges(graph, carriers, options)
    hasTies = !edges.isEmpty
    spread(carriers, edges)
    form(carriers, edges, values)
    if !options.includeDataInvariantOps { try joinConcats() }
    try calibrate(jobs: jobs, memo)
  }

  /// Gives every class with known values and without an encoding its own.
  private mutating func calibrate(jobs: Int, _ memo: CalibrationMemo?) throws(Diagnostic) {
    let open = groups.indices.filter {
      root($0) == $0 && groups[$0].encoding == nil && groups[$0].values != nil
    }
    let found = parallelMap(open.count, jobs: jobs) { [groups, options] place in
      Result { () throws(Diagnostic) -> Encoding? in
        let group = groups[open[place]]
        guard let values = group.values else { return nil }
        func make() throws(Diagnostic) -> Encoding {
          try values.encoding(by: options.actCalibrator(bitwidth: group.bitwidth, schema: group.schema))
        }
        guard let memo, group.schema == nil else { return try make() }
        return try memo.encoding(of: values, bitwidth: group.bitwidth, make)
      }
    }
    for (index, result) in zip(open, found) {
      do throws(Diagnostic) {
        groups[index].encoding = try result.get()
      } catch {
        throw error.about(tensor: groups[index].members.first.map { graph[$0].name })
      }
    }
  }

  /// The encoding of a tensor and where it came from; nil where it carries none or its range is
  /// unknown.
  func encoding(of id: TensorID) -> (encoding: Encoding, source: EncodingSource)? {
    guard let index = groupOf[id.index] else { return nil }
    let group = groups[root(index)]
    guard let encoding = group.encoding else { return nil }
    return (encoding, group.source)
  }

  /// Whether a tensor belongs to a group.
  func contains(_ id: TensorID) -> Bool { groupOf[id.index] != nil }

  /// Tensors that carry an activation encoding: inputs, results that are not left out, and
  /// constants that an operator ties to its output.
  private static func carriers(_ graph: Graph, _ options: QuantizerOptions) -> [Bool] {
    var result = [Bool](repeating: false, count: graph.tensors.count)
    let inner = graph.fusedIntermediates()
    func isOpen(_ id: TensorID) -> Bool {
      graph[id].type.element == .float32 && graph[id].state != .float
    }
    for id in graph.inputs where isOpen(id) { result[id.index] = true }
    for node in graph.nodes {
      let rule = node.op.quantization
      for (slot, id) in node.outputs.enumerated()
      where isOpen(id) && inner[id] == nil && rule.output(slot) != .unquantized {
        result[id.index] = true
      }
    }
    guard !options.includeDataInvariantOps else { return result }
    var weights = Set<TensorID>()
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        if let id, case .weight = node.op.quantization.input(slot) { weights.insert(id) }
      }
    }
    for node in graph.nodes {
      for (slot, id) in node.inputs.enumerated() {
        guard let id, graph[id].constant != nil, isOpen(id), !weights.contains(id) || graph.carriesData(id)
        else { continue }
        for (output, made) in node.outputs.enumerated()
        where result[made.index] && node.op.quantization.ties(input: slot, output: output) {
          result[id.index] = true
        }
      }
    }
    return result
  }

  /// Pairs of tensors that data-invariant operators tie, with the node.
  private static func strictEdges(
    _ graph: Graph, _ carriers: [Bool], _ options: QuantizerOptions
  ) -> [(from: TensorID, to: TensorID, node: String)] {
    guard !options.includeDataInvariantOps else { return [] }
    var edges: [(from: TensorID, to: TensorID, node: String)] = []
    for node in graph.nodes {
      for (slot, output) in node.outputs.enumerated() where carriers[output.index] {
        guard case .sameAsInput(let input) = node.op.quantization.output(slot),
          node.inputs.indices.contains(input), let source = node.inputs[input],
          carriers[source.index]
        else { continue }
        edges.append((source, output, node.name))
      }
    }
    return edges
  }

  /// Makes a group for each given encoding and lets it take open neighbours, nearest first.
  private mutating func spread(
    _ carriers: [Bool], _ edges: [(from: TensorID, to: TensorID, node: String)]
  ) {
    var neighbours: [Int: [TensorID]] = [:]
    for edge in edges {
      neighbours[edge.from.index, default: []].append(edge.to)
      neighbours[edge.to.index, default: []].append(edge.from)
    }
    var queue: [TensorID] = []
    for index in carriers.indices where carriers[index] {
      let tensor = graph.tensors[index]
      guard tensor.state == .given, let encoding = tensor.encoding else { continue }
      groupOf[index] = groups.count
      groups.append(Group(members: [TensorID(index)], encoding: encoding, source: .spread))
      if encoding.axis == nil { queue.append(TensorID(index)) }
    }
    var next = 0
    while next < queue.count {
      let id = queue[next]
      next += 1
      for other in neighbours[id.index] ?? [] where groupOf[other.index] == nil {
        guard let group = groupOf[id.index], fits(other, group: group) else { continue }
        groupOf[other.index] = group
        groups[group].members.append(other)
        queue.append(other)
      }
    }
    let changing = Set(graph.nodes.filter(\.isBorder).map(\.name))
    for edge in edges {
      guard let from = groupOf[edge.from.index], let to = groupOf[edge.to.index],
        groups[from].encoding != groups[to].encoding, !changing.contains(edge.node)
      else { continue }
      conflicts.append(edge.node)
    }
  }

  /// Groups what no given encoding reached, with range or fixed encoding.
  private mutating func form(
    _ carriers: [Bool], _ edges: [(from: TensorID, to: TensorID, node: String)],
    _ values: [TensorID: ObservedValues]
  ) {
    // Every output is tied to one input at most and nodes are in topological order, so the input's
    // group is known when the output comes.
    var origin: [TensorID: TensorID] = [:]
    for edge in edges { origin[edge.to] = edge.from }
    var order = carriers.indices.filter {
      carriers[$0] && (graph.tensors[$0].constant != nil)
    }.map { TensorID($0) }
    order += graph.inputs.filter { carriers[$0.index] }
    for node in graph.nodes { order += node.outputs.filter { carriers[$0.index] } }
    for id in order where groupOf[id.index] == nil {
      let group: Int
      if let source = origin[id], let tied = groupOf[source.index], fits(id, group: tied) {
        group = tied
      } else {
        group = groups.count
        groups.append(Group())
      }
      groupOf[id.index] = group
      groups[group].members.append(id)
      groups[group].schema = groups[group].schema ?? options.schemas[graph[id].name]
      if groups[group].encoding == nil {
        groups[group].bitwidth = groups[group].bitwidth ?? graph[id].bitwidth
      }
    }
    for index in groups.indices where groups[index].encoding == nil {
      groups[index].values = ObservedValues.merged(groups[index].members.compactMap { values[$0] })
    }
    for node in graph.nodes {
      for (slot, output) in node.outputs.enumerated() {
        guard case .fixedUnit(let signed) = node.op.quantization.output(slot),
          let group = groupOf[output.index], groups[group].encoding == nil
        else { continue }
        groups[group].encoding = RangeToEncoding.fixedUnit(
          signed: signed, bitwidth: groups[group].bitwidth ?? options.actBitwidth)
        groups[group].source = .fixed
      }
    }
    parent = Array(groups.indices)
  }

  /// Whether a tensor can have the width of a group.
  private func fits(_ id: TensorID, group: Int) -> Bool {
    guard let bitwidth = graph[id].bitwidth,
      let own = groups[group].encoding?.bitwidth ?? groups[group].bitwidth
    else { return true }
    return own == bitwidth
  }

  private func root(_ index: Int) -> Int {
    var index = index
    while parent[index] != index { index = parent[index] }
    return index
  }

  /// The finest step that a member of a class would have alone; nil where nothing is known of one.
  private mutating func finestStep(_ top: Int, _ alone: [ObservedValues?]) throws(Diagnostic) -> Double? {
    var finest = Double.infinity
    for index in groups.indices where root(index) == top {
      guard let values = alone[index] else { return nil }
      if ownSteps[index] == nil { ownSteps[index] = try step(values, groups[index].bitwidth) }
      finest = min(finest, ownSteps[index] ?? finest)
    }
    return finest
  }

  private func step(_ values: ObservedValues, _ bitwidth: Int?) throws(Diagnostic) -> Double {
    let encoding = try values.encoding(by: options.actCalibrator(bitwidth: bitwidth))
    return Double(encoding.channels[0].scale)
  }

  /// Joins the inputs of every Concat with its output where the grids allow it.
  private mutating func joinConcats() throws(Diagnostic) {
    let alone = groups.map(\.values)
    for node in graph.nodes {
      for (slot, output) in node.outputs.enumerated()
      where node.op.quantization.output(slot) == .tiedToInputs {
        guard let made = groupOf[output.index] else { continue }
        hasTies = true
        try join(node, output: root(made), alone)
      }
    }
  }

  private mutating func join(
    _ node: Node, output: Int, _ alone: [ObservedValues?]
  ) throws(Diagnostic) {
    var sources: [Int] = []
    for case let id? in node.inputs {
      guard let group = groupOf[id.index] else { continue }
      let top = root(group)
      if top != output && !sources.contains(top) { sources.append(top) }
    }
    if groups[output].encoding == nil, let first = sources.first,
      sources.count == Set(node.inputs.compactMap { $0 }.map { groupOf[$0.index].map(root) }).count,
      let shared = groups[first].encoding, shared.axis == nil,
      sources.allSatisfy({ groups[$0].encoding == shared })
    {
      groups[output].encoding = shared
      groups[output].source = groups[first].source
      return
    }
    let bitwidth =
      groups[output].encoding?.bitwidth ?? groups[output].bitwidth ?? options.actBitwidth
    let open = sources.filter {
      groups[$0].encoding == nil && groups[$0].bitwidth ?? options.actBitwidth == bitwidth
    }
    let coarse: Double
    if let encoding = groups[output].encoding {
      guard encoding.axis == nil, let grid = encoding.channels.first else { return }
      coarse = Double(grid.scale)
    } else {
      let all = [groups[output].values] + open.map { groups[$0].values }
      guard let values = ObservedValues.merged(all.compactMap { $0 }) else { return }
      coarse = try step(values, bitwidth)
    }
    var joined = [groups[output].values]
    for source in open {
      guard let fine = try finestStep(source, alone), coarse <= fine * Self.largestGrowth else {
        continue
      }
      parent[source] = output
      joined.append(groups[source].values)
    }
    if groups[output].encoding == nil {
      groups[output].values = ObservedValues.merged(joined.compactMap { $0 })
    }
  }
}

extension QuantizationRule {
  /// Whether an input shares its encoding with an output.
  func ties(input: Int, output: Int) -> Bool {
    switch self.output(output) {
    case .sameAsInput(let index): index == input
    case .tiedToInputs: true
    case .own, .fixedUnit, .unquantized: false
    }
  }
}
