import IR
import Operators
import Testing

@testable import Runtime

/// The integer backend gives the bits of its plain reference, on every operator and geometry.
@Suite struct IntegerTests {
  @Test(arguments: 0..<60) func convolutions(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: seed)
    let graph = maker.convolution()
    try expectSameBits(graph, seed: seed)
  }

  /// Sums beyond 2^24, where a Float no longer holds every whole number.
  @Test(arguments: 0..<16) func deepConvolutions(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 4000 + seed)
    try expectSameBits(maker.deepConvolution(), seed: seed)
  }

  @Test(arguments: 0..<40) func tiles(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 6000 + seed)
    try expectSameBits(maker.tiles(), seed: seed)
  }

  /// Most of those are computed in tiles, where there are any.
  @Test func tilesAreTaken() throws {
    let names = try (0..<40).flatMap { seed in
      var maker = IntegerGraphMaker(seed: 6000 + seed)
      return try IntegerBackend().prepare(maker.tiles(), options: PlanOptions()).steps.map(\.kernel)
    }
    let count = names.filter { $0.contains("tiles") }.count
    #expect(PackedIntegerKernel.isAvailable ? count >= 12 : count == 0)
  }

  @Test(arguments: 0..<24) func products(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 1000 + seed)
    let graph = maker.product()
    try expectSameBits(graph, seed: seed)
  }

  @Test(arguments: 0..<16) func transposedConvolutions(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 2000 + seed)
    try expectSameBits(maker.transposedConvolution(), seed: seed)
  }

  @Test(arguments: 0..<90) func elementwiseAndMovement(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 3000 + seed)
    try expectSameBits(maker.other(seed), seed: seed)
  }

  /// Codes of 16 bits, some of them beside codes of 8.
  @Test(arguments: 0..<60) func wideAccumulations(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 7000 + seed, wide: seed % 3 == 0 ? 60 : 100)
    let graph =
      switch seed % 4 {
      case 0: maker.convolution()
      case 1: maker.deepConvolution()
      case 2: maker.tiles()
      default: maker.product()
      }
    try expectSameBits(graph, seed: seed)
  }

  /// Some of those are computed in tiles, where there are any.
  @Test func wideTilesAreTaken() throws {
    let names = try (0..<20).flatMap { seed in
      var maker = IntegerGraphMaker(seed: 8000 + seed, wide: 100)
      let graph = maker.tiles()
      try expectSameBits(graph, seed: seed)
      return try IntegerBackend().prepare(graph, options: PlanOptions()).steps.map(\.kernel)
    }
    let count = names.filter { $0.contains("int16 tiles") }.count
    #expect(PackedIntegerKernel.isAvailable ? count >= 5 : count == 0)
  }

  @Test(arguments: 0..<56) func wideElementwiseAndMovement(seed: Int) throws {
    var maker = IntegerGraphMaker(seed: 9000 + seed, wide: 100)
    try expectSameBits(maker.wideOther(seed), seed: seed)
  }

  /// Sums that a Float does not hold are exact all the same.
  @Test(arguments: IntegerGraphMaker.LargeSums.allCases) func largeSums(_ form: IntegerGraphMaker.LargeSums) throws {
    var maker = IntegerGraphMaker(seed: 5000)
    let graph = maker.largeSums(form)
    try expectSameBits(graph, seed: 5000, steps: 1)
    let kernels = try IntegerBackend().prepare(graph, options: PlanOptions()).steps.map(\.kernel)
    #expect(kernels.contains("plain integers") == (form == .unsplittable), "\(kernels)")
  }

  /// Runs both backends on a few samples; every tensor must be equal, and nothing may run dequantized.
  private func expectSameBits(_ graph: Graph, seed: Int, steps: Int? = nil) throws {
    let taps = Set(graph.tensors.indices.filter { graph.tensors[$0].constant == nil }.map(TensorID.init))
    for tapped in [Set<TensorID>(), taps] {
      let fast = try IntegerBackend().prepare(graph, options: PlanOptions(taps: tapped))
      let plain = try IntegerReferenceBackend().prepare(graph, options: PlanOptions(taps: tapped))
      #expect(fast.steps.filter(\.isDequantized).map(\.refusals) == [])
      let (first, second) = (try fast.makeWorker(), try plain.makeWorker())
      for sample in 0..<2 {
        let input = IntegerGraphMaker.sample(graph, seed: seed * 7 + sample, steps: steps)
        var (left, right): ([TensorID: [UInt8]], [TensorID: [UInt8]]) = ([:], [:])
        let a = try first.run(input) { id, view in left[id] = Array(view.bytes) }
        let b = try second.run(input) { id, view in right[id] = Array(view.bytes) }
        for (x, y) in zip(a, b) {
          #expect(Array(x.buffer) == Array(y.buffer), "\(fast.steps.map(\.kernel)) \(graph)")
        }
        #expect(left == right)
        #expect(left.count == tapped.count)
      }
    }
  }
}

/// The written formula, spelled out here once more, and what goes with it.
@Suite struct IntegerSemanticsTests {
  /// y = float(sum + bias) * scale, activation in output steps, zero point added, half to even, clamped.
  @Test(arguments: 0..<12) func formula(seed: Int) throws {
    var random = Random(UInt64(seed))
    let zero = Int32(seed * 20)
    let outZero = Int32(seed % 2 == 0 ? 0 : 100)
    // Powers of two make ties.
    let (inScale, weightScale, outScale): (Float, Float, Float) =
      seed % 3 == 0 ? (0x1p-6, 0x1p-7, 0x1p-5) : (0.021, 0.0083, 0.037)
    let bounds: (low: Float, high: Float)? = [nil, (0, .infinity), (0, 1.7), (-0.9, 2.1)][seed % 4]
    let weights = (0..<6).map { _ in Int(random.next() % 255) - 127 }
    let biases = (0..<3).map { _ in Int32(random.next() % 4000) - 2000 }
    var maker = NetworkMaker()
    let x = maker.input([256, 2])
    maker.graph[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: inScale, offset: -zero)])
    let w = maker.fixed(
      [2, 3], weights.map { Int8($0) },
      Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: weightScale, offset: -128)]))
    let b = maker.fixed(
      [3], biases,
      Encoding(
        bitwidth: 32, symmetric: true, channels: [ScaleOffset(scale: inScale * weightScale, offset: .min)]))
    var y = try maker.add(MatMul(), x, w, b)
    if let bounds { y = try maker.add(ReluMinMax(minValue: bounds.low, maxValue: bounds.high), y) }
    let grid = ScaleOffset(scale: outScale, offset: -outZero)
    maker.graph[y].encoding = Encoding(bitwidth: 8, channels: [grid])
    maker.graph.outputs = [y]

    let codes = (0..<512).map { $0 % 2 == 0 ? $0 / 2 : Int(random.next() % 256) }
    let input = [Bytes(codes.map { Float($0 - Int(zero)) * inScale })]
    let scale = Float(Double(inScale) * Double(weightScale) / Double(outScale))
    var expected: [Float] = []
    for row in 0..<256 {
      for column in 0..<3 {
        var sum = biases[column]
        for k in 0..<2 { sum += Int32(weights[k * 3 + column]) * (Int32(codes[row * 2 + k]) - zero) }
        var steps = Float(sum) * scale
        if let bounds { steps = min(max(steps, bounds.low / outScale), bounds.high / outScale) }
        let code = min(max((steps + Float(outZero)).rounded(.toNearestOrEven), 0), 255)
        expected.append(grid.dequantize(Int(code)))
      }
    }
    for backend in [IntegerBackend(), IntegerReferenceBackend()] as [any Backend] {
      let plan = try backend.prepare(maker.graph, options: PlanOptions())
      #expect(try plan.makeWorker().run(input)[0].array(of: Float.self) == expected, "\(backend.name)")
    }
  }

  /// The same formula with codes of 16 bits, whose sums pass 32 bits.
  @Test(arguments: [0, 1, 40_000, 65_535]) func wideFormula(zero: Int) throws {
    var random = Random(UInt64(zero))
    let depth = 600
    let (inScale, weightScale, outScale): (Float, Float, Float) = (0x1p-14, 0x1p-7, 0.011)
    let weights = (0..<depth * 2).map { $0 < depth ? 127 : Int(random.next() % 255) - 127 }
    var maker = NetworkMaker()
    let x = maker.input([2, depth])
    maker.graph[x].encoding = Encoding(bitwidth: 16, channels: [ScaleOffset(scale: inScale, offset: Int32(-zero))])
    let w = maker.fixed(
      [2, depth], weights.map { Int8($0) },
      Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: weightScale, offset: -128)]))
    let y = try maker.add(MatMul(transposeIn1: true), x, w, nil)
    let grid = ScaleOffset(scale: outScale, offset: -30_000)
    maker.graph[y].encoding = Encoding(bitwidth: 16, channels: [grid])
    maker.graph.outputs = [y]

    let codes = (0..<2 * depth).map { $0 < depth ? 65_535 : Int(random.next() % 65_536) }
    let input = [Bytes(codes.map { Float($0 - zero) * inScale })]
    let scale = Float(Double(inScale) * Double(weightScale) / Double(outScale))
    var expected: [Float] = []
    for row in 0..<2 {
      for column in 0..<2 {
        let sum = (0..<depth).reduce(0) { $0 + weights[column * depth + $1] * (codes[row * depth + $1] - zero) }
        let code = min(max((Float(sum) * scale + 30_000).rounded(.toNearestOrEven), 0), 65_535)
        expected.append(grid.dequantize(Int(code)))
      }
    }
    for backend in [IntegerBackend(), IntegerReferenceBackend()] as [any Backend] {
      let plan = try backend.prepare(maker.graph, options: PlanOptions())
      #expect(!plan.steps.contains { $0.isDequantized })
      #expect(try plan.makeWorker().run(input)[0].array(of: Float.self) == expected, "\(backend.name)")
    }
  }

  /// A bound a channel holds behind a clamp that it crosses: min(relu(x), -1) is -1.
  @Test func boundsBelowAClamp() throws {
    var maker = NetworkMaker()
    let x = maker.input([1, 5, 5, 2])
    let w = maker.fixed(
      [1, 1, 2, 2], [100, 0, 0, 100] as [Int8],
      Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 0.01, offset: -128)]))
    var y = try maker.add(Conv2d(), x, w, nil)
    y = try maker.add(Relu(), y)
    y = try maker.add(ElementWiseMinimum(), y, maker.constant([-1, 0.5], [2]))
    for id in [x, y] {
      maker.graph[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.02, offset: -128)])
    }
    maker.graph.outputs = [y]
    let input = [Bytes((0..<50).map { Float($0 - 25) * 0.06 })]
    let simulated = try ReferenceBackend().prepare(maker.graph, options: PlanOptions()).makeWorker().run(input)[0]
      .array(of: Float.self)
    #expect(simulated[0] == -1)
    for backend in [IntegerBackend(), IntegerReferenceBackend()] as [any Backend] {
      let plan = try backend.prepare(maker.graph, options: PlanOptions())
      #expect(!plan.steps.contains { $0.isDequantized })
      #expect(try plan.makeWorker().run(input)[0].array(of: Float.self) == simulated, "\(backend.name)")
    }
  }

  /// Large steps over a wide border: nothing as large as that border is allocated or walked.
  @Test(arguments: [false, true]) func wideBorders(pools: Bool) throws {
    var maker = NetworkMaker()
    let wide = 1 << 29
    let x = maker.input([1, 3, 3, 4])
    let y: TensorID
    if pools {
      y = try maker.add(
        PoolMax2d(
          filterSize: [wide, wide], stride: [wide, wide], padAmount: [wide - 2, wide - 2, wide - 2, wide - 2]), x)
    } else {
      let w = maker.fixed(
        [1, 1, 4, 4], (0..<16).map { Int8($0 - 7) },
        Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 0.01, offset: -128)]))
      y = try maker.add(
        Conv2d(stride: [wide, wide], padAmount: [wide, wide, wide, wide]), x, w, nil)
    }
    for id in [x, y] {
      maker.graph[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.02, offset: -100)])
    }
    maker.graph.outputs = [y]
    let input = [Bytes(maker.random.floats(36))]
    let results = try [IntegerBackend(), IntegerReferenceBackend()].map { (backend: any Backend) in
      try backend.prepare(maker.graph, options: PlanOptions()).makeWorker().run(input)[0].array(of: Float.self)
    }
    #expect(results[0] == results[1] && results[0].contains { $0 != 0 })
  }

  /// Operators without an integer form say so and give what the simulation gives; codes take a byte.
  @Test func dequantizedOperators() throws {
    var maker = NetworkMaker()
    let x = maker.input([1, 8, 8, 16])
    let y = try maker.add(CumulativeSum(axis: 1), x)
    for id in [x, y] {
      maker.graph[id].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.05, offset: -100)])
    }
    maker.graph.outputs = [y]
    let integer = try IntegerBackend().prepare(maker.graph, options: PlanOptions())
    let simulation = try OneDNNBackend().prepare(maker.graph, options: PlanOptions())
    let input = [Bytes(maker.random.floats(1024).map { $0 * 5 })]
    #expect(integer.steps.filter(\.isDequantized).map(\.operatorName) == ["CumulativeSum"])
    #expect(integer.steps.contains { $0.refusals.contains("integer: no kernel for CumulativeSum") })
    #expect(
      try integer.makeWorker().run(input)[0].array(of: Float.self)
        == simulation.makeWorker().run(input)[0].array(of: Float.self))
  }

  /// Without encodings, or where they are not to be applied, both are the float backends.
  @Test func noEncodings() throws {
    var maker = NetworkMaker()
    let x = maker.input([1, 6, 6, 4])
    let y = try maker.conv(x, 8)
    maker.graph.outputs = [y]
    let input = [Bytes(maker.random.floats(144))]
    let float = try OneDNNBackend().prepare(maker.graph, options: PlanOptions())
    let expected = try float.makeWorker().run(input)[0].array(of: Float.self)
    for simulate in [true, false] {
      if !simulate {
        maker.graph[y].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.05, offset: -100)])
      }
      let plan = try IntegerBackend().prepare(maker.graph, options: PlanOptions(simulate: simulate))
      #expect(try plan.makeWorker().run(input)[0].array(of: Float.self) == expected)
    }
  }

  /// Activations are held as bytes: a quarter of the simulation's memory.
  @Test func memory() throws {
    var maker = NetworkMaker()
    var x = maker.input([1, 32, 32, 16])
    for _ in 0..<4 {
      maker.graph[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.05, offset: 0)])
      let w = maker.fixed(
        [3, 3, 16, 16], (0..<2304).map { Int8($0 % 17) },
        Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 0.01, offset: -128)]))
      x = try maker.add(Conv2d(padAmount: [1, 1, 1, 1]), x, w, nil)
    }
    maker.graph[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.05, offset: 0)])
    x = try maker.add(PoolAvg2d(filterSize: [32, 32], stride: [1, 1], padAmount: [0, 0, 0, 0]), x)
    maker.graph[x].encoding = Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.05, offset: 0)])
    maker.graph.outputs = [x]
    let integer = try IntegerBackend().prepare(maker.graph, options: PlanOptions())
    let simulation = try OneDNNBackend().prepare(maker.graph, options: PlanOptions())
    #expect(integer.arenaBytes < simulation.arenaBytes / 3)
  }
}

extension NetworkMaker {
  /// A fixed-point constant.
  fileprivate mutating func fixed<Code: BitwiseCopyable>(
    _ shape: [Int], _ codes: [Code], _ encoding: Encoding
  ) -> TensorID {
    let type = TensorType(encoding.storage, shape)
    var tensor = Tensor(
      name: "fixed\(graph.tensors.count)", type: type, constant: Constant(type: type, bytes: Bytes(codes)))
    tensor.encoding = encoding
    tensor.state = .given
    return graph.add(tensor)
  }
}
