import IR
import Operators
import Testing

/// One way to use an operator: its parameters and the types of its inputs.
struct OperatorSample: Sendable, CustomTestStringConvertible {
  let op: any Operator
  let inputs: [TensorType]
  /// Largest value (exclusive) of integer inputs, for indices.
  var integerLimit = 4
  /// Whether float inputs must be positive (logarithms, roots, divisors).
  var positive = false
  /// Whether float inputs lie in [-0.5, 0.5].
  var bounded = false
  /// Added to float inputs.
  var offset: Float = 0

  var testDescription: String { "\(op.typeName)(\(inputs.map(\.description).joined(separator: ", ")))" }

  init(
    _ op: any Operator, _ inputs: [TensorType], integerLimit: Int = 4, positive: Bool = false,
    bounded: Bool = false, offset: Float = 0
  ) {
    self.op = op
    self.inputs = inputs
    self.integerLimit = integerLimit
    self.positive = positive
    self.bounded = bounded
    self.offset = offset
  }

  /// A graph of this operator alone; inputs named x0, x1, ...; weights and biases (inputs that the
  /// quantization rule calls so) are constants.
  func graph(seed: UInt64) throws(Diagnostic) -> Graph {
    var graph = Graph(name: "sample")
    var random = SplitMix(seed)
    var operands: [TensorID?] = []
    for (index, type) in inputs.enumerated() {
      var tensor = Tensor(name: "x\(index)", type: type)
      let isParameter: Bool
      switch op.quantization.input(index) {
      case .weight, .bias: isParameter = index > 0 && !(op is MatMul)
      default: isParameter = false
      }
      if isParameter {
        tensor.constant = Constant(type: type, bytes: value(type, &random))
      }
      let id = graph.add(tensor)
      if !isParameter { graph.inputs.append(id) }
      operands.append(id)
    }
    let types = try op.infer(inputs)
    let outputs = types.enumerated().map { graph.add(Tensor(name: "y\($0.offset)", type: $0.element)) }
    graph.nodes = [Node(name: "node", op: op, inputs: operands, outputs: outputs)]
    graph.outputs = outputs
    return graph
  }

  /// Seeded values of a type.
  func value(_ type: TensorType, _ random: inout SplitMix) -> Bytes {
    if type.element == .bool { return Bytes((0..<type.count).map { _ in UInt8(random.next() & 1) }) }
    if type.element == .float32 {
      let floats = (0..<type.count).map { _ in (random.float() * 4 - 2) * (bounded ? 0.25 : 1) + offset }
      return Bytes(positive ? floats.map { abs($0) + 0.25 } : floats)
    }
    let limit = integerLimit
    let numbers = (0..<type.count).map { _ in Int(random.next() % UInt64(limit)) }
    switch type.element.byteWidth {
    case 1: return Bytes(numbers.map { UInt8(truncatingIfNeeded: $0) })
    case 2: return Bytes(numbers.map { UInt16(truncatingIfNeeded: $0) })
    case 4: return Bytes(numbers.map { UInt32(truncatingIfNeeded: $0) })
    default: return Bytes(numbers.map { Int64($0) })
    }
  }

  /// Seeded values of the graph's inputs.
  func values(_ graph: Graph, seed: UInt64) -> [Bytes] {
    var random = SplitMix(seed)
    return graph.inputs.map { value(graph[$0].type, &random) }
  }
}

/// SplitMix64, Steele et al. 2014: small, seeded, the same everywhere.
struct SplitMix {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func float() -> Float { Float(next() >> 40) * 0x1p-24 }
}

private func f(_ shape: Int...) -> TensorType { TensorType(.float32, shape) }
private func i(_ shape: Int...) -> TensorType { TensorType(.int64, shape) }
private func b(_ shape: Int...) -> TensorType { TensorType(.bool, shape) }

/// At least one use of every operator of the registry.
let operatorSamples = firstSamples + transformerSamples + codeSamples + widerSamples

private func grid(
  _ element: DataType, _ scales: [Float], _ zeros: [Int], axis: Int? = nil
) -> CodeGrid {
  do { return try CodeGrid(element: element, scales: scales, zeroPoints: zeros, axis: axis) } catch {
    fatalError("\(error)")
  }
}

private let codeSamples: [OperatorSample] = [
  OperatorSample(QuantizeLinear(grid(.uint8, [0.01], [128])), [f(2, 3, 5)]),
  OperatorSample(QuantizeLinear(grid(.int8, [0.01, 0.02, 0.03], [0, 0, 0], axis: 1)), [f(2, 3, 5)]),
  OperatorSample(QuantizeLinear(grid(.int16, [1e-4], [-300])), [f(7)]),
  OperatorSample(DequantizeLinear(grid(.uint8, [0.01], [128])), [TensorType(.uint8, [2, 3, 5])]),
  OperatorSample(
    DequantizeLinear(grid(.int8, [0.01, 0.02, 0.03], [0, 1, -2], axis: 1)),
    [TensorType(.int8, [2, 3, 5])]),
  OperatorSample(DequantizeLinear(grid(.uint16, [1e-4], [9])), [TensorType(.uint16, [2, 3])]),
  OperatorSample(DequantizeLinear(grid(.int32, [1e-4], [0])), [TensorType(.int32, [2, 3])]),
]

private func gates(_ list: (GateFunction, Float?, Float?)...) -> [Gate] {
  list.map { Gate($0.0, alpha: $0.1, beta: $0.2) }
}

private let widerSamples: [OperatorSample] = [
  OperatorSample(
    Conv3d(padAmount: [1, 1, 0, 1, 1, 0]), [f(1, 4, 5, 6, 3), f(3, 3, 2, 3, 8), f(8)]),
  OperatorSample(
    Conv3d(stride: [2, 1, 1], dilation: [1, 2, 1], group: 2), [f(2, 5, 6, 4, 4), f(2, 2, 3, 2, 6)]),
  OperatorSample(
    TransposeConv3d(stride: [2, 1, 2], padAmount: [1, 0, 0, 1, 0, 0], outputPadding: [1, 0, 0]),
    [f(1, 3, 2, 3, 4), f(2, 3, 2, 4, 5), f(5)]),
  OperatorSample(
    PoolMax3d(filterSize: [2, 3, 2], stride: [1, 2, 1], padAmount: [0, 1, 1, 1, 0, 0]),
    [f(2, 4, 5, 6, 3)]),
  OperatorSample(
    PoolAvg3d(filterSize: [2, 2, 3], stride: [2, 1, 1], padAmount: [0, 0, 1, 0, 1, 1]),
    [f(1, 4, 5, 6, 3)]),
  OperatorSample(
    PoolAvg3d(
      filterSize: [2, 2, 2], stride: [1, 1, 1], padAmount: [1, 0, 0, 1, 0, 0], countPadForEdges: true),
    [f(1, 3, 4, 3, 2)]),
  OperatorSample(
    PoolMaxIndices2d(PoolMax2d(filterSize: [2, 3], stride: [2, 1], padAmount: [1, 0, 1, 1])),
    [f(2, 5, 6, 3)]),
  OperatorSample(
    PoolMaxIndices3d(
      PoolMax3d(filterSize: [2, 2, 2], stride: [1, 2, 1], padAmount: [0, 0, 0, 0, 0, 0]),
      isColumnMajor: true), [f(1, 3, 4, 3, 2)]),
  OperatorSample(Resize(shape: [1, 2, 7, 9], interpolation: .nearest), [f(1, 2, 4, 5)]),
  OperatorSample(
    Resize(shape: [2, 7, 5, 3], interpolation: .linear, transformation: .alignCorners), [f(2, 4, 6, 3)]),
  OperatorSample(
    Resize(
      shape: [1, 3, 4, 2], scales: [1, 0.6, 0.8, 1], interpolation: .cubic, excludeOutside: true),
    [f(1, 5, 6, 2)]),
  OperatorSample(
    Resize(shape: [2, 4, 3], interpolation: .linear, transformation: .halfPixelSymmetric, antialias: true),
    [f(2, 9, 3)]),
  OperatorSample(
    Resize(
      shape: [1, 3, 3, 1], interpolation: .linear, transformation: .cropAndResize,
      crop: [0, 0.25, 0.5, 0, 1, 0.75, 1.25, 1], extrapolationValue: 7), [f(1, 4, 4, 1)]),
  OperatorSample(ResizeBilinear(size: [8, 6], halfPixelCenters: true), [f(2, 4, 3, 5)]),
  OperatorSample(ResizeBilinear(size: [3, 7], alignCorners: true), [f(1, 5, 4, 2)]),
  OperatorSample(ResizeNearestNeighbor(size: [8, 6]), [f(1, 4, 3, 5)]),
  OperatorSample(ResizeNearestNeighbor(size: [3, 5], halfPixelCenters: true), [f(1, 6, 4, 5)]),
  OperatorSample(
    Lstm(hiddenSize: 5), [f(4, 2, 3), f(1, 20, 3), f(1, 20, 5), f(1, 40)], bounded: true),
  OperatorSample(
    Lstm(hiddenSize: 4, direction: .bidirectional, clip: 2, inputForget: true),
    [
      f(5, 2, 3), f(2, 16, 3), f(2, 16, 4), f(2, 32), TensorType(.int32, [2]), f(2, 2, 4), f(2, 2, 4),
      f(2, 12),
    ], integerLimit: 6, bounded: true),
  OperatorSample(Gru(hiddenSize: 6), [f(3, 1, 4), f(1, 18, 4), f(1, 18, 6), f(1, 36)], bounded: true),
  OperatorSample(
    Gru(
      hiddenSize: 3, direction: .reverse, gates: gates((.hardsigmoid, 0.3, 0.4), (.scaledtanh, 0.9, 1.1)),
      linearBeforeReset: true), [f(3, 2, 4), f(1, 9, 4), f(1, 9, 3)], bounded: true),
  OperatorSample(
    Rnn(hiddenSize: 5, gates: gates((.leakyrelu, 0.1, nil))), [f(4, 2, 3), f(1, 5, 3), f(1, 5, 5)],
    bounded: true),
  OperatorSample(DepthToSpace(blockSize: [2, 2]), [f(1, 2, 3, 8)]),
  OperatorSample(DepthToSpace(blockSize: [3, 3], mode: .columnFirst), [f(2, 2, 3, 18)]),
  OperatorSample(SpaceToDepth(blockSize: [2, 2]), [f(2, 4, 6, 3)]),
  OperatorSample(GridSample(), [f(2, 4, 5, 3), f(2, 3, 2, 2)], bounded: true),
  OperatorSample(
    GridSample(mode: .cubic, padding: .reflection, alignCorners: true), [f(1, 4, 5, 2), f(1, 3, 4, 2)]),
  OperatorSample(GridSample(mode: .nearest, padding: .border), [f(1, 3, 4, 3, 2), f(1, 2, 2, 3, 3)]),
  OperatorSample(
    RoiAlign(size: [2, 3], spatialScale: 0.5, samplingRatio: 2),
    [f(2, 6, 5, 3), f(3, 4), TensorType(.int32, [3])], integerLimit: 2),
  OperatorSample(
    RoiAlign(size: [2, 2], halfPixel: false, takesLargest: true),
    [f(1, 6, 5, 2), f(2, 4), TensorType(.int32, [2])], integerLimit: 1),
  OperatorSample(MaxRoiPool(size: [2, 3], spatialScale: 1.5), [f(1, 6, 5, 3), f(3, 5)], bounded: true),
  OperatorSample(Determinant(), [f(2, 3, 4, 4)]),
  OperatorSample(Nv12ToRgb(size: [4, 6]), [f(2, 36)], offset: 128),
  OperatorSample(Nv21ToRgb(size: [2, 4], isReversed: true), [f(1, 12)], offset: 128),
  OperatorSample(ChannelShuffle(axis: 3, groups: 3), [f(1, 2, 3, 12)]),
  OperatorSample(ChannelShuffle(axis: 1, groups: 2), [i(2, 6, 3)]),
  OperatorSample(ElementWiseAdd(), [TensorType(.float64, [2, 3]), TensorType(.float64, [3])]),
  OperatorSample(ReverseSequence(batchAxis: 1, timeAxis: 0), [f(4, 3, 2), i(3)], integerLimit: 5),
  OperatorSample(CumulativeProduct(axis: 1), [f(2, 5, 3)]),
  OperatorSample(CumulativeProduct(axis: 0, exclusive: true, reverse: true), [i(5, 3)]),
  OperatorSample(BitwiseAnd(), [i(3, 4), i(4)], integerLimit: 256),
  OperatorSample(BitwiseOr(), [i(3, 4), i(3, 1)], integerLimit: 256),
  OperatorSample(BitwiseXor(), [TensorType(.uint8, [5]), TensorType(.uint8, [5])], integerLimit: 256),
  OperatorSample(BitwiseNot(), [i(3, 4)], integerLimit: 256),
  OperatorSample(BitShiftLeft(), [TensorType(.uint32, [5]), TensorType(.uint32, [5])]),
  OperatorSample(
    BitShiftRight(), [TensorType(.uint16, [5]), TensorType(.uint16, [5])], integerLimit: 12),
  OperatorSample(BitCast(from: .float32, to: .int32), [f(2, 3)]),
  OperatorSample(BitCast(from: .int64, to: .uint64), [i(2, 3)]),
  OperatorSample(Pad(padAmount: [1, 2, 0, 4], scheme: .wrap), [f(2, 3)]),
]

private let transformerSamples: [OperatorSample] = [
  OperatorSample(LayerNorm(axes: [2], epsilon: 1e-5), [f(2, 3, 32), f(32), f(32)]),
  OperatorSample(LayerNorm(axes: [1, 2], epsilon: 1e-3), [f(2, 3, 5), f(3, 5)]),
  OperatorSample(RmsNorm(axes: [1], epsilon: 1e-5), [f(3, 16), f(16)]),
  OperatorSample(InstanceNorm(epsilon: 1e-5), [f(2, 4, 5, 3), f(3), f(3)]),
  OperatorSample(GroupNorm(epsilon: 1e-5, group: 2), [f(2, 4, 3, 6), f(6), f(6)]),
  OperatorSample(Lrn(alpha: 0.01, beta: 0.75, bias: 1, radius: 2), [f(1, 3, 3, 7)]),
  OperatorSample(Gelu(), [f(3, 20)]),
  OperatorSample(Gelu(.tanh), [f(3, 20)]),
  OperatorSample(Selu(1.67, 1.05), [f(3, 7)]),
  OperatorSample(Celu(2), [f(3, 7)]),
  OperatorSample(ThresholdedRelu(0.5), [f(3, 7)]),
  OperatorSample(Swish(1.5), [f(3, 7)]),
  OperatorSample(Shrink(0.5, 0.25), [f(3, 7)]),
  OperatorSample(Mish(), [f(3, 7)]),
  OperatorSample(ElementWiseErf(), [f(3, 7)]),
  OperatorSample(ElementWiseSign(), [f(3, 7)]),
  OperatorSample(ElementWiseSign(), [i(3, 7)]),
  OperatorSample(ElementWiseTan(), [f(3, 7)]),
  OperatorSample(ElementWiseAsin(), [f(3, 7)], bounded: true),
  OperatorSample(ElementWiseAcos(), [f(3, 7)], bounded: true),
  OperatorSample(ElementWiseAtan(), [f(3, 7)]),
  OperatorSample(ElementWiseSinh(), [f(3, 7)]),
  OperatorSample(ElementWiseCosh(), [f(3, 7)]),
  OperatorSample(ElementWiseAsinh(), [f(3, 7)]),
  OperatorSample(ElementWiseAcosh(), [f(3, 7)], bounded: true, offset: 2),
  OperatorSample(ElementWiseAtanh(), [f(3, 7)], bounded: true),
  OperatorSample(ElementWiseSoftplus(), [f(3, 7)]),
  OperatorSample(ElementWiseSoftsign(), [f(3, 7)]),
  OperatorSample(ElementWiseEqual(), [i(3, 4), i(4)]),
  OperatorSample(ElementWiseEqual(), [b(3, 4), b(3, 1)]),
  OperatorSample(ElementWiseLess(), [f(3, 4), f(4)]),
  OperatorSample(ElementWiseLessEqual(), [i(3, 4), i(4)]),
  OperatorSample(ElementWiseGreater(), [f(3, 4), f(3, 1)]),
  OperatorSample(ElementWiseGreaterEqual(), [i(3, 4), i()]),
  OperatorSample(ElementWiseAnd(), [b(3, 4), b(4)]),
  OperatorSample(ElementWiseOr(), [b(3, 4), b(3, 1)]),
  OperatorSample(ElementWiseXor(), [b(3, 4), b(3, 4)]),
  OperatorSample(ElementWiseNot(), [b(3, 4)]),
  OperatorSample(ElementWiseSelect(), [b(1, 4), f(3, 4), f()]),
  OperatorSample(ElementWiseSelect(), [b(2, 3, 1), i(4), i(2, 1, 4)]),
  OperatorSample(ElementWiseMod(), [f(3, 4), f(4)], positive: true),
  OperatorSample(ElementWiseFmod(), [f(3, 4), f(4)], positive: true),
  OperatorSample(ReduceProd(axes: [1], keepDims: true), [f(2, 3, 4)]),
  OperatorSample(Argmax(axis: 1, keepDims: true), [f(2, 5, 3)]),
  OperatorSample(Argmin(axis: 0, keepDims: false, selectLastIndex: true), [i(5, 3)]),
  OperatorSample(TopK(k: 2, axis: 1), [f(2, 5, 3)]),
  OperatorSample(TopK(k: 3, axis: 1, largest: false), [i(2, 5)]),
  OperatorSample(OneHot(depth: 4, axis: 1, onValue: 2, offValue: -1, to: .float32), [i(2, 3)]),
  OperatorSample(OneHot(depth: 3, axis: 2, onValue: 1, offValue: 0, to: .bool), [i(2, 3)]),
  OperatorSample(TransposeConv2d(stride: [2, 2]), [f(1, 4, 3, 5), f(3, 2, 5, 6), f(6)]),
  OperatorSample(
    TransposeConv2d(
      stride: [2, 1], padAmount: [1, 0, 0, 1], dilation: [1, 2], outputPadding: [1, 0], group: 2),
    [f(2, 4, 3, 4), f(3, 2, 2, 6)]),
  OperatorSample(GatherElements(axis: 1), [f(3, 4), i(2, 5)]),
  OperatorSample(GatherNd(), [f(4, 4, 3), i(2, 2)]),
  OperatorSample(GatherNd(batchDims: 1), [f(2, 4, 3), i(2, 5, 1)]),
  OperatorSample(ScatterElements(axis: 0), [f(4, 3), i(2, 3), f(2, 3)]),
  OperatorSample(ScatterElements(axis: 1, reduction: .add), [i(2, 4), i(2, 6), i(2, 6)]),
  OperatorSample(ScatterNd(), [f(4, 3), i(2, 1), f(2, 3)]),
  OperatorSample(ScatterNd(reduction: .max), [f(4, 4, 2), i(3, 2), f(3, 2)]),
  OperatorSample(ElementWiseIsNaN(), [f(3, 4)]),
  OperatorSample(CumulativeSum(axis: 1), [f(2, 5, 3)]),
  OperatorSample(CumulativeSum(axis: 0, exclusive: true, reverse: true), [i(5, 3)]),
  OperatorSample(RmsNorm(axes: [1, 2], epsilon: 1e-5), [f(3, 3, 5), f(3, 5), f(3, 5)]),
  OperatorSample(Expand(shape: [2, 3, 4, 5]), [f(2, 1, 4, 1)]),
  OperatorSample(Concat(axis: 2), [f(2, 3, 1), f(2, 3, 2)]),
]

private let firstSamples: [OperatorSample] = [
  OperatorSample(Conv2d(padAmount: [1, 1, 1, 1]), [f(1, 7, 6, 3), f(3, 3, 3, 8), f(8)]),
  OperatorSample(
    Conv2d(stride: [2, 1], padAmount: [0, 1, 2, 0], dilation: [1, 2]),
    [f(2, 9, 8, 4), f(3, 2, 4, 5)]),
  OperatorSample(Conv2d(group: 2), [f(1, 5, 5, 6), f(3, 3, 3, 8), f(8)]),
  OperatorSample(
    DepthWiseConv2d(stride: [2, 2], padAmount: [0, 1, 0, 1]), [f(1, 8, 8, 16), f(3, 3, 1, 16), f(16)]),
  OperatorSample(DepthWiseConv2d(), [f(1, 5, 4, 3), f(2, 2, 1, 6)]),
  OperatorSample(FullyConnected(), [f(3, 20), f(7, 20), f(7)]),
  OperatorSample(FullyConnected(), [f(1, 5), f(2, 5)]),
  OperatorSample(MatMul(), [f(4, 5), f(5, 6)]),
  OperatorSample(MatMul(transposeIn1: true), [f(2, 3, 4, 5), f(3, 6, 5)]),
  OperatorSample(MatMul(transposeIn0: true), [f(2, 5, 4), f(2, 5, 6), f(6)]),
  OperatorSample(Batchnorm(), [f(2, 3, 4, 5), f(5), f(5)]),
  OperatorSample(
    PoolMax2d(filterSize: [3, 2], stride: [2, 1], padAmount: [1, 1, 0, 1]), [f(1, 7, 6, 5)]),
  OperatorSample(
    PoolMax2d(filterSize: [2, 2], stride: [1, 1], padAmount: [0, 0, 0, 0], dilation: [2, 2]),
    [f(1, 6, 6, 3)]),
  OperatorSample(
    PoolAvg2d(filterSize: [3, 3], stride: [2, 2], padAmount: [1, 1, 1, 1]), [f(1, 7, 7, 4)]),
  OperatorSample(
    PoolAvg2d(
      filterSize: [3, 3], stride: [2, 2], padAmount: [1, 1, 1, 1], countPadForEdges: true),
    [f(1, 7, 7, 4)]),
  OperatorSample(
    PoolAvg2d(filterSize: [7, 5], stride: [1, 1], padAmount: [0, 0, 0, 0]), [f(1, 7, 5, 9)]),
  OperatorSample(Relu(), [f(2, 17)]),
  OperatorSample(ReluMinMax(minValue: -0.5, maxValue: 1), [f(3, 11)]),
  OperatorSample(LeakyRelu(alpha: 0.1), [f(2, 9)]),
  OperatorSample(Prelu(), [f(1, 3, 4, 5), f(5)]),
  OperatorSample(HardSwish(), [f(40)]),
  OperatorSample(Elu(alpha: 0.7), [f(20)]),
  OperatorSample(HardSigmoid(alpha: 0.2, beta: 0.5), [f(20)]),
  OperatorSample(Softmax(axis: 1), [f(2, 10)]),
  OperatorSample(Softmax(axis: 1, beta: 2), [f(2, 5, 3)]),
  OperatorSample(LogSoftmax(axis: 2), [f(2, 3, 6)]),
  OperatorSample(ElementWiseExp(), [f(3, 4)]),
  OperatorSample(ElementWiseLog(), [f(3, 4)], positive: true),
  OperatorSample(ElementWiseNeg(), [f(5)]),
  OperatorSample(ElementWiseNeg(), [i(5)]),
  OperatorSample(ElementWiseAbs(), [f(5, 2)]),
  OperatorSample(ElementWiseSquareRoot(), [f(6)], positive: true),
  OperatorSample(ElementWiseRsqrt(), [f(6)], positive: true),
  OperatorSample(ElementWiseReciprocal(), [f(6)], positive: true),
  OperatorSample(ElementWiseFloor(), [f(9)]),
  OperatorSample(ElementWiseCeil(), [f(9)]),
  OperatorSample(ElementWiseRound(), [f(9)]),
  OperatorSample(ElementWiseSin(), [f(9)]),
  OperatorSample(ElementWiseCos(), [f(9)]),
  OperatorSample(Sigmoid(), [f(3, 9)]),
  OperatorSample(Tanh(), [f(3, 9)]),
  OperatorSample(ElementWiseAdd(), [f(2, 3, 4), f(2, 3, 4)]),
  OperatorSample(ElementWiseAdd(), [f(2, 3, 4), f(4)]),
  OperatorSample(ElementWiseAdd(), [i(3), i(3)]),
  OperatorSample(ElementWiseSubtract(), [f(2, 1, 4), f(3, 1)]),
  OperatorSample(ElementWiseMultiply(), [f(), f(3, 2)]),
  OperatorSample(ElementWiseMultiply(), [f(1, 4, 4, 6), f(1, 1, 1, 6)]),
  OperatorSample(ElementWiseDivide(), [f(5, 2), f(5, 2)], positive: true),
  OperatorSample(ElementWiseMaximum(), [f(5, 2), f(2)]),
  OperatorSample(ElementWiseMinimum(), [f(5, 2), f(5, 1)]),
  OperatorSample(ElementWisePower(), [f(4, 2), f(2)], positive: true),
  OperatorSample(ReduceMean(axes: [1, 2], keepDims: true), [f(2, 4, 5, 3)]),
  OperatorSample(ReduceMean(axes: [0], keepDims: false), [f(4, 3)]),
  OperatorSample(ReduceSum(axes: [2], keepDims: false), [f(2, 3, 4)]),
  OperatorSample(ReduceMax(axes: [1], keepDims: true), [f(2, 3, 4)]),
  OperatorSample(ReduceMin(axes: [0, 1], keepDims: false), [f(2, 3)]),
  OperatorSample(Reshape(shape: [3, 8]), [f(2, 3, 4)]),
  OperatorSample(Transpose(perm: [0, 3, 1, 2]), [f(1, 4, 5, 3)]),
  OperatorSample(Transpose(perm: [2, 0, 1]), [i(2, 3, 4)]),
  OperatorSample(Expand(shape: [2, 3, 4]), [f(3, 1)]),
  OperatorSample(Tile(multiples: [2, 3]), [f(2, 3)]),
  OperatorSample(Concat(axis: 1), [f(2, 3, 2), f(2, 1, 2), f(2, 4, 2)]),
  OperatorSample(Concat(axis: 3), [f(1, 2, 2, 3), f(1, 2, 2, 5)]),
  OperatorSample(Split(axis: 1, sizes: [2, 3]), [f(2, 5, 2)]),
  OperatorSample(
    StridedSlice(begin: [0, 3, 1], size: [2, 2, 2], step: [1, -2, 2]), [f(2, 4, 5)]),
  OperatorSample(StridedSlice(begin: [1, 0], size: [2, 4], step: [1, 1]), [f(4, 4)]),
  OperatorSample(Gather(axis: 1), [f(2, 4, 3), i(2, 2)]),
  OperatorSample(Pad(padAmount: [0, 0, 1, 2, 0, 1], value: 0.5), [f(2, 3, 2)]),
  OperatorSample(Pad(padAmount: [1, 1, 2, 2], scheme: .reflect), [f(3, 4)]),
  OperatorSample(Pad(padAmount: [1, 0, 0, 3], scheme: .edge), [f(3, 4)]),
  OperatorSample(Cast(to: .int32), [f(7)]),
  OperatorSample(Cast(to: .float32), [i(7)]),
  OperatorSample(Convert(), [f(2, 3)]),
  OperatorSample(Quantize(), [f(2, 3)]),
  OperatorSample(Dequantize(), [f(2, 3)]),
]
