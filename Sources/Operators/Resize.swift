import IR

/// Resizes axes by interpolation. Source: QNN operator definition Resize, and ONNX's of the same name for
/// what QNN leaves out (antialiasing, cropping).
public struct Resize: Resampling {
  public static let typeName = "Resize"
  /// Sizes of the result.
  public var shape: [Int]
  /// Output length over input length of each axis where it is not the ratio of the sizes; else none.
  public var scales: [Float]
  public var interpolation: Interpolation
  public var transformation: CoordinateTransformation
  public var nearestMode: NearestMode
  /// Coefficient of the cubic.
  public var cubicCoefficient: Float
  /// Whether elements beyond the ends have no weight; otherwise the outermost ones repeat.
  public var excludeOutside: Bool
  /// Whether a shrinking axis is smoothed.
  public var antialias: Bool
  /// What part of each axis is cropped: first all starts, then all ends, from 0 to 1; or none.
  public var crop: [Float]
  /// Value of elements outside of the input when cropping.
  public var extrapolationValue: Float

  /// Makes the operator.
  public init(
    shape: [Int], scales: [Float] = [], interpolation: Interpolation,
    transformation: CoordinateTransformation = .halfPixel,
    nearestMode: NearestMode = .roundPreferFloor, cubicCoefficient: Float = -0.75,
    excludeOutside: Bool = false, antialias: Bool = false, crop: [Float] = [],
    extrapolationValue: Float = 0
  ) {
    self.shape = shape
    self.scales = scales
    self.interpolation = interpolation
    self.transformation = transformation
    self.nearestMode = nearestMode
    self.cubicCoefficient = cubicCoefficient
    self.excludeOutside = excludeOutside
    self.antialias = antialias
    self.crop = crop
    self.extrapolationValue = extrapolationValue
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    shape = try attributes.ints("shape")
    scales = try attributes.floats("scales", default: [])
    interpolation = try choice(&attributes, "interpolation_mode", Interpolation.nearest)
    transformation = try choice(&attributes, "transformation_mode", CoordinateTransformation.halfPixel)
    nearestMode = try choice(&attributes, "nearest_mode", NearestMode.roundPreferFloor)
    cubicCoefficient = try attributes.float("cubic_coeff", default: -0.75)
    excludeOutside = try attributes.bool("exclude_outside", default: false)
    antialias = try attributes.bool("antialias", default: false)
    crop = try attributes.floats("crop", default: [])
    extrapolationValue = try attributes.float("extrapolation_value", default: 0)
  }

  public var attributes: [Attribute] {
    [
      Attribute("shape", .ints(shape)), Attribute("scales", .floats(scales)),
      Attribute("interpolation_mode", .string(interpolation.rawValue)),
      Attribute("transformation_mode", .string(transformation.rawValue)),
      Attribute("nearest_mode", .string(nearestMode.rawValue)),
      Attribute("cubic_coeff", .float(cubicCoefficient)),
      Attribute("exclude_outside", .bool(excludeOutside)), Attribute("antialias", .bool(antialias)),
      Attribute("crop", .floats(crop)), Attribute("extrapolation_value", .float(extrapolationValue)),
    ]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try check(
      shape.count == x.rank && (scales.isEmpty || scales.count == x.rank)
        && (crop.isEmpty || crop.count == 2 * x.rank), "sizes \(shape) or scales do not fit \(x)")
    try check(
      scales.allSatisfy { $0 > 0x1p-12 && $0 < 0x1p20 } && crop.allSatisfy { abs($0) < 0x1p20 }
        && cubicCoefficient.isFinite, "a scale, the crop or the coefficient is not valid")
    for (size, length) in zip(shape, x.shape) {
      try check(
        size >= 0 && size < 1 << 31 && (length > 0 || size == 0) && length <= (size << 12 | 0xFFF),
        "\(x) cannot become \(shape)")
    }
    return [TensorType(.float32, shape)]
  }

  public var outsideValue: Float { extrapolationValue }

  public var quantization: QuantizationRule {
    let makesNoValues = interpolation == .nearest && transformation != .cropAndResize
    return makesNoValues ? .dataInvariant : QuantizationRule()
  }

  public func sinking(permutation: [Int]) -> (any Operator)? {
    guard permutation.count == shape.count else { return nil }
    let inverse = inversePermutation(permutation)
    var moved = self
    moved.shape = inverse.map { shape[$0] }
    if !scales.isEmpty { moved.scales = inverse.map { scales[$0] } }
    if !crop.isEmpty { moved.crop = inverse.map { crop[$0] } + inverse.map { crop[$0 + shape.count] } }
    return moved
  }

  public func tables(_ input: [Int]) -> [Int: ResamplingTable] {
    var result: [Int: ResamplingTable] = [:]
    for (axis, size) in shape.enumerated() where size > 0 && input[axis] > 0 {
      let ratio = Double(size) / Double(input[axis])
      let scale = scales.isEmpty ? ratio : Double(scales[axis])
      let part =
        crop.isEmpty ? (0.0, 1.0) : (Double(crop[axis]), Double(crop[axis + shape.count]))
      let isWhole = transformation != .cropAndResize || part == (0, 1)
      if size == input[axis] && scale == 1 && isWhole { continue }
      result[axis] = ResamplingTable(
        AxisResampling(
          interpolation: interpolation, transformation: transformation, nearestMode: nearestMode,
          cubic: Double(cubicCoefficient), excludeOutside: excludeOutside, antialias: antialias),
        input: input[axis], output: size, scale: scale, crop: part)
    }
    return result
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    try resample(inputs, outputs)
  }
}

/// What tells the ways to resize images apart.
public protocol ImageResizeKind: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// How values between pixels are found.
  static var interpolation: Interpolation { get }
  /// Which neighbour is nearest, by whether corners are aligned and pixels have centers.
  static func nearestMode(alignCorners: Bool, halfPixelCenters: Bool) -> NearestMode
}

extension ImageResizeKind {
  public static func nearestMode(alignCorners: Bool, halfPixelCenters: Bool) -> NearestMode {
    alignCorners || halfPixelCenters ? .roundPreferCeil : .floor
  }
}

/// Resizes height and width of images [N, H, W, C].
/// Source: QNN operator definitions ResizeBilinear, ResizeNearestNeighbor.
public struct ImageResize<Kind: ImageResizeKind>: Resampling {
  public static var typeName: String { Kind.typeName }
  /// Height and width of the result.
  public var size: [Int]
  /// Whether the outermost pixels of both images lie on each other.
  public var alignCorners: Bool
  /// Whether pixels have their place at their center.
  public var halfPixelCenters: Bool

  /// Makes the operator.
  public init(size: [Int], alignCorners: Bool = false, halfPixelCenters: Bool = false) {
    self.size = size
    self.alignCorners = alignCorners
    self.halfPixelCenters = halfPixelCenters
  }

  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    size = try attributes.ints("size")
    alignCorners = try attributes.bool("align_corners", default: false)
    halfPixelCenters = try attributes.bool("half_pixel_centers", default: false)
  }

  public var attributes: [Attribute] {
    [
      Attribute("size", .ints(size)), Attribute("align_corners", .bool(alignCorners)),
      Attribute("half_pixel_centers", .bool(halfPixelCenters)),
    ]
  }

  /// The same as a ``Resize`` of four axes, for an input of these sizes.
  public func general(_ input: [Int]) -> Resize {
    Resize(
      shape: [input[0]] + size + [input[3]], interpolation: Kind.interpolation,
      transformation: alignCorners ? .alignCorners : halfPixelCenters ? .halfPixel : .asymmetric,
      nearestMode: Kind.nearestMode(alignCorners: alignCorners, halfPixelCenters: halfPixelCenters))
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try floatInput(inputs, Self.typeName)
    try check(x.rank == 4 && size.count == 2, "\(Self.typeName) needs rank 4 and two sizes, has \(x)")
    try check(!alignCorners || !halfPixelCenters, "corners are aligned or pixels have centers")
    return try general(x.shape).infer(inputs)
  }

  public var outsideValue: Float { 0 }

  public var quantization: QuantizationRule {
    Kind.interpolation == .nearest ? .dataInvariant : QuantizationRule()
  }

  public func tables(_ input: [Int]) -> [Int: ResamplingTable] { general(input).tables(input) }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    try resample(inputs, outputs)
  }
}

/// Straight lines between pixels.
public enum BilinearKind: ImageResizeKind {
  public static let typeName = "ResizeBilinear"
  public static let interpolation = Interpolation.linear
}
/// The nearest pixel.
public enum NearestKind: ImageResizeKind {
  public static let typeName = "ResizeNearestNeighbor"
  public static let interpolation = Interpolation.nearest
}

public typealias ResizeBilinear = ImageResize<BilinearKind>
public typealias ResizeNearestNeighbor = ImageResize<NearestKind>
