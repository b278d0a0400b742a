import IR
import Operators

extension ONNXTranslation {
  /// Relu and its kin, Clip, Softmax and LogSoftmax.
  static let activations = [
    ONNXTranslation("Clip", clip),
    ONNXTranslation("Relu") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      let x = try context.input(0)
      guard x.type.element.isInteger else { return [try context.emit(Relu(), [x])] }
      let zero = try context.scalar(0, like: x.type, suffix: "zero")
      return [try context.emit(ElementWiseMaximum(), [x, zero])]
    },
    ONNXTranslation("LeakyRelu") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      let alpha = try context.float("alpha") ?? 0.01
      return [try context.emit(LeakyRelu(alpha: alpha), [try context.input(0)])]
    },
    ONNXTranslation("PRelu", parametricRelu),
    ONNXTranslation("Elu") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      let alpha = try context.float("alpha") ?? 1
      return [try context.emit(Elu(alpha: alpha), [try context.input(0)])]
    },
    ONNXTranslation("HardSigmoid") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      let alpha = try context.float("alpha") ?? 0.2
      let beta = try context.float("beta") ?? 0.5
      return [try context.emit(HardSigmoid(alpha: alpha, beta: beta), [try context.input(0)])]
    },
    ONNXTranslation("HardSwish") { (context) throws(Diagnostic) in
      [try context.emit(HardSwish(), [try context.input(0)])]
    },
    ONNXTranslation("Gelu") { (context) throws(Diagnostic) in
      let name = try context.string("approximate") ?? "none"
      guard let approximation = Gelu.Approximation(rawValue: name) else {
        throw context.invalid("approximate is \(name)")
      }
      return [try context.emit(Gelu(approximation), [try context.input(0)])]
    },
    ONNXTranslation("Selu") { (context) throws(Diagnostic) in
      context.ignore("consumed_inputs")
      // Opset 1 rounded the constants to four digits.
      let isOld = context.opset < 6
      let alpha = try context.float("alpha") ?? (isOld ? 1.6732 : 1.673_263_2)
      let gamma = try context.float("gamma") ?? (isOld ? 1.0507 : 1.050_701)
      return [try context.emit(Selu(alpha, gamma), [try context.input(0)])]
    },
    parametric("Celu", ("alpha", 1)) { Celu($0) },
    parametric("ThresholdedRelu", ("alpha", 1)) { ThresholdedRelu($0) },
    parametric("Swish", ("alpha", 1)) { Swish($0) },
    ONNXTranslation("Shrink") { (context) throws(Diagnostic) in
      let (bias, limit) = (try context.float("bias") ?? 0, try context.float("lambd") ?? 0.5)
      return [try context.emit(Shrink(limit, bias), [try context.input(0)])]
    },
    ONNXTranslation("Softmax") { (context) throws(Diagnostic) in
      try softmax(context) { Softmax(axis: $0) }
    },
    ONNXTranslation("Hardmax", hardmax),
    ONNXTranslation("LogSoftmax") { (context) throws(Diagnostic) in
      try softmax(context) { LogSoftmax(axis: $0) }
    },
  ]

  private static func parametric(
    _ name: String, _ parameter: (name: String, fallback: Float),
    _ make: @escaping @Sendable (Float) -> any Operator
  ) -> ONNXTranslation {
    ONNXTranslation(name) { (context) throws(Diagnostic) in
      let value = try context.float(parameter.name) ?? parameter.fallback
      return [try context.emit(make(value), [try context.input(0)])]
    }
  }

  /// Attributes up to opset 6, operands from 11 on; either bound may be missing.
  @Sendable private static func clip(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    context.ignore("consumed_inputs")
    let x = try context.input(0)
    var (low, high): (Value?, Value?)
    if context.opset < 11 {
      let (lowest, highest) = (try context.float("min"), try context.float("max"))
      if let lowest, lowest > -Float.greatestFiniteMagnitude {
        low = try context.scalar(lowest, like: x.type, suffix: "min")
      }
      if let highest, highest < Float.greatestFiniteMagnitude {
        high = try context.scalar(highest, like: x.type, suffix: "max")
      }
    } else {
      (low, high) = (context.optional(1), context.optional(2))
    }
    for bound in [low, high].compactMap({ $0 }) {
      guard bound.type.count == 1, bound.type.element == x.type.element else {
        throw context.invalid("a bound is \(bound.type) for an input of \(x.type)")
      }
    }
    let bounds = [low, high].compactMap { $0 }
    if bounds.isEmpty { return [x] }
    let numbers = bounds.compactMap { $0.constant?.floats().first }
    if x.type.element == .float32, numbers.count == bounds.count, !numbers.contains(where: \.isNaN) {
      let lowest = low?.constant?.floats().first ?? -.infinity
      let highest = high?.constant?.floats().first ?? .infinity
      if lowest == 0 && highest == .infinity { return [try context.emit(Relu(), [x])] }
      return [try context.emit(ReluMinMax(minValue: lowest, maxValue: highest), [x])]
    }
    var result = x
    if let low {
      let bound = try context.reshape(low, [], suffix: "min")
      result = try context.emit(
        ElementWiseMaximum(), [result, bound], suffix: high == nil ? "" : "raised")
    }
    if let high {
      let bound = try context.reshape(high, [], suffix: "max")
      result = try context.emit(ElementWiseMinimum(), [result, bound])
    }
    return [result]
  }

  /// The slope broadcasts to the input; up to opset 6 it has one value, or one a channel.
  @Sendable private static func parametricRelu(
    _ context: NodeContext
  ) throws(Diagnostic) -> [Value?] {
    context.ignore("consumed_inputs")
    try context.requireOneElementType()
    let x = try context.input(0)
    var slope = try context.input(1)
    if context.opset < 7, slope.rank == 1, slope.type.count > 1, x.rank > 2 {
      let tail = [Int](repeating: 1, count: x.rank - 2)
      slope = try context.reshape(slope, slope.shape + tail, suffix: "slope")
    }
    return [try context.emit(Prelu(), [x, slope])]
  }

  /// 1 at the first of the largest elements of an axis, 0 elsewhere; before opset 13 over all axes from
  /// `axis` on at once.
  @Sendable private static func hardmax(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 1...8)
    let isOneAxis = context.opset >= 13
    var axis = try context.axis(try context.int("axis") ?? (isOneAxis ? -1 : 1), rank: x.rank)
    var value = x
    if !isOneAxis {
      let outer = x.shape[..<axis].reduce(1, &*)
      value = try context.reshape(x, [outer, x.shape[axis...].reduce(1, &*)], suffix: "flat")
      axis = 1
    }
    let places = try context.emit(Argmax(axis: axis, keepDims: false), [value], suffix: "places")
    let op = OneHot(depth: value.shape[axis], axis: axis, onValue: 1, offValue: 0, to: .float32)
    let ones = try context.emit(op, [places], suffix: isOneAxis ? "" : "ones")
    return [try context.reshape(ones, x.shape, suffix: "shaped")]
  }

  /// From opset 13 on along one axis; before, over all axes from `axis` on at once.
  private static func softmax(
    _ context: NodeContext, _ make: (Int) -> any Operator
  ) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let isOneAxis = context.opset >= 13
    let given = try context.int("axis") ?? (isOneAxis ? -1 : 1)
    if x.rank == 0 { return [try wholeSoftmax(context, x, [1, 1], make)] }
    if !isOneAxis && given == x.rank {
      return [try wholeSoftmax(context, x, [x.type.count, 1], make)]
    }
    let axis = try context.axis(given, rank: x.rank)
    let outer = x.shape[..<axis].reduce(1, &*)
    let inner = x.shape[axis...].reduce(1, &*)
    if isOneAxis || inner == x.shape[axis] { return [try context.emit(make(axis), [x])] }
    return [try wholeSoftmax(context, x, [outer, inner], make)]
  }

  private static func wholeSoftmax(
    _ context: NodeContext, _ x: Value, _ shape: [Int], _ make: (Int) -> any Operator
  ) throws(Diagnostic) -> Value {
    let flat = try context.reshape(x, shape, suffix: "flat")
    let result = try context.emit(make(1), [flat], tensor: "\(context.channelLastName).flat")
    return try context.reshape(result, x.shape)
  }
}
