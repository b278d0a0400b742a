import IR

/// The order of the chroma pairs of an image in planes.
public protocol ChromaOrder: Sendable {
  /// QNN's operator name.
  static var typeName: String { get }
  /// Whether blue's difference (U, Cb) stands in front of red's (V, Cr).
  static var isBlueFirst: Bool { get }
}

/// Turns camera images into pixels of three colours: input [N, 3 H W / 2], a plane of H x W luma values and behind it
/// one of chroma pairs, each for 2 x 2 pixels; output [N, H, W, 3]. All numbers are 0 to 255.
///
/// Colours are those of ITU-R BT.601 with luma from 16 to 235, cut to 0...255:
///
///     red   = 1.164 (Y - 16)                   + 1.596 (V - 128)
///     green = 1.164 (Y - 16) - 0.391 (U - 128) - 0.813 (V - 128)
///     blue  = 1.164 (Y - 16) + 2.018 (U - 128)
///
/// Source: QNN operator definitions Nv12ToRgb and Nv21ToRgb. Height and width are an attribute of ours, QNN reads
/// them off the output.
public struct PlanarImage<Order: ChromaOrder>: Operator {
  public static var typeName: String { Order.typeName }
  /// Height and width of the image, both even.
  public var size: [Int]
  /// Whether blue is the first colour of the output; otherwise red is.
  public var isReversed: Bool

  /// Makes the operator.
  public init(size: [Int], isReversed: Bool = false) {
    self.size = size
    self.isReversed = isReversed
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    size = try attributes.ints("size")
    isReversed = try attributes.bool("output_order", default: false)
  }
  public var attributes: [Attribute] {
    [Attribute("size", .ints(size)), Attribute("output_order", .int(isReversed ? 1 : 0))]
  }

  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let x = try required(inputs, 0, "input")
    try requireFloats(inputs, Self.typeName)
    try check(
      size.count == 2 && size.allSatisfy { (2..<(1 << 15)).contains($0) && $0 % 2 == 0 },
      "images of \(size) have no planes: height and width must be even")
    try check(x.rank == 2 && x.shape[1] == size[0] * size[1] / 2 * 3, "\(x) does not hold images of \(size)")
    return [TensorType(x.element, [x.shape[0]] + size + [3])]
  }

  public var quantization: QuantizationRule { QuantizationRule() }

  /// Factors of Y, U and V and an addend, for each colour of the output.
  public var colors: [(y: Float, u: Float, v: Float, addend: Float)] {
    let factors: [(y: Double, u: Double, v: Double)] = [
      (1.164, 0, 1.596), (1.164, -0.391, -0.813), (1.164, 2.018, 0),
    ]
    return (isReversed ? factors.reversed() : factors).map {
      (Float($0.y), Float($0.u), Float($0.v), Float(-16 * $0.y - 128 * $0.u - 128 * $0.v))
    }
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let (height, width, colors) = (size[0], size[1], colors)
    var target = 0
    for image in 0..<x.type.shape[0] {
      let luma = image * x.type.shape[1]
      let chroma = luma + height * width
      for row in 0..<height {
        for column in 0..<width {
          let y = from[luma + row * width + column]
          let pair = chroma + row / 2 * width + column / 2 * 2
          let (u, v) = Order.isBlueFirst ? (from[pair], from[pair + 1]) : (from[pair + 1], from[pair])
          for color in colors {
            let value = color.y * y + color.u * u + color.v * v + color.addend
            to[target] = min(max(value, 0), 255)
            target += 1
          }
        }
      }
    }
  }
}

/// U in front of V.
public enum BlueFirst: ChromaOrder {
  public static let typeName = "Nv12ToRgb"
  public static let isBlueFirst = true
}
/// V in front of U.
public enum RedFirst: ChromaOrder {
  public static let typeName = "Nv21ToRgb"
  public static let isBlueFirst = false
}

public typealias Nv12ToRgb = PlanarImage<BlueFirst>
public typealias Nv21ToRgb = PlanarImage<RedFirst>
