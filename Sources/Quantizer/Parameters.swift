import Calibration
import IR

/// The range of a constant; NaN or infinity is an error naming tensor and element.
func constantRange(_ tensor: Tensor, _ values: [Float]) throws(Diagnostic) -> ClosedRange<Float> {
  var seen = MinMaxObserver()
  values.withUnsafeBufferPointer { seen.observe($0) }
  return try constantRange(tensor, seen)
}

/// The same from what was seen of all its values.
func constantRange(_ tensor: Tensor, _ seen: MinMaxObserver) throws(Diagnostic) -> ClosedRange<Float> {
  if let element = seen.firstNonFinite {
    throw Diagnostic(
      "non-finite-weight",
      "\(seen.nonFinite) of \(seen.count) values are NaN or infinite, the first is element "
        + "\(element)",
      at: .init(tensor: tensor.name), hint: "repair the model: such values cannot be quantized")
  }
  return seen.hasRange ? seen.minimum...seen.maximum : 0...0
}

/// Throws `non-finite-weight` for every weight and bias that holds a NaN. Infinities may stand for something: a float
/// graph keeps them.
public func requireNumbers(_ graph: Graph) throws(Diagnostic) {
  var seen = Set<TensorID>()
  var errors: [Diagnostic] = []
  for node in graph.nodes {
    for (slot, id) in node.inputs.enumerated() {
      guard let id, graph[id].type.element == .float32, let constant = graph[id].constant,
        seen.insert(id).inserted
      else { continue }
      switch node.op.quantization.input(slot) {
      case .weight, .bias: break
      case .activation, .unquantized: continue
      }
      guard let first = constant.firstNaN else { continue }
      let values = constant.floats()
      errors.append(
        Diagnostic(
          "non-finite-weight",
          "\(values.count(where: \.isNaN)) of \(values.count) values are NaN, the first is "
            + "element \(first)", at: .init(node: node.name, tensor: graph[id].name),
          hint: "repair the model; --skip_nonfinite takes it as it is"))
    }
  }
  if let failure = Diagnostic.combining(errors) { throw failure }
}

/// A 32-bit bias: grids that are products of an input's and a weight's, and what they need of the
/// weight.
struct BiasGrid {
  /// Largest Float below 2^31: a ratio up to it is stored without clamping.
  static let limit: Float = 0x1.fffffep30

  /// The grid of one channel; the product is taken in Double.
  static func scale(input: Float, weight: Float) -> Float {
    max(Float(Double(input) * Double(weight)), .leastNormalMagnitude)
  }

  /// The least weight scale, not under `weight`, for which `bias` fits 32 bits.
  static func fittingWeightScale(bias: Float, input: Float, weight: Float) -> Float {
    let magnitude = abs(bias)
    if magnitude / scale(input: input, weight: weight) <= limit { return weight }
    var widened = max(Float(Double(magnitude) / (Double(input) * Double(limit))), weight)
    while widened.isFinite, magnitude / scale(input: input, weight: widened) > limit {
      widened = widened.nextUp
    }
    return widened
  }

  /// The encoding of a bias from the grids of its channels.
  static func encoding(_ scales: [Float], perChannel: Bool) -> Encoding {
    Encoding(
      bitwidth: 32, symmetric: true, axis: perChannel ? 0 : nil,
      channels: scales.map { ScaleOffset(scale: $0, offset: .min) })
  }
}
