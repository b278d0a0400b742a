import IR
import Operators
import Runtime

/// Seeded random numbers (SplitMix64).
struct Random {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number from -1 up to 1.
  mutating func float() -> Float { Float(Int(next() >> 40) - (1 << 23)) / Float(1 << 23) }

  mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }
}

/// Builds graphs node by node; types are inferred, weights are random.
struct NetworkMaker {
  var graph = Graph(name: "test")
  var random = Random(1)

  mutating func input(_ shape: [Int]) -> TensorID {
    let id = graph.add(
      Tensor(name: "input\(graph.inputs.count)", type: TensorType(.float32, shape)))
    graph.inputs.append(id)
    return id
  }

  mutating func constant(_ shape: [Int], scale: Float = 0.5) -> TensorID {
    let values = random.floats(shape.reduce(1, *)).map { $0 * scale }
    return constant(values, shape)
  }

  mutating func constant(_ values: [Float], _ shape: [Int]) -> TensorID {
    let constant = Constant(values, shape: shape)
    let name = "constant\(graph.tensors.count)"
    return graph.add(Tensor(name: name, type: constant.type, constant: constant))
  }

  mutating func add(_ op: any Operator, _ inputs: TensorID?...) throws -> TensorID {
    try nodes(op, inputs)[0]
  }

  mutating func nodes(_ op: any Operator, _ inputs: [TensorID?]) throws -> [TensorID] {
    let types = try op.infer(inputs.map { $0.map { graph[$0].type.logical } })
    let number = graph.nodes.count
    let outputs = types.enumerated().map { slot, type in
      graph.add(Tensor(name: "t\(number)_\(slot)", type: type))
    }
    graph.nodes.append(
      Node(name: "n\(number)_\(op.typeName)", op: op, inputs: inputs, outputs: outputs))
    return outputs
  }

  /// A convolution with bias; odd kernels keep the size at stride 1.
  mutating func conv(
    _ x: TensorID, _ filters: Int, kernel: Int = 3, stride: Int = 1, group: Int = 1
  ) throws -> TensorID {
    let channels = graph[x].type.shape[3]
    let pad = kernel / 2
    return try add(
      Conv2d(stride: [stride, stride], padAmount: [pad, pad, pad, pad], group: group), x,
      constant([kernel, kernel, channels / group, filters], scale: 0.3), constant([filters]))
  }

  /// A depthwise convolution with bias.
  mutating func depthwise(_ x: TensorID, stride: Int = 1) throws -> TensorID {
    let channels = graph[x].type.shape[3]
    return try add(
      DepthWiseConv2d(stride: [stride, stride], padAmount: [1, 1, 1, 1]), x,
      constant([3, 3, 1, channels]), constant([channels]))
  }

  /// Every kind of fusion: residual sums, activations, chains of them, a shortcut of a convolution.
  static func residual() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([1, 14, 14, 3])
    var y = try maker.add(Relu(), maker.conv(x, 16, stride: 2))
    for block in 0..<3 {
      let inner = try maker.add(ReluMinMax(minValue: 0, maxValue: 6), maker.conv(y, 24, kernel: 1))
      let depth = try maker.add(HardSwish(), maker.depthwise(inner))
      let back = try maker.conv(depth, 16, kernel: 1)
      let shortcut = block == 1 ? try maker.conv(y, 16, kernel: 1) : y
      let (first, second) = block == 2 ? (shortcut, back) : (back, shortcut)
      y = try maker.add(Relu(), maker.add(ElementWiseAdd(), first, second))
    }
    // conv(y) + y: the addend is the source of the convolution.
    y = try maker.add(LeakyRelu(alpha: 0.1), maker.add(ElementWiseAdd(), maker.conv(y, 16), y))
    let grouped = try maker.conv(y, 16, group: 4)
    y = try maker.add(Relu(), maker.add(ElementWiseAdd(), grouped, y))
    y = try maker.add(
      PoolAvg2d(filterSize: [7, 7], stride: [1, 1], padAmount: [0, 0, 0, 0]), y)
    y = try maker.add(Reshape(shape: [1, 16]), y)
    y = try maker.add(FullyConnected(), y, maker.constant([10, 16]), maker.constant([10]))
    y = try maker.add(ElementWiseAdd(), y, maker.constant([1, 10]))
    maker.graph.outputs = [try maker.add(Softmax(axis: 1), y)]
    return maker
  }

  /// A small attention block: matrix products with batches, transposes, layer normalization by parts.
  static func attention() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([1, 6, 32])
    func project(_ maker: inout NetworkMaker) throws -> TensorID {
      let y = try maker.add(MatMul(), x, maker.constant([32, 32]), maker.constant([32]))
      return try maker.add(
        Transpose(perm: [0, 2, 1, 3]), maker.add(Reshape(shape: [1, 6, 4, 8]), y))
    }
    let (q, k, v) = (try project(&maker), try project(&maker), try project(&maker))
    let scores = try maker.add(MatMul(transposeIn1: true), q, k)
    let scaled = try maker.add(ElementWiseMultiply(), scores, maker.constant([0.35], []))
    let mixed = try maker.add(MatMul(), maker.add(Softmax(axis: 3), scaled), v)
    let joined = try maker.add(
      Reshape(shape: [1, 6, 32]), maker.add(Transpose(perm: [0, 2, 1, 3]), mixed))
    let sum = try maker.add(
      ElementWiseAdd(), x, maker.add(MatMul(transposeIn1: true), joined, maker.constant([32, 32])))
    let centred = try maker.add(
      ElementWiseSubtract(), sum, maker.add(ReduceMean(axes: [2], keepDims: true), sum))
    let variance = try maker.add(
      ReduceMean(axes: [2], keepDims: true), maker.add(ElementWiseMultiply(), centred, centred))
    let shifted = try maker.add(ElementWiseAdd(), variance, maker.constant([1e-5], []))
    let normal = try maker.add(
      ElementWiseDivide(), centred, maker.add(ElementWiseSquareRoot(), shifted))
    maker.graph.outputs = [try maker.add(ElementWiseMultiply(), normal, maker.constant([32]))]
    return maker
  }

  /// Views, copies and shared memory: reshapes of inputs, constants and outputs.
  static func views() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([2, 3, 4])
    let flat = try maker.add(Reshape(shape: [24]), x)
    let square = try maker.add(Reshape(shape: [4, 6]), flat)
    let turned = try maker.add(Transpose(perm: [1, 0]), square)
    let fixed = try maker.add(Reshape(shape: [6, 4]), maker.constant([2, 12]))
    let sum = try maker.add(ElementWiseAdd(), turned, fixed)
    let low = try maker.add(Sigmoid(), sum)
    let again = try maker.add(Reshape(shape: [24]), sum)
    let parts = try maker.nodes(Split(axis: 0, sizes: [10, 14]), [again])
    let joined = try maker.add(Concat(axis: 0), parts[1], parts[0])
    let padded = try maker.add(Pad(padAmount: [1, 2], value: 3), joined)
    maker.graph.outputs = [flat, low, fixed, joined, padded, x]
    return maker
  }

  /// Gives every float activation an encoding of its own that covers what it takes on for `inputs`.
  mutating func addEncodings(bitwidth: Int, _ inputs: [Bytes]) throws {
    let taps = Set(graph.tensors.indices.map(TensorID.init))
    let plan = try ReferenceBackend().prepare(
      graph, options: PlanOptions(simulate: false, taps: taps))
    var ranges: [TensorID: (Float, Float)] = [:]
    _ = try plan.makeWorker().run(inputs) { (id: TensorID, view: TensorView) throws(Diagnostic) in
      let values = view.elements(as: Float.self)
      ranges[id] = (min(values.min() ?? 0, 0), max(values.max() ?? 1, 0.01))
    }
    for (id, range) in ranges where graph[id].constant == nil {
      let steps = Float((1 << bitwidth) - 1)
      let scale = (range.1 - range.0) / steps
      let zero = (range.0 / scale).rounded()
      graph[id].encoding = Encoding(
        bitwidth: bitwidth, channels: [ScaleOffset(scale: scale, offset: Int32(zero))])
      graph[id].state = .given
    }
  }

  /// Random bytes for the inputs.
  func inputs(seed: UInt64) -> [Bytes] {
    var random = Random(seed)
    return graph.inputs.map { Bytes(random.floats(graph[$0].type.count)) }
  }
}

/// Bit patterns of floats, for exact comparison.
func bits(_ bytes: [Bytes]) -> [[UInt32]] { bytes.map { $0.array(of: UInt32.self) } }

/// Largest difference of two outputs, relative to the largest number of the first.
func relativeDifference(_ expected: Bytes, _ got: Bytes) -> Float {
  let (a, b) = (expected.array(of: Float.self), got.array(of: Float.self))
  guard a.count == b.count else { return .infinity }
  let largest = a.map { abs($0) }.max() ?? 0
  let difference = zip(a, b).map { abs($0 - $1) }.max() ?? 0
  return difference / max(largest, 1e-6)
}
