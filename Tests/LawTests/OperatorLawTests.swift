import Container
import Foundation
import IR
import Operators
import Runtime
import Testing

/// Laws that hold for every operator of the registry.
@Suite struct OperatorLaws {
  @Test func everyRegisteredOperatorHasASample() {
    let covered = Set(operatorSamples.map(\.op.typeName))
    #expect(covered == Set(OperatorRegistry.standard.names))
  }

  @Test(arguments: operatorSamples)
  func graphVerifies(_ sample: OperatorSample) throws {
    #expect(try sample.graph(seed: 1).verify() == [])
  }

  @Test(arguments: operatorSamples)
  func parametersRoundTrip(_ sample: OperatorSample) throws {
    let made = try OperatorRegistry.standard.make(sample.op.typeName, sample.op.attributes)
    #expect(made.isEqual(sample.op))
    #expect(throws: Diagnostic.self) {
      try OperatorRegistry.standard.make(
        sample.op.typeName, sample.op.attributes + [Attribute("no_such_parameter", .int(1))])
    }
  }

  @Test(arguments: operatorSamples)
  func textRoundTrips(_ sample: OperatorSample) throws {
    let text = try sample.graph(seed: 2).text(inlineLimit: .max)
    let parsed = try Graph(text: text, registry: .standard)
    #expect(parsed.text(inlineLimit: .max) == text)
    #expect(parsed.verify() == [])
  }

  @Test(arguments: operatorSamples)
  func containerRoundTrips(_ sample: OperatorSample) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let graph = try sample.graph(seed: 3)
    let first = folder.appendingPathComponent("a.dlc").path
    let second = folder.appendingPathComponent("b.dlc").path
    try ContainerWriter.write(ContainerFile(graph: graph), to: first)
    let read = try ContainerReader.read(path: first, registry: .standard)
    #expect(read.graph.text(inlineLimit: .max) == graph.text(inlineLimit: .max))
    try ContainerWriter.write(read, to: second)
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: first))
        == Data(contentsOf: URL(fileURLWithPath: second)))
  }

  @Test(arguments: operatorSamples)
  func backendsAgree(_ sample: OperatorSample) throws {
    let graph = try sample.graph(seed: 4)
    let inputs = sample.values(graph, seed: 5)
    let reference = try run(ReferenceBackend(), graph, inputs)
    let fast = try run(OneDNNBackend(), graph, inputs)
    try #require(reference.count == fast.count)
    for (index, (expected, got)) in zip(reference, fast).enumerated() {
      guard graph[graph.outputs[index]].type.element == .float32 else {
        #expect(expected.array(of: UInt8.self) == got.array(of: UInt8.self))
        continue
      }
      let (a, b) = (expected.array(of: Float.self), got.array(of: Float.self))
      try #require(a.count == b.count)
      let largest = a.map { abs($0) }.max() ?? 0
      let difference = zip(a, b).map { abs($0 - $1) }.max() ?? 0
      #expect(difference <= sample.op.tolerance * max(largest, 1e-3))
    }
  }

  /// op(transpose(x, p)) == transpose(op'(x), p), for the permutation that reverses all axes but the
  /// first, on every operator with one varying input that lets permutations pass.
  @Test(arguments: operatorSamples)
  func sinkingKeepsTheFunction(_ sample: OperatorSample) throws {
    guard let first = sample.inputs.first, sample.inputs.count == 1, first.rank >= 2 else { return }
    let permutation = [0] + (1..<first.rank).reversed()
    guard let moved = sample.op.sinking(permutation: permutation) else { return }
    let inverse = inversePermutation(permutation)
    let before = TensorType(first.element, inverse.map { first.shape[$0] })
    let direct = chain([Transpose(perm: permutation), sample.op], before)
    let sunk = chain([moved, Transpose(perm: permutation)], before)
    let graphs = (try direct.get(), try sunk.get())
    let inputs = sample.values(graphs.0, seed: 6)
    let a = try run(ReferenceBackend(), graphs.0, inputs)
    let b = try run(ReferenceBackend(), graphs.1, inputs)
    #expect(a.map { $0.array(of: UInt8.self) } == b.map { $0.array(of: UInt8.self) })
  }

  @Test(arguments: operatorSamples)
  func ruleNamesOperands(_ sample: OperatorSample) throws {
    let rule = sample.op.quantization
    let outputs = try sample.op.infer(sample.inputs).count
    for index in 0..<outputs {
      if case .sameAsInput(let input) = rule.output(index) {
        #expect(sample.inputs.indices.contains(input))
      }
    }
    for (index, type) in sample.inputs.enumerated() {
      if case .weight(let axis, _) = rule.input(index) {
        #expect(type.shape.indices.contains(axis < 0 ? axis + type.rank : axis))
      }
    }
  }

  /// What quantization.md, section 3, says of sharing, fixed ranges and weights, by name.
  @Test func rulesAreThoseOfTheContract() {
    func names(_ holds: (QuantizationRule) -> Bool) -> Set<String> {
      Set(operatorSamples.filter { holds($0.op.quantization) }.map(\.op.typeName))
    }
    let shared = names { if case .sameAsInput = $0.output(0) { true } else { false } }
    #expect(
      shared == [
        "Reshape", "Transpose", "Split", "StridedSlice", "Gather", "GatherElements", "GatherNd",
        "Pad", "Tile", "Expand", "PoolMax2d", "PoolMax3d", "Resize", "ResizeNearestNeighbor",
        "ReverseSequence", "DepthToSpace", "SpaceToDepth", "ChannelShuffle", "ReduceMax", "ReduceMin", "TopK",
        "MaxRoiPool",
        "Convert",
      ])
    #expect(names { $0.output(0) == .tiedToInputs } == ["Concat"])
    let fixed = names { if case .fixedUnit = $0.output(0) { true } else { false } }
    #expect(fixed == ["Sigmoid", "Softmax", "Tanh"])
    let rows = names { if case .weight(_, true) = $0.input(1) { true } else { false } }
    #expect(rows == ["FullyConnected", "MatMul", "Rnn", "Gru", "Lstm"])
    let channels = names { if case .weight(_, false) = $0.input(1) { true } else { false } }
    #expect(
      channels == [
        "Conv2d", "Conv3d", "DepthWiseConv2d", "TransposeConv2d", "TransposeConv3d", "Batchnorm",
      ])
    #expect(MatMul().quantization.input(1) == .weight(channelAxis: -1, perRow: true))
    let turned = MatMul(transposeIn1: true).quantization.input(1)
    #expect(turned == .weight(channelAxis: -2, perRow: true))
    #expect(ElementWisePower().quantization.input(1) == .unquantized)
    #expect(Pad(padAmount: [1, 1], value: 1).quantization.output(0) == .own)
  }

  /// Integer and boolean results carry no encoding, float ones do; an input that is no float is
  /// nobody's weight.
  @Test(arguments: operatorSamples)
  func ruleFollowsElementTypes(_ sample: OperatorSample) throws {
    let rule = sample.op.quantization
    for (index, type) in try sample.op.infer(sample.inputs).enumerated() where type.element == .float32 {
      #expect(rule.output(index) != .unquantized)
    }
    for (index, type) in sample.inputs.enumerated() where type.element != .float32 {
      if case .weight = rule.input(index) { Issue.record("input \(index) is a weight of integers") }
    }
  }

  /// An output that shares the encoding of inputs holds their values and zeros only.
  @Test(arguments: operatorSamples)
  func dataInvariantOperatorsMakeNoNewValues(_ sample: OperatorSample) throws {
    let graph = try sample.graph(seed: 7)
    let inputs = sample.values(graph, seed: 8)
    let results = try run(ReferenceBackend(), graph, inputs)
    for (index, id) in graph.outputs.enumerated() where graph[id].type.element == .float32 {
      let sources: [Int]
      switch sample.op.quantization.output(index) {
      case .sameAsInput(let input): sources = [input]
      case .tiedToInputs: sources = Array(sample.inputs.indices)
      case .fixedUnit(let signed):
        let range: ClosedRange<Float> = signed ? -1...1 : 0...1
        #expect(results[index].array(of: Float.self).allSatisfy { range.contains($0) })
        continue
      case .own, .unquantized: continue
      }
      // Inputs of the sample's graph are its operands: no rule of this kind has parameters.
      var known: Set<Float> = [0]
      for source in sources { known.formUnion(inputs[source].array(of: Float.self)) }
      #expect(results[index].array(of: Float.self).allSatisfy { known.contains($0) })
    }
  }

  private func run(_ backend: any Backend, _ graph: Graph, _ inputs: [Bytes]) throws -> [Bytes] {
    let worker = try backend.prepare(graph, options: PlanOptions()).makeWorker()
    return try worker.run(inputs, tap: nil)
  }

  /// A graph of operators in a row; operators with several outputs end it.
  private func chain(_ ops: [any Operator], _ type: TensorType) -> Result<Graph, Diagnostic> {
    var graph = Graph(name: "chain")
    var current = [graph.add(Tensor(name: "x", type: type))]
    graph.inputs = current
    do throws(Diagnostic) {
      for (step, op) in ops.enumerated() {
        var next: [TensorID] = []
        for (branch, input) in current.enumerated() where step == 0 || op is Transpose || branch == 0 {
          for (index, type) in try op.infer([graph[input].type]).enumerated() {
            next.append(graph.add(Tensor(name: "t\(step)_\(branch)_\(index)", type: type)))
          }
          graph.nodes.append(
            Node(
              name: "n\(step)_\(branch)", op: op, inputs: [input],
              outputs: Array(next.suffix(try op.infer([graph[input].type]).count))))
        }
        current = next
      }
    } catch { return .failure(error) }
    graph.outputs = current
    return .success(graph)
  }
}
