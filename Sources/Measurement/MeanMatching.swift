import IR
import Runtime

extension OverrideSearch {
  /// For each layer with weights the biases that take out the mean error of its quantized weights on float
  /// inputs, a value a channel: what bias correction comes to for that layer alone. Biases by tensor.
  ///
  /// All layers at once: beside each operator stands a twin with the quantized weight.
  func meanMatched(
    _ float: Graph, _ base: Graph, _ layers: [RaisableLayer], _ samples: MeasurementSamples
  ) throws(Diagnostic) -> [String: [TensorID: Constant]] {
    var graph = float
    var names = NameTable(float)
    var twins: [(layer: String, bias: TensorID, output: TensorID, twin: TensorID)] = []
    let parameters = Dictionary(
      layers.flatMap { layer in layer.layer.parameters.map { ($0, layer.layer.name) } },
      uniquingKeysWith: { first, _ in first })
    var nodes: [Node] = []
    for node in float.nodes {
      nodes.append(node)
      guard node.inputs.count > 2, let weight = node.inputs[1], let bias = node.inputs[2],
        let output = node.outputs.first, let layer = parameters[weight], float[bias].constant != nil,
        node.op.quantization.input(2) == .bias, float[output].type.shape.last == float[bias].type.count
      else { continue }
      var quantized = base[weight]
      quantized.name = names.unique("\(quantized.name)_twin")
      var result = float[output]
      result.name = names.unique("\(result.name)_twin")
      let (weightTwin, twin) = (graph.add(quantized), graph.add(result))
      nodes.append(
        Node(
          name: "\(node.name)_twin", op: node.op, inputs: [node.inputs[0], weightTwin, bias], outputs: [twin]))
      twins.append((layer, bias, output, twin))
    }
    guard !twins.isEmpty else { return [:] }
    graph.nodes = nodes
    // Both as outputs: nothing is fused behind them.
    graph.outputs = twins.flatMap { [$0.output, $0.twin] }
    let sums = try channelSums(graph, twins.map { float[$0.bias].type.count }, samples)
    var found: [String: [TensorID: Constant]] = [:]
    for (place, twin) in twins.enumerated() {
      var bias = float.realValues(of: twin.bias)
      let positions = float[twin.output].type.count / max(bias.count, 1) * samples.count
      for channel in bias.indices {
        bias[channel] += Float(sums[place][channel].value / Double(max(positions, 1)))
      }
      found[twin.layer, default: [:]][twin.bias] = Constant(bias, shape: float[twin.bias].type.shape)
    }
    return found
  }

  /// Sums of differences between outputs 2 i and 2 i + 1 by their last axis.
  private func channelSums(
    _ graph: Graph, _ channels: [Int], _ samples: MeasurementSamples
  ) throws(Diagnostic) -> [[ExactSum]] {
    let plan = try samples.backend.prepare(graph, options: PlanOptions(simulate: true))
    typealias State = (worker: any PlanWorker, sums: [[ExactSum]])
    let states = try runSamples(
      count: samples.count, jobs: samples.jobs,
      makeState: { (_) throws(Diagnostic) -> State in
        (try plan.makeWorker(), channels.map { [ExactSum](repeating: ExactSum(), count: $0) })
      },
      body: { (state: inout State, sample: Int) throws(Diagnostic) in
        let outputs = try state.worker.run(try samples.load(sample))
        for place in channels.indices {
          let exact = outputs[2 * place].array(of: Float.self)
          let quantized = outputs[2 * place + 1].array(of: Float.self)
          var totals = [Double](repeating: 0, count: channels[place])
          for index in exact.indices {
            totals[index % totals.count] += Double(exact[index]) - Double(quantized[index])
          }
          for channel in totals.indices { state.sums[place][channel].add(totals[channel]) }
        }
        samples.progress()
      })
    var result = states[0].sums
    for state in states.dropFirst() {
      for place in result.indices {
        for channel in result[place].indices { result[place][channel].merge(state.sums[place][channel]) }
      }
    }
    return result
  }
}
