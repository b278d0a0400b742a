import IR
import Operators
import Runtime

extension NetworkMaker {
  /// Chains of element-wise functions with operands of every layout, on either side.
  static func chains() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([2, 5, 7, 20])
    let other = maker.input([2, 5, 7, 20])
    let gate = maker.input([1, 1, 1, 20])
    // A value a channel, twice, then all elements.
    var y = try maker.add(Batchnorm(), x, maker.constant([20]), maker.constant([20]))
    y = try maker.add(ElementWiseMultiply(), maker.constant([1, 1, 1, 20]), y)
    y = try maker.add(ElementWiseSubtract(), maker.constant([20]), y)
    y = try maker.add(ElementWiseAdd(), y, other)
    y = try maker.add(LeakyRelu(alpha: 0.2), y)
    y = try maker.add(ElementWiseMultiply(), y, gate)
    let fork = try maker.add(ElementWiseMaximum(), maker.constant([0.1], []), y)
    // A value a row; a reader more in front of it.
    let mean = try maker.add(ReduceMean(axes: [3], keepDims: true), fork)
    y = try maker.add(ElementWiseSubtract(), fork, mean)
    let square = try maker.add(ElementWiseMultiply(), y, y)
    let variance = try maker.add(ReduceMean(axes: [3], keepDims: true), square)
    let root = try maker.add(
      ElementWiseRsqrt(), maker.add(ElementWiseAdd(), variance, maker.constant([0.01], [1])))
    y = try maker.add(ElementWiseMultiply(), y, root)
    y = try maker.add(ElementWiseNeg(), maker.add(ReluMinMax(minValue: -0.5, maxValue: 0.75), y))
    y = try maker.add(Prelu(), maker.add(HardSigmoid(alpha: 0.2, beta: 0.5), y), maker.constant([20]))
    // Operands that no chain reads: broadcast on both sides, in the middle.
    let middle = try maker.add(ElementWiseAdd(), y, maker.constant([5, 1, 20]))
    let low = try maker.add(ElementWiseMinimum(), middle, maker.constant([2, 5, 1, 1]))
    let wide = try maker.add(
      ElementWiseDivide(), maker.constant([2], []),
      maker.add(ReluMinMax(minValue: 0.25, maxValue: 3), maker.add(ElementWiseAbs(), maker.add(Relu(), low))))
    // Choices by a mask a row of a matrix, by one a channel, by one a row, by all.
    var chosen = wide
    for shape in [[7, 20], [20], [2, 5, 7, 1], [2, 5, 7, 20]] {
      let truth = try maker.add(ElementWiseLess(), maker.constant(shape), maker.constant([0], []))
      let other = shape.count == 1 ? middle : maker.constant([-1], [])
      chosen = try maker.add(ElementWiseSelect(), truth, chosen, shape == [2, 5, 7, 1] ? maker.constant([20]) : other)
    }
    maker.graph.outputs = [try maker.add(ElementWiseMinimum(), maker.constant([9], []), chosen), middle]
    return maker
  }

  /// Functions behind convolutions and matrix products; constants a channel.
  static func curves() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([1, 9, 9, 8])
    let functions: [any Operator] = [
      Sigmoid(), Tanh(), Gelu(.none), Gelu(.tanh), Swish(1), Elu(alpha: 0.7),
      HardSwish(), LeakyRelu(alpha: 0.3), Mish(),
    ]
    var y = x
    for (index, function) in functions.enumerated() {
      y = try maker.add(
        function, index % 3 == 2 ? maker.depthwise(y) : maker.conv(y, 24, kernel: index % 2 == 0 ? 3 : 1))
    }
    // x * sigmoid(x) with nobody else, and with somebody else, who reads x.
    y = try maker.conv(y, 24)
    y = try maker.add(ElementWiseMultiply(), maker.add(Sigmoid(), y), y)
    y = try maker.conv(y, 24, kernel: 1)
    let gated = try maker.add(ElementWiseMultiply(), y, maker.add(Sigmoid(), y))
    y = try maker.add(ElementWiseAdd(), gated, y)
    // As equalization leaves a clamp: an upper bound of each channel.
    y = try maker.add(Relu(), maker.conv(y, 24))
    y = try maker.add(ElementWiseMinimum(), y, maker.constant([24]))
    y = try maker.add(ElementWiseMultiply(), maker.conv(y, 16, kernel: 1), maker.constant([16]))
    y = try maker.add(ElementWiseAdd(), maker.constant([1, 1, 1, 16]), y)
    y = try maker.add(ElementWiseMultiply(), maker.conv(y, 16, kernel: 1), maker.constant([0.5], []))
    let flat = try maker.add(Reshape(shape: [81, 16]), y)
    let product = try maker.add(FullyConnected(), flat, maker.constant([32, 16]), maker.constant([32]))
    let bent = try maker.add(Gelu(.none), product)
    let scaled = try maker.add(
      ElementWiseMultiply(), maker.add(MatMul(), bent, maker.constant([32, 16])), maker.constant([16]))
    let sum = try maker.add(ElementWiseAdd(), scaled, flat)
    maker.graph.outputs = [try maker.add(Tanh(), sum)]
    return maker
  }

  /// Convolutions of few channels, with channels first and last, and what may stand behind them.
  static func planes() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let image = maker.input([2, 3, 37, 45])
    let pixels = try maker.add(Transpose(perm: [0, 2, 3, 1]), image)
    let first = try maker.add(ReluMinMax(minValue: 0, maxValue: 6), maker.conv(pixels, 8, stride: 2))
    var y = try maker.add(Relu(), maker.depthwise(first))
    y = try maker.add(ElementWiseMinimum(), y, maker.constant([8]))
    y = try maker.add(Sigmoid(), maker.depthwise(y))
    let plane = maker.input([1, 1, 20, 70])
    let turned = try maker.add(Transpose(perm: [0, 2, 3, 1]), plane)
    let z = try maker.add(LeakyRelu(alpha: 0.1), maker.conv(turned, 5, kernel: 5))
    let w = try maker.add(ElementWiseMultiply(), maker.depthwise(turned), maker.constant([0.5], []))
    // Windows that hang over the end, and steps of three.
    let odd = try maker.add(
      Conv2d(stride: [3, 1], padAmount: [0, 2, 3, 0]), turned, maker.constant([4, 2, 1, 7]))
    maker.graph.outputs = [y, z, w, odd]
    return maker
  }

  /// Normalization over neighbouring channels, over images, over groups of channels.
  static func norms() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let x = maker.input([2, 5, 6, 24])
    var outputs: [TensorID] = []
    for (beta, radius) in [(0.75, 2), (0.5, 0), (1, 24), (0.7, 3)] as [(Float, Int)] {
      outputs.append(try maker.add(Lrn(alpha: 0.3, beta: beta, bias: 1, radius: radius), x))
    }
    let (gamma, beta) = (maker.constant([24]), maker.constant([24]))
    outputs.append(try maker.add(Relu(), maker.add(InstanceNorm(epsilon: 1e-5), x, gamma, beta)))
    outputs.append(try maker.add(GroupNorm(epsilon: 1e-5, group: 3), x, gamma, beta))
    maker.graph.outputs = outputs
    return maker
  }

  /// Everything that only moves elements, with rows of all lengths, and softmax over short ones.
  static func moves() throws -> NetworkMaker {
    var maker = NetworkMaker()
    let image = maker.input([1, 3, 19, 21])
    let pixels = try maker.add(Transpose(perm: [0, 2, 3, 1]), image)
    let back = try maker.add(Transpose(perm: [0, 3, 1, 2]), pixels)
    let x = maker.input([2, 6, 10, 36])
    let shuffled = try maker.add(ChannelShuffle(axis: 3, groups: 4), x)
    let across = try maker.add(ChannelShuffle(axis: 1, groups: 3), shuffled)
    let turned = try maker.add(Transpose(perm: [3, 1, 0, 2]), across)
    let wide = try maker.add(Transpose(perm: [0, 2, 1, 3]), across)
    let large = try maker.add(DepthToSpace(blockSize: [2, 3], mode: .columnFirst), x)
    let deep = try maker.add(SpaceToDepth(blockSize: [2, 3], mode: .depthFirst), large)
    let part = try maker.add(StridedSlice(begin: [0, 1, 9, 3], size: [2, 3, 4, 10], step: [1, 2, -2, 3]), deep)
    let rows = try maker.add(StridedSlice(begin: [0, 0, 0, 3], size: [2, 6, 10, 3], step: [1, 1, 1, 1]), x)
    let pieces = try maker.nodes(Split(axis: 3, sizes: [1, 2, 3, 5, 25]), [x])
    let joined = try maker.add(Concat(axis: 3), pieces[4], pieces[0], pieces[2], pieces[1], pieces[3], rows)
    let classes = try maker.add(Softmax(axis: 3), rows)
    let windows = try maker.add(
      TransposeConv2d(stride: [2, 3]), part, maker.constant([2, 3, 10, 5]), maker.constant([5]))
    maker.graph.outputs = [back, turned, wide, large, part, joined, classes, windows]
    return maker
  }
}
