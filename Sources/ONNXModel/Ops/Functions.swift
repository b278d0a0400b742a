import Glibc
import IR
import Operators

extension ONNXTranslation {
  /// Operators that ONNX defines by others: windows of signals, grids of affine maps, cutting and padding
  /// around the middle.
  static let functions = [
    window("HannWindow") {
      let sine = sin($0 / 2); return sine * sine
    },
    window("HammingWindow") { 25.0 / 46 - 21.0 / 46 * cos($0) },
    window("BlackmanWindow") { 0.42 - 0.5 * cos($0) + 0.08 * cos(2 * $0) },
    ONNXTranslation("AffineGrid", affineGrid), ONNXTranslation("CenterCropPad", centerCropPad),
  ]

  /// A window of a known length; its function takes the angle, from 0 on.
  private static func window(
    _ name: String, _ value: @escaping @Sendable (Double) -> Double
  ) -> ONNXTranslation {
    ONNXTranslation(name, choosesElement: true) { (context) throws(Diagnostic) in
      let element = try context.elementType("output_datatype") ?? .float32
      let isPeriodic = try context.flag("periodic", default: true)
      guard let size = try context.integers(0, "the size")?.first, (0...(1 << 26)).contains(size) else {
        throw context.invalid("the size is missing or not valid")
      }
      let length = Double(isPeriodic ? size : max(size - 1, 1))
      let list = (0..<size).map { Float(value(2 * .pi * Double($0) / length)) }
      return [
        try context.convert(context.constant(Constant(list, shape: [size]), suffix: "window"), to: element)
      ]
    }
  }

  /// Places from -1 to 1 on a grid, moved by the matrices [N, D, D + 1]; the last axis is first.
  @Sendable private static func affineGrid(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let theta = try context.input(0, ranks: 3...3)
    let alignsCorners = try context.flag("align_corners")
    guard let size = try context.integers(1, "the size"), size.count == 4 || size.count == 5,
      size.dropFirst(2).allSatisfy({ $0 > 0 && $0 < 1 << 20 }), theta.shape[0] == size[0],
      theta.shape[1...] == [size.count - 2, size.count - 1]
    else { throw context.invalid("the size is missing, or does not fit \(theta.type)") }
    let sizes = Array(size.dropFirst(2))
    let count = sizes.reduce(1, &*)
    guard count <= 1 << 24 else { throw context.unsupported("a grid of \(sizes)") }
    let steps = denseStrides(sizes)
    var places: [Float] = []
    for position in 0..<count {
      for axis in sizes.indices.reversed() {
        let index = Double(position / steps[axis] % sizes[axis])
        let length = Double(sizes[axis])
        let place =
          alignsCorners
          ? (length > 1 ? 2 * index / (length - 1) - 1 : 0) : (2 * index + 1) / length - 1
        places.append(Float(place))
      }
      places.append(1)
    }
    let base = context.constant(Constant(places, shape: [1, count, sizes.count + 1]), suffix: "places")
    let moved = try context.emit(MatMul(transposeIn1: true), [base, theta], suffix: "moved")
    return [try context.reshape(moved, [size[0]] + sizes + [sizes.count], suffix: "")]
  }

  /// Cuts what is too long and pads what is too short, the same on both sides; the odd one behind.
  @Sendable private static func centerCropPad(_ context: NodeContext) throws(Diagnostic) -> [Value?] {
    let x = try context.input(0)
    let axes = try context.axes(try context.ints("axes") ?? Array(x.shape.indices), rank: x.rank)
    guard let wanted = try context.integers(1, "the new shape"), wanted.count == axes.count,
      wanted.allSatisfy({ (0...TensorDecoder.sizeLimit).contains($0) })
    else { throw context.invalid("the new shape is missing, or does not fit the axes") }
    var (begin, size) = (x.shape.map { _ in 0 }, x.shape)
    var amount = [Int](repeating: 0, count: 2 * x.rank)
    for (axis, target) in zip(axes, wanted) {
      let length = x.shape[axis]
      if target < length {
        (begin[axis], size[axis]) = ((length - target) / 2, target)
      } else {
        amount[2 * axis] = (target - length) / 2
        amount[2 * axis + 1] = target - length - amount[2 * axis]
      }
    }
    var result = x
    if size != x.shape {
      let op = StridedSlice(begin: begin, size: size, step: x.shape.map { _ in 1 })
      result = try context.emit(op, [result], suffix: "cut")
    }
    if amount.contains(where: { $0 > 0 }) {
      result = try context.emit(Pad(padAmount: amount), [result], suffix: "padded")
    }
    return [result]
  }
}
