import IR

/// How values between the elements of an axis are found.
public enum Interpolation: String, Sendable { case nearest, linear, cubic }

/// Where an element of the resized axis lies in the input. Source: ONNX operator Resize.
public enum CoordinateTransformation: String, Sendable {
  case halfPixel = "half_pixel"
  case halfPixelSymmetric = "half_pixel_symmetric"
  case pytorchHalfPixel = "pytorch_half_pixel"
  case alignCorners = "align_corners"
  case asymmetric
  case cropAndResize = "tf_crop_and_resize"
}

/// Which of two neighbours is nearest.
public enum NearestMode: String, Sendable {
  case roundPreferFloor = "round_prefer_floor"
  case roundPreferCeil = "round_prefer_ceil"
  case floor, ceil
}

/// Rules by which one axis is resized.
public struct AxisResampling: Sendable {
  var interpolation: Interpolation
  var transformation: CoordinateTransformation
  var nearestMode: NearestMode
  /// The coefficient of the cubic.
  var cubic: Double
  var excludeOutside: Bool
  var antialias: Bool
}

/// For every element of a resized axis, the elements of the input that it is a weighted sum of.
public struct ResamplingTable: Sendable, Hashable {
  /// Terms of a sum.
  public let taps: Int
  /// `taps` indices into the input's axis for each element, one after the other.
  public private(set) var indices: [Int] = []
  /// `taps` weights for each element.
  public private(set) var weights: [Double] = []
  /// For each element whether it lies outside of what is cropped.
  public private(set) var isOutside: [Bool] = []

  /// The table of an axis of `input` elements that becomes `output` elements, `scale` times as long;
  /// `crop` is the part of the axis, from 0 to 1, for the crop transformation.
  init(
    _ rule: AxisResampling, input: Int, output: Int, scale: Double, crop: (Double, Double) = (0, 1)
  ) {
    let reach = rule.antialias ? min(scale, 1) : 1
    switch rule.interpolation {
    case .nearest: taps = 1
    case .linear: taps = 2 - 2 * (Int((-1 / reach).rounded(.down)) + 1)
    case .cubic: taps = 2 - 2 * (Int((-2 / reach).rounded(.down)) + 1)
    }
    for position in 0..<output {
      let x = ResamplingTable.source(
        rule.transformation, Double(position), Double(input), Double(output), scale, crop)
      isOutside.append(
        rule.transformation == .cropAndResize && !(x >= 0 && x <= Double(input - 1)))
      add(rule, x, input, reach)
    }
  }

  private static func source(
    _ transformation: CoordinateTransformation, _ x: Double, _ input: Double, _ output: Double,
    _ scale: Double, _ crop: (Double, Double)
  ) -> Double {
    let length = scale * input
    let center = (x + 0.5) / scale - 0.5
    switch transformation {
    case .alignCorners: return length == 1 ? 0 : x * (input - 1) / (length - 1)
    case .asymmetric: return x / scale
    case .halfPixel: return center
    case .pytorchHalfPixel: return length == 1 ? -0.5 : center
    case .halfPixelSymmetric: return input / 2 * (1 - output / length) + center
    case .cropAndResize:
      let span = (crop.1 - crop.0) * (input - 1)
      return (length == 1 ? span / 2 : x * span / (length - 1)) + crop.0 * (input - 1)
    }
  }

  /// The terms for position `x` of the input's axis; beyond its ends the outermost elements repeat.
  private mutating func add(_ rule: AxisResampling, _ given: Double, _ input: Int, _ reach: Double) {
    let x = given.isFinite ? min(max(given, -0x1p31), 0x1p31) : 0
    // The neighbour on the left is never `x` itself.
    let base = x.rounded(.up) - 1
    let ratio = x - base
    var list: [Double]
    var first = Int(base) - (taps / 2 - 1)
    switch rule.interpolation {
    case .nearest:
      let isRight: Bool
      switch rule.nearestMode {
      case .roundPreferFloor: isRight = ratio > 0.5
      case .roundPreferCeil: isRight = ratio >= 0.5
      case .floor: isRight = ratio == 1
      case .ceil: isRight = true
      }
      list = [1]
      first = Int(base) + (isRight ? 1 : 0)
    case .linear:
      list = (0..<taps).map { max(0, 1 - abs((Double($0 - (taps / 2 - 1)) - ratio) * reach)) }
    case .cubic:
      list = (0..<taps).map {
        ResamplingTable.cubic((Double($0 - (taps / 2 - 1)) - ratio) * reach, rule.cubic)
      }
    }
    if rule.excludeOutside {
      for (tap, _) in list.enumerated() where !(0..<input).contains(first + tap) { list[tap] = 0 }
    }
    if rule.excludeOutside || (rule.antialias && rule.interpolation != .nearest) {
      let sum = list.reduce(0, +)
      if sum != 0 { list = list.map { $0 / sum } }
    }
    weights += list
    indices += list.indices.map { min(max(first + $0, 0), input - 1) }
  }

  /// Keys' cubic convolution kernel.
  static func cubic(_ distance: Double, _ a: Double) -> Double {
    let x = abs(distance)
    if x <= 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
  }
}

/// An operator that resizes some axes of a float tensor, each by itself.
public protocol Resampling: Operator {
  /// A table for each axis that changes, for an input of these sizes.
  func tables(_ input: [Int]) -> [Int: ResamplingTable]
  /// Value of elements outside of what is cropped.
  var outsideValue: Float { get }
}

extension Resampling {
  /// Applies the tables one axis after the other, last axis first, in Double.
  func resample(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let x = try required(inputs, 0)
    var values = x.elements(as: Float.self).map { Double($0) }
    var shape = x.type.shape
    let (result, y) = (outputs[0].type.shape, outputs[0].elements(as: Float.self))
    let tables = tables(shape)
    for (axis, table) in tables.sorted(by: { $0.key > $1.key }) {
      let inner = shape[(axis + 1)...].reduce(1, *)
      let outer = shape[..<axis].reduce(1, *)
      let (from, to) = (shape[axis], result[axis])
      var next = [Double](repeating: 0, count: outer * to * inner)
      for block in 0..<outer {
        for place in 0..<to {
          for tap in place * table.taps..<(place + 1) * table.taps {
            let (source, weight) = ((block * from + table.indices[tap]) * inner, table.weights[tap])
            for index in 0..<inner {
              next[(block * to + place) * inner + index] += weight * values[source + index]
            }
          }
        }
      }
      values = next
      shape[axis] = to
    }
    let strides = denseStrides(result)
    let crops = tables.filter { $0.value.isOutside.contains(true) }
    for index in y.indices {
      let isOutside = crops.contains { axis, table in
        table.isOutside[index / strides[axis] % result[axis]]
      }
      y[index] = isOutside ? outsideValue : Float(values[index])
    }
  }
}
