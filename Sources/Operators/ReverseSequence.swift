import IR

/// Turns round the first elements of each sample along an axis: as many as input 1 (int32 or int64, one
/// number a sample) says; the rest stays. Source: ONNX operator ReverseSequence; QNN has none.
public struct ReverseSequence: Operator {
  public static let typeName = "ReverseSequence"
  public var batchAxis: Int
  public var timeAxis: Int

  /// Makes the operator over two non-negative axes.
  public init(batchAxis: Int, timeAxis: Int) {
    self.batchAxis = batchAxis
    self.timeAxis = timeAxis
  }
  public init(attributes: inout AttributeReader) throws(Diagnostic) {
    batchAxis = try attributes.int("batch_axis")
    timeAxis = try attributes.int("time_axis")
  }
  public var attributes: [Attribute] {
    [Attribute("batch_axis", .int(batchAxis)), Attribute("time_axis", .int(timeAxis))]
  }
  public func infer(_ inputs: [TensorType?]) throws(Diagnostic) -> [TensorType] {
    let (x, lengths) = (try required(inputs, 0, "input"), try required(inputs, 1, "lengths"))
    try check(
      x.shape.indices.contains(batchAxis) && x.shape.indices.contains(timeAxis) && batchAxis != timeAxis,
      "axes \(batchAxis) and \(timeAxis) do not fit \(x)")
    try check(
      lengths.element.isInteger && lengths.shape == [x.shape[batchAxis]],
      "lengths \(lengths) do not fit \(x)")
    return [x]
  }
  public var quantization: QuantizationRule { .dataInvariant }
  public func evaluate(_ inputs: [TensorView?], _ outputs: [MutableTensorView]) throws(Diagnostic) {
    let (x, lengths) = (try required(inputs, 0), try required(inputs, 1))
    let (shape, width) = (x.type.shape, x.type.element.byteWidth)
    let strides = denseStrides(shape)
    let access = IntegerAccess(element: lengths.type.element)
    guard let from = x.bytes.baseAddress, let to = outputs[0].bytes.baseAddress else { return }
    for out in 0..<x.type.count {
      let sample = out / strides[batchAxis] % shape[batchAxis]
      let time = out / strides[timeAxis] % shape[timeAxis]
      let length = min(max(access.load(lengths.bytes, sample), 0), shape[timeAxis])
      let source = time < length ? out + (length - 1 - 2 * time) * strides[timeAxis] : out
      (to + out * width).copyMemory(from: from + source * width, byteCount: width)
    }
  }
}
