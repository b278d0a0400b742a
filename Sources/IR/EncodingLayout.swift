// What moving the axes of a tensor does to its encoding.

extension Encoding {
  /// The encoding of the same elements, in the same order, as a tensor of shape `new` instead of
  /// `old`. Channels are repeated where their axis merges with others; nil where the grid of an
  /// element does not follow from one index of the new shape.
  public func reshaped(from old: [Int], to new: [Int]) -> Encoding? {
    guard let axis else { return self }
    guard blocks == nil else { return nil }
    guard old.indices.contains(axis), channels.count == old[axis] else { return nil }
    let outer = old[..<axis].reduce(1, *)
    let inner = old[(axis + 1)...].reduce(1, *)
    guard outer > 0, inner > 0, !channels.isEmpty else { return nil }
    var merged: Encoding?
    var before = 1
    for (position, size) in new.enumerated() {
      let after = new[(position + 1)...].reduce(1, *)
      if before > 0, after > 0, outer % before == 0, inner % after == 0 {
        // The new axis holds all of the old one, `repeats` times, each index `each` times.
        let (repeats, each) = (outer / before, inner / after)
        if repeats * channels.count * each == size {
          var result = self
          result.axis = position
          let run = channels.flatMap { [ScaleOffset](repeating: $0, count: each) }
          result.channels = (0..<repeats).flatMap { _ in run }
          if repeats == 1 && each == 1 { return result }
          merged = merged ?? result
        }
      }
      before *= size
    }
    return merged
  }
}

extension Tensor {
  /// This constant with its axes permuted, under another name, its encoding with it; nil for a tensor
  /// without a value.
  public func permuted(_ order: [Int], named name: String) -> Tensor? {
    guard let value = constant?.permuted(order) else { return nil }
    var result = self
    result.name = name
    result.constant = value
    result.type = value.type
    result.encoding = encoding?.permuted(order)
    return result
  }

  /// This constant in another shape, under another name. An encoding that cannot follow is dropped, and
  /// with it what was decided. nil for a tensor without a value.
  public func reshaped(_ shape: [Int], named name: String) -> Tensor? {
    guard let value = constant?.reshaped(shape) else { return nil }
    var result = self
    result.name = name
    result.constant = value
    result.type = value.type
    result.encoding = encoding?.reshaped(from: type.shape, to: shape)
    if result.encoding == nil && encoding != nil { result.clearAnnotations() }
    return result
  }

  /// Makes the tensor open again, without an encoding.
  public mutating func clearAnnotations() {
    encoding = nil
    encodingSource = nil
    bitwidth = nil
    state = .open
  }
}
