import Calibration
import IR
import Operators
import Runtime
import Testing

@testable import Quantizer

/// Attention masks: what a Softmax alone reads may be huge or infinite.
@Suite struct MaskTests {
  /// Scores, a mask in one of several forms, a Softmax. `%m` holds 1 where a position counts.
  private func network(_ form: String) throws -> Graph {
    let steps: String
    switch form {
    case "input": steps = "%a: float32[1, 2, 4, 4] = ElementWiseAdd(%s, %m) \"add\""
    case "constant":
      steps = """
        const %c: float32[1, 1, 1, 4] = [0, 0, -3.4e38, 0]
        %a: float32[1, 2, 4, 4] = ElementWiseAdd(%s, %c) "add"
        """
    case "computed":
      steps = """
        const %one: float32[] = [1]
        const %low: float32[] = [-3.4e38]
        %h: float32[1, 1, 1, 4] = ElementWiseSubtract(%one, %m) "hidden"
        %k: float32[1, 1, 1, 4] = ElementWiseMultiply(%h, %low) "mask"
        %a: float32[1, 2, 4, 4] = ElementWiseAdd(%s, %k) "add"
        """
    case "scaled":
      steps = """
        const %eight: float32[] = [8]
        const %one: float32[] = [1]
        const %ten: float32[] = [10000]
        %q: float32[1, 2, 4, 4] = ElementWiseDivide(%s, %eight) "scaled"
        %h: float32[1, 1, 1, 4] = ElementWiseSubtract(%m, %one) "hidden"
        %k: float32[1, 1, 1, 4] = ElementWiseMultiply(%h, %ten) "mask"
        %a: float32[1, 2, 4, 4] = ElementWiseAdd(%q, %k) "add"
        """
    default:
      steps = """
        const %half: float32[] = [0.5]
        const %low: float32[] = [-1e9]
        %g: bool[1, 1, 1, 4] = ElementWiseGreater(%m, %half) "counts"
        %a: float32[1, 2, 4, 4] = ElementWiseSelect(%g, %s, %low) "select"
        """
    }
    return try graph(
      """
      graph "mask" {
        input %s: float32[1, 2, 4, 4]
        input %m: float32[1, 1, 1, 4]
        \(steps)
        %r: float32[2, 4, 4] = Reshape(%a) {shape: [2, 4, 4]} "reshape"
        %p: float32[2, 4, 4] = Softmax(%r) {axis: 2, beta: 1.0f} "softmax"
        output %p
      }
      """)
  }

  private func sample(_ index: Int, _ form: String, hidden: Float) -> [Bytes] {
    var random = SplitMix(state: UInt64(index))
    let factor: Float = form == "scaled" ? 8 : 1
    let scores = (0..<32).map { _ in factor * Float.random(in: -5...5, using: &random) }
    let mask: [Float] = form == "input" ? [0, 0, hidden, 0] : [1, 1, 0, 1]
    return [Bytes(scores), Bytes(mask)]
  }

  /// Float probabilities computed from quantized operands.
  private func probabilities(
    _ network: Graph, _ result: QuantizationResult, _ inputs: [Bytes]
  ) throws -> [Float] {
    var open = result
    let id = try #require(network.tensor(named: "p"))
    open.graph[id].encoding = nil
    open.graph[id].state = .float
    let plan = try ReferenceBackend().prepare(open.materialized(), options: PlanOptions())
    return try plan.makeWorker().run(inputs)[0].array(of: Float.self)
  }

  @Test(
    arguments: ["input", "constant", "computed", "scaled", "select"],
    [-3.4e38, -Float.infinity, -1e9, -10_000] as [Float])
  func maskedPositionsStaySuppressed(form: String, hidden: Float) throws {
    let network = try network(form)
    for (method, bitwidth) in [(CalibrationMethod.minMax, 8), (.sqnr, 8), (.percentile, 16)] {
      var options = QuantizerOptions()
      options.actCalibration = method
      options.actBitwidth = bitwidth
      let seen = try observe(
        network, backend: ReferenceBackend(), sampleCount: 20,
        load: { index throws(Diagnostic) in sample(index, form, hidden: hidden) }, jobs: 2,
        options: ObservationOptions(options))
      #expect(try Statistics(decoding: seen.encoded()) == seen)
      let result = try assignEncodings(network, statistics: seen, options: options)
      #expect(result.notes.contains { $0.code == "mask" && $0.severity == .note })
      let encoding = try #require(result.graph.find("a").encoding)
      #expect(encoding.minimum() > -60 && encoding.maximum() < 6)
      for tensor in result.graph.tensors {
        if let encoding = tensor.encoding { #expect(encoding.minimum() > -500, "\(tensor.name)") }
        #expect(tensor.constant?.floats().allSatisfy { $0.isFinite && $0 > -500 } ?? true)
      }
      let float = try ReferenceBackend().prepare(network, options: PlanOptions())
      for index in 0..<20 {
        let inputs = sample(index, form, hidden: hidden)
        let found = try probabilities(network, result, inputs)
        let exact = try float.makeWorker().run(inputs)[0].array(of: Float.self)
        for place in found.indices {
          if place % 4 == 2 { #expect(found[place] < 1e-6) }
          #expect(abs(found[place] - exact[place]) < (bitwidth == 8 ? 0.08 : 0.001))
        }
      }
    }
  }

  /// Minus infinity in a constant is a mask, whether other such values are left out or not.
  @Test(arguments: [false, true]) func infiniteConstants(skipNonfinite: Bool) throws {
    var network = try network("constant")
    let id = try #require(network.tensor(named: "c"))
    network[id].constant = Constant([0, 0, -.infinity, 0], shape: [1, 1, 1, 4])
    var options = QuantizerOptions()
    options.skipNonfinite = skipNonfinite
    let seen = try observe(
      network, backend: ReferenceBackend(), sampleCount: 4,
      load: { index throws(Diagnostic) in sample(index, "constant", hidden: 0) }, jobs: 1,
      options: ObservationOptions(options))
    let result = try assignEncodings(network, statistics: seen, options: options)
    let values = try #require(result.graph.find("c").constant?.floats())
    #expect(values[2] < -40 && values[2] > -60 && values[0] == 0)
    #expect(!result.notes.contains { $0.code == "skipped-nonfinite" })
  }

  @Test func rowsDecideOverTheirOwnFloor() throws {
    let filter = MaskFilter()
    let path = SoftmaxPath(axis: 1, factor: 2, isFinal: true, others: [])
    let list: [Float] = [0, -19, -21, 100, 79, 81, -3e38, -3e38, -3e38]
    let found = list.withUnsafeBufferPointer { buffer in
      let (values, masked) = filter.unmasked(buffer, shape: [3, 3], path: path)
      return (Array(values), masked)
    }
    #expect(found.0 == [0, -19, 100, 81])
    #expect(found.1.count == 5 && found.1.leastRowMaximum == 0)
    // The same along the first axis of a matrix.
    let columns = SoftmaxPath(axis: 0, factor: 1, isFinal: true, others: [])
    let turned = [Float](arrayLiteral: 0, 5, -41, -30).withUnsafeBufferPointer {
      Array(filter.unmasked($0, shape: [2, 2], path: columns).values)
    }
    #expect(turned == [0, 5, -30])
  }

  @Test func nonFiniteValuesElsewhereAreErrors() throws {
    for (name, value) in [("s", Float.nan), ("m", .infinity), ("m", .nan)] {
      let network = try network("input")
      let error = #expect(throws: Diagnostic.self) {
        try observe(
          network, backend: ReferenceBackend(), sampleCount: 1,
          load: { index throws(Diagnostic) in
            var scores = [Float](repeating: 0, count: 32)
            var mask: [Float] = [0, -.infinity, 0, 0]
            if name == "s" { scores[7] = value } else { mask[2] = value }
            return [Bytes(scores), Bytes(mask)]
          }, jobs: 1)
      }
      #expect(error?.code == "non-finite-activation" && error?.location.tensor == name)
      #expect(error?.message.contains("element \(name == "s" ? 7 : 2)") == true)
    }
  }

  /// What something else reads too keeps its values; graphs without a Softmax have no masks.
  @Test func otherReadersForbidIt() throws {
    #expect(try graph(convolutions).softmaxPaths().isEmpty)
    let shared = try graph(
      """
      graph "o" {
        input %s: float32[1, 4]
        const %c: float32[1, 4] = [0, -1e9, 0, 0]
        %a: float32[1, 4] = ElementWiseAdd(%s, %c) "add"
        %p: float32[1, 4] = Softmax(%a) {axis: 1, beta: 1.0f} "softmax"
        %e: float32[1, 4] = Relu(%a) "relu"
        output %p
        output %e
      }
      """)
    #expect(shared.softmaxPaths().isEmpty)
    let result = try annotated(shared, ["a": (-1e9, 3)])
    #expect(try result.graph.find("c").constant?.floats()[1] == -1e9)
    #expect(try abs(#require(result.graph.find("a").encoding?.minimum()) + 1e9) < 1e7)
  }
}
