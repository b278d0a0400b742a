import IR
import Operators

extension ONNXTranslation {
  /// GridSample and RoiAlign.
  static let samplings = [
    ONNXTranslation("GridSample", gridSample), ONNXTranslation("RoiAlign", roiAlign),
  ]

  /// Names of the modes changed with opset 20.
  @Sendable private static func gridSample(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let (x, grid) = (try context.input(0, ranks: 3...5), try context.input(1))
    let names = ["bilinear": "linear", "bicubic": "cubic"]
    let word = try context.string("mode") ?? "linear"
    let around = try context.string("padding_mode") ?? "zeros"
    guard let mode = Interpolation(rawValue: names[word] ?? word),
      let padding = SamplePadding(rawValue: around)
    else { throw context.invalid("mode is \(word), padding_mode \(around)") }
    let op = GridSample(mode: mode, padding: padding, alignCorners: try context.flag("align_corners"))
    let result = try context.emit(
      op, [try context.channelLast(x), grid], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }

  /// Pixels have their place at their corner before opset 16.
  @Sendable private static func roiAlign(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0, ranks: 4...4)
    let mode = try context.string("mode") ?? "avg"
    guard ["avg", "max"].contains(mode) else { throw context.invalid("mode is \(mode)") }
    let isOld = context.opset < 16
    let coordinates =
      try context.string("coordinate_transformation_mode") ?? (isOld ? "output_half_pixel" : "half_pixel")
    let op = RoiAlign(
      size: [try context.int("output_height") ?? 1, try context.int("output_width") ?? 1],
      spatialScale: try context.float("spatial_scale") ?? 1,
      samplingRatio: try context.int("sampling_ratio") ?? 0, halfPixel: coordinates == "half_pixel",
      takesLargest: mode == "max")
    let images = try context.cast(try context.input(2), to: .int32, suffix: "images")
    let result = try context.emit(
      op, [try context.channelLast(x), try context.input(1), images], tensor: context.channelLastName)
    return [try context.channelFirst(result)]
  }
}
