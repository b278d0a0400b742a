import IR

/// What tells the normalizations over trailing axes apart.
public protocol NormalizationKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether the mean is taken out.
  static var centers: Bool { get }
}

/// Brings the elements of the trailing axes to variance (or mean square) one, then scales and shifts
/// them: (x - mean) / sqrt(variance + epsilon) * gamma + beta. Inputs x, gamma and beta (optional), which
/// broadcast to the trailing axes. Source: QNN operator definitions LayerNorm, RmsNorm.
public struct TrailingNormalization<Kind: NormalizationKind>: Operator {
  public static var typeName: String { Kind.typeName }
  /// The normalized axes: the last ones, ascending.
  public var axes: [Int]
  public var epsilon: Float

  /// Makes the operator.
  public init(axes: [Int], epsilon: Float) {
    self.axes = axes
    self.epsilon = epsilon
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    axes = try attributes.ints("axes")
    epsilon = try attributes.float("epsilon")
  }
  public var attributes: [Attribute] {
    [Attribute("axes", .ints(axes)), Attribute("epsilon", .float(epsilon))]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try requireFloats(inputs, Self.typeName)
    try check(
      !axes.isEmpty && axes.count <= x.rank && axes == Array((x.rank - axes.count)..<x.rank),
      "axes \(axes) are not the last ones of \(x)")
    let shape = axes.map { x.shape[$0] }
    _ = try required(inputs, 1, "gamma")
    for case let parameter? in inputs.dropFirst() {
      try check(parameter.shape == shape, "\(parameter) does not fit axes \(axes) of \(x)")
    }
    return [x]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int { 3 * outputs[0].count }

  /// Scale and shift are parameters with grids of their own: behind the division there is no product
  /// of grids that a bias could have.
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.activation]) }

  public func sinking(permutation: [Int]) -> (any Operator)? {
    axes.allSatisfy { permutation.indices.contains($0) && permutation[$0] == $0 } ? self : nil
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0).elements(as: Float.self)
    let gamma = try required(inputs, 1).elements(as: Float.self)
    let beta = (inputs.count > 2 ? inputs[2] : nil)?.elements(as: Float.self)
    let y = outputs[0].elements(as: Float.self)
    let size = gamma.count
    guard size > 0 else { return }
    for start in stride(from: 0, to: x.count, by: size) {
      var mean = 0.0
      if Kind.centers {
        for index in 0..<size { mean += Double(x[start + index]) }
        mean /= Double(size)
      }
      var square = 0.0
      for index in 0..<size {
        let distance = Double(x[start + index]) - mean
        square += distance * distance
      }
      let factor = 1 / (square / Double(size) + Double(epsilon)).squareRoot()
      for index in 0..<size {
        let scaled = Float((Double(x[start + index]) - mean) * factor) * gamma[index]
        y[start + index] = beta.map { scaled + $0[index] } ?? scaled
      }
    }
  }
}

/// Takes the mean out.
public enum LayerNormKind: NormalizationKind {
  public static let typeName = "LayerNorm"
  public static let centers = true
}
/// Divides by the root of the mean square.
public enum RmsNormKind: NormalizationKind {
  public static let typeName = "RmsNorm"
  public static let centers = false
}

public typealias LayerNorm = TrailingNormalization<LayerNormKind>
public typealias RmsNorm = TrailingNormalization<RmsNormKind>

/// What tells the normalizations over the pixels of an image apart.
public protocol ImageNormalizationKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether the groups are a parameter; otherwise every channel is one.
  static var hasGroups: Bool { get }
}

/// Brings each group of channels of each image to mean 0 and variance 1 over all its pixels, then scales
/// and shifts by channel. Input [N, ..., C], gamma [C], beta [C].
/// Source: QNN operator definitions InstanceNorm, GroupNorm.
public struct ImageNormalization<Kind: ImageNormalizationKind>: Operator {
  public static var typeName: String { Kind.typeName }
  public var epsilon: Float
  /// Number of groups of channels; 0 means one for each channel.
  public var group: Int

  /// Makes the operator.
  public init(epsilon: Float, group: Int = 0) {
    self.epsilon = epsilon
    self.group = group
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    epsilon = try attributes.float("epsilon")
    group = Kind.hasGroups ? try attributes.int("group") : 0
  }
  public var attributes: [Attribute] {
    [Attribute("epsilon", .float(epsilon))]
      + (Kind.hasGroups ? [Attribute("group", .int(group))] : [])
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try requireFloats(inputs, Self.typeName)
    try check(x.rank >= 2, "\(Self.typeName) needs rank 2 or more, has \(x)")
    let channels = x.shape[x.rank - 1]
    for (index, name) in [(1, "gamma"), (2, "beta")] {
      let parameter = try required(inputs, index, name)
      try check(parameter.shape == [channels], "\(name) \(parameter) does not fit \(x)")
    }
    if Kind.hasGroups {
      try check(group > 0 && channels % group == 0, "\(group) groups do not fit \(x)")
    }
    return [x]
  }

  public func macs(_ inputs: [TensorType?], _ outputs: [TensorType]) -> Int { 3 * outputs[0].count }

  /// Scale and shift are parameters with grids of their own: behind the division there is no product
  /// of grids that a bias could have.
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.activation]) }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let gamma = try required(inputs, 1).elements(as: Float.self)
    let beta = try required(inputs, 2).elements(as: Float.self)
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let channels = gamma.count
    guard channels > 0, !from.isEmpty else { return }
    let images = x.type.shape[0]
    let image = from.count / images
    let groups = Kind.hasGroups ? group : channels
    let size = channels / groups
    var (means, factors) = ([Double](repeating: 0, count: groups), [Double](repeating: 0, count: groups))
    for start in stride(from: 0, to: from.count, by: image) {
      let count = Double(image / channels * size)
      for index in means.indices { (means[index], factors[index]) = (0, 0) }
      for index in 0..<image { means[index % channels / size] += Double(from[start + index]) }
      for index in means.indices { means[index] /= count }
      for index in 0..<image {
        let distance = Double(from[start + index]) - means[index % channels / size]
        factors[index % channels / size] += distance * distance
      }
      for index in factors.indices {
        factors[index] = 1 / (factors[index] / count + Double(epsilon)).squareRoot()
      }
      for index in 0..<image {
        let channel = index % channels
        let value = (Double(from[start + index]) - means[channel / size]) * factors[channel / size]
        to[start + index] = Float(value) * gamma[channel] + beta[channel]
      }
    }
  }
}

/// Every channel by itself.
public enum InstanceNormKind: ImageNormalizationKind {
  public static let typeName = "InstanceNorm"
  public static let hasGroups = false
}
/// Groups of channels.
public enum GroupNormKind: ImageNormalizationKind {
  public static let typeName = "GroupNorm"
  public static let hasGroups = true
}

public typealias InstanceNorm = ImageNormalization<InstanceNormKind>
public typealias GroupNorm = ImageNormalization<GroupNormKind>

/// Divides by a power of the mean square of neighbouring channels, the last axis:
/// x / (bias + alpha * sum of squares)^beta. Source: QNN operator definition Lrn (across channels).
public struct Lrn: Operator {
  public static let typeName = "Lrn"
  public var alpha: Float
  public var beta: Float
  public var bias: Float
  /// Channels on either side that count.
  public var radius: Int

  /// Makes the operator.
  public init(alpha: Float, beta: Float, bias: Float, radius: Int) {
    self.alpha = alpha
    self.beta = beta
    self.bias = bias
    self.radius = radius
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    alpha = try attributes.float("alpha")
    beta = try attributes.float("beta")
    bias = try attributes.float("bias")
    radius = try attributes.int("radius")
  }
  public var attributes: [Attribute] {
    [
      Attribute("alpha", .float(alpha)), Attribute("beta", .float(beta)),
      Attribute("bias", .float(bias)), Attribute("radius", .int(radius)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try check(x.rank > 0 && (0..<(1 << 31)).contains(radius), "radius \(radius) does not fit \(x)")
    return [x]
  }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let channels = x.type.shape.last ?? 1
    guard channels > 0 else { return }
    for start in stride(from: 0, to: from.count, by: channels) {
      for channel in 0..<channels {
        var sum: Float = 0
        for other in max(0, channel - radius)..<min(channels, channel + radius + 1) {
          sum += from[start + other] * from[start + other]
        }
        to[start + channel] = from[start + channel] / PowerFunction.apply(bias + alpha * sum, beta)
      }
    }
  }
}
