import IR

/// Means (or largest values) of samples inside of boxes: features [N, H, W, C], boxes [R, 4] as left, top,
/// right, bottom, and for each box the image it lies in, int32 [R]; output [R, height, width, C].
/// Source: QNN operator definition RoiAlign, ONNX operator RoiAlign.
public struct RoiAlign: Operator {
  public static let typeName = "RoiAlign"
  /// Height and width of the result.
  public var size: [Int]
  /// Pixels of the features for one unit of the boxes.
  public var spatialScale: Float
  /// Samples along each side of a bin; 0: as many as it has pixels.
  public var samplingRatio: Int
  /// Whether pixels have their place at their center.
  public var halfPixel: Bool
  /// Whether the largest sample counts, not the mean.
  public var takesLargest: Bool

  /// Makes the operator.
  public init(
    size: [Int], spatialScale: Float = 1, samplingRatio: Int = 0, halfPixel: Bool = true,
    takesLargest: Bool = false
  ) {
    self.size = size
    self.spatialScale = spatialScale
    self.samplingRatio = samplingRatio
    self.halfPixel = halfPixel
    self.takesLargest = takesLargest
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    size = try attributes.ints("size")
    spatialScale = try attributes.float("spatial_scale", default: 1)
    samplingRatio = try attributes.int("sampling_ratio", default: 0)
    halfPixel = try attributes.bool("half_pixel", default: true)
    takesLargest = try attributes.bool("takes_largest", default: false)
  }
  public var attributes: [Attribute] {
    [
      Attribute("size", .ints(size)), Attribute("spatial_scale", .float(spatialScale)),
      Attribute("sampling_ratio", .int(samplingRatio)), Attribute("half_pixel", .bool(halfPixel)),
      Attribute("takes_largest", .bool(takesLargest)),
    ]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let (x, boxes) = (try required(inputs, 0, "features"), try required(inputs, 1, "boxes"))
    let images = try required(inputs, 2, "images")
    try requireFloat(x, Self.typeName)
    try requireFloat(boxes, Self.typeName)
    try check(
      x.rank == 4 && boxes.rank == 2 && boxes.shape[1] == 4 && images.element == .int32
        && images.shape == [boxes.shape[0]], "boxes \(boxes) or images \(images) do not fit \(x)")
    try check(
      size.count == 2 && size.allSatisfy { (1..<(1 << 15)).contains($0) } && spatialScale.isFinite
        && (0..<1024).contains(samplingRatio) && x.shape[1] > 0 && x.shape[2] > 0,
      "sizes \(size), the scale or the sampling ratio is not valid")
    return [TensorType(.float32, [boxes.shape[0]] + size + [x.shape[3]])]
  }
  /// Boxes are coordinates: on a grid of 8 bits they would move.
  public var quantization: QuantizationRule { QuantizationRule(inputs: [.activation, .unquantized]) }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, boxes) = (try required(inputs, 0), try required(inputs, 1).elements(as: Float.self))
    let images = try required(inputs, 2).elements(as: Int32.self)
    let (height, width, channels) = (x.type.shape[1], x.type.shape[2], x.type.shape[3])
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let offset: Float = halfPixel ? 0.5 : 0
    for box in images.indices {
      let image = Int(images[box])
      guard (0..<x.type.shape[0]).contains(image) else {
        throw Diagnostic("index-range", "box \(box) is in image \(image) of \(x.type.shape[0])")
      }
      let corner = (0..<4).map { boxes[4 * box + $0] * spatialScale - offset }
      guard corner.allSatisfy({ abs($0) < 0x1p20 }) else {
        throw Diagnostic("value-range", "box \(box) is \(corner)")
      }
      // Without half pixels boxes are at least a pixel large.
      let least: Float = halfPixel ? -.infinity : 1
      let bin = [
        max(corner[3] - corner[1], least) / Float(size[0]),
        max(corner[2] - corner[0], least) / Float(size[1]),
      ]
      let counts = bin.map { samplingRatio > 0 ? samplingRatio : max(Int($0.rounded(.up)), 0) }
      guard counts[0] * counts[1] <= 1 << 16 else {
        throw Diagnostic("value-range", "box \(box) takes \(counts) samples a bin")
      }
      for place in 0..<size[0] * size[1] {
        let (row, column) = (place / size[1], place % size[1])
        var samples: [[(pixel: Int, weight: Float)]] = []
        for sample in 0..<counts[0] * counts[1] {
          let (iy, ix) = (sample / counts[1], sample % counts[1])
          let y = corner[1] + (Float(row) + (Float(iy) + 0.5) / Float(counts[0])) * bin[0]
          let x = corner[0] + (Float(column) + (Float(ix) + 0.5) / Float(counts[1])) * bin[1]
          samples.append(RoiAlign.terms(y, x, height, width))
        }
        let target = (box * size[0] * size[1] + place) * channels
        for channel in 0..<channels {
          let values = samples.map { terms in
            terms.map { term in
              term.weight * from[((image * height * width) + term.pixel) * channels + channel]
            }
          }
          if takesLargest {
            to[target + channel] = values.map { $0.max() ?? 0 }.max() ?? 0
          } else {
            to[target + channel] = values.joined().reduce(0, +) / Float(max(samples.count, 1))
          }
        }
      }
    }
  }

  /// The four pixels around a place with their weights; a pixel beyond the border counts as on it, further
  /// away nothing is.
  private static func terms(
    _ y: Float, _ x: Float, _ height: Int, _ width: Int
  ) -> [(pixel: Int, weight: Float)] {
    guard y >= -1, y <= Float(height), x >= -1, x <= Float(width) else { return [(0, 0)] }
    let (top, below, fy) = neighbours(y, height)
    let (left, right, fx) = neighbours(x, width)
    return [
      (top * width + left, (1 - fy) * (1 - fx)), (top * width + right, (1 - fy) * fx),
      (below * width + left, fy * (1 - fx)), (below * width + right, fy * fx),
    ]
  }

  private static func neighbours(_ place: Float, _ size: Int) -> (Int, Int, Float) {
    let inside = max(place, 0)
    let low = Int(inside)
    return low >= size - 1 ? (size - 1, size - 1, 0) : (low, low + 1, inside - Float(low))
  }
}
