import IR
import Operators
@testable import Runtime
import Synchronization
import Testing

/// A network by name, so that tests can be run over several.
enum Network: String, CaseIterable, Sendable {
  case residual, attention, views, chains, curves, moves, planes, norms

  func make() throws -> NetworkMaker {
    switch self {
    case .residual: try .residual()
    case .attention: try .attention()
    case .views: try .views()
    case .chains: try .chains()
    case .curves: try .curves()
    case .moves: try .moves()
    case .planes: try .planes()
    case .norms: try .norms()
    }
  }
}

@Suite struct PlanTests {
  let fast = OneDNNBackend()

  @Test(arguments: Network.allCases)
  func agreesWithReference(_ network: Network) throws {
    let maker = try network.make()
    let inputs = maker.inputs(seed: 3)
    let options = PlanOptions(simulate: false)
    let expected = try ReferenceBackend().prepare(maker.graph, options: options).makeWorker()
      .run(inputs)
    let got = try fast.prepare(maker.graph, options: options).makeWorker().run(inputs)
    #expect(expected.count == got.count)
    for (a, b) in zip(expected, got) { #expect(relativeDifference(a, b) < 1e-5) }
  }

  /// Tapping every tensor forbids every fusion and every reuse before the tap; bits must not change.
  @Test(arguments: Network.allCases, [false, true])
  func tapsKeepTheBits(_ network: Network, simulate: Bool) throws {
    var maker = try network.make()
    let inputs = maker.inputs(seed: 4)
    if simulate { try maker.addEncodings(bitwidth: 8, inputs) }
    let graph = maker.graph
    let all = Set(graph.tensors.indices.map(TensorID.init))
    let fused = try fast.prepare(graph, options: PlanOptions(simulate: simulate))
    let split = try fast.prepare(graph, options: PlanOptions(simulate: simulate, taps: all))
    var seen: [TensorID: [UInt32]] = [:]
    let expected = try split.makeWorker().run(inputs) { (id, view) throws(Diagnostic) in
      #expect(seen[id] == nil)
      #expect(view.type == graph[id].type)
      seen[id] = Array(view.elements(as: UInt32.self))
    }
    #expect(Set(seen.keys) == all)
    let isSame = try bits(fused.makeWorker().run(inputs)) == bits(expected)
    #expect(isSame)
    for (id, output) in zip(graph.outputs, expected) {
      let isSame = seen[id] == output.array(of: UInt32.self)
      #expect(isSame, "output \(graph[id].name)")
    }

    // Every tensor alone, so that each is the border of fusions once.
    for id in all {
      let plan = try fast.prepare(graph, options: PlanOptions(simulate: simulate, taps: [id]))
      var shown: [UInt32]?
      let got = try plan.makeWorker().run(inputs) { (_, view) throws(Diagnostic) in
        shown = Array(view.elements(as: UInt32.self))
      }
      let isSame = bits(got) == bits(expected) && shown == seen[id]
      #expect(isSame, "tapping \(graph[id].name)")
    }
  }

  /// Positions of a transposed convolution that no weight reaches hold the bias, whatever lay in their
  /// memory before.
  @Test(arguments: [1, 4], [false, true])
  func transposedGaps(group: Int, hasBias: Bool) throws {
    var maker = NetworkMaker()
    let x = maker.input([2, 4, 5, 8])
    let w = maker.constant([2, 1, 8 / group, 8])
    var y = try maker.add(
      TransposeConv2d(stride: [3, 2], outputPadding: [1, 1], group: group), x, w, hasBias ? maker.constant([8]) : nil)
    y = try maker.add(HardSigmoid(alpha: 0.2, beta: 0.5), y)
    maker.graph.outputs = [y]
    let inputs = maker.inputs(seed: 6)
    let worker = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker()
    let expected = try ReferenceBackend().prepare(maker.graph, options: PlanOptions()).makeWorker().run(inputs)[0]
    for _ in 0..<3 { #expect(relativeDifference(expected, try worker.run(inputs)[0]) < 1e-5) }
  }

  /// Layers that share weights share what is packed of them; memory that this gives back is cleared before it is
  /// cut again, as its next owner takes it for zeros.
  @Test func sharedWeightsArePackedOnce() throws {
    var maker = NetworkMaker()
    let x = maker.input([1, 6, 6, 64])
    let w = maker.constant([3, 3, 64, 64], scale: 0.1)
    let y = try maker.add(Conv2d(padAmount: [1, 1, 1, 1]), x, w)
    maker.graph.outputs = [y]
    let single = maker.graph
    let z = try maker.add(Conv2d(padAmount: [1, 1, 1, 1]), y, w)
    maker.graph.outputs = [z]
    let inputs = maker.inputs(seed: 8)
    let expected = try ReferenceBackend().prepare(maker.graph, options: PlanOptions()).makeWorker().run(inputs)[0]
    for _ in 0..<20 {
      let plan = try fast.prepare(maker.graph, options: PlanOptions())
      let memory = try PackedConstant(byteCount: 1 << 17)
      let bytes = UnsafeRawBufferPointer(start: memory.address, count: memory.byteCount)
      #expect(bytes.allSatisfy { $0 == 0 })
      #expect(relativeDifference(expected, try plan.makeWorker().run(inputs)[0]) < 1e-5)
      let weights = try fast.prepare(single, options: PlanOptions())
      #expect(plan.constantBytes <= max(weights.constantBytes, 1 << 10) + (1 << 18))
    }
  }

  @Test func fusesWhatItMay() throws {
    let maker = try NetworkMaker.residual()
    let plan = try fast.prepare(maker.graph, options: PlanOptions(simulate: false))
    let steps = plan.steps
    #expect(!steps.contains { $0.operatorName == "ReluMinMax" || $0.operatorName == "HardSwish" })
    #expect(steps.contains { $0.fused.count == 1 })
    // Residual sums are fused where oneDNN rounds them like a separate addition.
    if fast.description.contains("avx512") {
      #expect(steps.contains { $0.fused.count == 2 && $0.fused[0].contains("ElementWiseAdd") })
      // Not behind the grouped one; what follows that is a chain.
      #expect(steps.contains { $0.operatorName == "ElementWiseAdd" && $0.kernel == "native chain" })
    }
    #expect(!steps.contains { $0.kernel == "reference" })
    #expect(steps.map(\.macs).reduce(0, +) > 100_000)
  }

  /// Steps are fused as far as they may be, and tell why not further.
  @Test func chainsAndCurvesAreFused() throws {
    let chains = try NetworkMaker.chains().graph
    let first = try #require(fast.prepare(chains, options: PlanOptions(simulate: false)).steps.first)
    #expect(first.kernel == "native chain" && first.fused.count == 6)
    #expect(first.refusals == ["fusion with n7_ReduceMean: the tensor between has 2 readers"])
    let tapped = chains.nodes[2].outputs[0]
    let split = try fast.prepare(chains, options: PlanOptions(simulate: false, taps: [tapped])).steps
    #expect(split[0].fused.count == 2 && split[0].refusals.contains { $0.contains("looked at") })

    let curves = try NetworkMaker.curves().graph
    let steps = try fast.prepare(curves, options: PlanOptions(simulate: false)).steps
    if fast.description.contains("avx512") {
      let alone = ["Sigmoid", "Tanh", "Gelu", "Swish", "Elu", "HardSwish", "Mish", "ElementWiseMinimum"]
      #expect(!steps.contains { alone.contains($0.operatorName) && $0.fused.isEmpty && $0.node != "n22_Sigmoid" })
      #expect(steps.contains { $0.fused.count == 2 && $0.fused[0].contains("Sigmoid") })
    }
    #expect(!steps.contains { $0.kernel == "reference" })
  }

  @Test(arguments: Network.allCases)
  func workersAndRunsAgree(_ network: Network) throws {
    var maker = try network.make()
    try maker.addEncodings(bitwidth: 8, maker.inputs(seed: 0))
    let plan = try fast.prepare(maker.graph, options: PlanOptions())
    let fixed = maker
    func outputs(jobs: Int) throws -> [Int: [[UInt32]]] {
      let parts = try runSamples(
        count: 12, jobs: jobs,
        makeState: { (_) throws(Diagnostic) in (try plan.makeWorker(), [Int: [[UInt32]]]()) },
        body: { (state, sample) throws(Diagnostic) in
          state.1[sample] = bits(try state.0.run(fixed.inputs(seed: UInt64(sample % 6))))
        })
      return parts.reduce(into: [:]) { $0.merge($1.1) { first, _ in first } }
    }
    let one = try outputs(jobs: 1)
    #expect(one.count == 12)
    for sample in 0..<6 { #expect(one[sample] == one[sample + 6]) }
    #expect(try outputs(jobs: 3) == one)
  }

  /// What is simulated lies on its grid; what lies inside a fused pair does not have to.
  @Test func simulationFollowsTheGraph() throws {
    var maker = try NetworkMaker.residual()
    let inputs = maker.inputs(seed: 5)
    try maker.addEncodings(bitwidth: 4, inputs)
    let graph = maker.graph
    let inside = graph.fusedIntermediates()
    #expect(!inside.isEmpty)
    let all = Set(graph.tensors.indices.map(TensorID.init))
    for backend in [ReferenceBackend() as any Backend, fast] {
      let worker = try backend.prepare(graph, options: PlanOptions(taps: all)).makeWorker()
      _ = try worker.run(inputs) { (id, view) throws(Diagnostic) in
        guard let encoding = graph[id].encoding, inside[id] == nil else { return }
        for value in view.elements(as: Float.self) {
          let grid = encoding.channels[0]
          let code = grid.quantize(value, codeMin: encoding.codeMin, codeMax: encoding.codeMax)
          #expect(grid.dequantize(code) == value)
        }
      }
    }
  }

  @Test func fixedPointConstantsAreDequantized() throws {
    var maker = NetworkMaker()
    let x = maker.input([1, 4])
    let encoding = Encoding(
      bitwidth: 8, symmetric: true, axis: 0,
      channels: [ScaleOffset(scale: 0.5, offset: -128), ScaleOffset(scale: 0.25, offset: -128)])
    let stored = encoding.quantized([1, -2, 0.5, 63, 1, -0.25, 0.5, 2], shape: [2, 4])
    var weight = Tensor(
      name: "w", type: TensorType(.sfixed8, [2, 4]),
      constant: Constant(type: TensorType(.sfixed8, [2, 4]), bytes: stored))
    weight.encoding = encoding
    let w = maker.graph.add(weight)
    maker.graph.outputs = [try maker.add(FullyConnected(), x, w)]
    for backend in [ReferenceBackend() as any Backend, fast] {
      for simulate in [false, true] {
        let plan = try backend.prepare(maker.graph, options: PlanOptions(simulate: simulate))
        let got = try plan.makeWorker().run([Bytes([1, 1, 1, 1] as [Float])])
        #expect(got[0].array(of: Float.self) == [62.5, 3.25])
      }
    }
  }

  @Test func outputsKeepTheirMemory() throws {
    var maker = NetworkMaker()
    let x = maker.input([4])
    let a = try maker.add(Relu(), x)
    let b = try maker.add(Relu(), a)  // could overwrite a, which is an output
    let c = try maker.add(Quantize(), b)
    maker.graph[c].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: 0)])
    maker.graph.outputs = [a, b, c, a]
    let values: [Float] = [-1, 0.25, 1.75, 300]
    let got = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker().run([Bytes(values)]
    )
    #expect(
      got.map { $0.array(of: Float.self) } == [
        [0, 0.25, 1.75, 300], [0, 0.25, 1.75, 300], [0, 0, 2, 255], [0, 0.25, 1.75, 300],
      ])
  }

  @Test func memoryIsReused() throws {
    var maker = NetworkMaker()
    var x = maker.input([1, 16, 16, 8])
    for _ in 0..<10 { x = try maker.add(ElementWiseAdd(), maker.conv(x, 8), maker.constant([8])) }
    maker.graph.outputs = [x]
    let plan = try fast.prepare(maker.graph, options: PlanOptions(simulate: false))
    #expect(plan.arenaBytes <= 2 * 16 * 16 * 8 * 4)
  }

  @Test func emptyTensorsPass() throws {
    var maker = NetworkMaker()
    let x = maker.input([0, 3])
    let y = try maker.add(Relu(), maker.add(ElementWiseAdd(), x, maker.constant([3])))
    maker.graph.outputs = [
      try maker.add(FullyConnected(), y, maker.constant([2, 3])),
      try maker.add(Transpose(perm: [1, 0]), y),
    ]
    let got = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker().run([
      Bytes([Float]())
    ])
    #expect(got.map(\.count) == [0, 0])
  }

  @Test func wrongInputsAreErrors() throws {
    var maker = NetworkMaker()
    let x = maker.input([4])
    maker.graph.outputs = [try maker.add(Relu(), x)]
    let worker = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker()
    #expect(throws: Diagnostic.self) { try worker.run([]) }
    #expect(throws: Diagnostic.self) { try worker.run([Bytes([1, 2] as [Float])]) }
    let index = maker.graph.add(Tensor(name: "i", type: TensorType(.int64, [1])))
    maker.graph.inputs.append(index)
    let picked = try maker.add(Gather(axis: 0), x, index)
    maker.graph.outputs = [picked]
    let gather = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker()
    let values = Bytes([1, 2, 3, 4] as [Float])
    #expect(try gather.run([values, Bytes([3] as [Int64])])[0].array(of: Float.self) == [4])
    let error = #expect(throws: Diagnostic.self) {
      try gather.run([values, Bytes([4] as [Int64])])
    }
    #expect(error?.location.node == "n1_Gather")
  }

  @Test func unalignedInputsAreRead() throws {
    var maker = NetworkMaker()
    let x = maker.input([3])
    maker.graph.outputs = [try maker.add(ElementWiseNeg(), x)]
    let worker = try fast.prepare(maker.graph, options: PlanOptions()).makeWorker()
    let packed = Bytes([0 as UInt8] + Bytes([1, 2, 3] as [Float]).array(of: UInt8.self))
    let shifted = Bytes(owner: Owner(packed), base: packed.base + 1, count: 12)
    #expect(try worker.run([shifted])[0].array(of: Float.self) == [-1, -2, -3])
  }

  private final class Owner {
    let bytes: Bytes
    init(_ bytes: Bytes) { self.bytes = bytes }
  }

  @Test func stepsAreMeasured() throws {
    let maker = try NetworkMaker.residual()
    let plan = try fast.prepare(maker.graph, options: PlanOptions())
    let worker = try plan.makeWorker()
    worker.measuresSteps = true
    _ = try worker.run(maker.inputs(seed: 1))
    #expect(worker.stepNanoseconds.count == plan.steps.count)
    #expect(worker.stepNanoseconds.reduce(0, +) > 0)
  }
}

@Suite(.serialized) struct SampleRunnerTests {
  @Test(arguments: [1, 2, 5])
  func everySampleOnce(_ jobs: Int) throws {
    let lists = try runSamples(
      count: 100, jobs: jobs, makeState: { (_) throws(Diagnostic) in [Int]() },
      body: { (list, sample) throws(Diagnostic) in list.append(sample) })
    #expect(lists.count == jobs)
    #expect(lists.flatMap { $0 }.sorted() == Array(0..<100))
    for list in lists { #expect(list == list.sorted()) }
  }

  @Test(arguments: [1, 2, 5])
  func lowestFailureWins(_ jobs: Int) throws {
    let error = #expect(throws: Diagnostic.self) {
      try runSamples(
        count: 100, jobs: jobs, makeState: { (_) throws(Diagnostic) in () },
        body: { (_, sample) throws(Diagnostic) in
          if sample >= 17 && sample % 2 == 1 { throw Diagnostic("test", "sample \(sample)") }
        })
    }
    #expect(error?.message == "sample 17")
  }

  @Test func failingStatesAreErrors() throws {
    let error = #expect(throws: Diagnostic.self) {
      try runSamples(
        count: 9, jobs: 3,
        makeState: { (thread) throws(Diagnostic) in
          if thread == 2 { throw Diagnostic("test", "no state") }
        }, body: { (_, _) throws(Diagnostic) in })
    }
    #expect(error?.message == "no state")
  }

  @Test func noSamplesNoWork() throws {
    let states = try runSamples(
      count: 0, jobs: 4, makeState: { (_) throws(Diagnostic) in 0 },
      body: { (_, _) throws(Diagnostic) in Issue.record("called") })
    #expect(states == [0])
  }
}
