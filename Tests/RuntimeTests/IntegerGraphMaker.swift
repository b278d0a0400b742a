import IR
import Operators

/// Builds small quantized graphs with random geometry, grids and codes, a seed each.
struct IntegerGraphMaker {
  private var maker = NetworkMaker()
  private var random: Random
  /// Whether scales are powers of two, which makes many ties.
  private let hasTies: Bool
  /// How many of 100 activations have 16 bits.
  private let wide: Int

  init(seed: Int, wide: Int = 0) {
    self.wide = wide
    random = Random(UInt64(seed))
    maker.random = Random(UInt64(seed) &+ 99)
    hasTies = seed % 3 == 0
  }

  private mutating func pick(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + Int(random.next() % UInt64(range.count))
  }
  private mutating func chance(_ percent: Int) -> Bool { pick(0...99) < percent }

  /// A sample that reaches beyond the input's range, or stays within `steps` of the zero point.
  static func sample(_ graph: Graph, seed: Int, steps: Int? = nil) -> [Bytes] {
    var random = Random(UInt64(seed) &+ 12345)
    return graph.inputs.map { id in
      let type = graph[id].type.logical
      guard let encoding = graph[id].encoding else { return Bytes(random.floats(type.count)) }
      let (low, high) = (Float(encoding.minimum()), Float(encoding.maximum()))
      if let steps {
        return Bytes(
          (0..<type.count).map { _ in
            Float(Int(random.next() % UInt64(2 * steps + 1)) - steps) * encoding.channels[0].scale
          })
      }
      return Bytes(random.floats(type.count).map { (low + high) / 2 + (high - low) * 0.52 * $0 })
    }
  }

  // MARK: Grids

  private mutating func scale(around value: Float) -> Float {
    if hasTies { return value.binade }
    return value * (1.3 + 0.3 * random.float())
  }

  /// An activation's grid: zero at the start, in the middle (signed storage) or anywhere; 4 bits at times.
  private mutating func activation(_ scale: Float) -> Encoding {
    if wide > 0, chance(wide) {
      let kind = pick(0...3)
      let offset = [0, -32768, -65535, -pick(0...65535)][kind]
      return Encoding(
        bitwidth: kind == 3 && chance(20) ? 12 : 16, symmetric: kind == 1,
        channels: [ScaleOffset(scale: scale / 256, offset: Int32(offset))], codeMin: kind == 1 && chance(50) ? 1 : 0)
    }
    switch pick(0...5) {
    case 0, 1: return Encoding(bitwidth: 8, channels: [ScaleOffset(scale: scale, offset: 0)])
    case 2: return Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: scale, offset: -128)])
    case 3:
      return Encoding(
        bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: scale, offset: -128)], codeMin: 1)
    case 4 where chance(30):
      return Encoding(
        bitwidth: 4, channels: [ScaleOffset(scale: scale * 16, offset: Int32(-pick(0...15)))])
    default:
      return Encoding(bitwidth: 8, channels: [ScaleOffset(scale: scale, offset: Int32(-pick(0...255)))])
    }
  }

  private mutating func quantize(_ id: TensorID, _ encoding: Encoding) {
    maker.graph[id].encoding = encoding
    maker.graph[id].state = .given
  }

  private mutating func input(_ shape: [Int]) -> TensorID {
    let id = maker.input(shape)
    let step = scale(around: 0.02)
    quantize(id, activation(step))
    return id
  }

  /// A weight of fixed point: symmetric a tensor or a channel, asymmetric, 4 bits, or codes near the ends.
  private mutating func weight(_ shape: [Int], axis: Int) -> TensorID {
    let kind = pick(0...5)
    let (bits, isSymmetric) = (kind == 0 ? 4 : 8, kind != 1)
    let count = kind >= 3 ? shape[axis] : 1
    var channels: [ScaleOffset] = []
    for _ in 0..<count {
      let step = scale(around: 0.01)
      let offset = isSymmetric ? -(1 << (bits - 1)) : -pick(0...255)
      channels.append(ScaleOffset(scale: step, offset: Int32(offset)))
    }
    let encoding = Encoding(
      bitwidth: bits, symmetric: isSymmetric, axis: count > 1 ? axis : nil, channels: channels)
    let isExtreme = chance(20)
    let (low, high) = isSymmetric ? (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) : (0, 255)
    let codes = (0..<shape.reduce(1, *)).map { _ in
      UInt8(truncatingIfNeeded: isExtreme ? high - pick(0...2) : pick(low...high))
    }
    let type = TensorType(encoding.storage, shape)
    let constant = Constant(type: type, bytes: Bytes(codes))
    let id = maker.graph.add(
      Tensor(name: "weight\(maker.graph.tensors.count)", type: type, constant: constant))
    quantize(id, encoding)
    return id
  }

  /// A bias of 32 bits at the product of the scales, of 8 bits on a grid of its own, or none.
  private mutating func bias(_ x: TensorID, _ w: TensorID, _ channels: Int) -> TensorID? {
    guard let input = maker.graph[x].encoding, let weight = maker.graph[w].encoding else { return nil }
    let kind = pick(0...3)
    if kind == 0 { return nil }
    let encoding: Encoding
    let bytes: Bytes
    if kind == 1 {
      encoding = Encoding(
        bitwidth: 8, channels: [ScaleOffset(scale: scale(around: 0.05), offset: Int32(-pick(0...255)))])
      bytes = Bytes((0..<channels).map { _ in UInt8(pick(0...255)) })
    } else {
      encoding = Encoding(
        bitwidth: 32, symmetric: true, axis: weight.axis == nil ? nil : 0,
        channels: weight.channels.map {
          ScaleOffset(scale: $0.scale * input.channels[0].scale, offset: .min)
        })
      bytes = Bytes((0..<channels).map { _ in Int32(pick(-20000...20000)) })
    }
    let type = TensorType(encoding.storage, [channels])
    let id = maker.graph.add(
      Tensor(
        name: "bias\(maker.graph.tensors.count)", type: type, constant: Constant(type: type, bytes: bytes)))
    quantize(id, encoding)
    return id
  }

  /// Puts an activation behind a node at times, gives the result its grid and makes it the output.
  private mutating func finish(_ x: TensorID, depth: Int, curves: Bool) -> Graph {
    var y = x
    let spread: Float = 0.02 * 0.01 * Float(depth).squareRoot() * 60
    func add(_ op: any Operator, _ inputs: TensorID?...) -> TensorID {
      (try? maker.nodes(op, inputs)[0]) ?? y
    }
    switch pick(0...(curves ? 7 : 4)) {
    case 0, 1: y = add(Relu(), y)
    case 2: y = add(ReluMinMax(minValue: 0, maxValue: spread * 100), y)
    case 3: y = add(ReluMinMax(minValue: -spread * 30, maxValue: .infinity), y)
    case 5: y = add(LeakyRelu(alpha: 0.1), y)
    case 6: y = add(HardSwish(), y)
    case 7 where chance(50): y = add(Prelu(), y, slopes(y))
    case 7:
      y = add(Relu(), y)
      y = add(ElementWiseMinimum(), y, slopes(y))
    default: break
    }
    let step = scale(around: spread)
    quantize(y, activation(step))
    maker.graph.outputs = [y]
    return maker.graph
  }

  /// A parameter with 8 bits of its own.
  private mutating func parameter(_ shape: [Int]) -> TensorID {
    let id = maker.constant(shape, scale: 1)
    quantize(id, Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.008, offset: -126)]))
    return id
  }

  private mutating func slopes(_ y: TensorID) -> TensorID {
    let channels = maker.graph[y].type.shape.last ?? 1
    let id = maker.constant([channels], scale: 1)
    quantize(id, Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 0.008, offset: -126)]))
    return id
  }

  // MARK: Graphs

  mutating func convolution() -> Graph {
    let (group, isDepthwise) = (chance(30) ? pick(2...4) : 1, chance(35))
    let multiplier = chance(20) ? 2 : 1
    let channels = isDepthwise ? pick(1...40) : group * pick(1...24)
    let filters = isDepthwise ? channels * multiplier : group * pick(1...24)
    let kernel = [pick(1...4), pick(1...3)]
    let dilation = [chance(25) ? 2 : 1, chance(25) ? 2 : 1]
    let pads = (0..<4).map { _ in chance(60) ? pick(0...2) : 0 }
    let x = input([pick(1...2), pick(7...13), pick(7...13), channels])
    let depth = kernel[0] * kernel[1] * (isDepthwise ? 1 : channels / group)
    let w = weight(kernel + [isDepthwise ? 1 : channels / group, filters], axis: 3)
    let b = bias(x, w, filters)
    let stride = [pick(1...3), pick(1...2)]
    let op: any Operator =
      isDepthwise
      ? DepthWiseConv2d(stride: stride, padAmount: pads, dilation: dilation)
      : Conv2d(stride: stride, padAmount: pads, dilation: dilation, group: group)
    guard let y = try? maker.nodes(op, [x, w, b])[0] else { return maker.graph }
    return finish(y, depth: depth, curves: true)
  }

  /// Many channels, as far from zero as codes go.
  mutating func deepConvolution() -> Graph {
    let (channels, filters, kernel) = (pick(300...700), pick(1...20), pick(1...2))
    let x = input([1, 4, pick(3...5), channels])
    let w = weight([kernel, kernel, channels, filters], axis: 3)
    let y = try? maker.nodes(Conv2d(padAmount: [0, pick(0...1), 0, 0]), [x, w, bias(x, w, filters)])[0]
    return finish(y ?? x, depth: kernel * kernel * channels * 16, curves: true)
  }

  /// A convolution, or a product of several rows, that is computed in tiles where the processor has what they take.
  mutating func tiles() -> Graph {
    let (channels, filters) = ([3, 4, 17, 32, 64, 128][pick(0...5)], [30, 32, 60, 64, 96][pick(0...4)])
    if chance(30) {
      // Rows of 4096 bytes lie in the same set of the cache: they are copied first.
      let depth = chance(50) ? 4096 : channels
      let x = input([pick(7...30), depth])
      let w = weight([depth, 32], axis: 1)
      guard let y = try? maker.nodes(MatMul(), [x, w, bias(x, w, 32)])[0] else { return maker.graph }
      return finish(y, depth: depth, curves: false)
    }
    let kernel = chance(40) ? [1, 1] : [pick(1...4), pick(1...7)]
    let isPadded = chance(70)
    let pads = (0..<4).map { _ in isPadded ? pick(0...3) : 0 }
    let x = input([pick(1...2), pick(7...15), pick(8...29), channels])
    let w = weight(kernel + [channels, filters], axis: 3)
    let b = bias(x, w, filters)
    let op = Conv2d(
      stride: [pick(1...2), pick(1...2)], padAmount: pads, dilation: [chance(20) ? 2 : 1, chance(20) ? 2 : 1])
    guard let y = try? maker.nodes(op, [x, w, b])[0] else { return maker.graph }
    return finish(y, depth: kernel[0] * kernel[1] * channels, curves: chance(30))
  }

  /// A form of accumulation.
  enum LargeSums: CaseIterable {
    case convolution, grouped, depthwise, transposed, product
    /// Weights so large and many that no split keeps the sums of both parts below 2^24.
    case unsplittable
  }

  /// Sums of codes times weights beyond 2^24, of which the zero point's share leaves a few output steps for inputs
  /// near zero: a sum that is off by one shows.
  mutating func largeSums(_ form: LargeSums) -> Graph {
    let (shape, window, filters, isLargest): ([Int], [Int], Int, Bool) =
      switch form {
      case .convolution: ([1, 6, 9, 160], [3, 3, 160], 40, false)
      case .grouped: ([1, 6, 9, 320], [3, 3, 160], 40, false)
      case .depthwise: ([1, 28, 40, 8], [26, 28, 1], 8, false)
      case .transposed: ([1, 6, 7, 160], [3, 3, 160], 24, false)
      case .product: ([30, 1500], [1500], 40, false)
      case .unsplittable: ([1, 2, 2, 1200], [2, 2, 1200], 8, true)
      }
    let op: any Operator =
      switch form {
      case .convolution: Conv2d(padAmount: [1, 1, 1, 1])
      case .grouped: Conv2d(group: 2)
      case .depthwise: DepthWiseConv2d()
      case .transposed, .unsplittable: TransposeConv2d(stride: [1, 1], padAmount: [1, 1, 1, 1])
      case .product: MatMul()
      }
    let x = maker.input(shape)
    quantize(x, Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 1, offset: -200)]))
    let encoding = Encoding(bitwidth: 8, symmetric: true, channels: [ScaleOffset(scale: 1, offset: -128)])
    let type = TensorType(encoding.storage, window + [filters])
    let codes = (0..<type.count).map { _ in Int8(isLargest ? 127 : pick(120...127)) }
    let w = maker.graph.add(
      Tensor(name: "weight", type: type, constant: Constant(type: type, bytes: Bytes(codes))))
    quantize(w, encoding)
    guard let y = try? maker.nodes(op, [x, w, nil])[0] else { return maker.graph }
    quantize(y, Encoding(bitwidth: 8, channels: [ScaleOffset(scale: 30, offset: -128)]))
    maker.graph.outputs = [y]
    return maker.graph
  }

  mutating func product() -> Graph {
    let (rows, depth, columns) = (pick(1...9), chance(30) ? pick(500...1400) : pick(1...90), pick(1...70))
    let isLayer = chance(50)
    let x = input(isLayer || chance(50) ? [rows, depth] : [2, rows, depth])
    let isTurned = isLayer || chance(50)
    let w = weight(isTurned ? [columns, depth] : [depth, columns], axis: isTurned ? 0 : 1)
    let b = bias(x, w, columns)
    let op: any Operator =
      isLayer ? FullyConnected() : MatMul(transposeIn0: false, transposeIn1: isTurned)
    let inputs = isLayer && maker.graph[x].type.rank != 2 ? [] : [x, w, b]
    guard let y = try? maker.nodes(op, inputs)[0] else { return maker.graph }
    return finish(y, depth: depth, curves: false)
  }

  mutating func transposedConvolution() -> Graph {
    let group = chance(30) ? 2 : 1
    let (channels, filters) = (group * pick(1...12), group * pick(1...12))
    let kernel = [pick(2...4), pick(2...4)]
    let x = input([pick(1...2), pick(3...7), pick(3...7), channels])
    let w = weight(kernel + [channels / group, filters], axis: 3)
    let b = bias(x, w, filters)
    let op = TransposeConv2d(
      stride: [pick(1...3), pick(1...2)], padAmount: (0..<4).map { _ in pick(0...1) },
      dilation: [1, chance(20) ? 2 : 1], group: group)
    guard let y = try? maker.nodes(op, [x, w, b])[0] else { return maker.graph }
    return finish(y, depth: kernel[0] * kernel[1] * channels / group, curves: true)
  }

  /// What has a form for 16 bits besides sums; `kind` goes round.
  mutating func wideOther(_ kind: Int) -> Graph { other([0, 1, 2, 3, 4, 5, 6, 12, 13, 17, 18, 19, 20, 29][kind % 14]) }

  /// Everything else; `kind` goes round.
  mutating func other(_ kind: Int) -> Graph {
    let x = input([2, pick(4...8), pick(4...8), 4 * pick(1...9)])
    let shape = maker.graph[x].type.shape
    let inside = maker.graph[x].encoding
    var isTied = false
    let op: any Operator
    var more: [TensorID?] = []
    switch kind % 30 {
    case 0, 1:
      op = ElementWiseAdd()
      more = [input(kind % 2 == 0 ? shape : [shape[3]])]
    case 2: (op, more) = (ElementWiseSubtract(), [input([1, shape[1], 1, shape[3]])])
    case 3, 4: (op, more) = (ElementWiseMultiply(), [input(kind % 2 == 0 ? shape : [2, 1, 1, shape[3]])])
    case 5: op = Sigmoid()
    case 6: op = chance(50) ? HardSwish() : Gelu(.none)
    case 7:
      op = PoolMax2d(
        filterSize: [3, 2], stride: chance(50) ? [2, 1] : [1, 2], padAmount: [1, 0, 1, chance(50) ? 0 : 1])
      isTied = chance(50)
    case 8:
      op = PoolAvg2d(filterSize: [3, 3], stride: [2, 1], padAmount: [1, 1, 0, 1], countPadForEdges: chance(50))
    case 9: op = ReduceMean(axes: [1, 2], keepDims: chance(50))
    case 10: op = chance(50) ? ReduceSum(axes: [3], keepDims: true) : ReduceMean(axes: [0], keepDims: true)
    case 11: op = Softmax(axis: chance(50) ? 3 : 1)
    case 12:
      op = Transpose(perm: [0, 3, 1, 2])
      isTied = true
    case 13:
      op = Pad(padAmount: [0, 0, 1, 2, 0, 1, 0, 0], scheme: chance(50) ? .constant : .edge)
      isTied = true
    case 14: (op, more) = (Concat(axis: 3), [input(shape)])
    case 15:
      op = StridedSlice(begin: [0, 3, 0, 1], size: [2, 2, shape[2], 3], step: [1, -2, 1, 1])
      isTied = chance(50)
    case 16:
      let (isNearest, columns) = (chance(40), chance(30) ? shape[2] : shape[2] * 3)
      let kind: Interpolation = isNearest ? .nearest : chance(70) ? .linear : .cubic
      op = Resize(
        shape: [2, chance(20) ? shape[1] : shape[1] + 5, columns, shape[3]], interpolation: kind,
        antialias: !isNearest && chance(20))
      isTied = isNearest && chance(50)
    case 17:
      op = DepthToSpace(blockSize: [2, 2], mode: chance(50) ? .depthFirst : .columnFirst)
      isTied = true
    case 18: op = Convert()
    case 19: (op, more) = (ElementWiseDivide(), [input([1, 1, 1, shape[3]])])
    case 20: (op, more) = (chance(50) ? ElementWiseMaximum() : ElementWiseMinimum(), [input(shape)])
    case 21: (op, more) = (LayerNorm(axes: [3], epsilon: 1e-5), [parameter([shape[3]]), parameter([shape[3]])])
    case 22: (op, more) = (RmsNorm(axes: [2, 3], epsilon: 1e-3), [parameter([shape[2], shape[3]])])
    case 23:
      let factor = chance(50) ? [2, 1, pick(1...90), shape[3]] : [pick(1...9), shape[3]]
      (op, more) = (MatMul(transposeIn1: true), [input(factor)])
    case 24: (op, more) = (MatMul(), [input([1, shape[1], shape[3], pick(1...150)])])
    case 25:
      let isNearest = chance(50)
      op =
        isNearest
        ? ResizeNearestNeighbor(size: [shape[1] * 2, shape[2] + 3])
        : ResizeBilinear(size: [shape[1] * 2, shape[2] - 1], alignCorners: chance(50))
      isTied = isNearest && chance(50)
    case 28: op = LogSoftmax(axis: chance(50) ? 3 : 1)
    case 26: (op, more) = (Batchnorm(), [parameter([shape[3]]), parameter([shape[3]])])
    case 27:
      op =
        chance(50)
        ? Reduce<MaxReduction>(axes: [1, 2], keepDims: false) : Reduce<MinReduction>(axes: [3], keepDims: true)
      isTied = chance(50)
    default:
      op = Expand(shape: [3] + shape)
      isTied = true
    }
    guard let y = try? maker.nodes(op, [x] + more)[0] else { return maker.graph }
    if op is ElementWiseAdd { return finish(y, depth: 40000, curves: false) }
    if op is MatMul { return finish(y, depth: shape[3] * 4, curves: false) }
    let step: Float = op is Softmax || op is Sigmoid ? 0x1p-8 : scale(around: 0.02)
    quantize(y, isTied ? inside ?? activation(step) : activation(step))
    maker.graph.outputs = [y]
    return maker.graph
  }
}
