// What moving the axes of a tensor does to its encoding.

extension Encoding {
  /// The encoding of the same elements, in the same order, as a tensor of shape `new` instead of
  /// `old`. Channels are repeated where their axis merges with others; nil where the grid of an
  /// element does not follow from one index of the new shape.
  public func reshaped(from old: [Int], to new: [Int]) -> Encoding? {
    guard let axis else { return self }
    if let blocks {
      guard let channel = kept(axis, from: old, to: new), let along = kept(blocks.axis, from: old, to: new),
        channel != along
      else { return nil }
      var result = self
      result.axis = channel
      result.blocks?.axis = along
      return result
    }
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

  /// Where an axis is after reshaping: as long as before and between as many elements; nil where it was
  /// split or merged.
  private func kept(_ axis: Int, from old: [Int], to new: [Int]) -> Int? {
    guard old.indices.contains(axis) else { return nil }
    let outer = old[..<axis].reduce(1, *)
    let inner = old[(axis + 1)...].reduce(1, *)
    return new.indices.first {
      new[$0] == old[axis] && new[..<$0].reduce(1, *) == outer && new[($0 + 1)...].reduce(1, *) == inner
    }
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
    result.sourceOrder = Tensor.permuted(sourceOrder, order)
    return result
  }

  /// ``sourceOrder`` after another move of the axes: axis i of the result is axis `order[i]` of what
  /// `earlier` tells of.
  public static func permuted(_ earlier: [Int]?, _ order: [Int]) -> [Int]? {
    let result = order.map { earlier?[$0] ?? $0 }
    return result == result.sorted() ? nil : result
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
    result.sourceOrder = nil
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
