import IR

/// Largest values inside of the bins of boxes: features [N, H, W, C], boxes [R, 5] as image, left, top, right
/// and bottom, corners inside; output [R, height, width, C], 0 where a bin lies outside. Source: ONNX operator
/// MaxRoiPool.
public struct MaxRoiPool: Operator {
  public static let typeName = "MaxRoiPool"
  /// Height and width of the result.
  public var size: [Int]
  /// Pixels of the features for one unit of the boxes.
  public var spatialScale: Float

  /// Makes the operator.
  public init(size: [Int], spatialScale: Float = 1) {
    self.size = size
    self.spatialScale = spatialScale
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    size = try attributes.ints("size")
    spatialScale = try attributes.float("spatial_scale", default: 1)
  }
  public var attributes: [Attribute] {
    [Attribute("size", .ints(size)), Attribute("spatial_scale", .float(spatialScale))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let (x, boxes) = (try required(inputs, 0, "features"), try required(inputs, 1, "boxes"))
    try requireFloats(inputs, Self.typeName)
    try check(x.rank == 4 && boxes.rank == 2 && boxes.shape[1] == 5, "boxes \(boxes) do not fit \(x)")
    try check(
      size.count == 2 && size.allSatisfy { (1..<(1 << 15)).contains($0) } && spatialScale.isFinite,
      "sizes \(size) or the scale are not valid")
    return [TensorType(.float32, [boxes.shape[0]] + size + [x.shape[3]])]
  }
  /// Boxes are coordinates: on a grid of 8 bits they would move.
  public var quantization: QuantizationRule {
    QuantizationRule(inputs: [.activation, .unquantized], outputs: [.sameAsInput(0)])
  }

  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, boxes) = (try required(inputs, 0), try required(inputs, 1).elements(as: Float.self))
    let (from, to) = (x.elements(as: Float.self), outputs[0].elements(as: Float.self))
    let (images, height, width, channels) = (
      x.type.shape[0], x.type.shape[1], x.type.shape[2], x.type.shape[3]
    )
    for box in 0..<outputs[0].type.shape[0] {
      let entry = boxes[(5 * box)..<(5 * box + 5)]
      guard entry.allSatisfy({ abs($0 * spatialScale) < 0x1p20 && abs($0) < 0x1p20 }) else {
        throw Diagnostic("value-range", "box \(box) is \(Array(entry))")
      }
      let image = Int(entry[entry.startIndex])
      guard (0..<images).contains(image) else {
        throw Diagnostic("index-range", "box \(box) is in image \(image) of \(images)")
      }
      let corners = entry.dropFirst().map { Int(($0 * spatialScale).rounded()) }
      let rows = bins(corners[1], corners[3], size[0], height)
      let columns = bins(corners[0], corners[2], size[1], width)
      for (place, bin) in rows.flatMap({ row in columns.map { (row, $0) } }).enumerated() {
        let target = (box * size[0] * size[1] + place) * channels
        for channel in 0..<channels {
          var largest: Float?
          for y in bin.0 {
            for x in bin.1 {
              let value = from[((image * height + y) * width + x) * channels + channel]
              largest = max(largest ?? value, value)
            }
          }
          to[target + channel] = largest ?? 0
        }
      }
    }
  }

  /// The pixels of each bin along an axis.
  private func bins(_ first: Int, _ last: Int, _ count: Int, _ size: Int) -> [Range<Int>] {
    let width = Float(max(last - first + 1, 1)) / Float(count)
    return (0..<count).map { index in
      let start = min(max(Int((Float(index) * width).rounded(.down)) + first, 0), size)
      let end = min(max(Int((Float(index + 1) * width).rounded(.up)) + first, 0), size)
      return start..<max(start, end)
    }
  }
}
