import IR
import Runtime

/// How far the outputs of variants of a graph are from those of a reference.
struct OutputNoise: Sendable {
  let reference: Graph
  /// Pairs of outputs: place among the reference's, place among a variant's, channel scales.
  let outputs: [(reference: Int, variant: Int, scales: [Float]?)]
  /// The graph whose inputs the samples are of.
  let inputs: Graph

  /// The float outputs (``IR/Graph/scoreOutputs()``) that both have, by name, else by place where number
  /// and types are the same.
  /// Throws `no-common-output` where there is none.
  init(reference whole: Graph, variant given: Graph) throws(Diagnostic) {
    let (reference, variant) = (whole.withScoresAsOutputs(), given.withScoresAsOutputs())
    self.reference = reference
    inputs = variant
    var byName: [String: Int] = [:]
    for (alias, name) in variant.aliases {
      if let place = variant.outputs.firstIndex(where: { variant[$0].name == name }) { byName[alias] = place }
    }
    for (place, id) in variant.outputs.enumerated() { byName[variant[id].name] = place }
    let isSame =
      reference.outputs.map { reference[$0].type.logical } == variant.outputs.map { variant[$0].type.logical }
    var found: [(Int, Int, [Float]?)] = []
    for (place, id) in reference.outputs.enumerated() where reference[id].type.logical.element == .float32 {
      guard let other = byName[reference[id].name] ?? (isSame ? place : nil) else { continue }
      let partner = variant[variant.outputs[other]]
      guard partner.type.logical == reference[id].type.logical else { continue }
      found.append((place, other, variant.channelScales[partner.name]))
    }
    guard !found.isEmpty else {
      throw Diagnostic(
        "no-common-output", "the outputs of the container and of the reference are not the same",
        hint: "the reference must be the model that the container was made from")
    }
    outputs = found
  }

  /// Ratio of noise to signal of the outputs of each variant, the mean over the outputs.
  ///
  /// Variants run side by side, a few at a time; every group runs the reference again.
  func ratios(
    of count: Int, samples: MeasurementSamples, _ variant: (Int) throws(Diagnostic) -> Graph
  ) throws(Diagnostic) -> [Double] {
    let order = try InputOrder(reference, inputs)
    let plan = try samples.backend.prepare(reference, options: PlanOptions(simulate: reference.isMaterialized))
    var result: [Double] = []
    var next = 0
    while next < count {
      var plans: [any Plan] = []
      var memory = 0
      while next < count, plans.count < 8, memory < 1 << 28 {
        let graph = try variant(next).withScoresAsOutputs()
        plans.append(try samples.backend.prepare(graph, options: PlanOptions(simulate: true)))
        memory += plans[plans.count - 1].arenaBytes * samples.jobs + plans[plans.count - 1].constantBytes
        next += 1
      }
      result += try run(plan, plans, order, samples)
    }
    return result
  }

  private struct Worker {
    var reference: any PlanWorker
    var variants: [any PlanWorker]
    var sums: [[ErrorSums]]
  }

  private func run(
    _ plan: any Plan, _ plans: [any Plan], _ order: InputOrder, _ samples: MeasurementSamples
  ) throws(Diagnostic) -> [Double] {
    let made = plans
    let workers = try runSamples(
      count: samples.count, jobs: samples.jobs,
      makeState: { (_) throws(Diagnostic) -> Worker in
        var variants: [any PlanWorker] = []
        for plan in made { variants.append(try plan.makeWorker()) }
        let empty = outputs.map { _ in ErrorSums() }
        return Worker(reference: try plan.makeWorker(), variants: variants, sums: made.map { _ in empty })
      },
      body: { (worker: inout Worker, sample: Int) throws(Diagnostic) in
        let given = try samples.load(sample)
        let expected = try worker.reference.run(order.arranged(given))
        for place in worker.variants.indices {
          let found = try worker.variants[place].run(given)
          for (row, output) in outputs.enumerated() {
            var values = found[output.variant].array(of: Float.self)
            if let scales = output.scales, !scales.isEmpty {
              for index in values.indices { values[index] /= scales[index % scales.count] }
            }
            worker.sums[place][row].add(
              reference: expected[output.reference].array(of: Float.self), other: values)
          }
          samples.progress()
        }
      })
    return plans.indices.map { place in
      var total = 0.0
      for row in outputs.indices {
        var sums = ErrorSums()
        for worker in workers { sums.merge(worker.sums[place][row]) }
        total += sums.errors?.noiseRatio ?? 0
      }
      return total / Double(outputs.count)
    }
  }
}
