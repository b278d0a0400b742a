extension Encoding {
  /// The codes, on the unsigned grid, of a dense tensor of `shape`; NaN gives ``codeMin``.
  public func codes(of values: [Float], shape: [Int]) -> [Int] {
    precondition(shape.reduce(1, *) == values.count, "the shape does not fit the values")
    let stored = Constant(
      type: TensorType(storage, shape), bytes: quantized(values, shape: shape))
    return (stored.integers() ?? []).map { $0 - storageShift }
  }

  /// The real values of codes on the unsigned grid, of a dense tensor of `shape`.
  public func values(of codes: [Int], shape: [Int]) -> [Float] {
    precondition(shape.reduce(1, *) == codes.count, "the shape does not fit the codes")
    return dequantized(codes.map { $0 + storageShift }, shape: shape)
  }
}
