import Calibration
import IR
import Operators
import Quantizer
import Runtime
import Testing

/// Random small networks with random decisions about their tensors.
private struct NetworkLottery {
  var random: SplitMix
  let width = 2

  init(seed: UInt64) { random = SplitMix(state: seed &* 0x1234_5678_9ABC_DEF1) }

  mutating func pick<Item>(_ list: [Item]) -> Item { list[Int(random.next() % UInt64(list.count))] }
  mutating func chance(_ percent: UInt64) -> Bool { random.next() % 100 < percent }
  mutating func values(_ count: Int, _ size: Float) -> [Float] {
    (0..<count).map { _ in (Float(random.next() % 2001) / 1000 - 1) * size }
  }

  /// A network of elementwise, data-moving and convolution nodes; all tensors have one shape.
  mutating func network() throws -> Graph {
    let shape = "float32[1, 3, 3, \(width)]"
    var lines = ["graph \"r\" {", "  input %x: \(shape)", "  input %z: \(shape)"]
    var nodes: [String] = []
    var names = ["x", "z"]
    for index in 0..<(4 + Int(random.next() % 7)) {
      let (a, b, out) = (pick(names), pick(names), "t\(index)")
      let call: String
      switch random.next() % 10 {
      case 0, 1, 2:
        let weight = values(width * width, 1).map { "\($0)" }.joined(separator: ", ")
        let bias = values(width, 0.5).map { "\($0)" }.joined(separator: ", ")
        lines.append("  const %w\(index): float32[1, 1, \(width), \(width)] = [\(weight)]")
        lines.append("  const %b\(index): float32[\(width)] = [\(bias)]")
        call = "Conv2d(%\(a), %w\(index), %b\(index)) \(pointwise)"
      case 3: call = "Relu(%\(a))"
      case 4: call = "ElementWiseAdd(%\(a), %\(b))"
      case 5:
        let constant = values(width, 1).map { "\($0)" }.joined(separator: ", ")
        lines.append("  const %k\(index): float32[\(width)] = [\(constant)]")
        call = "ElementWiseMultiply(%\(a), %k\(index))"
      case 6: call = "Transpose(%\(a)) {perm: [0, 2, 1, 3]}"
      case 7: call = "Sigmoid(%\(a))"
      case 8: call = "ElementWiseNeg(%\(a))"
      default: call = "ElementWiseSubtract(%\(a), %\(b))"
      }
      nodes.append("  %\(out): \(shape) = \(call) \"n\(index)\"")
      names.append(out)
    }
    lines += nodes
    lines.append("  output %\(names[names.count - 1])")
    if chance(50) { lines.append("  output %\(names[names.count - 2])") }
    return try Graph(text: (lines + ["}"]).joined(separator: "\n"), registry: .standard).compacted()
  }

  /// Decides about some tensors as overrides would.
  mutating func decide(_ graph: inout Graph) {
    let inner = graph.fusedIntermediates()
    var free = Set<TensorID>()
    for index in graph.tensors.indices {
      let id = TensorID(index)
      guard graph[id].constant == nil, inner[id] == nil else { continue }
      switch random.next() % 8 {
      case 0, 1:
        let bits = pick([8, 16])
        let schema: QuantizerSchema = chance(50) ? .asymmetric : .symmetric
        let low = -2 - Double(random.next() % 3)
        graph[id].encoding = RangeToEncoding.encoding(
          min: low, max: 2, bitwidth: bits, schema: schema)
        graph[id].encodingSource = .override
        graph[id].state = .given
      case 2, 3:
        graph[id].state = .float
        graph[id].encodingSource = chance(50) ? EncodingSource.override : nil
        graph[id].bitwidth = pick([Int?.none, 16, 32])
      default: free.insert(id)
      }
    }
    for node in graph.nodes {
      let makes = ["ElementWiseAdd", "ElementWiseMultiply", "ElementWiseNeg", "ElementWiseSubtract"]
      guard makes.contains(node.op.typeName), chance(40) else { continue }
      let operands = (node.inputs.compactMap { $0 } + node.outputs).filter {
        graph[$0].constant == nil
      }
      if operands.allSatisfy(free.contains) { graph.integerNodes.insert(node.name) }
    }
    // A tensor inside a fused pair shares what is decided behind it; with integers there is no pair.
    for (id, _) in inner where graph.fusedIntermediates()[id] == nil { graph[id].state = .open }
  }

  mutating func options() -> QuantizerOptions {
    var options = QuantizerOptions()
    options.actBitwidth = pick([8, 16])
    options.weightsBitwidth = pick([8, 16])
    options.biasBitwidth = pick([8, 32])
    options.floatBitwidth = pick([16, 32])
    options.floatBiasBitwidth = pick([Int?.none, 16, 32])
    options.perChannel = chance(50)
    options.includeDataInvariantOps = chance(20)
    return options
  }
}

@Suite struct MixedPrecisionLawTests {
  private func ranges(_ graph: Graph) -> [String: (Float, Float)] {
    Dictionary(uniqueKeysWithValues: graph.tensors.map { ($0.name, (-3, 4)) })
  }

  private func bits(_ values: [[Float]]) -> [[UInt32]] { values.map { $0.map(\.bitPattern) } }

  /// An operator is all integer or all float; only a bias has a width of its own.
  private func expectWhole(_ graph: Graph) {
    for node in graph.nodes where !["Quantize", "Dequantize", "Convert", "Cast"].contains(node.op.typeName) {
      var kinds = Set<String>()
      for (slot, id) in node.inputs.enumerated() {
        guard let id, node.op.quantization.input(slot) != .unquantized else { continue }
        let type = graph[id].type.element
        let isBias = node.op.quantization.input(slot) == .bias
        kinds.insert(type.isFixedPoint ? "fixed" : isBias && type.isFloat ? "float" : type.rawValue)
      }
      for id in node.outputs {
        let type = graph[id].type.element
        kinds.insert(type.isFixedPoint ? "fixed" : type.rawValue)
      }
      if kinds.contains("float"), kinds.contains("float16") || kinds.contains("float32") {
        kinds.remove("float")
      }
      #expect(kinds.count == 1, "\(node.name) \(node.op.typeName): \(kinds.sorted())")
    }
  }

  @Test(arguments: 1...24)
  func materializedGraphIsTheAnnotatedOne(seed: Int) throws {
    var lottery = NetworkLottery(seed: UInt64(seed))
    var network = try lottery.network()
    lottery.decide(&network)
    let options = lottery.options()
    let results = [
      try assignEncodings(
        network, statistics: statistics(network, ranges(network)), options: options),
      try assignFloatFallback(network, options: options),
    ]
    let inputs = network.inputs.map { _ in lottery.values(9 * lottery.width, 2.5) }
    for result in results {
      let fixed = try result.materialized()
      let bordered = try insertingBorders(
        result.graph, borders: result.borders,
        dataInvariantOpsRequantize: result.dataInvariantOpsRequantize)
      #expect(bordered.verify().isEmpty && !bordered.isMaterialized)
      expectWhole(fixed)
      let kept = try preservingTypes(fixed).graph
      for backend in [ReferenceBackend(), OneDNNBackend()] as [any Backend] {
        let expected = bits(try run(fixed, backend, inputs))
        #expect(bits(try run(bordered, backend, inputs)) == expected)
        #expect(bits(try run(kept, backend, inputs)) == expected)
      }
      for stored in [fixed, kept] {
        let float = stored.dematerialized()
        try sameAnnotations(result.graph, float)
        #expect(float.nodes.map(\.name) == network.nodes.map(\.name), "seed \(seed)")
        #expect(float.outputs.map { float[$0].name } == network.outputs.map { network[$0].name })
        let again = try assignEncodings(
          float, statistics: statistics(float, ranges(float)), options: options)
        expectWhole(try again.materialized())
      }
      #expect(!fixed.strippedOfEncodings().hasDecisions)
    }
  }
}
