import IR

/// What the first sample of a list shows: range and mean of every input, and what looks wrong.
public enum SampleReport {
  /// Notes and warnings about the values of one sample.
  public static func diagnostics(_ values: [Bytes], inputs: [SampleInput]) -> [Diagnostic] {
    zip(inputs, values).flatMap { input, bytes in
      diagnostics(Constant(type: input.type, bytes: bytes).floats(), input: input)
    }
  }

  private static func diagnostics(_ values: [Float], input: SampleInput) -> [Diagnostic] {
    let location = Diagnostic.Location(tensor: input.name)
    let finite = values.lazy.filter(\.isFinite)
    guard var low = finite.first else { return [] }
    var high = low
    var sum = 0.0
    var count = 0
    var tiny = 0
    for value in finite {
      low = min(low, value)
      high = max(high, value)
      sum += Double(value)
      count += 1
      let size = abs(value)
      if size > 1e12 || (size > 0 && size < 1e-20) { tiny += 1 }
    }
    let mean = sum / Double(count)
    var found = [
      Diagnostic(
        "sample-range",
        "first sample: min \(low), max \(high), mean \(fixed(mean, digits: 6))", at: location,
        severity: .note)
    ]
    if low == high, count > 1 {
      found.append(
        Diagnostic(
          "sample-constant", "the first sample is constant: every value is \(low)", at: location,
          hint: "calibrate with data as the model meets it", severity: .warning))
    } else if tiny * 20 > values.count {
      found.append(
        Diagnostic(
          "sample-noise",
          "the first sample looks like bytes of another type: \(tiny) of "
            + "\(values.count) values are beyond 1e12 or below 1e-20", at: location,
          hint: "files hold raw little-endian float32", severity: .warning))
    } else if input.type.element.isFloat, isNoise(values, shape: input.type.shape, mean: mean) {
      found.append(
        Diagnostic(
          "sample-noise", "the first sample looks like noise: neighbours are not alike",
          at: location, hint: "calibrate with data as the model meets it", severity: .warning))
    }
    return found
  }

  /// Whether an image-like tensor has no correlation between neighbours along any of its axes but
  /// the batch.
  private static func isNoise(_ values: [Float], shape: [Int], mean: Double) -> Bool {
    guard shape.count >= 3, values.count >= 256 else { return false }
    let strides = denseStrides(shape)
    var energy = 0.0
    for value in values { energy += (Double(value) - mean) * (Double(value) - mean) }
    let bound = 0.05 + 3 / Double(values.count).squareRoot()
    for axis in 1..<shape.count where shape[axis] >= 8 {
      let step = strides[axis]
      var product = 0.0
      for index in step..<values.count {
        product += (Double(values[index]) - mean) * (Double(values[index - step]) - mean)
      }
      if !(abs(product) < bound * energy) { return false }
    }
    return true
  }
}
